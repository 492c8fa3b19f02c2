"""Doing a unit: in whatever process, with nothing but its config and the folder of units."""

from __future__ import annotations

import atexit
import random
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import msgspec
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.bench import (
    Answerer,
    CollectSettings,
    Improvement,
    ImproveSettings,
    Outcome,
    Questions,
    answer,
    collect,
    environment,
    improve,
    run_variant,
)
from s0.bench.answers import open_answers
from s0.bench.evaluation import sampled_summary, summary
from s0.bench.record import model_facts
from s0.bench.rounds import TUNED_FOLDER
from s0.errors import DatasetError
from s0.examples import Example
from s0.files import locked, remove_leftovers
from s0.models import ModelSource
from s0.record import Answer, Run, TaskFacts, compressed
from s0.study.plan import AnyUnit, Asked, CollectionUnit, Learned, VariantUnit
from s0.study.store import (
    Answered,
    CollectionRecord,
    Drawn,
    Failure,
    Record,
    RoundFacts,
    RoundsFacts,
    Store,
    VariantRecord,
    collection_record,
    verdicts_of,
)
from s0.tasks import SCORINGS
from s0.tasks.sandbox import UNSAFE, Limits, Sandbox

_EXAMPLES, _ANSWERS, _TRAINED, _ROUNDS = "examples.jsonl", "answers.jsonl", "trained", "rounds"
_WAIT_S = 5.0
"""For the lock of a unit: as long as a process may take to end after the one that started it was killed."""


