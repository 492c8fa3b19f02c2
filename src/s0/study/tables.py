"""The tables of a study: means over seeds with intervals, gains over the reference, contrasts, from the records alone.

A seed is one measurement: where a seed has several draws of examples, they are averaged first. Intervals are Student's
over seeds and hold for the problems that were asked, those named crossed for others too; p-values are of t-tests paired
by seed, adjusted by Holm over the rows of a table, or over its contrasts; those that are not measured yet count, so
that none gets stronger because others are missing. A single seed has Wilson's interval over problems, Tango's for
gains, and McNemar's test: they hold for this one training.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from s0.bench import compare, crossed, holm, paired_t, rate, t_interval
from s0.bench.stats import CrossedDifference, PairedRates
from s0.errors import DatasetError
from s0.study.plan import Cell
from s0.study.runner import LEFT, Standing
from s0.study.spec import Amount, Study
from s0.study.store import Answered, VariantRecord

SEEDS_FOR_OTHER_PROBLEMS = 5
"""So many at least for an interval over seeds and problems: of fewer, a bootstrap is too narrow."""

Interval = tuple[float, float, float]
"""A mean and the ends of its 95% interval, in points; twice the mean where there is none."""
_AGREE = 1e-9
"""Differences by seed that are closer leave a t-test nothing to go by."""


@dataclass(frozen=True)
class Row:
    """A variant in a table.

    Attributes:
        variant: its name; label: what it is called.
        seeds: how many were measured.
        parameters: numbers trained; 0 for none.
        standard, paper: pass@1 by scoring.
        gain: over the reference under the standard scoring, paired by seed; None for the reference.
        crossed: the same with an interval for other seeds and other problems, see `s0.bench.crossed`; None of fewer
            than `SEEDS_FOR_OTHER_PROBLEMS`.
        paper_gain: the gain under the paper's scoring.
        p_value, p_holm: that there is no gain; None for draws of one seed, and where all seeds agree, which says
            nothing of others.
        pass_at_k: by k, in points, of sampled answers.
        published: what others have reported.
    """

    variant: str
    label: str
    seeds: int
    parameters: int
    standard: Interval
    paper: Interval
    gain: Interval | None = None
    crossed: Interval | None = None
    paper_gain: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None
    pass_at_k: Mapping[str, float] | None = None
    published: str = ""


@dataclass(frozen=True)
class Contrast:
    """A variant against another, paired by seed: second minus first, in points; the rest as of `Row`."""

    first: str
    second: str
    seeds: int
    difference: Interval
    crossed: Interval | None
    p_value: float | None
    p_holm: float | None


Tested = TypeVar("Tested", Row, Contrast)


@dataclass(frozen=True)
class Table:
    """What one model makes of one amount of examples of one task, asked one task.

    Attributes:
        model, task: that learned, and what.
        asked: the task that was asked; n_problems: of it.
        amount: how many examples were learned from; None for all.
        n_examples: how many those were, the mean over seeds and draws; None where nothing is learned.
        rows: by variant, the reference first.
        contrasts: that the study names.
        missing: variants of which not every seed is done, with how many are.
    """

    model: str
    task: str
    asked: str
    n_problems: int
    amount: int | None
    n_examples: float | None
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    missing: Mapping[str, int]


def tables(standing: Standing) -> list[Table]:
    """The tables of a study, of what is done of it.

    Raises:
        DatasetError: nothing is.
    """
    study = standing.study
    made = [
        table
        for model in study.models
        for task in study.tasks
        for asked in study.asked_after(task)
        for amount in study.examples
        if (table := _table(standing, (model, task, asked, amount)))
    ]
    if not made:
        raise DatasetError(f"expected results of the study {study.name}, got none; run it first: s0 study run")
    return made


def _table(standing: Standing, place: tuple[str, str, str, Amount]) -> Table | None:
    study, (model, task, asked, amount) = standing.study, place
    cells = [cell for cell in standing.plan.cells if (cell.model, cell.task, cell.amount) == (model, task, amount)]
    by_variant = {
        name: _Measured.of([cell for cell in cells if cell.variant == name], standing, asked)
        for name in dict.fromkeys(cell.variant for cell in cells)
    }
    whole = {name: measured for name, measured in by_variant.items() if measured.seeds == len(study.seeds)}
    if not whole:
        return None
    reference = whole.get(study.reference)
    rows = [_row(study, model, name, measured, reference) for name, measured in whole.items()]
    return Table(
        model=model,
        task=task,
        asked=asked,
        n_problems=len(next(iter(whole.values())).answered[0].problems),
        amount=amount.n,
        n_examples=_mean_examples(whole.values()),
        rows=tuple(_adjusted(rows, n_planned=len(by_variant) - 1)),
        contrasts=tuple(_adjusted(_contrasts(study, whole), n_planned=len(_pairs(study, by_variant)))),
        missing={name: measured.seeds for name, measured in by_variant.items() if name not in whole},
    )


@dataclass(frozen=True)
class _Measured:
    """The answers of a variant.

    Attributes:
        by_seed: of every seed that is done, the answers of its draws.
        records: of all of them.
    """

    by_seed: Mapping[int, Sequence[Answered]]
    records: Sequence[VariantRecord]

    @classmethod
    def of(cls, cells: Sequence[Cell], standing: Standing, asked: str) -> _Measured:
        """The answers to a task in some cells of one variant; a seed counts where all its draws are there."""
        records = {cell: standing.records.get(cell.key) for cell in cells}
        seeds = dict.fromkeys(cell.seed for cell in cells)
        by_seed = {seed: [records[cell] for cell in cells if cell.seed == seed] for seed in seeds}
        done = {
            seed: [record for record in runs if isinstance(record, VariantRecord)]
            for seed, runs in by_seed.items()
            if all(isinstance(record, VariantRecord) for record in runs)
        }
        answers = {seed: [record.answered[asked] for record in runs] for seed, runs in done.items()}
        return cls(answers, [record for runs in done.values() for record in runs])

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def answered(self) -> list[Answered]:
        return [answered for draws in self.by_seed.values() for answered in draws]

    def points(self, scoring: str) -> list[float]:
        """pass@1 of every seed, counted from the verdicts, in points."""
        return [
            statistics.fmean(
                100 * answered.verdicts[scoring].count("1") / len(answered.verdicts[scoring]) for answered in draws
            )
            for draws in self.by_seed.values()
        ]

    def verdicts(self, scoring: str) -> list[list[float]]:
        """The share of a seed's draws that passed each problem; a row for each seed."""
        return [
            [statistics.fmean(verdict == "1" for verdict in problem) for problem in zip(*draws, strict=True)]
            for draws in ([each.verdicts[scoring] for each in answers] for answers in self.by_seed.values())
        ]

    @property
    def is_one_training(self) -> bool:
        return len(self.answered) == 1

    def interval(self, scoring: str) -> Interval:
        points = self.points(scoring)
        if len(points) > 1:
            return t_interval(points)
        if not self.is_one_training:  # draws of one seed share its examples
            return points[0], points[0], points[0]
        single = rate([verdict == "1" for answered in self.answered for verdict in answered.verdicts[scoring]])
        return 100 * single.value, 100 * single.low, 100 * single.high

    @property
    def pass_at_k(self) -> dict[str, float] | None:
        """The mean of pass@k over all seeds and draws, in points, under the standard scoring."""
        drawn = [answered.drawn.summary.pass_at_k.standard for answered in self.answered if answered.drawn]
        if not drawn:
            return None
        return {k: statistics.fmean(100 * each[k].value for each in drawn) for k in drawn[0]}


