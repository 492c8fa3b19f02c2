"""Accuracy by length: a state is read once and fades, so long prompts and long answers are where it may be lost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s0.study.plan import VariantUnit
from s0.study.runner import Standing
from s0.study.store import Answered, VariantRecord
from s0.study.tables import Table
from s0.tasks import Problem
from s0.tasks.problem import CodeProblem
from s0.tasks.sql import SqlProblem

_PARTS = 3
"""So many parts of as equal a number of problems as their lengths allow."""


@dataclass(frozen=True)
class Part:
    """Problems of like length: from the shortest to the longest, in characters, and how many."""

    low: int
    high: int
    n: int


@dataclass(frozen=True)
class Lengths:
    """pass@1 by length.

    Attributes:
        of: what is so long: the prompt, or the right answer.
        parts: of the problems, from short to long.
        rates: by variant, of every seed and draw, pass@1 in % in each part under the standard scoring.
    """

    of: str
    parts: tuple[Part, ...]
    rates: Mapping[str, Sequence[tuple[float, ...]]]

    def means(self, variant: str) -> list[float]:
        """A variant's rate in each part, the mean over seeds and draws."""
        return [statistics.fmean(part) for part in zip(*self.rates[variant], strict=True)]


def by_length(standing: Standing, table: Table) -> list[Lengths]:
    """What the variants of a table solve, by the length of the prompt and of the right answer where there is one.

    Args:
        standing: has the answers.
        table: which of them.
    """
    answers = {row.variant: _answers(standing, table, row.variant) for row in table.rows}
    unit, first = answers[table.rows[0].variant][0]
    asked = next(each for each in unit.asked if each.task == table.asked)
    task, by_id = asked.load_task(), {problem.id: problem for problem in asked.problems()}
    problems = [by_id[problem] for problem in first.problems]
    texts = {
        "prompt": [str(task.prompt(problem, asked.chat)) for problem in problems],
        "right answer": [answer for problem in problems if (answer := _right_answer(problem))],
    }
    verdicts = {variant: [answered.verdicts["standard"] for _, answered in each] for variant, each in answers.items()}
    made = [
        _lengths(of, [len(text) for text in each], verdicts) for of, each in texts.items() if len(each) == len(problems)
    ]
    return [each for each in made if len(each.parts) > 1]


def _right_answer(problem: Problem) -> str | None:
    """One that comes with the problem and is written out."""
    if isinstance(problem, CodeProblem):
        return problem.canonical_solution
    return problem.gold if isinstance(problem, SqlProblem) else None


def _lengths(of: str, lengths: Sequence[int], verdicts: Mapping[str, Sequence[str]]) -> Lengths:
    places = parted(lengths, _PARTS)
    rates = {
        variant: [tuple(100 * statistics.fmean(run[i] == "1" for i in place) for place in places) for run in runs]
        for variant, runs in verdicts.items()
    }
    parts = [Part(lengths[place[0]], lengths[place[-1]], len(place)) for place in places]
    return Lengths(of, tuple(parts), rates)


def parted(lengths: Sequence[int], n: int) -> list[list[int]]:
    """Places of items in at most so many parts, from short to long; those of one length stay in one part."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    bounds = [lengths[order[len(order) * part // n]] for part in range(1, n)]
    parts = [[i for i in order if sum(lengths[i] >= bound for bound in bounds) == part] for part in range(n)]
    return [part for part in parts if part]


def _answers(standing: Standing, table: Table, variant: str) -> list[tuple[VariantUnit, Answered]]:
    """A variant's answers, by seed and draw."""
    records = [
        standing.records.get(cell.key)
        for cell in standing.plan.cells
        if (cell.variant, cell.model, cell.task, cell.amount.n) == (variant, table.model, table.task, table.amount)
    ]
    done = [record for record in records if isinstance(record, VariantRecord)]
    return [(record.unit, record.answered[table.asked]) for record in done]
