"""What a grid has chosen, for the studies that name its winner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s0.errors import ConfigError, GridNotDoneError
from s0.study.plan import plan
from s0.study.quick import quickened
from s0.study.spec import Study, read_study
from s0.study.store import Store, VariantRecord


@dataclass(frozen=True)
class Entry:
    """An entry of a grid that was tried.

    Attributes:
        variant: its name.
        passed: greedy answers to select problems that passed, of all seeds.
        n_steps: of its training.
        settings: of its method, what is not as it has it.
    """

    variant: str
    passed: int
    n_steps: int
    settings: Mapping[str, Any]


def winner(study: Study, store: Store, variant: str, model: str, task: str) -> Entry:
    """The entry of a grid that passes most select problems; of equal ones the shortest training, then the first.

    Raises:
        ConfigError: the grid has no such variant, or asks final problems.
        GridNotDoneError: it has not come to its end.
    """
    if study.split == "final":
        raise ConfigError(f"expected a grid on select problems, got {study.name}, which asks final ones; correct it")
    entries = _entries(study, store, variant, model, task)
    if not entries:
        raise ConfigError(
            f"expected the study {study.name} to have the variant {variant} on {model} and {task}, got none; correct "
            "`winner`"
        )
    return max(entries, key=lambda entry: (entry.passed, -entry.n_steps))


def _entries(study: Study, store: Store, variant: str, model: str, task: str) -> list[Entry]:
    numbered = (
        (variant, *(f"{variant} {i}" for i in range(1, 1 + len(study.variants[variant].grid))))
        if (variant in study.variants)
        else ()
    )
    records: dict[str, list[VariantRecord]] = {}
    for cell in plan(study).cells:
        if cell.variant in numbered and (cell.model, cell.task) == (model, task):
            record = store.finished(cell.key, VariantRecord)
            if record is None:
                file = study.folder / f"{study.name}.toml"
                raise GridNotDoneError(
                    f"expected {cell.variant} of the grid {file} to be done, got no record; run it first"
                )
            records.setdefault(cell.variant, []).append(record)
    return [
        Entry(
            name,
            sum(answered.summary.pass_at_1.standard.count for each in runs for answered in each.answered.values()),
            int((runs[0].run.settings or {}).get("n_steps", 0)),
            runs[0].unit.settings,
        )
        for name, runs in records.items()
    ]


def chosen(study: Study, store: Store) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """The settings that grids have chosen for a study's variants, by variant, model and task.

    Args:
        study: names the grids.
        store: has their records.

    Raises:
        ConfigError: as of `winner`.
    """
    wanted = [
        (name, variant.winner, model, task)
        for model in study.models
        for task in study.tasks
        for name, variant in study.variants_of(model, task).items()
        if variant.winner
    ]
    grids = {name: _grid(study, name) for name in {each.study for _, each, _, _ in wanted}}
    return {
        (name, model, task): _without_seed(
            winner(grids[each.study], store, each.variant, model, each.task or task).settings
        )
        for name, each, model, task in wanted
    }


def _grid(study: Study, name: str) -> Study:
    """The grid of that name beside a study, in small where the study is."""
    grid = read_study(study.folder / f"{name}.toml")
    return quickened(grid) if study.is_quick else grid


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A seed is no choice of a grid's."""
    return {name: value for name, value in settings.items() if name != "seed"}
