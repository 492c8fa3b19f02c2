"""`S0Trainer.save` and `load`: a state comes back as it was, or it is refused and nothing has changed."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from s0 import S0Config, S0Trainer
from s0.errors import ConfigError, StateMismatchError
from tests import words, zoo
from tests.train.helpers import PAIRS, every_family, logits, shared, snapshot, states, trained, trainer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a state of qwen3_5."""
    path = tmp_path_factory.mktemp("saved")
    shared("qwen3_5").save(path)
    return path


def of_shared(family: str = "qwen3_5") -> Tensor:
    """The logits under the state of `shared(family)`."""
    made = shared(family)
    made.activate()
    tuned = logits(made.model)
    made.deactivate()
    return tuned


def publish(path: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    """Write states in the layout of s0-tuning 0.1.2."""
    config = {**dict(n_steps=20, lr=1e-3, l2_lambda=5e-4, alpha=None, normalize=False, grad_clip=1.0, max_length=2048)}
    meta = {"arch": "gated_delta_net", "recurrent_layers": [0, 2], "state_shape": [4, 8, 16]}
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "states.safetensors")
    for name, content in (("config.json", config), ("meta.json", meta)):
        (path / name).write_text(json.dumps({key: changes.get(key, value) for key, value in content.items()}))
    return path


# --- Round trips ---


@every_family
@pytest.mark.parametrize("settings", [{"alpha": None}, {"alpha": 0.4}, {"alpha": 3.0, "normalize": True}], ids=str)
def test_a_saved_state_comes_back_bit_for_bit(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    made, fresh = trained(family, **settings), trainer(family)
    made.save(tmp_path / "new" / "state")
    mine = fresh.config
    fresh.load(tmp_path / "new" / "state")
    for each in (made, fresh):
        each.activate()
    assert torch.equal(logits(fresh.model), logits(made.model))
    assert all(torch.equal(state, states(fresh)[layer]) for layer, state in states(made).items())
    assert fresh.config.normalize == made.config.normalize
    assert mine == S0Config()
    fresh.save(tmp_path / "again")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / "state" / name).read_bytes()


@every_family
def test_peft_loads_a_saved_state_without_the_trainer(family: str, tmp_path: Path) -> None:
    made = shared(family)
    made.save(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(zoo.make(family), str(tmp_path))), of_shared(family))


@pytest.fixture(scope="module", params=["qwen3_5", "falcon_h1", "qwen3_5+vision"])
def on_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, S0Trainer]:
    """A folder that holds a model's own folder and its state, and the trainer that saved it."""
    folder = tmp_path_factory.mktemp("disk")
    zoo.make(request.param).save_pretrained(folder / "model")
    words.characters().save_pretrained(folder / "model")
    made = S0Trainer.from_pretrained(str(folder / "model"), S0Config(n_steps=2, lr=0.5, alpha=1.0))
    made.train(PAIRS)
    made.save(folder / "state")
    made.activate()
    return folder, made


@pytest.mark.parametrize("auto", [AutoPeftModelForCausalLM, AutoPeftModel])
def test_peft_finds_the_base_model_by_itself(auto: Any, on_disk: tuple[Path, S0Trainer], tmp_path: Path) -> None:
    folder, made = on_disk
    model = auto.from_pretrained(folder / "state")
    assert type(model.get_base_model()) is type(made.model.get_base_model())
    tuned = logits(made.model)
    assert torch.equal(logits(model), tuned)
    made.deactivate()
    stock = logits(made.model)
    made.activate()
    assert (tuned - stock).abs().max() > 0.01
    rows = logits(model, *2 * ["def add(a, b"], adapter_names=["default", "__base__"])
    torch.testing.assert_close(rows, torch.cat([tuned, stock]), atol=1e-5, rtol=0)
    ids = torch.tensor([words.characters()("def add(a, b")["input_ids"]])
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(input_ids=ids, **settings), made.model.generate(input_ids=ids, **settings))
    with pytest.raises(ConfigError, match="pad"):
        mask = torch.cat([torch.ones_like(ids[:, 1:]), torch.zeros_like(ids[:, :1])], dim=1)
        model.generate(input_ids=ids, attention_mask=mask, **settings)
    model.add_weighted_adapter(["default"], [2.0], "twice")
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(auto.from_pretrained(tmp_path)), tuned)
    model.set_adapter("twice")
    assert torch.equal(logits(auto.from_pretrained(tmp_path / "twice")), logits(model))
    assert (logits(model) - tuned).abs().max() > 0.01


