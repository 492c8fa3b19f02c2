"""Running a study: what is left of it, in order, with what is known of how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s0.study.calibration import Calibration, calibrated
from s0.study.estimate import Estimate, Kind, Pace, estimate, of_any_method, work_of
from s0.study.executors import Executor
from s0.study.grids import chosen
from s0.study.plan import AnyUnit, Plan, plan
from s0.study.quick import quickened
from s0.study.spec import Study, read_study
from s0.study.store import Failure, Record, Store
from s0.tasks.sandbox import Sandbox

DONE, FAILED, LEFT = "done", "failed", "left"


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Attributes:
        study: what was to be run.
        plan: its units.
        records: by key, of those that were finished or failed.
    """

    study: Study
    plan: Plan
    records: Mapping[str, Record]

    def of(self, key: str) -> str:
        """Whether a unit is done, failed, or left."""
        record = self.records.get(key)
        return LEFT if record is None else FAILED if isinstance(record, Failure) else DONE

    def keys(self, *standings: str) -> list[str]:
        """The units that stand so, collections first."""
        return [key for key in self.plan.units if self.of(key) in standings]

    @property
    def failures(self) -> dict[str, Failure]:
        """Those that failed."""
        return {key: record for key, record in self.records.items() if isinstance(record, Failure)}


def opened(file: str | Path, folder: str | Path, quick: bool = False) -> tuple[Study, Store]:
    """A study file, and the folder of its units.

    Args:
        file: in TOML.
        folder: of the records of all studies.
        quick: the same study, so small that it takes seconds; its records have a folder of their own.

    Raises:
        ConfigError: as of `read_study`.
    """
    study = read_study(file)
    return (quickened(study), Store(Path(folder) / "quick")) if quick else (study, Store(folder))


def standing(study: Study, store: Store) -> Standing:
    """How far a study is.

    Args:
        study, store: as of `opened`.

    Raises:
        ConfigError: a grid that it names has not come to its end.
        DatasetError: a record is damaged.
    """
    units = plan(study, chosen(study, store))
    records = {key: record for key in units.units if (record := store.read(key)) is not None}
    return Standing(study, units, records)


def estimated(before: Standing, store: Store, sandbox: Sandbox | None = None) -> Estimate:
    """What the units that are left or failed will take.

    Args:
        before: how far the study is.
        store: has records of like units, of any study.
        sandbox: for a short calibration of what no record tells; None to leave that unknown.
    """
    todo = {key: before.plan.units[key] for key in before.keys(LEFT, FAILED)}
    records = list(store.records())
    missing: dict[Kind, tuple[Kind, AnyUnit]] = {}
    pace = Pace(records, {})
    for unit in todo.values():
        missing |= {of_any_method(kind): (kind, unit) for kind in work_of(unit, store) if not pace.has_seen(kind)}
    tried = calibrated(dict(missing.values()), sandbox) if sandbox else Calibration()
    return replace(estimate(todo, store, Pace(records, tried.seconds)), trouble=tried.trouble)


def run(
    before: Standing,
    store: Store,
    executor: Executor,
    *,
    retry_failed: bool = False,
    on_done: Callable[[str, Record | None], None] = lambda key, record: None,
) -> Standing:
    """Do what is left of a study. Killed at any point, it goes on from there.

    Args:
        before: how far it is.
        store: where records go.
        executor: does the units.
        retry_failed: also do again what failed.
        on_done: told the key of a unit that came to its end, and its record; None where another process is at it.

    Returns:
        how far it is now.

    Raises:
        ExecutorError: as of the executor.
        OSError: nothing can be written.
    """
    for wave in _waves(before, retry_failed):
        for key in executor.run(wave, store.folder):
            on_done(key, store.read(key))
    records = {key: record for key in before.plan.units if (record := store.read(key)) is not None}
    return Standing(before.study, before.plan, records)


def _waves(before: Standing, retry_failed: bool) -> Iterator[list[AnyUnit]]:
    """The units to do: collections, and when all of them are there, the variants that learn from them."""
    todo = before.keys(LEFT, FAILED) if retry_failed else before.keys(LEFT)
    for part in (before.plan.collections, before.plan.variants):
        if units := [before.plan.units[key] for key in todo if key in part]:
            yield units
