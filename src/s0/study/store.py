"""Where units are kept: a record each, its name the hash of the unit; and what is half done.

    records/3f0c....json     a finished unit, or one that failed
    work/3f0c.../            a unit that was begun: samples, a checkpoint, what was trained, answers

Studies share a folder: what two of them need alike is done once.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from s0.bench import environment
from s0.errors import DatasetError
from s0.examples import Example, examples_sha256
from s0.files import write_text
from s0.record import Model, Run, SampledSummary, Summary, TaskFacts, compressed, decompressed
from s0.study.plan import AnyUnit, CollectionUnit, VariantUnit
from s0.train import METHODS
from s0.train.settings import recorded

_FORMAT_VERSION = 1


class _Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every record tells.

    Attributes:
        environment: when and on what it was made, see `s0.bench.record.environment`.
    """

    format_version: int = _FORMAT_VERSION
    environment: dict[str, Any]


class CollectionRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="collection"):
    """A collection's examples: all of them passed.

    Attributes:
        unit: what was to be done.
        model: who was sampled.
        n, of_problems: how many there are, and from how many problems.
        sha256: of them, see `s0.examples.examples_sha256`.
        problems, completions: of each; the texts compressed.
        seconds: how long it took; None where it was interrupted.
    """

    unit: CollectionUnit
    model: Model
    n: int
    of_problems: int
    sha256: str
    problems: tuple[str, ...]
    completions: str
    seconds: float | None = None

    def examples(self) -> list[Example]:
        """The examples.

        Raises:
            DatasetError: they are not what was collected: the record, or the task's problems, are others.
        """
        asked = self.unit.asked
        by_id = {problem.id: problem for problem in asked.problems()}
        texts = zip(self.problems, decompressed(self.completions), strict=True)
        task = asked.load_task()
        examples = [
            Example(task.prompt(by_id[problem], asked.chat), text, {"task": task.name, "problem": problem})
            for problem, text in texts
            if problem in by_id
        ]
        if examples_sha256(examples) != self.sha256:
            raise DatasetError(
                f"expected the examples of {self.unit.key}.json to be those collected, got others; remove that record "
                "to collect them again"
            )
        return examples


class Drawn(msgspec.Struct, frozen=True):
    """Sampled answers, problem by problem: what they come to, verdicts by scoring (1 passed, 0 failed), and texts."""

    summary: SampledSummary
    verdicts: dict[str, str]
    completions: str


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variant's answers to a task.

    Attributes:
        task: that was asked.
        problems: ids, in order.
        summary: what the greedy answers come to.
        verdicts: of those by scoring, a character each: 1 passed, 0 failed.
        completions: their texts, compressed.
        n_tokens: their lengths; empty where they were not recorded.
        seconds: that they took, with those drawn; None where that was interrupted.
        drawn: sampled answers, if any were.
    """

    task: TaskFacts
    problems: tuple[str, ...]
    summary: Summary
    verdicts: dict[str, str]
    completions: str
    n_tokens: tuple[int, ...] = ()
    seconds: float | None = None
    drawn: Drawn | None = None


class RoundFacts(msgspec.Struct, frozen=True):
    """What a round has come to, see `s0.bench.rounds.Round`."""

    n_new: int
    n_examples: int
    n_solved: int
    n_select: int


class RoundsFacts(msgspec.Struct, frozen=True):
    """What all rounds have come to, see `s0.bench.Improvement`; `best` counts from 1."""

    n_select_before: int
    rounds: tuple[RoundFacts, ...]
    ended_by: str
    best: int


class VariantRecord(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="variant"):
    """What a variant has answered.

    Attributes:
        unit: what was to be done.
        model: who answered.
        run: method, settings and training.
        n_examples: that it learned from and chose on, by split.
        seconds: that it trained; None where it did not, or was interrupted.
        rounds: in which it learned, if it did so.
        answered: by task.
    """

    unit: VariantUnit
    model: Model
    run: Run
    n_examples: dict[str, int] = {}
    seconds: float | None = None
    rounds: RoundsFacts | None = None
    answered: dict[str, Answered]

    @property
    def has_todays_defaults(self) -> bool:
        """Whether what the unit leaves to its method is there what it was here."""
        if self.run.settings is None:
            return True
        today = recorded(METHODS[self.unit.method].configure(**self.unit.settings))
        written: dict[str, Any] = json.loads(json.dumps(today))
        return all(written[name] == value for name, value in self.run.settings.items() if name in written)


class Failure(_Kept, frozen=True, kw_only=True, omit_defaults=True, tag="failure"):
    """A unit that came to no end: the error, and where it was raised."""

    unit: AnyUnit
    error: str
    traceback: str

    @classmethod
    def of(cls, unit: AnyUnit, error: BaseException) -> Failure:
        """What there is to say of an error."""
        lines = traceback.format_exception(error)
        return cls(
            environment=environment(), unit=unit, error=f"{type(error).__name__}: {error}", traceback="".join(lines)
        )


Record = CollectionRecord | VariantRecord | Failure
Wanted = TypeVar("Wanted", CollectionRecord, VariantRecord)


class Store:
    """A folder of units."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """The file of a unit's record."""
        return self.folder / "records" / f"{key}.json"

    def work(self, key: str) -> Path:
        """The folder of what is half done of a unit."""
        return self.folder / "work" / key

    def read(self, key: str) -> Record | None:
        """A unit's record; None where there is none, or one that was made with other defaults of its method.

        Raises:
            DatasetError: the file is damaged.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record: Record = msgspec.json.decode(data, type=Record)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DatasetError(f"expected {path} to be a unit's record, got {error}; remove it") from error
        is_old = isinstance(record, VariantRecord) and not record.has_todays_defaults
        return None if is_old else record

    def records(self) -> Iterator[Record]:
        """Those of all units, of whatever study; errors as of `read`."""
        for path in sorted((self.folder / "records").glob("*.json")):
            if (record := self.read(path.stem)) is not None:
                yield record

    def finished(self, key: str, kind: type[Wanted]) -> Wanted | None:
        """The record of a unit that was finished; None where it was not."""
        record = self.read(key)
        return record if isinstance(record, kind) else None

    def write(self, record: Record) -> None:
        """Keep a record, and what was half done no longer."""
        key = record.unit.key
        parts = msgspec.to_builtins(record).items()
        lines = ",\n".join(f'"{name}": {json.dumps(part, ensure_ascii=False)}' for name, part in parts)
        write_text(self.path(key), f"{{\n{lines}\n}}\n")
        if not isinstance(record, Failure):
            shutil.rmtree(self.work(key), ignore_errors=True)


def verdicts_of(passed: Sequence[bool]) -> str:
    """Verdicts, a character each."""
    return "".join(str(int(each)) for each in passed)


def collection_record(unit: CollectionUnit, model: Model, examples: Sequence[Example], seconds: float | None) -> Record:
    """The record of a collection that has come to its end."""
    return CollectionRecord(
        environment=environment(),
        unit=unit,
        model=model,
        n=len(examples),
        of_problems=len(unit.asked.problems()),
        sha256=examples_sha256(examples),
        problems=tuple(str(example.provenance["problem"]) for example in examples),
        completions=compressed([example.completion for example in examples]),
        seconds=seconds,
    )
