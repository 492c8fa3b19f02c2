"""S0 as a PEFT method: the whole life of an adapter, and the models it refuses."""

from __future__ import annotations

import copy
import functools
import json
import pickle
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.adapter import state_files
from s0.core.families import FAMILIES, find_mixers, kernel_globals, recurrence_of
from s0.core.releases import cache_of
from s0.core.states import effective_state, state_layers
from s0.errors import ConfigError, EngineError, S0Error, StandInError, StateMismatchError, UnsupportedModelError
from tests import forking, zoo
from tests.breadth import mostly_slow
from tests.core.helpers import (
    assert_same,
    fill,
    forward,
    generate,
    gradients,
    holds_no_state,
    logits,
    loss,
    pad,
    shared,
    tokens,
    tuned,
)

FAMILY = "qwen3_5"
KINDS = ["qwen3_5", "kimi_linear", "falcon_h1"]
EVERY_KIND = [*KINDS, "jamba", "zamba", "minimax"]
IDS = tokens(2, 7)


@pytest.fixture
def model() -> PeftModel:
    """Random states `one` (active) and `two`, at different scales."""
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(alpha=0.5), "one")
    model.add_adapter("two", S0AdapterConfig(alpha=3.0, normalize=True))
    fill(model, "one", seed=1)
    fill(model, "two", seed=2)
    return model


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return logits(model, IDS)


@pytest.fixture(scope="module")
def untouched() -> Tensor:
    return run(zoo.make(FAMILY))


def effective(model: nn.Module, name: str) -> list[Tensor]:
    return [layer.effective(name).detach() for layer in state_layers(model)]


def with_states(states: list[Tensor], **settings: Any) -> PeftModel:
    """A fresh model whose raw states are `states`."""
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(**settings))
    for layer, state in zip(state_layers(model), states, strict=True):
        layer.s0_state["default"].data.copy_(state)
    return model


# --- Adapters come, change and go ---


@pytest.mark.parametrize("family", EVERY_KIND)
def test_only_the_states_are_trainable_and_they_are_float32(family: str) -> None:
    model = get_peft_model(zoo.make(family, torch.bfloat16), S0AdapterConfig())
    trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.removeprefix("base_model.model.").removesuffix(".s0_state.default") for name in trainable} == set(
        find_mixers(model)
    )
    assert all(weight.dtype == torch.float32 and not weight.any() for weight in trainable.values())


def test_a_weight_of_the_base_whose_name_looks_alike_is_none_of_ours(tmp_path: Path) -> None:
    base = zoo.make(FAMILY)
    base.model.blocks0_x, base.model.s0_norm = nn.Linear(2, 2), nn.Linear(2, 2)
    model = get_peft_model(base, S0AdapterConfig())
    assert all(name.endswith("s0_state.default") for name, weight in model.named_parameters() if weight.requires_grad)
    model.save_pretrained(tmp_path)
    assert len(state_files.read(tmp_path).tensors) == 2


def test_a_new_adapter_changes_nothing_before_it_is_trained(untouched: Tensor) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig())
    assert torch.equal(run(model), untouched)


def test_only_the_active_states_require_gradients(model: PeftModel) -> None:
    def required() -> set[str]:
        return {name.rpartition(".")[2] for name, weight in model.named_parameters() if weight.requires_grad}

    assert required() == {"one"}
    model.set_adapter("two")
    assert required() == {"two"}
    model.base_model.set_adapter(["one", "two"])
    assert required() == {"one", "two"}
    model.set_adapter("one", inference_mode=True)
    assert required() == set()


def test_set_adapter_switches_between_states(model: PeftModel) -> None:
    for name in ("two", "one"):
        model.set_adapter(name)
        torch.testing.assert_close(run(model), run(with_states(effective(model, name))))


def test_the_effective_state_is_alpha_times_the_raw_or_normalised_one(model: PeftModel) -> None:
    for layer in state_layers(model):
        one, two = (layer.s0_state[name].detach() for name in ("one", "two"))
        torch.testing.assert_close(layer.effective("one"), 0.5 * one)
        torch.testing.assert_close(layer.effective("two"), 3.0 * two / two.norm())


def test_several_active_states_add_up(model: PeftModel) -> None:
    model.base_model.set_adapter(["one", "two"])
    both = [a + b for a, b in zip(effective(model, "one"), effective(model, "two"), strict=True)]
    torch.testing.assert_close(run(model), run(with_states(both)))


def test_disabled_is_bit_identical_to_the_untouched_model(model: PeftModel, untouched: Tensor) -> None:
    before = run(model)
    with model.disable_adapter():
        assert torch.equal(run(model), untouched)
    assert torch.equal(run(model), before)
    assert not torch.allclose(before, untouched, atol=0.1)


def test_deleting_an_inactive_adapter_leaves_the_active_one(model: PeftModel) -> None:
    before = run(model)
    model.delete_adapter("two")
    assert torch.equal(run(model), before)
    assert "two" not in model.peft_config
    assert not any("two" in layer.s0_state or "two" in layer.deployments for layer in state_layers(model))


def test_deleting_the_active_adapter_activates_another(model: PeftModel) -> None:
    want = run(with_states(effective(model, "two")))
    with pytest.warns(UserWarning, match="Setting active adapter to two"):
        model.delete_adapter("one")
    torch.testing.assert_close(run(model), want)


