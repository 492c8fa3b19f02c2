"""What a study comes to: its units, each known by a hash of all that its result depends on.

A unit is one collection of examples, or one variant that learns from such and answers. What several cells of a study's
tables need alike is one unit: examples that all variants of a seed learn from, the untouched model of all seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

import msgspec

from s0.bench import Samples, Variant
from s0.models import LoadSettings, ModelSource
from s0.study.spec import Amount, Study, VariantSpec
from s0.tasks import Problem, Task
from s0.tasks import load as load_task
from s0.tasks.sandbox import Limits
from s0.train import METHODS

_FINDS_DATA = "data"
"""The key of where problems lie, which their hash stands for."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problems that are asked.

    Attributes:
        task: by name; version: of its rules; data_sha256: of its problems; data: where they lie, if not with the task.
        split: of the task.
        limit: the first so many of it; None for all.
        chat, max_new_tokens: see `s0.bench.Questions`.
    """

    task: str
    version: str
    data_sha256: str
    split: str
    limit: int | None = None
    chat: bool = False
    max_new_tokens: int | None = None
    data: str | None = None

    def load_task(self) -> Task:
        """The task; errors as of `s0.tasks.load`."""
        return _loaded(self.task, self.data)

    def problems(self) -> list[Problem]:
        """The problems."""
        return self.load_task().require_split(self.split)[: self.limit]


class Unit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="kind"):
    """What is done in one go and recorded in one file.

    Attributes:
        model: a name of `s0.load_model`.
        loading: what is not as `LoadSettings` has it.
        limits: of judged programs, what is not as `Limits` has it.
    """

    model: str
    loading: dict[str, Any] = {}
    limits: dict[str, Any] = {}

    @property
    def source(self) -> ModelSource:
        """The model."""
        return ModelSource(self.model, LoadSettings(**self.loading))

    @property
    def key(self) -> str:
        """The hash of all that the result depends on."""
        config = _canonical(msgspec.to_builtins(self))
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:24]


class CollectionUnit(Unit, frozen=True, omit_defaults=True, kw_only=True, tag="collection"):
    """Examples to be collected: of which problems, and what of the sampling is not as `CollectSettings` has it."""

    asked: Asked
    settings: dict[str, Any]


class Learned(msgspec.Struct, frozen=True, omit_defaults=True):
    """Examples that are learned from or chosen on: `n` of a collection, the draw of that number; None for all."""

    collection: CollectionUnit
    n: int | None = None
    draw: int = 0


class Rounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rounds of collecting and learning: what the first one collects, and see `s0.bench.ImproveSettings`."""

    train: CollectionUnit
    select: CollectionUnit
    rounds: int
    keep: int


class VariantUnit(Unit, frozen=True, omit_defaults=True, kw_only=True, tag="variant"):
    """A variant that learns and answers.

    Attributes:
        method: one of `METHODS`, or base.
        settings: of the method, what is not as it has it.
        content, shots, seed: see `s0.bench.Variant`.
        train, select: what it learns from and chooses on, if that was collected before.
        rounds: in which it collects for itself, if it does.
        asked: what it answers.
        drawn: answers sampled beside the greedy ones.
    """

    method: str
    settings: dict[str, Any] = {}
    content: str = "right"
    shots: int = 0
    seed: int = 0
    train: Learned | None = None
    select: Learned | None = None
    rounds: Rounds | None = None
    asked: tuple[Asked, ...]
    drawn: Samples | None = None

    @property
    def variant(self) -> Variant:
        """The same as what runs it."""
        settings = METHODS[self.method].configure(**self.settings) if self.method in METHODS else None
        return Variant(settings, self.content, self.shots, self.seed)

    @property
    def learned(self) -> dict[str, Learned]:
        """What it learns from and chooses on, by split."""
        return {split: part for split in ("train", "select") if (part := getattr(self, split))}

    @property
    def collected(self) -> dict[str, CollectionUnit]:
        """The collections of these, or those that the first round makes."""
        if self.rounds:
            return {"train": self.rounds.train, "select": self.rounds.select}
        return {split: part.collection for split, part in self.learned.items()}


AnyUnit = CollectionUnit | VariantUnit


@dataclass(frozen=True)
class Cell:
    """Where a unit stands in the tables of its study.

    Attributes:
        key: of the unit.
        variant: its name in the study.
        model, task: that it learned on.
        seed, amount, draw: what it learned from.
    """

    key: str
    variant: str
    model: str
    task: str
    seed: int
    amount: Amount
    draw: int


@dataclass(frozen=True)
class Plan:
    """The units of a study.

    Attributes:
        units: by key, collections before the variants that learn from them.
        cells: which unit stands where.
    """

    units: Mapping[str, AnyUnit]
    cells: tuple[Cell, ...]

    @property
    def collections(self) -> dict[str, CollectionUnit]:
        """Those that collect."""
        return {key: unit for key, unit in self.units.items() if isinstance(unit, CollectionUnit)}

    @property
    def variants(self) -> dict[str, VariantUnit]:
        """Those that learn and answer."""
        return {key: unit for key, unit in self.units.items() if isinstance(unit, VariantUnit)}


