"""Full fine-tuning: the model's own weights learn, and come back to the last bit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from s0 import S0AdapterConfig
from s0.adapter.fingerprint import fingerprint, how_loaded, weights_digest
from s0.cautions import Caution
from s0.core.tuned_weights import TunedWeight
from s0.errors import ConfigError, DatasetError, EngineError, StateMismatchError
from s0.train import (
    BaselineTrainer,
    FitSettings,
    FullTrainer,
    FullTuning,
    LoraTuning,
    load_tuned,
    mean_loss,
    read_tuned,
)
from tests import zoo
from tests.breadth import mostly_slow
from tests.train import helpers
from tests.train.helpers import PAIRS, in_batches, logits, raising_in_step, slow_fit, slow_losses

TIED = "zamba2"
"""A family whose head is its embeddings."""


def make(name: str = "qwen3_5", seed: int = 0) -> nn.Module:
    return zoo.make(name, seed=seed)


def trainer(model: nn.Module | None = None, **settings: Any) -> FullTrainer:
    model = make() if model is None else model
    return FullTrainer(model, helpers.tokenizer(), FullTuning(**{"n_steps": 3, "lr": 1e-3, **settings}))


def trained(model: nn.Module | None = None, **settings: Any) -> FullTrainer:
    made = trainer(model, **settings)
    made.train(PAIRS)
    return made


def bits(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# --- Learning ---


@pytest.mark.parametrize("name", mostly_slow(zoo.FAMILIES, ["qwen3_5"]))
def test_all_weights_learn_what_a_plain_loop_teaches_them(name: str) -> None:
    plain = make(name)
    parameters = list(plain.parameters())
    losses = slow_fit(plain, parameters, FitSettings(n_steps=2, lr=1e-3, l2_lambda=0.0))
    for budget in {1, 4096}:
        made = trainer(make(name), n_steps=2, batch_tokens=budget)
        told = made.train(PAIRS)
        assert abs(told["initial_loss"] - losses[0]) < 1e-5
        with torch.no_grad():
            want = sum(slow_losses(plain)) / len(PAIRS)
        assert abs(told["final_loss"] - want) < 1e-3 * (losses[0] - want) + 1e-5
        assert told["final_loss"] < told["initial_loss"] - 0.01
        made.activate()
        # Adam makes whole steps of gradients that are all rounding, so a few numbers go another way.
        for learned, wanted in zip(made.model.parameters(), parameters, strict=True):
            assert (learned - wanted).abs().median() < 1e-5


def test_weights_that_are_tied_are_one_and_stay_one(tmp_path: Path) -> None:
    made = trained(make(TIED))
    names = [name for name, _ in made.model.named_parameters()]
    assert "lm_head.weight" not in names
    assert made.n_parameters == sum(weight.numel() for weight in set(made.model.parameters()))
    made.activate()
    assert made.model.lm_head.weight is made.model.get_input_embeddings().weight
    assert (made.model.lm_head.weight - make(TIED).lm_head.weight).abs().max() > 1e-3
    made.save(tmp_path)
    assert sorted(load_file(tmp_path / "adapter_model.safetensors")) == sorted(names)
    loaded = load_tuned(make(TIED), helpers.tokenizer(), tmp_path)
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight
    assert torch.equal(logits(loaded.model), logits(made.model))


def test_recomputing_activations_changes_nothing() -> None:
    want, got = trained(), trained(gradient_checkpointing=True)
    assert abs(want.training["final_loss"] - got.training["final_loss"]) < 1e-5


def test_frozen_weights_learn_too_and_are_frozen_again() -> None:
    frozen = make().requires_grad_(False)
    made = trained(frozen)
    assert made.checksum == trained().checksum
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_learning_again_starts_from_the_untouched_weights() -> None:
    made = trained()
    made.activate()
    want = made.checksum
    made.train(PAIRS)
    assert made.is_active and made.checksum == want


# --- On and off ---


def test_every_bit_comes_back() -> None:
    model = make()
    before, was = bits(model), {name: id(parameter) for name, parameter in model.named_parameters()}
    made = trainer(model)
    assert same(bits(model), before)
    made.train(PAIRS)
    assert same(bits(model), before) and not made.is_active
    made.activate()
    tuned = bits(model)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in tuned.items())
    made.activate()  # twice is once
    made.deactivate()
    assert same(bits(model), before)
    made.activate()
    assert same(bits(model), tuned)
    made.detach()
    assert same(bits(model), before)
    assert was == {name: id(parameter) for name, parameter in model.named_parameters()}
    assert "s0_tuned_weights" not in vars(model)


def test_an_interrupted_switch_can_be_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained()
    before, usual, calls = bits(made.model), TunedWeight.switch, iter(range(100))

    def switch(self: TunedWeight, on: bool) -> None:
        if next(calls) == 5:
            raise KeyboardInterrupt
        usual(self, on)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TunedWeight, "switch", switch)
        made.activate()
    assert made.is_active and fingerprint(made.model) == fingerprint(make())
    made.deactivate()
    assert same(bits(made.model), before)


def test_the_base_stays_itself_while_other_weights_are_in_it() -> None:
    model, base = make(), make()
    made = trained(model)
    made.activate()
    assert not torch.equal(logits(model), logits(base))
    for identity in (fingerprint, weights_digest, how_loaded):
        assert identity(model) == identity(base)
    copied = copy.deepcopy(model)  # what a copy computes with, it tells apart, too
    assert fingerprint(copied) == fingerprint(base)
    made.detach()
    assert fingerprint(model) == fingerprint(base)
    assert torch.equal(logits(model), logits(base))


def test_a_tuned_model_saved_by_itself_is_a_model_of_its_own(tmp_path: Path) -> None:
    made = trained()
    made.activate()
    made.model.save_pretrained(tmp_path)
    alone = type(made.model).from_pretrained(tmp_path).eval()
    assert torch.equal(logits(alone), logits(made.model))
    assert fingerprint(alone) != fingerprint(made.model)


def test_nothing_else_is_put_on_a_model_whose_weights_are_tuned() -> None:
    made = trained()
    made.activate()
    want = bits(made.model)
    other: Callable[[], Any]
    for other in (
        lambda: trainer(made.model),
        lambda: BaselineTrainer(made.model, helpers.tokenizer(), LoraTuning()),
        lambda: helpers.trainer(model=made.model),
        lambda: get_peft_model(made.model, S0AdapterConfig()),
    ):
        with pytest.raises(ConfigError, match=r"tunes them all .*detach\(\) that trainer first"):
            other()
    assert same(bits(made.model), want)
    get_peft_model(made.model, LoraConfig(target_modules=["q_proj"]))  # by somebody who does not ask
    for refused in (made.detach, lambda: made.train(PAIRS)):
        with pytest.raises(ConfigError, match="nothing else attached"):
            refused()
    made.deactivate()
    assert fingerprint(made.model) == fingerprint(make())


def test_it_is_not_put_where_something_is() -> None:
    model = make()
    s0 = helpers.trained(model=model)
    with pytest.raises(ConfigError, match="PEFT model"):
        trainer(s0.model)
    with pytest.raises(ConfigError, match="StateLayer"):
        trainer(model)
    s0.detach()
    assert trained(model).checksum == trained().checksum


# --- Models whose weights cannot learn ---


def bfloat16() -> nn.Module:
    return make().to(torch.bfloat16)


def half_of_it_float16() -> nn.Module:
    model = make()
    model.model.embed_tokens.half()
    return model


def quantised() -> nn.Module:
    model = make()
    model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    return model


def offloaded() -> nn.Module:
    model = make()
    model.model.layers[0].to("meta")
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (bfloat16, r"float32 to learn, got bfloat16, which rounds small steps away; .*--dtype float32"),
        (half_of_it_float16, "got float16"),
        (quantised, "got a quantised model"),
        (offloaded, "quantised, sharded or offloaded"),
    ],
)
def test_weights_that_cannot_learn_are_refused(model: Callable[[], nn.Module], reason: str, tmp_path: Path) -> None:
    trained(n_steps=1).save(tmp_path)
    refusing = model()
    with pytest.raises(ConfigError, match=reason):
        trainer(refusing)
    with pytest.raises(StateMismatchError, match=reason):
        load_tuned(refusing, helpers.tokenizer(), tmp_path)
    assert "s0_tuned_weights" not in vars(refusing)


# --- Training that fails ---


def test_a_loss_that_is_not_finite_leaves_the_last_good_values() -> None:
    made = trainer(lr=1e30)
    before = bits(made.model)
    with pytest.raises(DatasetError, match=r"not finite.*lower `lr`|is (nan|inf).*lower `lr`"):
        made.train(PAIRS)
    assert same(bits(made.model), before)
    made.activate()
    assert logits(made.model).isfinite().all()
    assert "interrupted" in made.training


@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError])
def test_what_goes_wrong_otherwise_leaves_what_was_there(error: Any) -> None:
    made = trained()
    made.activate()
    want, checksum, training = bits(made.model), made.checksum, made.training
    with raising_in_step(error, 1):
        made.train(PAIRS[:2])
    assert made.is_active and made.checksum == checksum and made.training == training
    assert same(bits(made.model), want)
    made.detach()
    assert same(bits(made.model), bits(make()))


# --- Folders ---


def test_what_a_folder_holds(tmp_path: Path) -> None:
    made = trained()
    made.save(tmp_path)
    config, training = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("adapter_config", "training"))
    assert config == {"peft_type": "FULL", "base_model_name_or_path": None}
    assert training["fingerprint"] == fingerprint(make())
    assert training["settings"]["lr"] == 1e-3 and training["checksum"] == made.checksum
    made.activate()
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert all(torch.equal(tensor, made.model.get_parameter(name)) for name, tensor in stored.items())


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    trained().save(tmp_path)
    other = make("falcon_h1")
    before = bits(other)
    with pytest.raises(StateMismatchError, match="a tensor for each"):
        load_tuned(other, helpers.tokenizer(), tmp_path, allow_other_base=True)
    assert same(bits(other), before) and "s0_tuned_weights" not in vars(other)


def test_what_the_same_training_has_saved_is_taken_again(tmp_path: Path) -> None:
    made = trained()
    made.save(tmp_path)
    model = make()
    again = trainer(model)
    assert again.reuse(read_tuned(tmp_path, model), PAIRS)
    assert again.checksum == made.checksum and not again.is_active
    assert not trainer(make(), lr=2e-3).reuse(read_tuned(tmp_path, make()), PAIRS)
    adapter = BaselineTrainer(make(), helpers.tokenizer(), LoraTuning())
    with pytest.raises(StateMismatchError, match="use load_tuned"):
        adapter.take(read_tuned(tmp_path, make()))


def test_the_loss_is_the_one_that_was_told() -> None:
    made = trainer()
    with pytest.warns(Caution):  # so few, and learned from
        told = made.train(PAIRS, select=PAIRS[:2])
    base = make()
    assert abs(told["select_initial_loss"] - mean_loss(base, in_batches(PAIRS[:2]))) < 1e-5
    assert abs(told["initial_loss"] - mean_loss(base, in_batches())) < 1e-5
    made.activate()
    assert abs(told["select_final_loss"] - mean_loss(made.model, in_batches(PAIRS[:2]))) < 1e-5
    assert abs(told["final_loss"] - mean_loss(made.model, in_batches())) < 1e-5
