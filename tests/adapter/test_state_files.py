"""State files: what is written is read back exactly, and nothing else is believed."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from s0 import S0AdapterConfig
from s0.adapter import card, state_files, tensor_keys
from s0.adapter.fingerprint import UNKNOWN, fingerprint
from s0.core.states import state_layers
from s0.errors import ConfigError, S0Error, StateMismatchError
from s0.export.published import layer_indices
from s0.export.published import write as write_published
from tests import zoo
from tests.core.helpers import fill, holds_no_state, logits, tokens, tuned

FAMILY = "zamba2"  # three recurrent layers, one of them inside a hybrid layer
OTHER_RECURRENCE = "qwen3_5"
IDS = tokens(1, 5)
CONFIG, STATE = state_files.CONFIG_FILE, state_files.STATE_FILE


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return logits(model, IDS)


class Bench:
    """A saved state, the untouched model it belongs to, and a model that already carries an adapter."""

    def __init__(self, folder: Path) -> None:
        self._models: tuple[nn.Module, PeftModel] | None = None
        self.tuned.save_pretrained(folder)
        self.saved = folder
        self.tensors = load_file(folder / STATE)
        self.before, self.tuned_before = run(self.base), run(self.tuned)

    @property
    def base(self) -> nn.Module:
        return self._pair()[0]

    @property
    def tuned(self) -> PeftModel:
        return self._pair()[1]

    def _pair(self) -> tuple[nn.Module, PeftModel]:
        self._models = self._models or (zoo.make(FAMILY), tuned(FAMILY, alpha=0.5))
        return self._models

    def copy(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.saved, folder))

    def refuses(self, folder: Path, *, peft_errors: tuple[type[Exception], ...] = ()) -> None:
        """Neither the reader nor PEFT accepts the folder, and no model changes."""
        base, model = self.base, self.tuned
        self._models = None  # only models that passed every check below are used again
        with pytest.raises(S0Error):
            state_files.match(state_files.read(folder), base)
        with pytest.raises((S0Error, *peft_errors)):
            PeftModel.from_pretrained(base, folder)
        with pytest.raises((S0Error, *peft_errors)):
            model.load_adapter(folder, "second")
        assert holds_no_state(base)
        assert torch.equal(run(base), self.before)
        assert list(model.peft_config) == ["default"]
        assert torch.equal(run(model), self.tuned_before)
        self._models = base, model

    def refuses_or_reads_unchanged(self, folder: Path) -> None:
        """A change that happens to mean nothing may pass, a changed value never does."""
        try:
            stored = state_files.read(folder)
        except S0Error:
            self.refuses(folder)
        else:
            assert set(stored.tensors) == {tensor_keys.layer_name(key) for key in self.tensors}
            assert all(
                torch.equal(stored.tensors[tensor_keys.layer_name(key)], old) for key, old in self.tensors.items()
            )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(bench: Bench, tmp_path: Path) -> Path:
    return bench.copy(tmp_path / "state")


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config.update(changes)
    if "checksum" not in changes:  # which covers alpha, normalize and layers: no other check shall hide behind it
        with contextlib.suppress(Exception):  # values that cannot even be sealed
            tensors = {tensor_keys.layer_name(key): value for key, value in load_file(folder / STATE).items()}
            config["checksum"] = state_files.checksum(tensors, config)
    (folder / CONFIG).write_text(json.dumps(config))


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Other tensors, described as truly as can be, so that no other check hides the one under test."""
    save_file(tensors, folder / STATE, metadata={"format": "pt"})
    names = {key.removeprefix("base_model.model.").removesuffix(".s0_state"): value for key, value in tensors.items()}
    shapes = {name: list(value.shape) for name, value in names.items()}
    config = json.loads((folder / CONFIG).read_text())
    checksum = state_files.checksum({name: value.float() for name, value in names.items()}, config)
    edit_config(folder, checksum=checksum, state_shapes=shapes, target_modules=list(names))


# --- What was written is read back ---


def test_a_file_names_the_recurrence_as_it_always_did(bench: Bench) -> None:
    assert json.loads((bench.saved / CONFIG).read_text())["family"] == "mamba2"
    for config_class in (S0AdapterConfig, PeftConfig):  # by the latter transformers reads a config
        assert config_class.from_pretrained(str(bench.saved)).recurrence == "mamba2"


def test_a_saved_state_is_read_back_and_matches_its_model(bench: Bench) -> None:
    stored = state_files.read(bench.saved)
    assert (stored.alpha, stored.normalize, stored.recurrence, stored.layout) == (0.5, False, "mamba2", "peft")
    assert stored.fingerprint == fingerprint(bench.base)
    matched = state_files.match(stored, bench.base)
    for layer, tensor in zip(state_layers(bench.tuned), matched.values(), strict=True):
        assert torch.equal(layer.s0_state["default"], tensor)