def plan(study: Study, settings: Mapping[tuple[str, str, str], Mapping[str, Any]] | None = None) -> Plan:
    """The units of a study.

    Args:
        study: what is to be run.
        settings: what grids have chosen, by variant, model and task; see `s0.study.grids.chosen`.

    Returns:
        them and where they stand.

    Raises:
        ConfigError, DatasetError: a task's problems cannot be had.
    """
    chosen = settings or {}
    units: dict[str, AnyUnit] = {}
    cells: list[Cell] = []
    for model in study.models:
        for task in study.tasks:
            for name, variant in study.variants_of(model, task).items():
                own = {**chosen.get((name, model, task), {}), **variant.settings_on(model)}
                for seed, amount, draw in _drawings(study):
                    unit = _unit(study, variant, own, model, task, (seed, amount, draw))
                    for learned in unit.learned.values():
                        units.setdefault(learned.collection.key, learned.collection)
                    units.setdefault(unit.key, unit)
                    cells.append(Cell(unit.key, name, model, task, seed, amount, draw))
    return Plan(dict(sorted(units.items(), key=lambda item: isinstance(item[1], VariantUnit))), tuple(cells))


def _drawings(study: Study) -> list[tuple[int, Amount, int]]:
    return [(seed, amount, draw) for seed in study.seeds for amount in study.examples for draw in range(amount.draws)]


def _unit(
    study: Study,
    variant: VariantSpec,
    settings: Mapping[str, Any],
    model: str,
    task: str,
    drawing: tuple[int, Amount, int],
) -> VariantUnit:
    seed, amount, draw = drawing
    has_seed = variant.learns and "seed" in {each.name for each in fields(METHODS[variant.method].settings)}
    own = {"seed": seed, **settings} if has_seed else {**settings}
    sizes = {"train": amount.n, "select": amount.select} if variant.learns else {"train": amount.n}
    learned = {
        split: Learned(_collection(study, model, task, split, seed), n, 0 if n is None else draw)
        for split, n in (sizes if variant.needs_examples else {}).items()
    }
    rounds = None
    if variant.rounds:
        first = {split: _first_of_rounds(study, model, task, split, seed) for split in ("train", "select")}
        rounds = Rounds(**first, rounds=variant.rounds.n, keep=variant.rounds.keep)
    return VariantUnit(
        model=model,
        loading=_changed(study.loading),
        limits=_limits(study),
        method=variant.method,
        settings=_changed(METHODS[variant.method].configure(**own), variant.method) if variant.learns else {},
        content=variant.content,
        shots=variant.shots,
        seed=seed if variant.content == "wrong" else 0,
        **learned,
        rounds=rounds,
        asked=tuple(_asked(study, each, study.split, study.limit) for each in study.asked_after(task)),
        drawn=study.drawn,
    )


def _collection(study: Study, model: str, task: str, split: str, seed: int) -> CollectionUnit:
    return CollectionUnit(
        model=model,
        loading=_changed(study.loading),
        limits=_limits(study),
        asked=_asked(study, task, split, study.collection.problems(split)),
        settings=_changed(study.collection.settings(split, seed)),
    )


def _first_of_rounds(study: Study, model: str, task: str, split: str, seed: int) -> CollectionUnit:
    """A split's collection in the first of some rounds, which keep all that differ."""
    kept = replace(study, collection=replace(study.collection, keep="all"))
    return _collection(kept, model, task, split, seed)


def _asked(study: Study, name: str, split: str, limit: int | None) -> Asked:
    data = study.data.get(name)
    task = _loaded(name, data)
    n_problems = len(task.require_split(split))
    first = None if limit is None or limit >= n_problems else limit
    return Asked(name, task.version, task.data_sha256, split, first, study.chat, study.max_new_tokens, data)


@cache
def _loaded(name: str, data: str | None) -> Task:
    return load_task(name, data)


def _limits(study: Study) -> dict[str, Any]:
    return {} if study.timeout_s is None else _changed(Limits(timeout_s=study.timeout_s))


def _changed(settings: Any, method: str | None = None) -> dict[str, Any]:
    """The settings that are not the defaults: so a setting that comes to a method later changes no hash.

    Those that make the settings the method's are among neither.
    """
    assert is_dataclass(settings) and not isinstance(settings, type)
    usual = asdict(METHODS[method].configure() if method else type(settings)())
    changed: dict[str, Any] = {name: value for name, value in asdict(settings).items() if value != usual[name]}
    return changed


def _canonical(value: Any) -> Any:
    """The same without where data lie, and with whole numbers as such: 1.0 says what 1 does."""
    if isinstance(value, dict):
        return {key: _canonical(part) for key, part in value.items() if key != _FINDS_DATA}
    if isinstance(value, (list, tuple)):
        return [_canonical(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