def _row(study: Study, model: str, name: str, measured: _Measured, reference: _Measured | None) -> Row:
    variant = study.variants_on(model)[name]
    row = Row(
        variant=name,
        label=variant.label or name,
        seeds=measured.seeds,
        parameters=measured.records[0].run.parameters or 0,
        standard=measured.interval("standard"),
        paper=measured.interval("paper"),
        pass_at_k=measured.pass_at_k,
        published=variant.published.get(model, ""),
    )
    if reference is None or name == study.reference:
        return row
    gain, crossed_gain, p_value = _compared(reference, measured)
    paper_gain = _difference(reference, measured, "paper")
    return replace(row, gain=gain, crossed=crossed_gain, paper_gain=paper_gain, p_value=p_value)


def _compared(first: _Measured, second: _Measured) -> tuple[Interval, Interval | None, float | None]:
    """Second minus first, standard scoring: for these problems, for others too, and p; as of `Row`."""
    difference = _difference(first, second, "standard")
    if first.is_one_training and second.is_one_training:
        return difference, None, _by_problem(first, second, "standard").p_value
    for_others, p_value = None, None
    if first.seeds >= SEEDS_FOR_OTHER_PROBLEMS:
        for_others = _in_points(crossed(first.verdicts("standard"), second.verdicts("standard")))
    if difference[1] < difference[2]:
        p_value = paired_t(first.points("standard"), second.points("standard")).p_value
    return difference, for_others, p_value