def test_a_state_matches_a_model_that_already_carries_adapters(bench: Bench) -> None:
    assert set(state_files.match(state_files.read(bench.saved), bench.tuned)) == set(
        state_files.match(state_files.read(bench.saved), bench.base)
    )


def test_write_makes_what_peft_makes(bench: Bench, tmp_path: Path) -> None:
    config = json.loads((bench.saved / CONFIG).read_text())
    state_files.write(tmp_path, state_files.read(bench.saved).tensors, config)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [CONFIG, STATE]
    assert json.loads((tmp_path / CONFIG).read_text()) == config
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path)), bench.tuned_before)


def test_a_byte_order_mark_is_no_part_of_the_config(bench: Bench, folder: Path) -> None:
    (folder / CONFIG).write_text((folder / CONFIG).read_text(), encoding="utf-8-sig")
    assert set(state_files.match(state_files.read(folder), bench.base)) == set(state_files.read(bench.saved).tensors)


def test_how_a_state_was_trained_travels_with_it(tmp_path: Path) -> None:
    model = tuned(FAMILY)
    model.peft_config["default"].training = {"settings": {"lr": 0.1}, "seed": 3}
    model.save_pretrained(tmp_path)
    assert state_files.read(tmp_path).training == {"settings": {"lr": 0.1}, "seed": 3}


# --- Damaged tensors ---


@given(st.data())
def test_a_truncated_file_is_refused(bench: Bench, tmp_path: Path, data: st.DataObject) -> None:
    folder = bench.copy(tmp_path / "state")
    content = (folder / STATE).read_bytes()
    (folder / STATE).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    bench.refuses(folder)


@given(st.data())
@pytest.mark.parametrize("part", ["header", "values"])
def test_a_changed_byte_is_refused_or_means_nothing(
    bench: Bench, tmp_path: Path, part: str, data: st.DataObject
) -> None:
    folder = bench.copy(tmp_path / "state")
    content = bytearray((folder / STATE).read_bytes())
    border = 8 + struct.unpack("<Q", content[:8])[0]
    first, last = (0, border - 1) if part == "header" else (border, len(content) - 1)
    content[data.draw(st.integers(first, last))] ^= data.draw(st.integers(1, 255))
    (folder / STATE).write_bytes(content)
    if part == "values":
        bench.refuses(folder)
    else:
        bench.refuses_or_reads_unchanged(folder)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(bench: Bench, tmp_path: Path, content: bytes) -> None:
    folder = bench.copy(tmp_path / "state")
    (folder / STATE).write_bytes(content)
    bench.refuses(folder)


def first_of(tensors: dict[str, Tensor]) -> str:
    return next(iter(tensors))


def with_value(tensors: dict[str, Tensor], value: float) -> dict[str, Tensor]:
    changed = tensors[first_of(tensors)].clone()
    changed[0, 0, 0] = value
    return {**tensors, first_of(tensors): changed}


def with_first(tensors: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {key: change(value).contiguous() if key == first_of(tensors) else value for key, value in tensors.items()}


EXTRA = "base_model.model.model.layers.9.mamba.s0_state"
TENSOR_EDITS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one layer of three": lambda t: {first_of(t): t[first_of(t)]},
    "two layers of three": lambda t: {key: t[key] for key in list(t)[1:]},
    "no layer": lambda t: {},
    "an extra layer": lambda t: {**t, EXTRA: torch.zeros(4, 16, 8)},
    "a renamed layer": lambda t: {EXTRA if key == first_of(t) else key: value for key, value in t.items()},
    "a negative layer": lambda t: {key.replace("layers.0", "layers.-3"): value for key, value in t.items()},
    "a key of another kind": lambda t: {**t, "base_model.model.lm_head.weight": torch.zeros(2, 2)},
    "NaN": lambda t: with_value(t, float("nan")),
    "inf": lambda t: with_value(t, float("inf")),
    "-inf": lambda t: with_value(t, -float("inf")),
    "float16": lambda t: with_first(t, Tensor.half),
    "float64": lambda t: with_first(t, Tensor.double),
    "bfloat16": lambda t: with_first(t, Tensor.bfloat16),
    "int32": lambda t: with_first(t, Tensor.int),
    "transposed": lambda t: with_first(t, lambda x: x.transpose(1, 2)),
    "flat": lambda t: with_first(t, Tensor.flatten),
    "one head fewer": lambda t: with_first(t, lambda x: x[1:]),
    "a batch of one": lambda t: with_first(t, lambda x: x[None]),
    "a scalar": lambda t: with_first(t, lambda x: x[0, 0, 0]),
}