def test_a_second_trainers_state_names_its_base_model_too(on_disk: tuple[Path, S0Trainer], tmp_path: Path) -> None:
    folder, made = on_disk
    second = trainer(model=made.model, n_steps=1)
    second.train(PAIRS)
    second.save(tmp_path)
    second.detach()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder / "model"
    )


def test_a_saved_state_says_how_it_was_trained(tmp_path: Path) -> None:
    made = trainer(n_steps=2, lr=0.3, alpha=0.5)
    report = made.train(PAIRS)
    made.set_scale(0.25)  # deployed at another scale than that of the final loss
    made.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["alpha"] == 0.25
    training = config["training"]
    assert training["settings"]["alpha"] == 0.5
    assert training["n_examples"] == len(PAIRS)
    assert (training["initial_loss"], training["alpha"]) == (report["initial_loss"], 0.25)
    assert "final_loss" not in training
    other = trainer(n_steps=2, lr=0.3, alpha=0.5)
    other.train(PAIRS[::-1])
    other.save(tmp_path)
    again = json.loads((tmp_path / "adapter_config.json").read_text())["training"]
    assert again["tokens_sha256"] != training["tokens_sha256"]


def test_loading_while_active_switches_to_the_loaded_state(saved: Path) -> None:
    made = trained(lr=0.2)
    made.activate()
    made.load(saved)
    assert made.is_active
    assert torch.equal(logits(made.model), of_shared())


def test_loading_while_inactive_stays_inactive(saved: Path) -> None:
    made = trainer()
    stock = logits(made.model)
    made.load(saved)
    assert not made.is_active
    assert torch.equal(logits(made.model), stock)


@pytest.mark.parametrize("on", [False, True], ids=["inactive", "active"])
@pytest.mark.parametrize(("mine", "stored"), [(None, [0]), ([2], None), ([0], [2])], ids=str)
def test_a_state_of_other_layers_is_taken_over_with_its_layers(
    mine: list[int] | None, stored: list[int] | None, on: bool, tmp_path: Path
) -> None:
    source, beside = trained(layers=stored), trained(lr=0.2)
    source.save(tmp_path)
    source.activate()
    made = trained(model=beside.model, layers=mine)
    if on:
        made.activate()
    kept = states(beside)
    made.load(tmp_path)
    assert made.is_active == on
    assert list(states(made)) == list(states(source))
    assert made.config.layers == stored
    assert all(torch.equal(state, kept[layer]) for layer, state in states(beside).items())
    made.activate()
    assert torch.equal(logits(made.model), logits(source.model))
    beside.activate()
    assert not torch.equal(logits(made.model), logits(source.model))
    made.train(PAIRS)
    assert beside.is_active


def test_loading_leaves_another_active_trainer_alone(saved: Path, tmp_path: Path) -> None:
    model = zoo.make("qwen3_5")
    beside, made = trained(model=model, lr=0.2), trainer(model=model)
    beside.activate()
    tuned = logits(model)
    trained(layers=[2]).save(tmp_path)
    for path in (saved, tmp_path):
        made.load(path)
        assert (beside.is_active, made.is_active) == (True, False)
        assert torch.equal(logits(model), tuned)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_state_loads_into_the_same_model_in_another_dtype(dtype: torch.dtype, saved: Path) -> None:
    made = trainer(model=zoo.make("qwen3_5", dtype))
    made.load(saved)
    assert all(torch.equal(state, states(shared("qwen3_5"))[layer]) for layer, state in states(made).items())


# --- The published layout ---


@pytest.mark.parametrize("alpha", [None, 0.5])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_published_state_loads_at_its_scale(alpha: float | None, normalize: bool, tmp_path: Path) -> None:
    raw = states(shared("qwen3_5"))
    publish(tmp_path, {str(layer): state for layer, state in raw.items()}, alpha=alpha, normalize=normalize)
    made = trainer(alpha=0.9)
    made.load(tmp_path)
    assert (made.config.alpha, made.config.normalize) == (alpha, normalize)
    made.activate()
    want = trained(alpha=0.07 if alpha is None else alpha, normalize=normalize)
    want.activate()
    assert torch.equal(logits(made.model), logits(want.model))


# --- What is refused leaves everything as it was ---


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def edit_tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return edit