def _difference(first: _Measured, second: _Measured, scoring: str) -> Interval:
    """Second minus first, paired by seed; of one training each by problem; a point where all seeds agree."""
    if first.is_one_training and second.is_one_training:
        return _in_points(_by_problem(first, second, scoring))
    differences = [after - before for before, after in zip(first.points(scoring), second.points(scoring), strict=True)]
    mean = statistics.fmean(differences)
    return (mean, mean, mean) if max(differences) - min(differences) < _AGREE else t_interval(differences)


def _by_problem(first: _Measured, second: _Measured, scoring: str) -> PairedRates:
    return compare(*([share == 1 for share in each.verdicts(scoring)[0]] for each in (first, second)))


def _in_points(result: PairedRates | CrossedDifference) -> Interval:
    return 100 * result.difference, 100 * result.low, 100 * result.high


def _mean_examples(measured: Iterable[_Measured]) -> float | None:
    """Of the variants that learn: how many examples they learned from."""
    sizes = [record.n_examples["train"] for each in measured for record in each.records if "train" in record.n_examples]
    return statistics.fmean(sizes) if sizes else None


def _pairs(study: Study, variants: Collection[str]) -> list[tuple[str, str]]:
    """The contrasts that the study names, of these variants."""
    return [pair for pair in study.contrasts if set(pair) <= set(variants)]


def _contrasts(study: Study, measured: Mapping[str, _Measured]) -> list[Contrast]:
    contrasts = []
    for first, second in _pairs(study, measured):
        difference, crossed_difference, p_value = _compared(measured[first], measured[second])
        contrasts.append(Contrast(first, second, len(study.seeds), difference, crossed_difference, p_value, None))
    return contrasts


def _adjusted(entries: Sequence[Tested], n_planned: int) -> list[Tested]:
    """The same with p-values adjusted by Holm for all that are to be tested; one that is missing counts as 1."""
    tested = [entry.p_value for entry in entries if entry.p_value is not None]
    adjusted = iter(holm(tested + [1.0] * (n_planned - len(tested))))
    return [entry if entry.p_value is None else replace(entry, p_holm=next(adjusted)) for entry in entries]


def facts(standing: Standing, made: Sequence[Table]) -> dict[str, Any]:
    """A study's tables, made before, as JSON: what was run, how far it is, and every table."""
    study = standing.study
    return {
        "kind": "study report",
        "study": study.name,
        "title": study.title,
        "quick": study.is_quick,
        "split": study.split,
        "seeds": list(study.seeds),
        "reference": study.reference,
        "failed": {key: failure.error for key, failure in standing.failures.items()},
        "left": len(standing.keys(LEFT)),
        "tables": [asdict(table) for table in made],
    }