@pytest.mark.parametrize("change", TENSOR_EDITS.values(), ids=TENSOR_EDITS.keys())
@pytest.mark.parametrize("described", [False, True])
def test_wrong_tensors_are_refused_even_if_truly_described(
    bench: Bench, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], described: bool
) -> None:
    tensors = change(bench.tensors)
    if described:
        rewrite(folder, tensors)
    else:
        save_file(tensors, folder / STATE)
    bench.refuses(folder)


def test_the_refusal_says_what_is_missing(folder: Path, bench: Bench) -> None:
    rewrite(folder, TENSOR_EDITS["one layer of three"](bench.tensors))
    with pytest.raises(StateMismatchError, match=r"missing layers \['model.layers.1.mamba_decoder.mamba'"):
        state_files.match(state_files.read(folder), bench.base)


def test_a_layer_that_was_not_selected_is_refused(tmp_path: Path, bench: Bench) -> None:
    model = tuned(FAMILY, layers=[0, 2])
    model.save_pretrained(tmp_path)
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path)), run(model))
    for layers in (None, [0], [0, 1], [0, 1, 2], [0, 2, 7], [0, 2, 2]):
        edit_config(tmp_path, layers=layers)
        bench.refuses(tmp_path)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_model_of_many_layers_saves_and_loads(tmp_path: Path, low_cpu_mem_usage: bool) -> None:
    # From 20 layers on PEFT shortens its list of target modules.
    config = copy.deepcopy(zoo.make("qwen3_5").config)
    config.num_hidden_layers, config.layer_types = 24, ["linear_attention"] * 23 + ["full_attention"]
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config).eval()
    model = get_peft_model(copy.deepcopy(base), S0AdapterConfig())
    fill(model)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["target_modules"] == ["linear_attn"]
    assert len(state_files.match(state_files.read(tmp_path), base)) == 23
    again = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(run(again), run(model))


@pytest.mark.parametrize("edit", ["NaN", "one layer of three", "an extra layer", "one head fewer"])
def test_wrong_tensors_are_refused_where_an_adapter_exists_already(bench: Bench, folder: Path, edit: str) -> None:
    # PEFT reads no config then (so does a Trainer that resumes).
    rewrite(folder, TENSOR_EDITS[edit](bench.tensors))
    model = tuned(FAMILY, alpha=0.5)
    with pytest.raises(StateMismatchError):
        model.load_adapter(folder, "default", is_trainable=True)
    assert torch.equal(run(model), bench.tuned_before)


@pytest.mark.parametrize("scale", [{"alpha": 0.25}, {"alpha": 0.5, "normalize": True}], ids=str)
def test_another_scale_is_refused_where_an_adapter_exists_already(bench: Bench, folder: Path, scale: Any) -> None:
    model = tuned(FAMILY, **scale)
    before = run(model)
    with pytest.raises(StateMismatchError, match=r"to have the scale.*alpha=0.5 and normalize=False"):
        model.load_adapter(folder, "default", is_trainable=True)
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("edit", ["NaN", "one layer of three", "an extra layer", "one head fewer"])
def test_wrong_tensors_are_refused_where_they_are_handed_to_peft(bench: Bench, edit: str) -> None:
    model = tuned(FAMILY, alpha=0.5)
    set_peft_model_state_dict(model, bench.tensors)
    before = run(model)
    with pytest.raises(StateMismatchError, match="the tensors for adapter 'default'"):
        set_peft_model_state_dict(model, TENSOR_EDITS[edit](bench.tensors))
    assert torch.equal(run(model), before)


# --- Other models ---


@pytest.mark.parametrize(
    ("family", "seed"), [(FAMILY, 1), ("falcon_h1", 0), (OTHER_RECURRENCE, 0)], ids=["other weights", "shape", "kind"]
)
def test_a_state_of_another_base_is_refused(bench: Bench, tmp_path: Path, family: str, seed: int) -> None:
    get_peft_model(zoo.make(family, seed=seed), S0AdapterConfig()).save_pretrained(tmp_path)
    bench.refuses(tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_of_another_recurrence_names_both_recurrences_and_models(wrapped: bool, tmp_path: Path) -> None:
    target = zoo.make("qwen3_5")
    target.name_or_path = "some/qwen"
    get_peft_model(zoo.make("mamba2"), S0AdapterConfig()).save_pretrained(tmp_path)
    edit_config(tmp_path, base_model_name_or_path="some/mamba")
    says = (
        r"^expected a state for the gated_delta_net layers of Qwen3_5ForCausalLM \('some/qwen'\), got one for mamba2 "
        r"layers: it was tuned on another model \('some/mamba'\); load it on that one, or train a state for this one$"
    )
    model = get_peft_model(target, S0AdapterConfig()) if wrapped else target
    with pytest.raises(StateMismatchError, match=says):
        state_files.match(state_files.read(tmp_path), model)
    with pytest.raises(StateMismatchError, match=says):
        model.load_adapter(tmp_path, "other") if wrapped else PeftModel.from_pretrained(target, tmp_path)


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 4, "layer_types": 4 * ["linear_attention"]}, {"linear_value_head_dim": 8}]
)
def test_a_state_of_other_layers_of_the_same_recurrence_names_the_first_one(
    change: dict[str, Any], tmp_path: Path
) -> None:
    get_peft_model(zoo.make("qwen3_5", **change), S0AdapterConfig()).save_pretrained(tmp_path)
    with pytest.raises(StateMismatchError, match=r"layers of Qwen3_5ForCausalLM, got one for \d; at model\.layers\.\d"):
        PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path)


