"""A state on a quantised base model, on a CPU: it stays float32, it learns, it is saved, and it loads.

A quantised model's fingerprint is "unknown", so nothing is known about whether a state belongs to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from s0 import S0AdapterConfig
from s0.adapter.fingerprint import UNKNOWN, fingerprint
from s0.core.states import state_layers
from s0.errors import EngineError
from tests import words, zoo
from tests.core.helpers import fill, logits, tokens, tuned

FAMILY = "qwen3_5_wide"
IDS = tokens(2, 7)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def eight_bits() -> Any:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def four_bits() -> Any:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True)


def torchao_int8() -> Any:
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install torchao")
    from transformers import TorchAoConfig

    return TorchAoConfig(quantization.Int8WeightOnlyConfig())


@pytest.fixture(params=[eight_bits, four_bits, torchao_int8])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], nn.Module]:
    """Loads one tiny model, quantised; skips where the package is absent."""
    config = request.param()
    zoo.make(FAMILY).save_pretrained(tmp_path / "base")
    return lambda: AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=copy.deepcopy(config), dtype=torch.bfloat16
    )


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return logits(model, IDS)


def test_a_state_of_a_quantised_model_is_float32_learns_and_loads(
    load: Callable[[], nn.Module], tmp_path: Path
) -> None:
    stock, base = run(load()), load()
    model = get_peft_model(base, S0AdapterConfig(alpha=0.5))
    assert model.peft_config["default"].fingerprint == fingerprint(base) == UNKNOWN
    fill(model)
    states = [layer.s0_state["default"] for layer in state_layers(model)]
    logits(model, IDS).float().square().mean().backward()
    assert all(state.dtype == state.grad.dtype == torch.float32 and state.grad.any() for state in states)
    assert (run(model) - stock).abs().amax(-1).min() > 0.1
    model.save_pretrained(tmp_path / "state")
    assert torch.equal(run(PeftModel.from_pretrained(load(), tmp_path / "state")), run(model))


def test_gradients_pass_through_four_bits_after_the_model_has_run(tmp_path: Path) -> None:
    settings = {"quantization_config": four_bits(), "dtype": torch.bfloat16}
    zoo.make(FAMILY).save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tmp_path, **settings)
    model = get_peft_model(base, S0AdapterConfig())
    run(model)
    logits(model, IDS).float().square().mean().backward()
    assert all(layer.s0_state["default"].grad.any() for layer in state_layers(model))
    run(model.unload())  # where the processor is one for it, this packs the weights, for good
    if not any(
        getattr(p.quant_state, "packing_format_for_cpu", False) for p in base.parameters() if hasattr(p, "quant_state")
    ):
        return
    model = get_peft_model(base, S0AdapterConfig())
    run(model)
    with pytest.raises(EngineError, match=r"packed for inference.*load the model anew"):
        logits(model, IDS)


def test_a_state_of_the_whole_model_enters_the_quantised_one(load: Callable[[], nn.Module], tmp_path: Path) -> None:
    whole = tuned(FAMILY, alpha=0.5)
    whole.save_pretrained(tmp_path / "state")
    model = PeftModel.from_pretrained(load(), tmp_path / "state")
    pairs = zip(state_layers(model), state_layers(whole), strict=True)
    assert all(torch.equal(layer.effective("default"), other.effective("default")) for layer, other in pairs)


def test_states_that_were_rounded_before_training_are_float32_in_training(tmp_path: Path) -> None:
    # What TRL does to every trainable tensor of a quantised model before it makes its optimiser.
    model = get_peft_model(zoo.make(FAMILY), S0AdapterConfig())
    states = [layer.s0_state["default"] for layer in state_layers(model)]
    for state in states:
        state.data = state.data.to(torch.bfloat16)
    optimiser = torch.optim.Adam(states, lr=1e-5)
    fill(model)
    before = [state.detach().float().clone() for state in states]
    logits(model, IDS).square().mean().backward()
    optimiser.step()
    for state, old in zip(states, before, strict=True):
        assert state.dtype == state.grad.dtype == torch.float32
        # Adam's first step moves every value by the learning rate; bfloat16 would lose it next to values of size 1.
        assert ((state - old).abs() > 5e-6).float().mean() > 0.9
    model.save_pretrained(tmp_path)
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path)), run(model))


def test_trl_trains_a_state_on_a_quantised_model_in_float32(load: Callable[[], nn.Module], tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs trl: pip install trl")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        load(),
        SFTConfig(str(tmp_path), max_steps=2, learning_rate=1e-4, report_to=[], use_cpu=True, save_strategy="no"),
        train_dataset=Dataset.from_list([{"prompt": "def one():\n", "completion": "    return 1\n"}] * 8),
        processing_class=words.characters(),
        peft_config=S0AdapterConfig(),
    )
    trainer.train()
    states = [layer.s0_state["default"] for layer in state_layers(trainer.model)]
    assert all(state.dtype == torch.float32 and state.any() for state in states)
    assert not all(torch.equal(state, state.bfloat16().float()) for state in states)