@pytest.mark.filterwarnings("ignore:Adapter one was active")
@pytest.mark.parametrize("left", [[0], [2]])
def test_deleting_leaves_no_layer_without_an_active_adapter(left: list[int]) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(), "one")
    model.add_adapter("two", S0AdapterConfig(layers=left))
    model.delete_adapter("one")
    assert [layer.active_adapters for layer in state_layers(model)] == [["two"], ["two"]]


@pytest.mark.filterwarnings("ignore:Adapter one was active")
def test_deleting_activates_another_adapter_on_its_own_layers() -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(layers=[0]), "one")
    model.add_adapter("two", S0AdapterConfig(layers=[2]))
    fill(model, "one")
    fill(model, "two")
    model.set_adapter("two")
    want = run(model)
    model.set_adapter("one")
    model.delete_adapter("one")
    assert torch.equal(run(model), want)


def test_deleting_activates_nothing_where_nothing_was_active(model: PeftModel, untouched: Tensor) -> None:
    model.base_model.set_adapter([])
    model.delete_adapter("two")
    assert torch.equal(run(model.base_model.model), untouched)


@pytest.mark.filterwarnings("ignore:Adapter one was active")
def test_deleting_the_last_adapter_gives_the_base_model(model: PeftModel, untouched: Tensor) -> None:
    model.delete_adapter("one")
    model.delete_adapter("two")
    assert torch.equal(run(model.base_model.model), untouched)  # PEFT's own wrapper needs an active adapter
    model.add_adapter("three", S0AdapterConfig())
    model.set_adapter("three")
    fill(model, "three")
    assert not torch.allclose(run(model), untouched, atol=0.1)


def test_unload_gives_back_the_very_same_modules(untouched: Tensor) -> None:
    base = zoo.make(FAMILY)
    base.gradient_checkpointing_enable()
    before = dict(base.named_modules())
    checkpoints = [vars(module).get("_gradient_checkpointing_func") for module in base.modules()]
    assert any(checkpoints)
    model = get_peft_model(base, S0AdapterConfig())
    fill(model)
    with torch.no_grad():
        model(input_ids=IDS, use_cache=False, adapter_names=["default", "__base__"])
    again = model.unload()
    assert again is base
    assert dict(again.named_modules()) == before
    assert [vars(module).get("_gradient_checkpointing_func") for module in base.modules()] == checkpoints
    assert torch.equal(run(again), untouched)
    assert len(state_layers(get_peft_model(again, S0AdapterConfig()))) == 2


@pytest.mark.parametrize("merge", ["merge_and_unload", "merge_adapter", "unmerge_adapter"])
def test_merging_is_refused_and_changes_nothing(model: PeftModel, merge: str) -> None:
    before = run(model)
    if merge == "unmerge_adapter":
        for layer in state_layers(model):
            with pytest.raises(ConfigError, match="not a weight"):
                layer.unmerge()
    else:
        with pytest.raises(ConfigError, match="not a weight"):
            getattr(model, merge)()
    assert torch.equal(run(model), before)


@pytest.mark.filterwarnings("ignore:.*multiple adapters")
def test_a_taken_name_is_refused_rather_than_its_state_overwritten(model: PeftModel) -> None:
    before = run(model)
    with pytest.raises(ValueError, match="already exists"):
        model.add_adapter("one", S0AdapterConfig())
    with pytest.warns(UserWarning, match="second time"), pytest.raises(ConfigError, match=r"'one'.*already"):
        get_peft_model(model.get_base_model(), S0AdapterConfig(alpha=7.0), "one")
    assert torch.equal(run(model), before)
    assert model.peft_config["one"].alpha == 0.5
    assert all(layer.deployments["one"] is model.peft_config["one"] for layer in state_layers(model))


# The last three would be confused with parts of tensor names, or with what nn.ParameterDict calls its own.
@pytest.mark.filterwarnings("ignore:.*should not be contained in the prefix")
@pytest.mark.parametrize("name", ["__base__", "", "a.b", "s0_state", "linear_attn", "keys"])
def test_a_name_that_cannot_be_saved_or_chosen_is_refused(name: str, model: PeftModel) -> None:
    base = zoo.make(FAMILY)
    with pytest.raises(ConfigError, match="adapter name"):
        get_peft_model(base, S0AdapterConfig(), name)
    assert holds_no_state(base)
    with pytest.raises(ConfigError, match="adapter name"):
        model.add_adapter(name, S0AdapterConfig())
    assert set(model.peft_config) == {"one", "two"}


def test_one_config_can_serve_several_adapters_and_models(tmp_path: Path) -> None:
    config = S0AdapterConfig(alpha=0.5)
    first = get_peft_model(zoo.make(FAMILY), config, "one")
    first.add_adapter("two", config)
    other = get_peft_model(zoo.make("falcon_h1", seed=3), config)
    first.peft_config["two"].alpha = 2.0
    assert first.peft_config["one"].alpha == other.peft_config["default"].alpha == 0.5
    for i, (model, family, seed) in enumerate([(first, FAMILY, 0), (other, "falcon_h1", 3)]):
        name = model.active_adapter
        fill(model, name)
        model.save_pretrained(tmp_path / str(i), selected_adapters=[name])
        folder = tmp_path / str(i) / ("" if name == "default" else name)
        assert torch.equal(run(PeftModel.from_pretrained(zoo.make(family, seed=seed), folder)), run(model))


