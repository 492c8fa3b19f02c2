"""A state's file is checked on every way that PEFT and transformers have of loading it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from s0 import S0AdapterConfig
from s0.adapter.state_files import STATE_FILE
from s0.core.states import state_layers
from s0.errors import StateMismatchError
from tests import zoo
from tests.core.helpers import fill, logits, tokens, tuned
from tests.installed import own_adapters

FAMILY = "qwen3_5"
IDS = tokens(2, 7)
OTHER = r"alpha=0\.5 and normalize=False, got alpha=1\.0"


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return logits(model, IDS)


def far(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().amax(-1).min() > 0.01)


@pytest.fixture
def model() -> PeftModel:
    return tuned(FAMILY, alpha=0.5)


@pytest.fixture
def folder(model: PeftModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "state")
    return tmp_path / "state"


def drop_a_layer(folder: Path) -> None:
    tensors = load_file(folder / STATE_FILE)
    tensors.popitem()
    save_file(tensors, folder / STATE_FILE)


def change_a_value(folder: Path) -> None:
    tensors = load_file(folder / STATE_FILE)
    next(iter(tensors.values())).view(-1)[0].add_(1)
    save_file(tensors, folder / STATE_FILE)


def by_peft(folder: Path) -> nn.Module:
    return PeftModel.from_pretrained(zoo.make(FAMILY), folder)


def by_transformers(folder: Path, **settings: Any) -> nn.Module:
    model = zoo.make(FAMILY)
    model.load_adapter(folder, **settings)
    return model


# --- Into an adapter that exists, as a Trainer does that resumes ---


def into_existing(base: nn.Module, folder: Path, **settings: Any) -> PeftModel:
    model = get_peft_model(base, S0AdapterConfig(**settings))
    model.load_adapter(folder, "default", is_trainable=True)
    return model


def with_config(base: nn.Module, folder: Path, **settings: Any) -> PeftModel:
    return PeftModel.from_pretrained(base, folder, config=S0AdapterConfig(**settings))


WAYS = pytest.mark.parametrize("load", [into_existing, with_config])


@WAYS
def test_a_state_enters_an_adapter_of_the_same_scale(load: Any, model: PeftModel, folder: Path) -> None:
    again = load(zoo.make(FAMILY), folder, alpha=0.5)
    assert far(run(model), run(zoo.make(FAMILY)))
    assert torch.equal(run(again), run(model))


@WAYS
@pytest.mark.parametrize("settings", [{}, {"alpha": 0.5, "normalize": True}])
def test_a_state_of_another_scale_is_refused(load: Any, settings: dict[str, Any], folder: Path) -> None:
    with pytest.raises(StateMismatchError, match=r"alpha=0\.5 and normalize=False, got"):
        load(zoo.make(FAMILY), folder, **settings)


@WAYS
def test_a_state_of_another_base_needs_the_explicit_flag(load: Any, model: PeftModel, folder: Path) -> None:
    with pytest.raises(StateMismatchError, match="allow_other_base"):
        load(zoo.make(FAMILY, seed=5), folder, alpha=0.5)
    loaded = load(zoo.make(FAMILY, seed=5), folder, alpha=0.5, allow_other_base=True)
    assert torch.equal(state_layers(loaded)[0].s0_state["default"], state_layers(model)[0].s0_state["default"])


@WAYS
@pytest.mark.parametrize("damage", [drop_a_layer, change_a_value])
def test_a_damaged_file_is_refused(load: Any, damage: Any, folder: Path) -> None:
    damage(folder)
    with pytest.raises(StateMismatchError):
        load(zoo.make(FAMILY), folder, alpha=0.5)


def test_a_refused_file_leaves_the_adapter_as_it_was(folder: Path) -> None:
    model = tuned(FAMILY, seed=4)
    before = run(model)
    with pytest.raises(StateMismatchError, match=OTHER):
        model.load_adapter(folder, "default")
    assert torch.equal(run(model), before)


# --- By transformers itself, which asks PEFT for the config alone ---


@own_adapters
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "kimi_linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_auto_model_finds_the_base_and_the_state(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    zoo.make(family, dtype).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    stock = run(base)
    model = get_peft_model(base, S0AdapterConfig(alpha=0.5))
    fill(model)
    model.save_pretrained(tmp_path / "state")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "state", dtype=dtype)
    assert far(run(model), stock)
    assert torch.equal(run(again), run(model))
    assert {layer.s0_state["default"].dtype for layer in state_layers(again)} == {torch.float32}
    again.save_pretrained(tmp_path / "again")
    by_peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype), tmp_path / "again"
    )
    assert torch.equal(run(by_peft), run(model))


@own_adapters
def test_transformers_refuses_a_state_of_another_base(folder: Path) -> None:
    with pytest.raises(StateMismatchError, match="other weights"):
        zoo.make(FAMILY, seed=5).load_adapter(folder)


@own_adapters
@pytest.mark.parametrize("damage", [drop_a_layer, change_a_value])
def test_what_transformers_loads_is_checked_before_its_first_use(damage: Any, folder: Path) -> None:
    damage(folder)
    model = by_transformers(folder)
    for _ in range(2):
        with pytest.raises(StateMismatchError, match="damaged or incomplete"):
            run(model)


@own_adapters
def test_the_scale_of_what_transformers_loads_can_be_set_before_its_first_use(folder: Path) -> None:
    model = by_transformers(folder)
    model.peft_config["default"].alpha = 2.0
    want = tuned(FAMILY, alpha=2.0)
    assert torch.equal(run(model), run(want))


def loaded(folder: Path) -> nn.Module:
    model = by_transformers(folder, is_trainable=True)
    run(model)
    return model


def added(folder: Path) -> nn.Module:
    model = zoo.make(FAMILY)
    model.add_adapter(S0AdapterConfig(alpha=0.5), adapter_name="default")
    return model


@own_adapters
@pytest.mark.parametrize("start", [loaded, added])
@pytest.mark.parametrize("then", [lambda model: model, copy.deepcopy])
def test_what_transformers_trains_and_saves_can_be_loaded(start: Any, then: Any, folder: Path, tmp_path: Path) -> None:
    model = then(start(folder))
    for seed in (3, 4):  # transformers writes the config first: the second time, older tensors lie there
        fill(model, seed=seed)
        model.save_pretrained(tmp_path / "again")
        assert far(run(model), run(by_peft(folder)))
        assert torch.equal(run(by_peft(tmp_path / "again")), run(model))
        assert torch.equal(run(by_transformers(tmp_path / "again")), run(model))
    with pytest.raises(StateMismatchError, match="other weights"):
        zoo.make(FAMILY, seed=5).load_adapter(tmp_path / "again")


@own_adapters
def test_saving_does_not_make_a_damaged_state_pass(folder: Path, tmp_path: Path) -> None:
    change_a_value(folder)
    by_transformers(folder).save_pretrained(tmp_path / "again")
    for load in (by_peft, by_transformers):
        with pytest.raises(StateMismatchError):
            run(load(tmp_path / "again"))


@own_adapters
def test_a_copy_of_what_transformers_loaded_is_checked_by_itself(folder: Path) -> None:
    model = by_transformers(folder)
    twin = copy.deepcopy(model)
    want = run(model)
    fill(model, seed=3)
    assert torch.equal(run(twin), want)
    change_a_value(folder)
    damaged = by_transformers(folder)
    twin = copy.deepcopy(damaged)
    for one in (twin, damaged, twin):
        with pytest.raises(StateMismatchError, match="damaged or incomplete"):
            run(one)


@own_adapters
def test_one_config_serves_two_models(folder: Path, tmp_path: Path) -> None:
    for config in (S0AdapterConfig(alpha=0.5), S0AdapterConfig.from_pretrained(folder)):
        models = [zoo.make(FAMILY), zoo.make(FAMILY)]
        for seed, model in enumerate(models):
            model.add_adapter(config, adapter_name="default")
            fill(model, seed=seed)
        for model in models:
            model.save_pretrained(tmp_path / "one")
            assert torch.equal(run(by_peft(tmp_path / "one")), run(model))


def test_a_config_alone_cannot_pass_for_its_state(folder: Path) -> None:
    with pytest.raises(StateMismatchError, match="was not loaded"):
        run(get_peft_model(zoo.make(FAMILY), PeftConfig.from_pretrained(folder)))


def test_the_settings_of_a_state_can_be_used_for_a_new_one(folder: Path) -> None:
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig.from_pretrained(folder))
    assert model.peft_config["default"].alpha == 0.5
    assert torch.equal(run(model), run(zoo.make(FAMILY)))