@pytest.mark.parametrize("layers", [[1], [9]])
def test_errors_name_the_model_within_the_wrapper(bench: Bench, folder: Path, layers: list[int]) -> None:
    edit_config(folder, layers=layers)
    with pytest.raises(StateMismatchError, match=f"layers .*of {type(zoo.make(FAMILY)).__name__}, got one"):
        state_files.match(state_files.read(folder), bench.tuned)


def test_a_stored_state_tells_what_it_is_in_a_line(bench: Bench) -> None:
    shown = repr(state_files.read(bench.saved))
    assert shown.startswith("StoredState(state, ") and "3 layers, alpha=0.5, normalize=False, None)" in shown


def test_a_model_without_recurrent_layers_refuses_every_state(bench: Bench) -> None:
    with pytest.raises(S0Error):
        state_files.match(state_files.read(bench.saved), zoo.make("llama"))
    with pytest.raises(S0Error):
        PeftModel.from_pretrained(zoo.make("llama"), bench.saved)


def test_another_base_is_accepted_by_the_callers_explicit_flag_only(bench: Bench, folder: Path) -> None:
    other = zoo.make(FAMILY, seed=1)
    edit_config(folder, allow_other_base=True)  # not the file's to give
    with pytest.raises(StateMismatchError, match="allow_other_base=True"):
        state_files.match(state_files.read(folder), other)
    with pytest.raises(StateMismatchError, match="allow_other_base=True"):
        PeftModel.from_pretrained(other, folder)
    assert holds_no_state(other)
    assert len(state_files.match(state_files.read(folder), other, allow_other_base=True)) == 3
    config = S0AdapterConfig.from_pretrained(folder)
    config.allow_other_base = True
    model = PeftModel.from_pretrained(other, folder, config=config)
    for layer, old in zip(state_layers(model), state_layers(bench.tuned), strict=True):
        assert torch.equal(layer.s0_state["default"], old.s0_state["default"])


def test_the_right_shapes_of_the_wrong_recurrence_are_refused(bench: Bench, folder: Path) -> None:
    edit_config(folder, family="gated_delta_net")
    bench.refuses(folder)


# --- Hostile metadata ---

DEEP = "[" * 900 + "]" * 900
CONFIG_EDITS: dict[str, dict[str, Any]] = {
    **{
        f"alpha {value!r:.9}": {"alpha": value}
        for value in (None, "1", True, [1.0], float("nan"), float("inf"), 10**400, 1e300)
    },
    **{f"normalize {value!r}": {"normalize": value} for value in (None, "yes", 1, [])},
    **{f"format_version {value!r}": {"format_version": value} for value in (None, 0, 2, "1", [1])},
    **{
        f"layers {value!r}": {"layers": value}
        for value in ([], [0, 0], [-1], [99], ["0"], [0.0], [True], "0", 3, {}, [[]])
    },
    **{f"state_shapes {value!r:.20}": {"state_shapes": value} for value in (None, [], "x", {}, {"a": None}, 7)},
    **{f"family {value!r}": {"family": value} for value in (None, 3, "lstm", [])},
    **{f"fingerprint {value!r}": {"fingerprint": value} for value in (None, 3, "0" * 32, "", [])},
    **{f"checksum {value!r}": {"checksum": value} for value in (None, "", "0" * 64, 3, [])},
    **{f"training {value!r}": {"training": value} for value in ("x", 3, [1], True)},
    **{
        f"target_modules {value!r}": {"target_modules": value}
        for value in ("(a+)+$", ["lm_head"], [[1]], [""], {"a": 1}, True, 3)
    },
    **{f"base {value!r}": {"base_model_name_or_path": value} for value in (3, [], {})},
    "huge numbers": {"alpha": 10**4000, "format_version": 10**4000, "layers": [10**4000]},
    "nested shapes": {"state_shapes": {"model.layers.0.mamba": json.loads(DEEP)}},
}


@pytest.mark.parametrize("changes", CONFIG_EDITS.values(), ids=CONFIG_EDITS.keys())
def test_hostile_metadata_is_refused(bench: Bench, folder: Path, changes: dict[str, Any]) -> None:
    edit_config(folder, **changes)
    bench.refuses(folder)


