"""A short try of work whose pace no record tells: a few problems collected from, two steps, a few dozen answers."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from s0.bench import Answerer, CollectSettings, Questions, collect, evaluate
from s0.errors import S0Error
from s0.examples import Example
from s0.study.estimate import Kind, collecting, rows_of
from s0.study.plan import AnyUnit, Asked, CollectionUnit, VariantUnit
from s0.study.work import loaded_model
from s0.tasks.sandbox import Sandbox
from s0.train import METHODS, make_trainer

_COLLECTED, _LEARNED, _ANSWERED, _STEPS = 48, 24, 64, 2
"""Problems and steps: enough for batches as full as those of a study, and few enough for some seconds."""


@dataclass
class Calibration:
    """What a try has told.

    Attributes:
        seconds: of a piece of work, by kind; without those that could not be tried.
        trouble: why the first of those could not be; None where all could.
    """

    seconds: dict[Kind, float] = field(default_factory=dict)
    trouble: str | None = None


def calibrated(missing: Mapping[Kind, AnyUnit], sandbox: Sandbox) -> Calibration:
    """Seconds of a piece of work.

    Args:
        missing: for each kind that is wanted, a unit that has it.
        sandbox: that answers are judged in.

    Returns:
        them, and why some are missing.
    """
    calibration = Calibration()
    with _as_in_a_study():
        for kind, unit in missing.items():
            try:
                calibration.seconds[kind] = _TRIES[kind[0]](kind, unit, sandbox)
            except (S0Error, torch.OutOfMemoryError) as error:  # of so few problems none may be solved, say
                calibration.trouble = calibration.trouble or str(error)
    return calibration


@contextmanager
def _as_in_a_study() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)


def _collecting(kind: Kind, unit: AnyUnit, sandbox: Sandbox) -> float:
    collected = [unit] if isinstance(unit, CollectionUnit) else [*unit.collected.values()]
    unit = next(each for each in collected if kind == collecting(each))
    questions = _questions(unit.asked, _COLLECTED, sandbox)
    answerer = Answerer(*loaded_model(unit.source))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        collect(answerer, questions, Path(folder, "examples.jsonl"), CollectSettings(**unit.settings))
        return (time.perf_counter() - started) / len(questions.problems)


def _learning(kind: Kind, unit: AnyUnit, sandbox: Sandbox) -> float:
    assert isinstance(unit, VariantUnit)
    model, tokenizer = loaded_model(unit.source)
    examples = _unverified(unit.collected["train"].asked, Answerer(model, tokenizer), sandbox)
    settings: Any = METHODS[unit.method].configure(**unit.settings)
    scale = {"alpha": 1.0} if METHODS[unit.method].has_scale else {}
    trainer = make_trainer(model, tokenizer, replace(settings, n_steps=_STEPS, patience=None, **scale))
    try:
        started = time.perf_counter()
        trainer.train(examples)
        return (time.perf_counter() - started) / rows_of(_STEPS, len(examples))
    finally:
        trainer.detach()


def _unverified(asked: Asked, answerer: Answerer, sandbox: Sandbox) -> list[Example]:
    """What the model answers, right or wrong: it is as long as what it would learn."""
    questions = _questions(asked, _LEARNED, sandbox)
    answers = evaluate(answerer, questions)
    return [
        Example(questions.task.prompt(problem, asked.chat), answer.completion)
        for problem, answer in zip(questions.problems, answers, strict=True)
        if answer.completion
    ]


def _answering(kind: Kind, unit: AnyUnit, sandbox: Sandbox) -> float:
    assert isinstance(unit, VariantUnit)
    known = [*unit.asked, *(each.asked for each in unit.collected.values())]
    asked = next(each for each in known if each.task == kind[2])
    answerer = Answerer(*loaded_model(unit.source))
    questions = _questions(asked, _ANSWERED, sandbox)
    if unit.shots and unit.train is not None:
        questions = replace(questions, shots=_unverified(unit.train.collection.asked, answerer, sandbox)[: unit.shots])
    started = time.perf_counter()
    evaluate(answerer, questions)
    return (time.perf_counter() - started) / len(questions.problems)


def _questions(asked: Asked, n: int, sandbox: Sandbox) -> Questions:
    task = asked.load_task().judged_in(sandbox)
    return Questions(task, asked.problems()[:n], asked.chat, asked.max_new_tokens)


_TRIES: dict[str, Callable[[Kind, AnyUnit, Sandbox], float]] = {
    "collect": _collecting,
    "learn": _learning,
    "answer": _answering,
}