# --- Weighted sums ---


def test_a_weighted_adapter_combines_effective_states(model: PeftModel) -> None:
    before = run(model)
    model.add_weighted_adapter(["one", "two"], [0.25, -2.0], "sum")
    assert torch.equal(run(model), before)  # not active yet
    pairs = zip(effective(model, "one"), effective(model, "two"), strict=True)
    want = [0.25 * a - 2.0 * b for a, b in pairs]
    for got, expected in zip(effective(model, "sum"), want, strict=True):
        torch.testing.assert_close(got, expected)
    model.set_adapter("sum")
    torch.testing.assert_close(run(model), run(with_states(want)))


def test_a_weighted_adapter_covers_the_layers_of_all_its_parts(tmp_path: Path) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(layers=[0]), "one")
    model.add_adapter("two", S0AdapterConfig(layers=[2]))
    fill(model, "one")
    fill(model, "two")
    model.add_weighted_adapter(["one", "two"], [1.0, 1.0], "sum")
    model.base_model.set_adapter(["one", "two"])
    both = run(model)
    model.set_adapter("sum")
    torch.testing.assert_close(run(model), both)
    model.save_pretrained(tmp_path, selected_adapters=["sum"])
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "sum")), run(model))


@pytest.mark.parametrize(
    ("adapters", "weights", "name"),
    [
        ([], [], "sum"),
        (["one"], [1.0, 2.0], "sum"),
        (["one", "nobody"], [1.0, 1.0], "sum"),
        (["one", "two"], [1.0, float("nan")], "sum"),
        (["one", "two"], [1.0, 1.0], "two"),
        (["one", "two"], [1.0, 1.0], "__base__"),
        (["one", "two"], [1.0, 1.0], "a.b"),
        (["one", "two"], [1.0, 1.0], "layers"),
        (["one", "two"], [1.0, 1.0], "keys"),
        (["one", "one"], [1.0, 2.0], "sum"),
    ],
)
def test_a_weighted_adapter_that_cannot_be_is_refused(
    model: PeftModel, adapters: list[str], weights: list[float], name: str
) -> None:
    before = run(model)
    with pytest.raises(ConfigError):
        model.add_weighted_adapter(adapters, weights, name)
    assert set(model.peft_config) == {"one", "two"}
    assert torch.equal(run(model), before)
    if name not in {"two", "__base__"}:
        with pytest.raises(ConfigError, match="expected adapter names among"):
            model(input_ids=IDS[:1], adapter_names=[name])


# --- Copies ---


@pytest.mark.parametrize("family", EVERY_KIND)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_of_an_active_model_is_equal_and_independent(
    family: str, duplicate: Callable[[PeftModel], PeftModel]
) -> None:
    model = tuned(family, alpha=0.5)
    before = run(model)
    twin = duplicate(model)
    assert torch.equal(run(twin), before)
    fill(twin, seed=9)
    twin.peft_config["default"].alpha = 2.0
    assert torch.equal(run(model), before)
    twin.peft_config["default"].alpha = 0.5
    assert not torch.equal(run(twin), before)


def test_a_pickled_model_loads_in_a_fresh_process(tmp_path: Path) -> None:
    model = tuned(FAMILY)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, IDS, run(model))))
    code = (
        "import pickle, sys, torch; model, ids, want = pickle.load(open(sys.argv[1], 'rb'));"
        "positions = torch.arange(ids.shape[1]).expand(ids.shape);"
        "got = model(input_ids=ids, position_ids=positions, use_cache=False).logits; assert torch.equal(got, want)"
    )
    done = forking.run(code, tmp_path / "model.pickle")
    assert done.returncode == 0, done.stderr


# --- Scale ---


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_a_change_of_alpha_takes_effect_at_once_in_every_mode(family: str, training: bool) -> None:
    model, half = tuned(family), tuned(family, alpha=0.5)
    model.train(training)
    whole = run(model)
    model.peft_config["default"].alpha = 0.5
    assert torch.equal(run(model), run(half))
    assert not torch.allclose(run(model), whole, atol=0.01)
    model.peft_config["default"].alpha = 0.0
    assert torch.equal(run(model), run(zoo.make(family)))


def test_the_gradient_carries_alpha_in_training_mode() -> None:
    model = tuned(FAMILY, alpha=0.25).train()
    twin = with_states([0.25 * layer.s0_state["default"].detach() for layer in state_layers(model)]).train()
    got = gradients(model, loss(logits(model, IDS), IDS))
    torch.testing.assert_close(got, 0.25 * gradients(twin, loss(logits(twin, IDS), IDS)))


def test_a_normalised_state_has_norm_alpha_per_layer_whatever_its_size() -> None:
    model = tuned(FAMILY, normalize=True, alpha=1.5)
    before = run(model)
    for layer in state_layers(model):
        assert layer.effective("default").norm().item() == pytest.approx(1.5)
        layer.s0_state["default"].data *= 1000
    torch.testing.assert_close(run(model), before, atol=1e-4, rtol=1e-4)


def test_a_normalised_zero_state_is_zero_and_has_a_finite_gradient(untouched: Tensor) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(normalize=True))
    assert torch.equal(run(model), untouched)
    gradient = gradients(model, loss(logits(model, IDS), IDS))
    assert gradient.isfinite().all()