@pytest.mark.parametrize("changes", [{"alpha": 0.6}, {"normalize": True}, {"layers": [0, 1]}], ids=str)
def test_a_changed_scale_or_selection_is_refused(bench: Bench, folder: Path, changes: dict[str, Any]) -> None:
    sealed = json.loads((folder / CONFIG).read_text())["checksum"]
    edit_config(folder, checksum=sealed, **changes)
    with pytest.raises(StateMismatchError, match="checksum"):
        state_files.read(folder)
    bench.refuses(folder)


@pytest.mark.parametrize(
    "name", ["alpha", "normalize", "format_version", "state_shapes", "family", "fingerprint", "checksum"]
)
def test_missing_metadata_is_refused(bench: Bench, folder: Path, name: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config[name]
    (folder / CONFIG).write_text(json.dumps(config))
    bench.refuses(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"3",
        b"null",
        b"{",
        b"\xff\xfe\x00",
        b'{"peft_type": "S0", "alpha": ' + b"9" * 5000 + b"}",
        b'{"peft_type": "S0", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "list", "number", "null", "cut", "not UTF-8", "long number", "deep"],
)
def test_a_config_that_is_no_json_object_is_refused(bench: Bench, folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    # PEFT parses this file itself before it knows whose it is.
    bench.refuses(folder, peft_errors=(ValueError, TypeError, KeyError, RecursionError))


def test_a_huge_config_is_refused_before_it_is_parsed(folder: Path) -> None:
    edit_config(folder, training={"notes": "x" * (5 << 20)})
    with pytest.raises(StateMismatchError, match="at most"):
        state_files.read(folder)


@pytest.mark.parametrize("kind", ["LORA", "lora", "", None, 3, ["S0"]])
def test_another_peft_type_is_refused(bench: Bench, folder: Path, kind: Any) -> None:
    edit_config(folder, peft_type=kind)
    with pytest.raises(StateMismatchError, match="peft_type"):
        state_files.read(folder)


def test_nesting_at_the_edge_of_the_recursion_limit_is_refused_cleanly(folder: Path) -> None:
    config = (folder / CONFIG).read_text()
    for depth in range(700, 1000, 3):
        deep = "[" * depth + "]" * depth
        for name in ("training", "checksum", "alpha", "layers"):
            changed = json.loads(config)
            changed[name] = "@"
            (folder / CONFIG).write_text(json.dumps(changed).replace('"@"', deep))
            with pytest.raises(S0Error):
                state_files.read(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.filterwarnings("ignore:You have passed exclude_modules")
@given(st.sampled_from(sorted({*S0AdapterConfig.__dataclass_fields__} - {"peft_type"})), json_values)
def test_arbitrary_metadata_never_changes_the_tensors_or_crashes(
    bench: Bench, tmp_path: Path, name: str, value: Any
) -> None:
    folder = bench.copy(tmp_path / "state")
    edit_config(folder, **{name: value})
    bench.refuses_or_reads_unchanged(folder)
    base = zoo.make(FAMILY)
    try:
        model = PeftModel.from_pretrained(base, folder)
    except S0Error:
        assert holds_no_state(base)
    else:
        assert name in ("alpha", "normalize") or torch.equal(run(model), bench.tuned_before)


@pytest.mark.parametrize(
    "change", [{"task_type": "x"}, {"task_type": ["CAUSAL_LM"]}, {"init": 3}, {"modules_to_save": ["lm_head"]}]
)
def test_what_peft_would_act_on_is_checked_too(bench: Bench, folder: Path, change: dict[str, Any]) -> None:
    edit_config(folder, **change)
    with pytest.raises(S0Error):
        PeftModel.from_pretrained(bench.base, folder)
    assert holds_no_state(bench.base)


@pytest.mark.parametrize("name", [CONFIG, STATE])
def test_a_missing_file_is_refused(bench: Bench, folder: Path, name: str) -> None:
    (folder / name).unlink()
    bench.refuses(folder, peft_errors=(ValueError,))


@pytest.mark.parametrize("where", ["no/such-repository", "nothing here", "..", "a/b/c/d", "", "\0"])
def test_a_path_that_leads_nowhere_is_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateMismatchError):
        state_files.read(where)


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(StateMismatchError, match="pass the folder"):
        state_files.read(folder / STATE)


def test_a_missing_subfolder_is_refused(folder: Path) -> None:
    with pytest.raises(StateMismatchError, match="no such folder"):
        state_files.read(folder, "best")


# --- Pickles are never run ---


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.mkdir, (self.mark,))


def test_a_bomb_explodes_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_a_pickle_in_an_adapter_folder_is_never_opened(
    bench: Bench, folder: Path, tmp_path: Path, save: Callable[[Any, Path], Any]
) -> None:
    mark = tmp_path / "exploded"
    save({"base_model.model.x.s0_state": Bomb(mark)}, folder / "adapter_model.bin")
    assert state_files.read(folder).alpha == 0.5  # beside a good state it is ignored ...
    PeftModel.from_pretrained(zoo.make(FAMILY), folder)
    (folder / STATE).unlink()
    bench.refuses(folder)  # ... and it never stands in for one
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_a_pickle_in_a_published_folder_is_never_run(
    published: Path, tmp_path: Path, save: Callable[[Any, Path], Any]
) -> None:
    mark = tmp_path / "exploded"
    (published / "states.safetensors").unlink()
    save({0: Bomb(mark)}, published / "states.pt")
    with pytest.raises(StateMismatchError, match="unsafe"):
        state_files.read(published)
    assert not mark.exists()


def test_saving_as_a_pickle_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.tuned.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="safe_serialization=True"):
        bench.tuned.save_pretrained(tmp_path, safe_serialization=False)


