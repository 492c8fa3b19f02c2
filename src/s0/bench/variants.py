"""Variants: methods with their settings, trained on the same examples and asked the same problems."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter.fingerprint import UNKNOWN, fingerprint
from s0.bench.asking import Answerer, Questions
from s0.bench.controls import wrong_content
from s0.bench.evaluation import evaluate
from s0.cautions import cautions
from s0.core.families import unwrapped
from s0.core.states import state_layers
from s0.errors import ConfigError, StateMismatchError
from s0.examples import Example, examples_sha256
from s0.models import encode_prompt
from s0.progress import Stage, silent
from s0.record import Answer
from s0.train import S0Trainer, make_trainer, method_of, read_tuned
from s0.train.account import prompt_digest
from s0.train.methods import Settings, Trainer
from s0.train.settings import recorded


@dataclass(frozen=True)
class Variant:
    """A method with its settings.

    Attributes:
        settings: S0Config, LoraTuning or another method's; None for the untouched model.
        content: "right", or "wrong" for the format control: trained on completions whose form alone is right.
        shots: so many of the examples are shown in front of every problem.
        seed: of what a variant leaves to chance: the choice of wrong completions.
    """

    settings: Settings | None = None
    content: str = "right"
    shots: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.content not in ("right", "wrong") or self.shots < 0:
            raise ConfigError(f"expected content 'right' or 'wrong' and shots >= 0, got {self}")

    @property
    def method(self) -> str:
        """base, few-shot, or one of `s0.train.METHODS`."""
        if self.settings is None:
            return "few-shot" if self.shots else "base"
        return method_of(self.settings)

    def recorded(self) -> dict[str, Any]:
        """Itself as files tell of it."""
        return {**asdict(self), "settings": None if self.settings is None else recorded(self.settings)}

    def trainer(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> Trainer:
        """A trainer for `settings`, attached to `model`."""
        if self.settings is None:
            raise ConfigError("expected a variant that trains something, got the untouched model")
        return make_trainer(model, tokenizer, self.settings)


@dataclass(frozen=True)
class Outcome:
    """What became of a variant.

    Attributes:
        facts: method, settings, parameters, training and scale, as they stand in records.
        answers: greedy, one per problem, in order.
        seconds: of "train", if it was, and "evaluate".
        sampled: the answers drawn, if any were, by problem.
    """

    facts: Mapping[str, Any]
    answers: Sequence[Answer]
    seconds: Mapping[str, float] = field(default_factory=dict)
    sampled: Sequence[Answer] = ()


def run_variant(
    variant: Variant,
    base: Answerer,
    questions: Questions,
    examples: Mapping[str, Sequence[Example]],
    *,
    out: Path | None = None,
    stage: Stage = silent,
) -> Outcome:
    """Train a variant, let it choose what it chooses, and answer the questions; leaves the model untouched.

    Killed at any point, it goes on from there.

    Args:
        variant: what to run.
        base: the model, with nothing attached.
        questions: asked in the end.
        examples: verified ones by split: "train" to learn from, and of other problems "select" to choose on, if any.
        out: folder for what was trained; None keeps nothing. What the same training has left there is taken again.
        stage: shows progress, of "train" and "evaluate".

    Raises:
        S0Error: as of training and evaluating.
    """
    train, select = examples["train"], examples.get("select", ())
    facts: dict[str, Any] = {"method": variant.method}
    if variant.settings is None:
        shots = list(train[: variant.shots])
        if shots:
            facts |= {"shots": len(shots), "examples_sha256": examples_sha256(shots)}
        return answer(base, replace(questions, shots=shots), facts, stage=stage)
    if variant.content == "wrong":
        train, select = (wrong_content(right, questions.task, variant.seed) for right in (train, select))
        facts |= {"content": "wrong", "examples": len(train), "examples_sha256": examples_sha256(train)}
    trainer = variant.trainer(base.model, base.tokenizer)
    try:
        started = time.perf_counter()
        _learn(trainer, train, select, out, lambda _, total: stage("train", total))
        seconds = round(time.perf_counter() - started, 2)
        trainer.activate()
        facts |= {"settings": recorded(variant.settings), **tuned_facts(trainer, questions)}
        outcome = answer(base.tuned_by(trainer), questions, facts, stage=stage)
        return replace(outcome, seconds={"train": seconds, **outcome.seconds})
    finally:
        trainer.detach()


def _learn(
    trainer: Trainer, train: Sequence[Example], select: Sequence[Example], out: Path | None, stage: Stage
) -> None:
    """Train and save, or take what the same training has saved."""
    if out is None:
        trainer.train(train, select=select or None, stage=stage)
        return
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    if _take_saved(trainer, train, select, out):
        checkpoint.unlink(missing_ok=True)  # killed between saving and removing it
    else:
        trainer.train(train, select=select or None, checkpoint=checkpoint, stage=stage)
        trainer.save(out)


def _take_saved(trainer: Trainer, train: Sequence[Example], select: Sequence[Example], out: Path) -> bool:
    """Take what lies in a folder, if it is whole and training now would only repeat it; whether it was taken."""
    base: PreTrainedModel = unwrapped(trainer.model)
    if not out.is_dir() or fingerprint(base) == UNKNOWN:
        return False
    try:
        return trainer.reuse(read_tuned(out, base), train, select or None)
    except StateMismatchError:
        return False


def answer(answerer: Answerer, questions: Questions, facts: Mapping[str, Any], *, stage: Stage = silent) -> Outcome:
    """The answers of the model as it is now: greedy ones, and the samples that the questions want beside them.

    Args:
        answerer: who is asked.
        questions: what.
        facts: for the record.
        stage: shows progress, of "evaluate".

    Raises:
        SandboxError, OSError: as `evaluate`.
    """
    drawn = questions.samples
    each = 1 + (drawn.n if drawn else 0)
    started = time.perf_counter()
    with stage("evaluate", each * len(questions.problems)) as advance:
        answers = evaluate(answerer, questions, on_done=advance)
        sampled = evaluate(answerer, questions, samples=drawn, on_done=advance) if drawn else []
    return Outcome(facts, answers, {"evaluate": round(time.perf_counter() - started, 2)}, sampled)


def learned_from(trainer: Trainer, questions: Questions) -> list[str]:
    """A caution where problems that are asked were learned from, which the account of the training tells."""
    prompts = set(trainer.training.get("prompts") or ())
    asked = [questions.task.prompt(problem, questions.chat) for problem in questions.problems]
    n_learned = sum(prompt_digest(encode_prompt(trainer.tokenizer, prompt)) in prompts for prompt in asked if prompts)
    if not n_learned:
        return []
    return [
        f"{n_learned} of the {len(asked)} problems asked are among those learned from, so the gain is not one on new "
        "problems; learn from others"
    ]


def tuned_facts(trainer: Trainer, questions: Questions | None = None) -> dict[str, Any]:
    """What a record says of something tuned: method, size, how it was trained; of a state its scale and norms too.

    Args:
        trainer: holds it.
        questions: what it will be asked, if anything; some may have been learned from.
    """
    training = {name: value for name, value in trainer.training.items() if name != "prompts"}
    scale = training.pop("scale", None)
    facts: dict[str, Any] = {
        "parameters": trainer.n_parameters,
        "training": training,
        "cautions": cautions(trainer.training) + ([] if questions is None else learned_from(trainer, questions)),
    }
    if not isinstance(trainer, S0Trainer):
        return {"method": method_of(trainer.settings), **facts}
    if scale is not None:
        curve = zip(scale["alphas"], scale["values"], strict=True)
        facts["scale"] = {
            "chosen": scale["alpha"],
            "by": scale["by"],
            "helps": scale["helps"],
            "curve": [{"alpha": alpha, "value": value} for alpha, value in curve],
        }
    facts["layers"] = [
        {
            "name": f"layer {layer.layer_idx}",
            "shape": list(layer.state_shape),
            "norm": layer.s0_state[trainer.adapter_name].detach().norm().item(),
        }
        for layer in state_layers(trainer.model)
        if trainer.adapter_name in layer.s0_state
    ]
    return {"method": method_of(trainer.config), **facts}
