"""How long units will take: by records of their like, or by a short calibration where there are none.

The work of a unit is counted in pieces of three kinds: problems collected from, rows read and learned, answers written.
What a piece takes is known by model, task and method, or else by model and task: methods differ less than those do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from s0.study.plan import AnyUnit, CollectionUnit, Learned, VariantUnit
from s0.study.store import CollectionRecord, Record, Store, VariantRecord
from s0.train import METHODS

Kind = tuple[str, ...]
"""What a piece of work is: collect, learn or answer; of which model and task; and how."""

_COLLECT = "collect"
_SHARE_SOLVED = 0.8
"""Of the problems that are collected from, so many give an example, while nothing is known."""
_ROWS_OF_A_STEP = 3
"""A row that is learned is as much work as so many that are read."""
_SCALES = 12
"""Scales that a choice reads every select example at."""
_START_S, _UNIT_S = 8.0, 1.0
"""What a process takes to be ready, and a unit beside its work: examples read, files written."""


@dataclass(frozen=True)
class Estimate:
    """What units will take, one after the other.

    Attributes:
        seconds: by the unit's key; those that nothing is known of are missing.
        by_records, by_calibration: how many units are estimated so.
        unknown: how many are not.
        trouble: why the first of those could not be tried, if it was to be.
    """

    seconds: Mapping[str, float]
    by_records: int
    by_calibration: int
    unknown: int
    trouble: str | None = None

    def left(self, keys: Iterable[str], at_once: int) -> float:
        """Seconds until these units are done, so many at a time; unknown ones count as the mean of the others."""
        mean = sum(self.seconds.values()) / len(self.seconds) if self.seconds else 0.0
        each = [_UNIT_S + self.seconds.get(key, mean) for key in keys]
        return _START_S + max(sum(each) / at_once, max(each)) if each else 0.0


class Pace:
    """Seconds of a piece of each kind of work."""

    def __init__(self, records: Iterable[Record], calibrated: Mapping[Kind, float]) -> None:
        """Learn it.

        Args:
            records: of finished units; those that were interrupted tell nothing.
            calibrated: seconds of a piece where no record tells them.
        """
        self._calibrated = {of_any_method(kind): seconds for kind, seconds in calibrated.items()}
        self._seen: dict[Kind, tuple[float, float]] = {}
        for record in records:
            for kind, pieces, seconds in _observed(record):
                for known in {kind, of_any_method(kind)}:
                    before = self._seen.get(known, (0.0, 0.0))
                    self._seen[known] = (before[0] + pieces, before[1] + seconds)

    def has_seen(self, kind: Kind) -> bool:
        """Whether records tell it, be they of other methods."""
        return of_any_method(kind) in self._seen

    def of(self, kind: Kind) -> float | None:
        """Seconds of a piece; None where nothing tells them."""
        if self.has_seen(kind):
            pieces, seconds = self._seen.get(kind) or self._seen[of_any_method(kind)]
            return seconds / pieces
        return self._calibrated.get(of_any_method(kind))


def of_any_method(kind: Kind) -> Kind:
    """The kind without the method; collecting has none."""
    return kind if kind[0] == _COLLECT else kind[:3]


def estimate(units: Mapping[str, AnyUnit], store: Store, pace: Pace) -> Estimate:
    """What units will take.

    Args:
        units: by key.
        store: has the collections that are done, and so how many examples there are.
        pace: of the kinds of work.
    """
    seconds: dict[str, float] = {}
    bases = {"records": 0, "calibration": 0, "unknown": 0}
    for key, unit in units.items():
        pieces = work_of(unit, store)
        each = {kind: pace.of(kind) for kind in pieces}
        known = {kind: value for kind, value in each.items() if value is not None}
        is_seen = all(pace.has_seen(kind) for kind in pieces)
        bases["unknown" if len(known) < len(pieces) else "records" if is_seen else "calibration"] += 1
        if len(known) == len(pieces):
            seconds[key] = sum(known[kind] * n for kind, n in pieces.items())
    return Estimate(seconds, bases["records"], bases["calibration"], bases["unknown"])


def work_of(unit: AnyUnit, store: Store) -> dict[Kind, float]:
    """How many pieces of work a unit is, by kind."""
    if isinstance(unit, CollectionUnit):
        return {collecting(unit): float(len(unit.asked.problems()))}
    pieces: dict[Kind, float] = {}
    if unit.rounds:
        n_problems = {split: len(first.asked.problems()) for split, first in unit.collected.items()}
        for split, first in unit.collected.items():
            kind = collecting(first)
            pieces[kind] = pieces.get(kind, 0.0) + unit.rounds.rounds * n_problems[split]
        pieces[_learning(unit)] = unit.rounds.rounds * _rows(unit, n_problems)
        pieces[_answering(unit, unit.rounds.select.asked.task)] = (1 + unit.rounds.rounds) * n_problems["select"]
    elif unit.method in METHODS:
        sizes = {split: _n_examples(learned, store) for split, learned in unit.learned.items()}
        pieces[_learning(unit)] = _rows(unit, sizes)
    for asked in unit.asked:
        kind = _answering(unit, asked.task)
        each = 1 + (unit.drawn.n if unit.drawn else 0)
        pieces[kind] = pieces.get(kind, 0.0) + each * len(asked.problems())
    return pieces


def collecting(unit: CollectionUnit) -> Kind:
    """The kind of work that a collection is."""
    how = (f"{name} {value}" for name, value in sorted(unit.settings.items()) if name in ("samples", "keep"))
    return _COLLECT, unit.model, unit.asked.task, *how


def _learning(unit: VariantUnit) -> Kind:
    return "learn", unit.model, unit.collected["train"].asked.task, unit.method


def _answering(unit: VariantUnit, task: str) -> Kind:
    shown = f"{unit.shots} shots" if unit.shots else unit.method
    return "answer", unit.model, task, shown


def _n_examples(learned: Learned, store: Store) -> float:
    if learned.n is not None:
        return learned.n
    record = store.finished(learned.collection.key, CollectionRecord)
    return record.n if record else _SHARE_SOLVED * len(learned.collection.asked.problems())


def _rows(unit: VariantUnit, sizes: Mapping[str, float]) -> float:
    """Rows that a training reads, a row that is learned counted as several."""
    settings: Any = METHODS[unit.method].configure(**unit.settings)
    train, select = sizes["train"], sizes.get("select", 0.0)
    choices = _SCALES if getattr(settings, "alpha", None) == "auto" else 0
    return rows_of(settings.n_steps, train) + (2 + choices) * select


def rows_of(n_steps: int, n_examples: float) -> float:
    """Rows that a training on so many examples reads: each step, and the loss before and after."""
    return (_ROWS_OF_A_STEP * n_steps + 2) * n_examples


def _observed(record: Record) -> Iterable[tuple[Kind, float, float]]:
    """Kinds of work in a record: pieces and seconds."""
    if isinstance(record, CollectionRecord) and record.seconds is not None:
        yield collecting(record.unit), record.of_problems, record.seconds
    if isinstance(record, VariantRecord):
        unit = record.unit
        if record.seconds is not None and record.n_examples and unit.rounds is None:
            yield _learning(unit), _rows(unit, record.n_examples), record.seconds
        for task, answered in record.answered.items():
            if answered.seconds is not None:
                each = 1 + (unit.drawn.n if unit.drawn else 0)
                yield _answering(unit, task), each * len(answered.problems), answered.seconds