# --- The published layout ---


@pytest.fixture
def published(bench: Bench, tmp_path: Path) -> Path:
    stored = state_files.read(bench.saved)
    indices = {name: layer.layer_idx for name, layer in zip(stored.tensors, state_layers(bench.tuned), strict=True)}
    write_published(tmp_path / "published", stored, indices)
    return tmp_path / "published"


def assert_reads_as_saved(folder: Path, bench: Bench) -> None:
    stored = state_files.read(folder)
    assert (stored.layout, stored.alpha, stored.normalize, stored.fingerprint) == ("published", 0.5, False, UNKNOWN)
    matched, want = state_files.match(stored, bench.base), state_files.match(state_files.read(bench.saved), bench.base)
    assert matched.keys() == want.keys()
    assert all(torch.equal(matched[name], want[name]) for name in want)


def test_the_published_layout_round_trips(published: Path, bench: Bench) -> None:
    assert sorted(entry.name for entry in published.iterdir()) == ["config.json", "meta.json", "states.safetensors"]
    assert_reads_as_saved(published, bench)


@pytest.mark.parametrize("key", [int, str])
def test_the_published_layout_with_a_torch_file_is_read(
    published: Path, bench: Bench, key: Callable[[str], Any]
) -> None:
    tensors = load_file(published / "states.safetensors")
    (published / "states.safetensors").unlink()
    torch.save({key(name): tensor for name, tensor in tensors.items()}, published / "states.pt")
    assert_reads_as_saved(published, bench)


def test_a_published_state_can_be_trained_on(published: Path, bench: Bench) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(init=str(published), alpha=0.5))
    assert torch.equal(run(model), bench.tuned_before)


def test_a_state_of_some_layers_cannot_be_published_and_a_sum_of_whole_ones_can(tmp_path: Path) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(), "whole")
    model.add_adapter("partial", S0AdapterConfig(layers=[0]))
    model.add_weighted_adapter(["whole", "partial"], [0.5, 0.5], "sum")
    model.save_pretrained(tmp_path)
    partial, total = (state_files.read(tmp_path / name) for name in ("partial", "sum"))
    with pytest.raises(StateMismatchError, match=r"all recurrent layers.*got one of the layers \[0\]"):
        write_published(tmp_path / "published", partial, layer_indices(partial))
    assert not (tmp_path / "published").exists()
    write_published(tmp_path / "published", total, layer_indices(total))
    state_files.match(state_files.read(tmp_path / "published"), zoo.make(FAMILY))


def test_layers_of_different_shapes_cannot_be_published(tmp_path: Path) -> None:
    stored = state_files.StoredState({"a": torch.zeros(1, 2, 3), "b": torch.zeros(1, 2, 4)}, 1.0, False, None, "mamba2")
    with pytest.raises(StateMismatchError, match="one shape"):
        write_published(tmp_path, stored, {"a": 0, "b": 1})