# --- Settings ---


def test_only_the_selected_layers_are_tuned() -> None:
    base = zoo.make(FAMILY)
    stock_mixer = base.model.layers[2].linear_attn
    model = get_peft_model(base, S0AdapterConfig(layers=[0]))
    assert [layer.layer_idx for layer in state_layers(model) if layer.s0_state] == [0]
    assert base.model.layers[2].linear_attn.base_layer is stock_mixer  # wrapped all the same, for its pads
    assert model.unload().model.layers[2].linear_attn is stock_mixer


def test_a_layer_without_a_state_follows_the_switches_of_the_others() -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(layers=[0]), "one")
    tuned_layer, other = state_layers(model)
    assert (other.active_adapters, other.disable_adapters) == (["one"], False)
    with model.disable_adapter():
        assert other.disable_adapters
        model.add_adapter("two", S0AdapterConfig(layers=[0]))
    model.set_adapter("two")
    assert tuned_layer.active_adapters == other.active_adapters == ["two"]


@pytest.mark.parametrize("layers", [[], [0, 0], [1], [99], [-1], [0, 1], ["0"], [0.5], [True], [False], 0, 2, "02", {}])
def test_layers_that_cannot_be_tuned_are_refused(layers: Any) -> None:
    base = zoo.make(FAMILY)
    with pytest.raises(ConfigError, match="layers"):
        get_peft_model(base, S0AdapterConfig(layers=layers))
    assert holds_no_state(base)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf"), None, "1", True, 10**400, 1 + 0j, [1.0]])
def test_an_alpha_that_is_no_finite_number_is_refused(alpha: Any) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        S0AdapterConfig(alpha=alpha)


@pytest.mark.parametrize(
    "setting",
    [
        {"init": None},
        {"init": 3},
        {"init": ""},
        {"normalize": "yes"},
        {"normalize": None},
        {"modules_to_save": ["norm"]},
    ],
)
def test_other_settings_that_cannot_work_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        S0AdapterConfig(**setting)


@pytest.mark.parametrize("stored", [{"alpha": 0.3}, {"alpha": 2.0, "normalize": True}, {"alpha": 0.3, "layers": [2]}])
@pytest.mark.parametrize("alpha", [1.0, 0.07])
def test_init_starts_where_the_stored_state_was_deployed(tmp_path: Path, stored: dict[str, Any], alpha: float) -> None:
    deployed = tuned(FAMILY, **stored)
    deployed.save_pretrained(tmp_path)
    config = S0AdapterConfig(init=str(tmp_path), alpha=alpha, layers=stored.get("layers"))
    model = get_peft_model(zoo.make(FAMILY), config)
    torch.testing.assert_close(run(model), run(deployed), atol=1e-4, rtol=1e-4)
    assert all(state.requires_grad for layer in state_layers(model) for state in layer.s0_state.values())


def test_where_training_started_is_history_once_a_state_is_saved(tmp_path: Path) -> None:
    tuned(FAMILY).save_pretrained(tmp_path / "start")
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(init=str(tmp_path / "start")))
    fill(model, seed=6)
    model.save_pretrained(tmp_path / "end")
    shutil.rmtree(tmp_path / "start")
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "end")), run(model))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"alpha": 0}, ConfigError),
        ({"normalize": True}, ConfigError),
        ({"layers": [0]}, ConfigError),  # the stored state has another layer too
        ({"init": "no/such-folder"}, StateMismatchError),
    ],
)
def test_an_init_that_cannot_work_is_refused(tmp_path: Path, settings: dict[str, Any], error: type[S0Error]) -> None:
    tuned(FAMILY).save_pretrained(tmp_path)
    base = zoo.make(FAMILY)
    with pytest.raises(error):
        get_peft_model(base, S0AdapterConfig(**{"init": str(tmp_path), **settings}))
    assert holds_no_state(base)


def test_init_from_another_base_needs_the_explicit_flag(tmp_path: Path) -> None:
    tuned(FAMILY).save_pretrained(tmp_path)
    other = zoo.make(FAMILY, seed=5)
    with pytest.raises(StateMismatchError, match="allow_other_base"):
        get_peft_model(other, S0AdapterConfig(init=str(tmp_path)))
    assert holds_no_state(other)
    model = get_peft_model(other, S0AdapterConfig(init=str(tmp_path), allow_other_base=True))
    assert all(layer.s0_state["default"].any() for layer in state_layers(model))


# --- Refused models ---

REASONS = {
    "llama": "no recurrent layer",
    "zaya": "first token only",
    "recurrent_gemma": "resets its recurrence",
    "lfm2": "short convolutions",
}


@pytest.mark.parametrize("family", zoo.REFUSED)
def test_a_model_that_cannot_be_tuned_is_refused_with_the_true_reason_and_left_alone(family: str) -> None:
    base = zoo.make(family)
    before, modules, attributes = run_plain(base), dict(base.named_modules()), set(vars(base))
    with pytest.raises(UnsupportedModelError, match=REASONS[family]) as refusal:
        get_peft_model(base, S0AdapterConfig())
    assert all(name in str(refusal.value) for name in FAMILIES)
    assert type(base).__name__ in str(refusal.value)
    assert dict(base.named_modules()) == modules
    assert set(vars(base)) == attributes
    assert torch.equal(run_plain(base), before)


