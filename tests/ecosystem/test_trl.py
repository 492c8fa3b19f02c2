"""TRL trains a state as it trains any PEFT adapter: on completions, on verdicts, and held to what it was.

Packed rows are exact or refused where the borders of documents are marked (`padding_free=True`, and packing with the
default strategy). `packing_strategy="wrapped"` cuts one stream of text into rows without borders, which TRL itself
advises against: a row is one document then, and its beginning is where the state enters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig, load_model
from s0.core.states import state_layers
from s0.errors import EngineError
from s0.tasks import Verdict, load
from tests import words, zoo
from tests.breadth import mostly_slow
from tests.core.helpers import fill, logits, tokens

pytest.importorskip("trl", reason="needs trl: pip install trl")
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

ROWS = [
    {"prompt": "def add(a, b):\n", "completion": "    return a + b\n"},
    {"prompt": "def double(x):\n", "completion": "    return x * 2\n"},
    {"prompt": "def one():\n", "completion": "    return 1\n"},
    {"prompt": "def big(a):\n", "completion": "    return a > 10\n"},
]
END = 1  # the tokenizer's end token, which TRL puts after every completion
QUIET: dict[str, Any] = {
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def sft(folder: Path, family: str = "qwen3_5", model: nn.Module | None = None, **settings: Any) -> SFTTrainer:
    arguments = {**QUIET, "max_steps": 4, "learning_rate": 0.1, "per_device_train_batch_size": 4, **settings}
    return SFTTrainer(
        zoo.make(family) if model is None else model,
        SFTConfig(str(folder), **arguments),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=words.characters(),
        peft_config=S0AdapterConfig(alpha=0.5),
    )


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def states(model: nn.Module, name: str = "default") -> list[Tensor]:
    return [layer.s0_state[name].detach().clone() for layer in state_layers(model)]


def completion_loss(model: nn.Module) -> float:
    """Mean over completion tokens of the negative log-likelihood, row by row."""
    tokenizer, total, count = words.characters(), 0.0, 0
    for row in ROWS:
        ids = torch.tensor([tokenizer(row["prompt"] + row["completion"])["input_ids"] + [END]])
        n_prompt = len(tokenizer(row["prompt"])["input_ids"])
        with torch.no_grad():
            scores = logits(model, ids)[0, n_prompt - 1 : -1].log_softmax(-1)
        total -= scores.gather(1, ids[0, n_prompt:, None]).sum().item()
        count += ids.shape[1] - n_prompt
    return total / count


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_supervised_training_learns_a_state_from_completions_alone(family: str, tmp_path: Path) -> None:
    trainer = sft(tmp_path, family)
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert len(trained) == len(state_layers(trainer.model)) and all(".s0_state." in name for name in trained)
    weights = {name: weight.clone() for name, weight in trainer.model.named_parameters() if name not in trained}
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(completion_loss(zoo.make(family)), abs=1e-4)
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.3
    assert all(torch.equal(trainer.model.get_parameter(name), weight) for name, weight in weights.items())
    trainer.save_model(str(tmp_path / "state"))
    loaded = PeftModel.from_pretrained(zoo.make(family), tmp_path / "state")
    assert all(map(torch.equal, states(loaded), states(trainer.model)))
    assert completion_loss(loaded) < losses(trainer)[0] - 0.3
    assert loaded.peft_config["default"].alpha == 0.5


@pytest.mark.parametrize("family", mostly_slow(["qwen3_5", "falcon_h1"], ["qwen3_5"]))
@pytest.mark.parametrize("settings", [{"padding_free": True, "max_length": None}, {"packing": True, "max_length": 64}])
def test_packed_rows_are_exact_or_refused(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    # One step over all four documents, from a zero state: what the state becomes is its gradient.
    one_step: dict[str, Any] = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0}
    apart = sft(tmp_path, family, **one_step)
    apart.train()
    assert all(state.abs().max() > 1e-4 for state in states(apart.model))
    packed = sft(tmp_path, family, **one_step, **settings)
    try:
        packed.train()
    except EngineError as refusal:
        assert "packed" in str(refusal) and "padded rows" in str(refusal)
        assert not any(state.any() for state in states(packed.model))
        return
    for got, want in zip(states(packed.model), states(apart.model), strict=True):
        torch.testing.assert_close(got, want, atol=1e-3 * want.abs().max().item(), rtol=0)


class TestReference:
    """A trained state that is trained on: TRL's reference is the state as it was, not the base model."""

    def test_it_is_a_copy_of_the_state(self, tmp_path: Path) -> None:
        model = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(alpha=0.5))
        fill(model)
        before = states(model)
        rows = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "    pass\n"} for row in ROWS]
        trainer = DPOTrainer(
            model,
            args=DPOConfig(str(tmp_path), **QUIET, max_steps=2, learning_rate=0.1, per_device_train_batch_size=4),
            train_dataset=Dataset.from_list(rows),
            processing_class=words.characters(),
        )
        trainer.train()
        # Nothing is preferred over the reference yet, whatever the prompts: -log sigmoid(0).
        assert losses(trainer)[0] == pytest.approx(0.6931, abs=1e-3)
        assert losses(trainer)[-1] < losses(trainer)[0]
        assert all(map(torch.equal, states(trainer.model, "ref"), before))
        assert not any(map(torch.equal, states(trainer.model), before))

    def test_another_name_starts_at_zero(self) -> None:
        model = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig())
        fill(model)
        model.add_adapter("other", model.peft_config["default"])
        assert not any(state.any() for state in states(model, "other"))


@pytest.mark.slow
def test_reinforcement_learns_a_state_from_verdicts(tmp_path: Path) -> None:
    task = load("pocket-code")
    model, tokenizer = load_model("pocket:gdn")
    problems = {problem.prompt: problem for problem in task.split("train")[:4]}
    judged: list[Verdict] = []

    def verdicts(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        given = task.verdicts([(problems[p], c) for p, c in zip(prompts, completions, strict=True)])
        judged.extend(given)
        return [float(verdict.passed) for verdict in given]

    trainer = GRPOTrainer(
        model,
        verdicts,
        args=GRPOConfig(
            str(tmp_path),
            **QUIET,
            max_steps=2,
            learning_rate=0.05,
            beta=0.04,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=40,
            temperature=1.0,
            seed=0,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in problems]),
        processing_class=tokenizer,
        peft_config=S0AdapterConfig(alpha=0.07),
    )
    weights = {name: weight.clone() for name, weight in model.named_parameters() if "s0_state" not in name}
    trainer.train()
    assert len(judged) == 16 and len({verdict.passed for verdict in judged}) == 2
    assert all(state.any() and state.isfinite().all() for state in states(trainer.model))
    assert all(torch.equal(dict(model.named_parameters())[name], weight) for name, weight in weights.items())
    trainer.save_model(str(tmp_path / "state"))
    assert json.loads((tmp_path / "state" / "adapter_config.json").read_text())["alpha"] == 0.07
    loaded = PeftModel.from_pretrained(load_model("pocket:gdn")[0], tmp_path / "state")
    assert torch.equal(logits(loaded, tokens(1, 6)), logits(trainer.model, tokens(1, 6)))