PUBLISHED_EDITS: dict[str, Callable[[dict[str, Tensor], dict[str, Any], dict[str, Any]], Any]] = {
    "a layer missing": lambda t, meta, config: t.pop("1"),
    "a layer missing everywhere": lambda t, meta, config: (t.pop("1"), meta["recurrent_layers"].remove(1)),
    "an extra layer": lambda t, meta, config: t.update({"7": t["0"].clone()}),
    "an extra layer everywhere": lambda t, meta, config: (
        t.update({"7": t["0"].clone()}),
        meta["recurrent_layers"].append(7),
    ),
    "a negative layer": lambda t, meta, config: (
        t.update({"-1": t.pop("0")}),
        meta.update(recurrent_layers=[-1, 1, 2]),
    ),
    "NaN": lambda t, meta, config: t["0"].fill_(float("nan")),
    "float16": lambda t, meta, config: t.update({"0": t["0"].half()}),
    "another shape": lambda t, meta, config: t.update({"0": t["0"][1:].clone()}),
    "another shape everywhere": lambda t, meta, config: (
        t.update({name: value[1:].clone() for name, value in t.items()}),
        meta.update(state_shape=[3, 16, 8]),
    ),
    "another recurrence": lambda t, meta, config: meta.update(arch="gated_delta_net"),
    "an unknown recurrence": lambda t, meta, config: meta.update(arch="lstm"),
    "recurrence of a wrong type": lambda t, meta, config: meta.update(arch=["mamba2"]),
    "layers of a wrong type": lambda t, meta, config: meta.update(recurrent_layers="012"),
    "layers of layers": lambda t, meta, config: meta.update(recurrent_layers=[[0], {}, None]),
    "shape of a wrong type": lambda t, meta, config: meta.update(state_shape=12),
    "no metadata": lambda t, meta, config: meta.clear(),
    "NaN alpha": lambda t, meta, config: config.update(alpha=float("nan")),
    "huge alpha": lambda t, meta, config: config.update(alpha=10**400),
    "normalize of a wrong type": lambda t, meta, config: config.update(normalize="no"),
}


@pytest.mark.parametrize("change", PUBLISHED_EDITS.values(), ids=PUBLISHED_EDITS.keys())
def test_a_wrong_published_state_is_refused(published: Path, bench: Bench, change: Callable[..., Any]) -> None:
    tensors = load_file(published / "states.safetensors")
    meta, config = (json.loads((published / name).read_text()) for name in ("meta.json", "config.json"))
    change(tensors, meta, config)
    save_file(tensors, published / "states.safetensors")
    (published / "meta.json").write_text(json.dumps(meta))
    (published / "config.json").write_text(json.dumps(config))
    with pytest.raises(StateMismatchError):
        state_files.match(state_files.read(published), bench.base)


@pytest.mark.parametrize("content", [b"", b"junk", "a tensor", "a list", "numbers", "nothing", "both 0 and '0'"])
def test_a_torch_file_that_holds_no_states_is_refused(published: Path, content: Any) -> None:
    (published / "states.safetensors").unlink()
    state = torch.zeros(4, 16, 8)
    objects = {"a tensor": state, "a list": [state] * 3, "numbers": {0: 1.0}, "nothing": {}}
    objects["both 0 and '0'"] = {0: state, "0": state + 1, 1: state, 2: state}
    if isinstance(content, bytes):
        (published / "states.pt").write_bytes(content)
    else:
        torch.save(objects[content], published / "states.pt")
    with pytest.raises(StateMismatchError):
        state_files.read(published)


# --- A write that fails ---


class Failure(Exception):
    pass


def fail(*args: Any, **kwargs: Any) -> None:
    raise Failure


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def test_a_write_that_fails_early_leaves_the_old_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, config = contents(folder), json.loads((folder / CONFIG).read_text())
    others = {name: tensor + 1 for name, tensor in state_files.read(folder).tensors.items()}

    for target, name, replacement in [
        (os, "fsync", fail),
        (Path, "replace", fail),
        (json, "dumps", fail),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(target, name, replacement)
            with pytest.raises(Failure):
                state_files.write(folder, others, config)
        assert contents(folder) == before


@pytest.mark.parametrize("has_second_names", [True, False], ids=["links", "copies"])
def test_a_write_that_fails_between_its_files_puts_the_old_ones_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, has_second_names: bool
) -> None:
    config, before = json.loads((folder / CONFIG).read_text()), contents(folder)
    others = {name: tensor + 1 for name, tensor in state_files.read(folder).tensors.items()}
    replace, renamed = Path.replace, []

    def fail_at_the_second(self: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) == 2:
            raise Failure
        replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_at_the_second)
        if not has_second_names:
            patch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
        with pytest.raises(Failure):
            state_files.write(folder, others, config)
    assert len(renamed) == 3 and contents(folder) == before
    state_files.write(folder, others, config)
    assert all(torch.equal(tensor, others[name]) for name, tensor in state_files.read(folder).tensors.items())


def test_a_first_write_that_fails_leaves_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Failure):
            state_files.write(tmp_path / "new" / "state", {"a": torch.zeros(1, 1, 1)}, {})
    assert list(tmp_path.iterdir()) == []


# --- The fingerprint of a base model ---


@zoo.every_family
def test_the_fingerprint_is_the_same_for_every_dtype_and_differs_between_weights(family: str) -> None:
    published = zoo.make(family, torch.bfloat16)
    name = fingerprint(published)
    assert name != UNKNOWN
    assert fingerprint(published.float()) == name
    assert fingerprint(published.half()) == name
    assert fingerprint(zoo.make(family)) == name  # rounded to bfloat16 either way
    assert fingerprint(zoo.make(family, seed=1)) != name
    assert fingerprint(published.to("meta")) == UNKNOWN


