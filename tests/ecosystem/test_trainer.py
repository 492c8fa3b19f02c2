"""transformers' own Trainer trains a state, goes on after an interruption, and saves what PEFT loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import Trainer, TrainingArguments

from s0 import S0AdapterConfig
from s0.core.states import state_layers
from s0.errors import StateMismatchError
from tests import zoo
from tests.breadth import mostly_slow
from tests.core.helpers import logits, tokens

FAMILIES = ["qwen3_5", "falcon_h1"]
STEPS, INTERRUPTED = 4, 2


def rows() -> list[dict[str, Tensor]]:
    """Six rows of different length; the pads of a batch carry no label."""
    made = []
    for i, length in enumerate([5, 9, 7, 9, 6, 8]):
        ids = tokens(1, length, seed=i)[0]
        made.append({"input_ids": ids, "labels": ids.clone()})
    return made


def padded(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    def stack(name: str, fill: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(
            [example[name] for example in examples], batch_first=True, padding_value=fill
        )

    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones_like(example["input_ids"]) for example in examples], batch_first=True
    )
    return {"input_ids": stack("input_ids", 0), "labels": stack("labels", -100), "attention_mask": mask}


def trainer(folder: Path, family: str = FAMILIES[0], alpha: float = 0.5, seed: int = 0, **settings: Any) -> Trainer:
    arguments = {
        "max_steps": STEPS,
        "learning_rate": 0.1,
        "per_device_train_batch_size": 3,
        "save_steps": INTERRUPTED,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    model = get_peft_model(zoo.make(family, seed=seed), S0AdapterConfig(alpha=alpha))
    return Trainer(
        model,
        TrainingArguments(str(folder), **arguments),
        train_dataset=rows(),
        eval_dataset=rows(),
        data_collator=padded,
    )


def states(model: torch.nn.Module) -> list[Tensor]:
    return [layer.s0_state["default"].detach().clone() for layer in state_layers(model)]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_training_ends_bit_equal_and_its_state_loads(family: str, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", family)
    weights = {name: weight.clone() for name, weight in whole.model.named_parameters() if "s0_state" not in name}
    whole.train()
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.05
    assert all(torch.equal(whole.model.get_parameter(name), weight) for name, weight in weights.items())

    again = trainer(tmp_path / "again", family)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{INTERRUPTED}"))
    assert again.state.global_step == STEPS
    assert all(state.abs().max() > 0.05 for state in states(whole.model))
    assert all(map(torch.equal, states(again.model), states(whole.model)))

    again.save_model(str(tmp_path / "saved"))
    loaded = PeftModel.from_pretrained(zoo.make(family), tmp_path / "saved")
    assert all(map(torch.equal, states(loaded), states(whole.model)))
    assert loaded.peft_config["default"].alpha == 0.5


@pytest.mark.parametrize("changed", [{"alpha": 1.0}, {"seed": 5}])
def test_a_training_does_not_go_on_at_another_scale_or_on_another_base(changed: dict[str, Any], tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=1, save_steps=1).train()
    with pytest.raises(StateMismatchError, match="alpha=1" if "alpha" in changed else "other weights"):
        trainer(tmp_path, **changed).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("family", mostly_slow(FAMILIES, ["qwen3_5"]))
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_activations_change_nothing(family: str, use_reentrant: bool, tmp_path: Path) -> None:
    plain = trainer(tmp_path, family, max_steps=2, save_strategy="no")
    plain.train()
    recomputed = trainer(
        tmp_path,
        family,
        max_steps=2,
        save_strategy="no",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
    )
    recomputed.train()
    assert recomputed.model.get_base_model().is_gradient_checkpointing
    assert all(state.abs().max() > 0.05 for state in states(plain.model))
    for got, want in zip(states(recomputed.model), states(plain.model), strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_the_best_checkpoint_comes_back_at_the_end(tmp_path: Path) -> None:
    made = trainer(tmp_path, learning_rate=0.5, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True)
    made.train()
    best = PeftModel.from_pretrained(zoo.make("qwen3_5"), made.state.best_model_checkpoint)
    assert all(map(torch.equal, states(made.model), states(best)))
    assert torch.equal(logits(made.model, tokens(1, 5)), logits(best, tokens(1, 5)))