def flip_a_bit(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def published(
    change: Callable[[dict[str, Tensor]], Any] = lambda tensors: None, **changes: Any
) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.rmtree(folder)
        tensors = {str(layer): state for layer, state in states(shared("qwen3_5")).items()}
        change(tensors)
        publish(folder, tensors, **changes)

    return replace


def first(tensors: dict[str, Tensor]) -> Tensor:
    return tensors[min(tensors)]


DAMAGE = {
    "no folder": shutil.rmtree,
    "missing layer": edit_tensors(lambda tensors: tensors.pop(max(tensors))),
    "extra layer": edit_tensors(
        lambda tensors: tensors.update({"base_model.model.model.layers.1.linear_attn.s0_state": first(tensors).clone()})
    ),
    "NaN": edit_tensors(lambda tensors: first(tensors).view(-1)[5].fill_(float("nan"))),
    "wrong shape": edit_tensors(lambda tensors: tensors.update({min(tensors): first(tensors)[:2].clone()})),
    "another dtype": edit_tensors(lambda tensors: tensors.update({min(tensors): first(tensors).half()})),
    "flipped bit": flip_a_bit,
    "cut off": cut,
    "unknown version": edit_config(format_version=2),
    "alpha not finite": edit_config(alpha=float("nan")),
    "alpha of a wrong type": edit_config(alpha="0.07"),
    "another family": edit_config(family="mamba2"),
    "another base": edit_config(fingerprint="0" * 32),
    "another layer list": edit_config(layers=[0]),
    "another method": edit_config(peft_type="LORA"),
    "published: missing layer": published(lambda tensors: tensors.pop("2")),
    "published: only one of the layers": published(lambda tensors: tensors.pop("2"), recurrent_layers=[0]),
    "published: negative layer": published(
        lambda tensors: tensors.update({"-1": tensors.pop("2")}), recurrent_layers=[0, -1]
    ),
    "published: NaN": published(lambda tensors: first(tensors).view(-1)[5].fill_(float("nan"))),
    "published: wrong shape": published(
        lambda tensors: tensors.update({key: state[:2].clone() for key, state in tensors.items()}),
        state_shape=[2, 8, 16],
    ),
    "published: another family": published(arch="mamba2"),
    "published: alpha not finite": published(alpha=float("inf")),
}


@pytest.mark.parametrize("on", [False, True], ids=["inactive", "active"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_state_is_refused_and_nothing_changes(
    damage: Callable[[Path], Any], on: bool, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    shutil.copytree(saved, folder)
    damage(folder)
    made = shared("qwen3_5")
    if on:
        made.activate()
    config, values = made.config, copy.copy(vars(made.config))
    before, kept, tuned = snapshot(made.model), states(made), logits(made.model)
    try:
        with pytest.raises(StateMismatchError):
            made.load(folder)
        assert made.config is config
        assert vars(config) == values
        assert snapshot(made.model) == before
        assert all(torch.equal(state, kept[layer]) for layer, state in states(made).items())
        assert torch.equal(logits(made.model), tuned)
        assert made.is_active == on
    finally:
        made.deactivate()


@every_family
def test_a_state_of_other_weights_needs_permission(family: str, tmp_path: Path) -> None:
    shared(family).save(tmp_path)
    made = trainer(family, zoo.make(family, seed=1))
    with pytest.raises(StateMismatchError, match="other weights"):
        made.load(tmp_path)
    with pytest.raises(ConfigError, match="load"):
        made.activate()
    made.load(tmp_path, allow_other_base=True)
    assert all(torch.equal(state, states(shared(family))[layer]) for layer, state in states(made).items())
    made.save(tmp_path / "mine")  # it is now a state of these weights
    S0Trainer(zoo.make(family, seed=1), made.tokenizer).load(tmp_path / "mine")


def test_a_training_that_broke_off_leaves_the_file_of_an_earlier_one_that_was_never_saved(tmp_path: Path) -> None:
    made = trainer("qwen3_5", n_steps=2)
    made.train(PAIRS, checkpoint=tmp_path / "first")

    def broken(*_: Any) -> None:
        raise RuntimeError("boom")

    second = tmp_path / "second"
    handle = made.model.register_forward_pre_hook(lambda *_: broken() if second.exists() else None)
    with pytest.raises(RuntimeError, match="boom"):
        made.train(PAIRS[:2], checkpoint=second)
    handle.remove()
    made.save(tmp_path / "state")
    assert (tmp_path / "first").exists() and second.exists()