@torch.no_grad()
def run_plain(model: nn.Module) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


# --- Nothing else in the process changes ---


@pytest.fixture(params=KINDS)
def fresh_kernels(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A family, and its modeling file's globals as they were before any state was attached in this process."""
    mixer = next(iter(find_mixers(zoo.make(request.param)).values()))
    namespace, name = kernel_globals(mixer), recurrence_of(mixer).recognised_by
    kernel = namespace[name]
    while "is_s0_seam" in vars(kernel) or "reads_s0_offset" in vars(kernel):
        kernel = kernel.__wrapped__
    monkeypatch.setitem(namespace, name, kernel)  # to be restored
    yield request.param, namespace


def test_one_kernel_is_patched_with_the_first_state_and_other_models_keep_theirs(
    fresh_kernels: tuple[str, dict[str, Any]],
) -> None:
    family, namespace = fresh_kernels
    stock, (ids, mask) = zoo.make(family), pad([IDS[:1], IDS[1:, :3]], "left")
    before, globals_before = stock_padded(stock, ids, mask), dict(namespace)
    assert find_mixers(stock) and dict(namespace) == globals_before

    model = tuned(family)
    changed = {name for name in namespace if namespace[name] is not globals_before.get(name)}
    assert changed == {recurrence_of(state_layers(model)[0].base_layer).recognised_by}
    patched = dict(namespace)
    logits(model, ids, mask)
    tuned(family)
    assert dict(namespace) == patched
    assert torch.equal(stock_padded(stock, ids, mask), before)
    assert torch.equal(run(stock), run(zoo.make(family)))


def stock_padded(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([logits(model, ids, mask).flatten(), generate(model, ids, mask).flatten()])


# --- Layers whose forward was replaced ---


def replace_forwards(model: PeftModel, forward: Callable[..., Any]) -> None:
    """As kernels from the Hub are put on a model: on the modules, whose class stays what it was."""
    for layer in state_layers(model):
        layer.base_layer.forward = types.MethodType(forward, layer.base_layer)


def hook_forwards(model: PeftModel, forward: Callable[..., Any]) -> None:
    """As hooks are put on a model, which say what they wrap."""
    replace_forwards(model, functools.wraps(type(state_layers(model)[0].base_layer).forward)(forward))


def ignores_its_cache(mixer: nn.Module, hidden_states: Tensor, **kwargs: Any) -> Tensor:
    return hidden_states


def skips_its_kernel(mixer: nn.Module, hidden_states: Tensor, **kwargs: Any) -> Tensor:
    if (cache := cache_of(kwargs)) is not None:
        cache.get_recurrent_state(mixer.layer_idx)
    return hidden_states


def asks_only_a_begun_cache(mixer: nn.Module, hidden_states: Tensor, **kwargs: Any) -> Tensor:
    if (cache := cache_of(kwargs)) is not None and cache.has_previous_state(mixer.layer_idx):
        cache.get_recurrent_state(mixer.layer_idx)
    return hidden_states


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("replacement", [ignores_its_cache, skips_its_kernel])
@pytest.mark.parametrize("before", [False, True], ids=["after-wrapping", "before-wrapping"])
def test_a_replaced_forward_is_refused_however_the_tokens_arrive(
    family: str, replacement: Callable[..., Any], before: bool
) -> None:
    model, (padded, mask) = tuned(family), pad([IDS[:1], IDS[1:, :3]], "left")
    replace_forwards(model, replacement)
    if before:
        model = get_peft_model(model.unload(), S0AdapterConfig())
        fill(model)
    runs: dict[str, Callable[[], Any]] = {
        "training": lambda: forward(model, IDS, use_cache=False),
        "prompt": lambda: forward(model, IDS, use_cache=True),
        "one token": lambda: forward(model, IDS[:, :1], use_cache=True),
        "one token, no cache": lambda: forward(model, IDS[:, :1], use_cache=False),
        "padded prompt": lambda: forward(model, padded, mask, use_cache=True),
        "generation": lambda: generate(model, IDS),
        "rows": lambda: forward(model, IDS, adapter_names=["__base__", "default"]),
    }
    for name, run in runs.items():
        with pytest.raises(EngineError, match=r"was replaced by one of tests\..*use_kernels=False"):
            pytest.fail(f"{name}: {run()}")
    with model.disable_adapter():
        forward(model, IDS, use_cache=False)


@pytest.mark.parametrize("family", KINDS)
@torch.no_grad()
def test_a_hooked_forward_is_not_a_replaced_one(family: str) -> None:
    model, (ids, mask) = tuned(family), pad([IDS[:1], IDS[1:, :3]], "left")
    want = logits(model, ids, mask)
    for layer in state_layers(model):
        add_hook_to_module(layer.base_layer, ModelHook())
    assert "forward" in vars(state_layers(model)[0].base_layer)
    assert torch.equal(logits(model, ids, mask), want)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("hook", [ignores_its_cache, asks_only_a_begun_cache])
def test_a_layer_that_does_not_ask_for_its_state_is_refused(
    family: str, use_cache: bool, hook: Callable[..., Any]
) -> None:
    model = tuned(family)
    forward(model, IDS, use_cache=use_cache)
    hook_forwards(model, hook)
    with pytest.raises(EngineError, match=r"tuned state would be ignored.*use_kernels=False"):
        forward(model, IDS, use_cache=use_cache)
    with model.disable_adapter():
        forward(model, IDS, use_cache=use_cache)


@pytest.mark.parametrize("family", KINDS)
def test_a_layer_that_skips_its_kernel_is_refused_where_padded_rows_are_kept(family: str) -> None:
    model, (ids, mask) = tuned(family), pad([IDS[:1], IDS[1:, :3]], "left")
    hook_forwards(model, skips_its_kernel)
    with pytest.raises(EngineError, match=r"padding cannot be kept out of the state.*use_kernels=False"):
        forward(model, ids, mask, use_cache=True)


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_a_mamba1_layer_that_skips_its_kernel_is_refused_padded_or_not(use_cache: bool, padded: bool) -> None:
    model, (ids, mask) = tuned("jamba"), pad([IDS[:1], IDS[1:, : 3 if padded else None]], "left")
    hook_forwards(model, skips_its_kernel)
    with pytest.raises(EngineError, match=r"tuned state would be ignored.*use_kernels=False"):
        forward(model, ids, mask, use_cache=use_cache)


def test_a_minimax_layer_that_ignores_its_cache_is_refused() -> None:
    model = tuned("minimax")
    hook_forwards(model, lambda mixer, hidden_states, **kwargs: (hidden_states, None))
    with pytest.raises(EngineError, match=r"tuned state would be ignored.*use_kernels=False"):
        run(model)


def reads_the_layers_of_its_cache(mixer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    assert cache_of(kwargs).layers is not None
    return type(mixer).forward(mixer, *args, **kwargs)


@pytest.mark.parametrize("family", EVERY_KIND)
def test_a_hook_that_wants_more_than_states_of_a_stand_in_is_told_so(family: str) -> None:
    model = tuned(family)
    want = run(model)
    hook_forwards(model, reads_the_layers_of_its_cache)
    with pytest.raises(StandInError, match=r"asked for 'layers'.*nothing else; ask the model's own cache"):
        run(model)
    for layer in state_layers(model):
        del layer.base_layer.forward

    def looks_first(mixer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        cache = cache_of(kwargs)
        assert not hasattr(cache, "layers") and getattr(cache, "layers", None) is None
        return type(mixer).forward(mixer, *args, **kwargs)

    hook_forwards(model, looks_first)
    assert torch.equal(run(model), want)


def test_a_minimax_layer_whose_forward_was_replaced_is_refused() -> None:
    def reads_its_cache(mixer: nn.Module, hidden_states: Tensor, **kwargs: Any) -> Any:
        return hidden_states, cache_of(kwargs).get_linear_cache(mixer.layer_idx)

    model = tuned("minimax")
    replace_forwards(model, reads_its_cache)
    with pytest.raises(EngineError, match=r"was replaced by one of tests\..*use_kernels=False"):
        run(model)


@pytest.mark.parametrize("family", ["qwen3_5", pytest.param("falcon_h1", marks=pytest.mark.slow)])
@torch.no_grad()
@pytest.mark.slow
def test_the_check_can_be_compiled(family: str) -> None:
    model = tuned(family)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with model.disable_adapter():
        stock = logits(model, IDS)
    assert_same(compiled(input_ids=IDS, use_cache=False).logits, logits(model, IDS), stock)


# --- Saving and loading ---


@pytest.mark.parametrize("family", mostly_slow(EVERY_KIND, ["qwen3_5", "falcon_h1", "minimax"]))
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 0.3, "normalize": True}, {"layers": "last", "task_type": "CAUSAL_LM"}]
)
def test_a_saved_adapter_loads_bit_equal(
    family: str, low_cpu_mem_usage: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    if settings.get("layers") == "last":
        settings = {**settings, "layers": [state_layers(shared(family))[-1].layer_idx]}
    model = tuned(family, **settings)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(zoo.make(family), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(run(again), run(model))
    assert type(again) is type(model)
    for name in ("alpha", "normalize", "layers"):
        assert getattr(again.peft_config["default"], name) == getattr(model.peft_config["default"], name)
    for layer, old in zip(state_layers(again), state_layers(model), strict=True):
        assert [*layer.s0_state] == [*old.s0_state]
        for state, before in zip(layer.s0_state.values(), old.s0_state.values(), strict=True):
            assert torch.equal(state, before)
            assert state.dtype == torch.float32
            assert not state.requires_grad


@pytest.mark.parametrize("names", [("one", "two"), ("default", "s0"), ("s", "state"), ("s0_0", "s0_state_2")])
@pytest.mark.filterwarnings("ignore:.*should not be contained in the prefix")
def test_adapters_of_any_name_are_saved_and_loaded_together(names: tuple[str, str], tmp_path: Path) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(alpha=0.5), names[0])
    model.add_adapter(names[1], S0AdapterConfig(layers=[2]))
    for seed, name in enumerate(names):
        fill(model, name, seed=seed)
    model.save_pretrained(tmp_path)
    folders = [tmp_path if name == "default" else tmp_path / name for name in names]
    again = PeftModel.from_pretrained(zoo.make(FAMILY), folders[0], names[0])
    first = run(again)
    again.load_adapter(folders[1], names[1])
    assert torch.equal(run(again), first)
    for name in names:
        model.set_adapter(name)
        again.set_adapter(name)
        assert torch.equal(run(again), run(model))


def test_a_loaded_adapter_can_be_trained_on(tmp_path: Path) -> None:
    model = tuned(FAMILY)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path, is_trainable=True)
    assert {name.rpartition(".")[2] for name, weight in again.named_parameters() if weight.requires_grad} == {"default"}
    fill(again, seed=8)
    again.save_pretrained(tmp_path)
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path)), run(again))


