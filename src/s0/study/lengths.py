"""Accuracy by length: a state is read once and fades, so long prompts and long answers are where it may be lost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s0.record import decompressed
from s0.study.plan import VariantUnit
from s0.study.runner import Standing
from s0.study.store import Answered, VariantRecord
from s0.study.tables import Table

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
        of: what is so long: the prompt, or the untouched model's answer.
        parts: of the problems, from short to long.
        rows: by label of a variant, pass@1 in % in each part under the standard scoring, the mean over seeds.
    """

    of: str
    parts: tuple[Part, ...]
    rows: Mapping[str, tuple[float, ...]]


def by_length(standing: Standing, table: Table) -> list[Lengths]:
    """What the variants of a table solve, by the length of the prompt and of the reference's answer.

    The answer's length is that of the reference's first answer to a problem, so that all variants are measured on the
    same problems.

    Args:
        standing: has the answers.
        table: which of them.
    """
    reference = _answers(standing, table, standing.study.reference)
    if not reference:
        return []
    first, (unit, _) = reference[0][1], reference[0]
    asked = next(each for each in unit.asked if each.task == table.asked)
    task, by_id = asked.load_task(), {problem.id: problem for problem in asked.problems()}
    prompts = [str(task.prompt(by_id[problem], asked.chat)) for problem in first.problems]
    lengths = {"prompt": prompts, f"answer of {standing.study.reference}": decompressed(first.completions)}
    made = [_lengths(standing, table, of, [len(text) for text in texts]) for of, texts in lengths.items()]
    return [each for each in made if len(each.parts) > 1]


def _lengths(standing: Standing, table: Table, of: str, lengths: Sequence[int]) -> Lengths:
    places = parted(lengths, _PARTS)
    rows = {}
    for row in table.rows:
        verdicts = [answered.verdicts["standard"] for _, answered in _answers(standing, table, row.variant)]
        rows[row.label] = tuple(
            100 * statistics.fmean(each[i] == "1" for each in verdicts for i in place) for place in places
        )
    parts = [Part(lengths[place[0]], lengths[place[-1]], len(place)) for place in places]
    return Lengths(of, tuple(parts), rows)


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