@pytest.mark.filterwarnings("ignore:.*(multiple adapters|second time)")
def test_the_fingerprint_leaves_adapters_out(bench: Bench) -> None:
    base = zoo.make(FAMILY)
    name = fingerprint(base)
    model = get_peft_model(base, S0AdapterConfig())
    fill(model)
    assert fingerprint(model) == fingerprint(base) == name
    lora = get_peft_model(zoo.make(FAMILY), LoraConfig(target_modules=["in_proj", "out_proj", "q_proj"], r=2))
    assert fingerprint(lora) == name
    assert fingerprint(get_peft_model(lora.get_base_model(), S0AdapterConfig(), "second")) == name


def test_the_fingerprint_survives_values_too_small_for_float16() -> None:
    model = zoo.make(FAMILY)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 10.0 ** torch.linspace(0, -9, weight.numel()).view_as(weight)
    name = fingerprint(model.to(torch.bfloat16))
    assert fingerprint(model.half()) == name != fingerprint(zoo.make(FAMILY))


def test_the_fingerprint_knows_the_models_size_and_family() -> None:
    base = zoo.make(FAMILY)
    name = fingerprint(base)
    base.config.num_hidden_layers += 1
    assert fingerprint(base) != name


def test_a_model_without_decoder_weights_is_unknown() -> None:
    assert fingerprint(nn.Linear(2, 2)) == UNKNOWN


def test_quantised_weights_are_unknown_and_match_any_fingerprint(bench: Bench) -> None:
    model = zoo.make(FAMILY)
    for weight in model.parameters():
        weight.requires_grad_(False)
        weight.data = weight.data.to(torch.int8)
    assert fingerprint(model) == UNKNOWN
    assert len(state_files.match(state_files.read(bench.saved), model)) == 3


@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loaded", [torch.float32, torch.bfloat16, torch.float16])
def test_a_state_loads_into_every_dtype_of_its_base(saved: torch.dtype, loaded: torch.dtype, tmp_path: Path) -> None:
    model = get_peft_model(zoo.make(FAMILY, torch.bfloat16).to(saved), S0AdapterConfig())
    fill(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(zoo.make(FAMILY, torch.bfloat16).to(loaded), tmp_path)
    for layer, old in zip(state_layers(again), state_layers(model), strict=True):
        assert layer.s0_state["default"].dtype == torch.float32
        assert torch.equal(layer.s0_state["default"], old.s0_state["default"])


@pytest.mark.parametrize(
    "edited",
    [
        {"initial_loss": "x"},
        {"n_select": [1]},
        {"losses": "abc"},
        {"settings": [1, 2]},
        {"scale": 5},
        {"scale": {}},
        {"scale": {"alpha": 1.0, "helps": True, "by": "loss", "alphas": [1.0], "values": []}},
        {"scale": {"alpha": 1.0, "helps": True, "by": "loss", "alphas": [0.5], "values": [1.0]}},
        {"prompts": [1]},
    ],
)
def test_an_account_of_a_training_that_was_edited_is_refused(folder: Path, edited: dict[str, Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "training": {**(config["training"] or {}), **edited}}))
    with pytest.raises(StateMismatchError, match=next(iter(edited))):
        state_files.read(folder)


def test_a_state_whose_account_tells_no_settings_is_exported(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "training": {"settings": None}}))
    stored = state_files.read(folder)
    write_published(tmp_path / "published", stored, {name: i for i, name in enumerate(stored.tensors)})
    assert state_files.read(tmp_path / "published").layout == "published"


def test_figures_that_json_does_not_know_are_refused(folder: Path) -> None:
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace('"alpha": ', '"other": NaN, "alpha": ', 1))
    with pytest.raises(StateMismatchError, match="NaN"):
        state_files.read(folder)


def test_the_card_tells_what_to_beware_of_and_how_the_scale_came(tmp_path: Path) -> None:
    curve = {"alpha": 1.0, "helps": True, "by": "loss", "alphas": [0.0, 1.0], "values": [2.0, 1.0]}
    training = {"n_select": 3, "select_initial_loss": 2.0, "select_final_loss": 1.0, "scale": curve}
    text = card.card({"training": training})
    assert "| scale chosen by | loss |" in text and "| loss on select examples after | 1 |" in text
    assert "To be read with care:\n\n- a choice on only 3 select examples is mostly luck; take at least 10" in text
    assert "scale chosen by | nothing: it was given" in card.card({"training": {"n_examples": 1}})


def test_a_card_that_is_no_text_is_left_alone(folder: Path) -> None:
    (folder / card.CARD_FILE).write_bytes(b"\xff\xfe mine")
    card.write_card(folder, {})
    card.remove_card(folder)
    assert (folder / card.CARD_FILE).read_bytes() == b"\xff\xfe mine"