def test_training_resumes_into_an_adapter_that_exists(tmp_path: Path) -> None:
    model = tuned(FAMILY)
    model.save_pretrained(tmp_path)
    resumed = get_peft_model(zoo.make(FAMILY), S0AdapterConfig())
    resumed.load_adapter(tmp_path, "default", is_trainable=True)
    assert torch.equal(run(resumed), run(model))


def test_the_effective_state_of_a_half_precision_tensor_is_float32() -> None:
    scale = S0AdapterConfig(alpha=0.5)
    assert effective_state(torch.ones(2, 2, 2, dtype=torch.float16), scale).dtype == torch.float32


def test_a_repository_on_the_hub_is_checked_at_the_revision_and_folder_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(FAMILY).save_pretrained(tmp_path / "best")
    asked = {}

    def snapshot_download(name: str, **kwargs: Any) -> str:
        asked.update(kwargs, name=name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    state_files.read("someone/state", "best", revision="v2", token="secret")
    assert asked["name"] == "someone/state" and asked["revision"] == "v2" and asked["token"] == "secret"
    wanted = {"best/adapter_model.safetensors", "best/adapter_config.json", "best/training.json"}
    assert wanted <= set(asked["allow_patterns"])
    assert not any(name.endswith(".bin") for name in asked["allow_patterns"])
    (tmp_path / "best" / state_files.STATE_FILE).unlink()
    asked.clear()
    with pytest.raises(StateMismatchError):
        S0AdapterConfig.from_pretrained("someone/state", subfolder="best", revision="v3")
    assert asked["name"] == "someone/state" and asked["revision"] == "v3"


# --- States are float32, whatever PEFT is told of their dtype ---

AS_THE_MODEL = {"autocast_adapter_dtype": False}
PUTS = {
    "get_peft_model": lambda base, folder: get_peft_model(base, S0AdapterConfig(), **AS_THE_MODEL),
    "for a task": lambda base, folder: get_peft_model(base, S0AdapterConfig(task_type="CAUSAL_LM"), **AS_THE_MODEL),
    "from_pretrained": lambda base, folder: PeftModel.from_pretrained(base, folder, **AS_THE_MODEL),
}
ADDS = {
    "add_adapter": lambda model, folder: model.add_adapter("new", S0AdapterConfig(), **AS_THE_MODEL),
    "load_adapter": lambda model, folder: model.load_adapter(folder, "new", **AS_THE_MODEL),
    "into an adapter that exists": lambda model, folder: model.load_adapter(folder, "default", **AS_THE_MODEL),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    shared(FAMILY).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_new_state_in_the_models_dtype_is_refused_before_the_model_is_touched(
    put: Any, dtype: torch.dtype, saved: Path
) -> None:
    base = zoo.make(FAMILY, dtype)
    with pytest.raises(ConfigError, match=f"autocast_adapter_dtype=True.*{dtype}.*leave the argument out"):
        put(base, saved)
    assert holds_no_state(base) and not hasattr(base, "peft_config")
    assert all(weight.requires_grad for weight in base.parameters())


@pytest.mark.parametrize("add", ADDS.values(), ids=ADDS)
def test_another_state_in_the_models_dtype_is_refused_too(add: Any, saved: Path) -> None:
    model = tuned(FAMILY, dtype=torch.bfloat16, seed=5)
    before = run(model)
    with pytest.raises(ConfigError, match="autocast_adapter_dtype=True"):
        add(model, saved)
    assert list(model.peft_config) == ["default"]
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
@pytest.mark.parametrize("add", list(ADDS.values())[:2], ids=list(ADDS)[:2])
def test_in_a_float32_model_a_state_has_the_models_dtype(put: Any, add: Any, saved: Path) -> None:
    model = put(zoo.make(FAMILY), saved)
    add(model, saved)
    assert {"default", "new"} == set(model.peft_config)


# --- A config by itself ---

SETTINGS = S0AdapterConfig(alpha=0.5, normalize=True, layers=[2], kind="offset", revision="main")


@pytest.mark.parametrize("read", [S0AdapterConfig, PeftConfig])
@pytest.mark.parametrize("subfolder", [None, "inside"])
def test_a_config_by_itself_is_saved_and_read(read: Any, subfolder: str | None, tmp_path: Path) -> None:
    SETTINGS.save_pretrained(tmp_path / (subfolder or ""))
    again = read.from_pretrained(str(tmp_path), subfolder=subfolder)
    assert type(again) is S0AdapterConfig
    assert again == SETTINGS
    assert S0AdapterConfig.from_peft_type(**again.to_dict()) == SETTINGS
    model = get_peft_model(zoo.make(FAMILY), again)
    assert [layer.layer_idx for layer in state_layers(model) if layer.s0_state] == [2]


@pytest.mark.parametrize("config", [None, S0AdapterConfig()])
def test_a_config_by_itself_is_no_state_to_load(config: S0AdapterConfig | None, tmp_path: Path) -> None:
    S0AdapterConfig().save_pretrained(tmp_path)
    base, model = zoo.make(FAMILY), shared(FAMILY)
    with pytest.raises(StateMismatchError, match=r"expected the state in .*adapter_model\.safetensors, found no such"):
        PeftModel.from_pretrained(base, tmp_path, config=config)
    assert config is not None or (holds_no_state(base) and not hasattr(base, "peft_config"))
    with pytest.raises(StateMismatchError, match="found no such file"):
        model.load_adapter(tmp_path, "another")
    assert list(model.peft_config) == ["default"]


def test_the_config_of_a_state_whose_tensors_are_gone_is_refused(tmp_path: Path) -> None:
    shared(FAMILY).save_pretrained(tmp_path)
    (tmp_path / state_files.STATE_FILE).unlink()
    with pytest.raises(StateMismatchError, match="found no such file"):
        S0AdapterConfig.from_pretrained(tmp_path)


# --- Without a wrapper: PEFT's functions for a bare model ---


def injected(config: PeftConfig, name: str = "default", **kwargs: Any) -> nn.Module:
    model: nn.Module = inject_adapter_in_model(config, zoo.make(FAMILY), name, **kwargs)
    return model


def adapted(config: PeftConfig, name: str = "default") -> PeftModel:
    return get_peft_model(zoo.make(FAMILY), config, name)


@pytest.mark.parametrize("source", [injected, adapted])
@pytest.mark.parametrize("target", [injected, adapted])
@pytest.mark.parametrize("name", ["default", "other"])
@pytest.mark.parametrize(
    "config", [S0AdapterConfig(alpha=0.5), LoraConfig(target_modules=["o_proj"])], ids=["s0", "lora"]
)
def test_tensors_go_from_model_to_model_with_and_without_a_wrapper(
    source: Any, target: Any, name: str, config: PeftConfig
) -> None:
    one, two = source(config), target(config, name)
    for weight in one.parameters():
        if weight.requires_grad:
            weight.data.normal_(generator=torch.Generator().manual_seed(1))
    before = run(two)
    result = set_peft_model_state_dict(two, get_peft_model_state_dict(one), adapter_name=name)
    assert not result.unexpected_keys
    assert torch.equal(run(two), run(one))
    assert not torch.allclose(run(two), before, atol=1e-3)


def test_tensors_enter_a_bare_model_whose_own_are_not_there_yet() -> None:
    one, two = injected(S0AdapterConfig()), injected(S0AdapterConfig(), low_cpu_mem_usage=True)
    fill(one)
    set_peft_model_state_dict(two, get_peft_model_state_dict(one), low_cpu_mem_usage=True)
    assert torch.equal(run(two), run(one))


@pytest.mark.parametrize("damage", ["a layer fewer", "another shape", "NaN", "float16"])
def test_wrong_tensors_are_refused_on_a_bare_model(damage: str) -> None:
    model = injected(S0AdapterConfig())
    fill(model)
    before, tensors = run(model), {key: 2 * tensor for key, tensor in get_peft_model_state_dict(model).items()}
    key, tensor = tensors.popitem()
    changed = {"another shape": tensor[1:], "NaN": tensor * torch.nan, "float16": tensor.half()}
    tensors |= {key: changed[damage]} if damage in changed else {}
    with pytest.raises(StateMismatchError, match="the tensors for adapter 'default'"):
        set_peft_model_state_dict(model, tensors)
    assert torch.equal(run(model), before)


def test_naming_every_layer_is_naming_none() -> None:
    indices = [layer.layer_idx for layer in state_layers(tuned(FAMILY))]
    again = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(layers=indices))
    assert again.peft_config["default"].layers is None


@pytest.mark.parametrize("weights", [[torch.tensor(0.5), np.float32(1.0)], [0.5, 1]])
def test_weights_of_a_sum_may_be_any_numbers_and_are_kept_as_plain_ones(weights: list[Any], tmp_path: Path) -> None:
    model = tuned(FAMILY)
    model.add_adapter("two", S0AdapterConfig())
    model.add_weighted_adapter(["default", "two"], weights, "sum")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert config["training"]["combined"] == {"default": 0.5, "two": 1.0}


@pytest.mark.parametrize(
    ("adapters", "weights", "name"),
    [
        (["default", "two"], ["1", 1], "sum"),
        (["default", "two"], None, "sum"),
        (["default", "two"], [1e39, 1], "sum"),
        (["default", "two"], [3e38, 3e38], "sum"),
        (["default", "two"], [True, 1], "sum"),
        ("two", [1, 1, 1], "sum"),
        (["default", "two"], [1, 1], 3),
    ],
)
def test_a_sum_that_cannot_be_is_refused_before_it_is_there(adapters: Any, weights: Any, name: Any) -> None:
    model = tuned(FAMILY)
    for other in ("two", "left", "right"):
        model.add_adapter(other, S0AdapterConfig())
        for layer in state_layers(model):
            layer.s0_state[other].data.fill_(1.0)
    with pytest.raises(ConfigError, match="expected"):
        model.add_weighted_adapter(adapters, weights, name)
    assert set(model.peft_config) == {"default", "two", "left", "right"}