def do(config: bytes, folder: str, unsafe: bool = False) -> None:
    """Do a unit, or go on with it, and keep its record; where it fails, that.

    Args:
        config: the unit, as JSON.
        folder: of all units.
        unsafe: judge programs without a sandbox.

    Raises:
        BlockingIOError: another process is at it.
        OSError: the folder cannot be written.
    """
    torch.set_num_threads(1)
    unit: AnyUnit = msgspec.json.decode(config, type=AnyUnit)
    store = Store(folder)
    work = store.work(unit.key)
    work.parent.mkdir(parents=True, exist_ok=True)  # stays, so that no process removes it under another
    _wait_for(work)
    with locked(work):
        if isinstance(store.read(unit.key), (CollectionRecord, VariantRecord)):
            return
        for place in (work, store.path(unit.key)):
            remove_leftovers(place)
        is_new = not work.exists()
        work.mkdir(parents=True, exist_ok=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # records keep the cautions
                record = _done(unit, store, _sandbox(unsafe, **unit.limits), is_new)
        except Exception as error:  # whatever it is, the study's other units go on
            record = Failure.of(unit, error)
        store.write(record)


def _wait_for(work: Path) -> None:
    """Wait until nobody is at a unit, or it is clear that somebody will stay."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        try:
            with locked(work):
                return
        except BlockingIOError:
            time.sleep(0.1)


@cache
def _sandbox(unsafe: bool, **limits: float) -> Sandbox:
    """A process has one for all of its units."""
    sandbox = Sandbox(UNSAFE if unsafe else None, Limits(**limits))  # type: ignore[arg-type]
    atexit.register(sandbox.close)
    return sandbox


@lru_cache(maxsize=1)
def loaded_model(source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of the last unit stays: what a variant puts on it, it takes off."""
    return source.load()


def _done(unit: AnyUnit, store: Store, sandbox: Sandbox, is_new: bool) -> Record:
    model, tokenizer = loaded_model(unit.source)
    work = store.work(unit.key)
    if isinstance(unit, CollectionUnit):
        return _collected(unit, Answerer(model, tokenizer), work, sandbox, is_new)
    base = Answerer(model, tokenizer, journal=open_answers(work / _ANSWERS, model))
    examples = {split: _learned(split, learned, store) for split, learned in unit.learned.items()}
    return _answered(unit, base, {"train": [], **examples}, work, (sandbox, is_new))


def _collected(unit: CollectionUnit, answerer: Answerer, work: Path, sandbox: Sandbox, is_new: bool) -> Record:
    started = time.perf_counter()
    examples = collect(answerer, _questions(unit.asked, sandbox), work / _EXAMPLES, CollectSettings(**unit.settings))
    seconds = round(time.perf_counter() - started, 2) if is_new else None
    return collection_record(unit, model_facts(unit.source, answerer.model), examples, seconds)


def _learned(split: str, learned: Learned, store: Store) -> list[Example]:
    """The examples that are learned from or chosen on: a draw of fewer is part of the same draw of more.

    Raises:
        DatasetError: they were not collected, or those to learn from are fewer; to choose on, fewer will do.
    """
    record = store.finished(learned.collection.key, CollectionRecord)
    if record is None:
        raise DatasetError(
            f"expected the collection {learned.collection.key} to have come to its end, got none; run it first, or "
            "again with --retry-failed"
        )
    examples = record.examples()
    if learned.n is None or (split == "select" and learned.n >= len(examples)):
        return examples
    if learned.n > len(examples):
        raise DatasetError(
            f"expected at least {learned.n} examples of {learned.collection.asked.task}, got {len(examples)}; collect "
            "from more problems, draw more samples of each, or learn from fewer"
        )
    order = [*range(len(examples))]
    random.Random(f"draw {learned.draw} of {record.sha256}").shuffle(order)
    return [examples[i] for i in sorted(order[: learned.n])]


def _answered(
    unit: VariantUnit,
    base: Answerer,
    examples: Mapping[str, Sequence[Example]],
    work: Path,
    how: tuple[Sandbox, bool],
) -> Record:
    sandbox, is_new = how
    improvement = _improved(unit, base, work, sandbox) if unit.rounds else None
    outcomes: dict[str, Outcome] = {}
    for asked in unit.asked:
        questions = _questions(asked, sandbox, unit)
        if improvement:
            outcomes[asked.task] = _answers_of_best(improvement, base, questions)
        else:
            # The first one trains and keeps it; those after it take that.
            outcomes[asked.task] = run_variant(unit.variant, base, questions, examples, out=work / _TRAINED)
    first = next(iter(outcomes.values()))
    n_examples = {split: len(verified) for split, verified in examples.items() if split in unit.learned}
    return VariantRecord(
        environment=environment(),
        unit=unit,
        model=model_facts(unit.source, base.model),
        run=msgspec.convert(first.facts, Run),
        n_examples={"train": improvement.best.n_examples} if improvement else n_examples,
        seconds=first.seconds.get("train") if is_new else None,
        rounds=_rounds_facts(improvement) if improvement else None,
        answered={
            asked.task: _account(outcomes[asked.task], _questions(asked, sandbox, unit), is_new) for asked in unit.asked
        },
    )


def _improved(unit: VariantUnit, base: Answerer, work: Path, sandbox: Sandbox) -> Improvement:
    assert unit.rounds is not None
    train, select = (CollectSettings(**collected.settings) for collected in (unit.rounds.train, unit.rounds.select))
    settings = ImproveSettings(
        unit.variant,
        rounds=unit.rounds.rounds,
        keep=unit.rounds.keep,
        samples=train.samples,
        select_samples=select.samples,
        temperature=train.temperature,
        top_p=train.top_p,
        seed=train.seed,
    )
    questions = {split: _questions(collected.asked, sandbox) for split, collected in unit.collected.items()}
    return improve(base, questions, work / _ROUNDS, settings)


def _answers_of_best(improvement: Improvement, base: Answerer, questions: Questions) -> Outcome:
    with base.tuned_from(improvement.best.folder / TUNED_FOLDER) as answerer:
        return answer(answerer, questions, improvement.best.outcome.facts)


def _rounds_facts(improvement: Improvement) -> RoundsFacts:
    rounds = tuple(RoundFacts(each.n_new, each.n_examples, each.n_solved, each.n_select) for each in improvement.rounds)
    return RoundsFacts(improvement.n_select_before, rounds, improvement.ended_by, improvement.best.number)


def _questions(asked: Asked, sandbox: Sandbox, unit: VariantUnit | None = None) -> Questions:
    task = asked.load_task().judged_in(sandbox)
    return Questions(
        task, asked.problems(), asked.chat, asked.max_new_tokens, samples=None if unit is None else unit.drawn
    )


def _account(outcome: Outcome, questions: Questions, is_new: bool) -> Answered:
    task, samples = questions.task, questions.samples
    return Answered(
        task=TaskFacts(task.name, task.version, task.data_sha256, dict(task.scorer.notes), task.left_out),
        problems=tuple(problem.id for problem in questions.problems),
        summary=summary(outcome.answers),
        verdicts=_verdicts(outcome.answers),
        completions=compressed([answer.completion for answer in outcome.answers]),
        n_tokens=tuple(answer.n_tokens for answer in outcome.answers),
        seconds=outcome.seconds["evaluate"] if is_new else None,
        drawn=Drawn(
            sampled_summary(outcome.sampled, samples),
            _verdicts(outcome.sampled),
            compressed([answer.completion for answer in outcome.sampled]),
        )
        if samples
        else None,
    )


def _verdicts(answers: Sequence[Answer]) -> dict[str, str]:
    return {scoring: verdicts_of([answer.passed[scoring] for answer in answers]) for scoring in SCORINGS}
