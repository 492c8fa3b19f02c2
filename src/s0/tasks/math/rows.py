"""From rows to a task: questions with one answer, under the keys that their benchmark has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from s0.tasks.base import Task
from s0.tasks.math.numbers import NumberScorer
from s0.tasks.math.scoring import MathScorer
from s0.tasks.problem import MathProblem
from s0.tasks.sources import Table, mapping, refuse_duplicates, sha256_of


@dataclass(frozen=True)
class Row(ABC):
    """A row as read. What it holds is checked when it is asked for: of a training table few rows are used.

    Attributes:
        place: of the row, for errors.
        fields: by key.
        number: the table's name and the row's number.
    """

    place: str
    fields: dict[str, Any]
    number: str

    @property
    def id(self) -> str:
        """The problem's."""
        return self.number

    @property
    @abstractmethod
    def question(self) -> str:
        """Without what the prompt puts around it."""

    @property
    @abstractmethod
    def answer(self) -> str:
        """The right one."""


_Row = TypeVar("_Row", bound=Row)


def rows_of(kind: type[_Row], table: Table, name: str) -> list[_Row]:
    """The rows of a table; `name` is the table's.

    Raises:
        DatasetError: one is no JSON object.
    """
    return [kind(place, mapping(place, row), f"{name}/{number}") for number, (place, row) in enumerate(table.rows)]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of questions, but for its rows.

    Attributes:
        prompt: the raw one, with {question} for the row's.
        keys: of id and question, for errors.
        name, max_new_tokens, scorer, changes: the task's.
    """

    name: str
    prompt: str
    keys: tuple[str, str]
    max_new_tokens: int
    scorer: NumberScorer | MathScorer
    changes: tuple[str, ...]

    def task(self, chosen: Sequence[tuple[Row, str]], tables: Sequence[Table]) -> Task:
        """The task of these rows.

        Args:
            chosen: rows with their splits.
            tables: what was read.

        Raises:
            DatasetError: a row lacks something, or two are one problem.
        """
        problems = [
            MathProblem(row.id, self.prompt.format(question=row.question), split, row.question, row.answer)
            for row, split in chosen
        ]
        refuse_duplicates(problems, [row.place for row, _ in chosen], *self.keys)
        return Task(
            name=self.name,
            version=str(len(self.changes)),
            problems=[*problems],
            data_sha256=sha256_of(*tables),
            stop=list(self.scorer.ends),
            max_new_tokens=self.max_new_tokens,
            scorer=self.scorer,
            changes=self.changes,
        )
