"""A study file: which variants learn from what and are asked what, on which models; read and checked.

    title = "S0 beside LoRA"
    models = ["pocket:gdn", "pocket:mamba2"]
    tasks = ["pocket-code"]
    seeds = 3
    [collection]
    train_problems = 96
    [variants.base]
    [variants.s0]
    method = "s0"
    settings = { lr = 1e-2, alpha = "auto" }

Every key is an attribute of `Study`, or of the class that its table names; others are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from s0.bench import CollectSettings, ImproveSettings, Samples
from s0.errors import ConfigError
from s0.models import LoadSettings
from s0.tasks import SPLITS, TASKS
from s0.train import METHODS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Kind = TypeVar("Kind")

UNTOUCHED = "base"
"""The method of a variant that learns nothing; with `shots` it is shown examples instead."""
_SAMPLING = CollectSettings()
_NOT_WRITTEN = {"name", "folder", "is_quick"}


@dataclass(frozen=True, kw_only=True)
class Collecting:
    """The table `collection`: how examples are collected.

    Attributes:
        train_problems, select_problems: from the first so many of the split; None for all of them.
        samples, select_samples: at most so many to a train problem, and to a select problem.
        keep, temperature, top_p: see `CollectSettings`.
    """

    train_problems: int | None = None
    select_problems: int | None = None
    samples: int = _SAMPLING.samples
    select_samples: int = 4
    keep: str = _SAMPLING.keep
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p

    def __post_init__(self) -> None:
        for problems in (self.train_problems, self.select_problems):
            if problems is not None and problems < 1:
                raise ConfigError(f"expected at least 1 problem to collect from, or no key for all, got {problems}")
        for split in ("train", "select"):
            self.settings(split, seed=0)

    def settings(self, split: str, seed: int) -> CollectSettings:
        """How a split's examples are sampled with a seed."""
        samples = self.samples if split == "train" else self.select_samples
        return CollectSettings(self.temperature, self.top_p, samples, self.keep, seed=seed)

    def problems(self, split: str) -> int | None:
        """From how many problems of a split examples are collected; None for all."""
        return self.train_problems if split == "train" else self.select_problems


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many of the collected examples are learned from.

    Attributes:
        n: so many, drawn from those collected; None for all.
        draws: how often they are drawn from each seed's collection.
        select: of the select examples, at most so many are drawn to choose on; None for all.
    """

    n: int | None = None
    draws: int = 1
    select: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1 or (self.n or 1) < 1 or (self.select or 1) < 1:
            raise ConfigError(f"expected `n`, `draws` and `select` of at least 1, got {self}")
        if self.n is None and self.draws > 1:
            raise ConfigError("expected one draw of all examples, got more, which would be the same; leave draws out")


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The best entry of a grid: the highest pass@1 on its select problems, of equal ones the shortest training.

    Attributes:
        study: the name of the grid's file, without .toml, beside this one.
        variant: which of its variants.
        task: that the entries learned; None for the task that is to be learned now.
    """

    study: str
    variant: str
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class InRounds:
    """The table `rounds` of a variant, which collects for itself: see `s0.bench.rounds`.

    Attributes:
        n: rounds, at most.
        keep: different answers of a problem that are learned from, at most.
    """

    n: int = ImproveSettings.rounds
    keep: int = ImproveSettings.keep

    def __post_init__(self) -> None:
        if min(self.n, self.keep) < 1:
            raise ConfigError(f"expected `n` and `keep` of at least 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class VariantSpec:
    """A table in `variants`: a method with its settings.

    Attributes:
        method: one of `s0.train.METHODS`, or base for the untouched model.
        settings: of the method; those that are not named are its defaults.
        on: further settings by model.
        grid: settings to try, each of which makes a variant of its own: "s0 1", "s0 2" and so on.
        winner: the grid whose winner's settings hold where `settings` and `on` say nothing else.
        models, tasks: those that it runs on, and learns; None for all of the study.
        content, shots: see `s0.bench.Variant`.
        rounds: of collecting and learning, each collected with what the last one has learned; None for none.
        label: what a report calls it; the name where there is none.
        published: what others have reported of it, by model, for the report.
    """

    method: str = UNTOUCHED
    settings: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Sequence[Mapping[str, Any]] = ()
    winner: Winner | None = None
    models: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    content: str = "right"
    shots: int = 0
    rounds: InRounds | None = None
    label: str = ""
    published: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method != UNTOUCHED and self.method not in METHODS:
            raise ConfigError(f"expected `method` to be {_one_of([UNTOUCHED, *METHODS])}, got {self.method!r}")
        if self.content not in ("right", "wrong") or self.shots < 0:
            raise ConfigError(f"expected content right or wrong and shots >= 0, got {self.content!r}, {self.shots}")
        for settings in (self.settings, *self.on.values(), *self.grid):
            self._require_settings(settings)
        if self.rounds and (not self.learns or self.shots or self.content != "right"):
            raise ConfigError(f"expected `rounds` of a variant that learns what passes, got {self.method!r} without")
        if self.winner and self.grid:
            raise ConfigError("expected `grid` or `winner`, got both: a grid tries what a winner was chosen from")

    def _require_settings(self, settings: Mapping[str, Any]) -> None:
        if self.method == UNTOUCHED:
            require_known(settings, (), "settings of the untouched model")
            return
        method = METHODS[self.method]
        known = [each.name for each in fields(method.settings) if each.name not in method.fixed]
        require_known(settings, known, f"settings of {self.method}")
        method.configure(**settings)

    def settings_on(self, model: str) -> dict[str, Any]:
        """The settings that are named, on a model."""
        return {**self.settings, **self.on.get(model, {})}

    @property
    def learns(self) -> bool:
        """Whether it is trained."""
        return self.method != UNTOUCHED

    @property
    def needs_examples(self) -> bool:
        """Whether it learns from examples that were collected before, or is shown some."""
        return (self.learns and not self.rounds) or self.shots > 0


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study file says.

    Attributes:
        name: the file's, without .toml.
        folder: that it lies in, where grids are that it names.
        title: in a few words, over the report.
        about: what it is to show, in a sentence or two below that.
        models: names of `s0.load_model`.
        tasks: that are learned.
        variants: by name.
        seeds: of the sampling of examples, and of what else a variant leaves to chance; a number n stands for 0 to
            n - 1.
        examples: how many are learned from: numbers, "all", or tables, see `Amount`.
        asked: tasks that are asked; empty for the one that was learned.
        split: whose problems are asked: select where something is to be chosen, final for what is claimed.
        limit: only the first so many of them; None for all.
        drawn: answers sampled beside the greedy one, for pass@k.
        collection: how examples are collected.
        loading: how models are loaded.
        chat: ask through the chat template.
        max_new_tokens: of an answer; None for the task's own limit.
        timeout_s: seconds of processor time of a judged program.
        data: files of problems, by task.
        reference: the variant that others are compared with.
        contrasts: further pairs to compare, [first, second].
        slurm: parameters of submitit's executor: slurm_partition, timeout_min, mem_gb and so on.
        is_quick: it is the study in small, see `s0.study.quick`.
    """

    name: str
    folder: Path
    title: str = ""
    about: str = ""
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    variants: Mapping[str, VariantSpec]
    seeds: tuple[int, ...] = (0,)
    examples: tuple[Amount, ...] = (Amount(),)
    asked: tuple[str, ...] = ()
    split: str = "final"
    limit: int | None = None
    drawn: Samples | None = None
    collection: Collecting = Collecting()
    loading: LoadSettings = LoadSettings()  # noqa: RUF009  # frozen
    chat: bool = False
    max_new_tokens: int | None = None
    timeout_s: float | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    reference: str = UNTOUCHED
    contrasts: tuple[tuple[str, str], ...] = ()
    slurm: Mapping[str, Any] = field(default_factory=dict)
    is_quick: bool = False

    def __post_init__(self) -> None:
        for axis in ("models", "tasks", "variants", "seeds", "examples"):
            values = getattr(self, axis)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"expected `{axis}` to name something, each once, got {list(values)}; correct it")
        if min(self.seeds) < 0:
            raise ConfigError(f"expected `seeds` of at least 0, got {min(self.seeds)}")
        if self.split not in SPLITS:
            raise ConfigError(f"expected `split` to be {_one_of(SPLITS)}, got {self.split!r}")
        require_known((*self.tasks, *self.asked, *self.data), TASKS, "tasks")
        for name, variant in self.variants.items():
            require_known((*(variant.models or ()), *variant.on), self.models, f"models of the variant {name}")
            require_known(variant.tasks or (), self.tasks, f"tasks of the variant {name}")
        if self.split == "final" and any(variant.grid for variant in self.variants.values()):
            raise ConfigError(
                'expected `split = "select"` in a study with a grid, got final: nothing may be chosen on final '
                "problems; correct the split"
            )
        if any(each.rounds for each in self.variants.values()) and self.examples != (Amount(),):
            raise ConfigError("expected no `examples` beside a variant in `rounds`, which learns from all it collects")
        compared = [self.reference, *(name for pair in self.contrasts for name in pair)]
        require_known(compared, self.variants, "variants to compare")
        grids = [name for name in compared if self.variants[name].grid]
        if grids or any(first == second for first, second in self.contrasts):
            raise ConfigError(
                f"expected `reference` and `contrasts` to name variants without a grid, two different ones each, got "
                f"{self.reference!r} and {list(self.contrasts)}; correct them"
            )
        if len({each.n for each in self.examples}) < len(self.examples):
            raise ConfigError("expected `examples` of different numbers, got one twice; leave one of them out")
        for model in self.models:
            labels = [each.label or name for name, each in self.variants_on(model).items()]
            if twice := sorted({label for label in labels if labels.count(label) > 1}):
                raise ConfigError(f"expected labels that tell variants apart, got {twice[0]!r} twice on {model}")

    def variants_of(self, model: str, task: str) -> dict[str, VariantSpec]:
        """The variants that learn a task on a model, as `variants_on`."""
        return {
            name: each for name, each in self.variants_on(model).items() if each.tasks is None or task in each.tasks
        }

    def variants_on(self, model: str) -> dict[str, VariantSpec]:
        """The variants that run on a model, each entry of a grid by itself."""
        here = {name: each for name, each in self.variants.items() if each.models is None or model in each.models}
        entries: dict[str, VariantSpec] = {}
        for name, variant in here.items():
            entries |= {
                f"{name} {number}": replace(
                    variant,
                    grid=(),
                    settings={**variant.settings, **settings},
                    label=", ".join([variant.label or name, *(f"{key} {value}" for key, value in settings.items())]),
                )
                for number, settings in enumerate(variant.grid, start=1)
            } or {name: variant}
        return entries

    def asked_after(self, task: str) -> tuple[str, ...]:
        """The tasks that are asked of what has learned a task."""
        return self.asked or (task,)


def read_study(path: str | Path) -> Study:
    """Read and check a study file.

    Args:
        path: of the file, in TOML.

    Returns:
        what it says, with the defaults of what it does not.

    Raises:
        ConfigError: there is none, it is no TOML, or a key is unknown, missing or wrong; names the key, and what is
            allowed.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a study file in TOML, got {path}: {error}; see docs/studies.md") from error
    try:
        return _parsed(table, path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parsed(table: dict[str, Any], path: Path) -> Study:
    require_known(table, _keys(Study) - _NOT_WRITTEN, "keys")
    for name, kind in (("collection", Collecting), ("drawn", Samples), ("loading", LoadSettings)):
        _require_table(table.get(name, {}), kind, name)
    for name, variant in _table(table.get("variants", {}), "variants").items():
        _require_table(variant, VariantSpec, f"variants.{name}")
        _require_table(variant.get("winner", {}), Winner, f"variants.{name}.winner")
        _require_table(variant.get("rounds", {}), InRounds, f"variants.{name}.rounds")
        _converted(variant, VariantSpec, f"variants.{name}: ")
    written: dict[str, Any] = {**table, "name": path.stem, "folder": path.parent}
    if type(table.get("seeds")) is int:
        written["seeds"] = [*range(table["seeds"])]
    if "examples" in table:
        written["examples"] = [_amount(entry) for entry in _list(table["examples"], "examples")]
    return _converted(written, Study)


def _converted(table: Mapping[str, Any], kind: type[Kind], where: str = "") -> Kind:
    try:
        return msgspec.convert(table, kind, dec_hook=lambda of, value: of(value))  # knows no paths
    except msgspec.ValidationError as error:  # also of a ConfigError, whose words it keeps
        raise ConfigError(f"{where}{error}") from error


def _amount(entry: object) -> object:
    """An entry of `examples` as the table that it stands for."""
    if entry == "all":
        return {}
    if type(entry) is int:
        return {"n": entry}
    _require_table(entry, Amount, "examples")
    return entry


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"expected `{name}` to be a table, got {value!r:.60}; correct it")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"expected `{name}` to be a list, got {value!r:.60}; correct it")
    return value


def _require_table(value: object, kind: type, name: str) -> None:
    require_known(_table(value, name), _keys(kind), f"keys of `{name}`")


def _keys(kind: type) -> set[str]:
    return {each.name for each in fields(kind)}


def require_known(names: Collection[str], known: Collection[str], what: str) -> None:
    """Refuse names that are not known.

    Args:
        names: those that were written.
        known: those that may be.
        what: they are, for the message.

    Raises:
        ConfigError: names one that is not known, and those that are.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        allowed = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"expected {what} ({allowed}), got {unknown[0]!r}; correct or remove it")


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"
