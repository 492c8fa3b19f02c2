"""An experiment: the whole way from a task's problems to compared answers. A demo is one, a study is many.

    experiment = Experiment("pocket:gdn", {"base": Variant(), "s0": Variant(S0Config(alpha="auto"))})
    record = run_experiment(experiment, "runs/first")

1. Examples are collected from the train and the select problems: what the untouched model writes and the judge passes.
2. Every variant learns from the train examples, and chooses on the select examples what it chooses.
3. All answer the same problems, and the answers are compared pair by pair.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from s0.bench.answers import answers_file, open_answers
from s0.bench.asking import Answerer, Questions, Samples
from s0.bench.collection import CollectSettings, collect
from s0.bench.judging import judged_under
from s0.bench.record import evaluation_record, model_facts
from s0.bench.variants import Variant, run_variant
from s0.core.families import find_mixers
from s0.errors import ConfigError, DatasetError
from s0.examples import Example, examples_sha256
from s0.files import write_text
from s0.models import AS_PUBLISHED, LoadSettings, ModelSource
from s0.progress import Stage, named, silent
from s0.record import Examples, Record, write_record
from s0.tasks import Task
from s0.tasks import load as load_task
from s0.tasks.sandbox import Sandbox
from s0.train import METHODS

SETTINGS_FILE = "settings.json"
"""Tells in an experiment's folder, from its beginning on, what it is run with."""
_RECORD_FILE = "record.json"
_COLLECTED = ("train", "select")
"""Splits that examples are collected from."""
_FILES = {SETTINGS_FILE, _RECORD_FILE, answers_file(_RECORD_FILE).name, "train.jsonl", "select.jsonl"}
_SETTINGS = ("model", "task", "data", "seed", "train_problems", "samples", "select_samples")
"""What of an experiment its record's `settings` tell: all that stands nowhere else in it."""


@dataclass(frozen=True)
class Experiment:
    """What is to be run.

    Attributes:
        model: a name of `s0.load_model`.
        variants: what learns and answers, by name; the first one is what the others are compared with.
        loading: how the model is loaded.
        task: judges examples and answers.
        data: a file in the task's format, or None for the task's own.
        split: whose problems are answered.
        seed: of the sampling of examples.
        train_problems: examples are collected from this many, the first of the train split; None for all of them.
        samples: at most this many per train problem.
        select_samples: at most this many per select problem.
        drawn: answers to be sampled beside the greedy one; None for none.
    """

    model: str
    variants: Mapping[str, Variant]
    loading: LoadSettings = AS_PUBLISHED
    task: str = "pocket-code"
    data: str | None = None
    split: str = "final"
    seed: int = 0
    train_problems: int | None = None
    samples: int = 16
    select_samples: int = 4
    drawn: Samples | None = None

    @property
    def tunes_states(self) -> bool:
        """Whether a variant needs a model with recurrent layers."""
        methods = {variant.method for variant in self.variants.values()}
        return any(METHODS[method].has_scale for method in methods if method in METHODS)

    def load_task(self) -> Task:
        """The task; errors as of `s0.tasks.load`."""
        return load_task(self.task, self.data)

    def __post_init__(self) -> None:
        if not self.variants:
            raise ConfigError("expected at least one variant, got none")
        if self.train_problems is not None and self.train_problems < 1:
            raise ConfigError(
                f"expected `train_problems` of at least 1, or None for all, got {self.train_problems}; correct it"
            )
        for name in self.variants:
            if Path(name).name != name or name in _FILES:
                raise ConfigError(
                    f"expected names of variants that can be a folder's in `out`, got {name!r}; rename it"
                )


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    stage: Stage = silent,
    sandbox: Sandbox | None = None,
    overwrite: bool = False,
) -> Record:
    """Collect, train, answer, compare.

    Under `out` it writes its settings, the examples (`train.jsonl` and `select.jsonl`), a folder for everything tuned,
    the answers as they come, and `record.json`. Killed at any point, it goes on from there.

    Args:
        experiment: what to run.
        out: a folder without a record in it, or with `overwrite`.
        stage: shows progress.
        sandbox: None for the strongest of this machine.
        overwrite: replace a finished experiment, and examples that were collected with other settings.

    Returns:
        the record, with the settings and the counts of examples.

    Raises:
        S0Error: as the single steps.
    """
    out = Path(out)
    if not overwrite:
        _require_no_record(out)
    task = experiment.load_task().judged_in(sandbox)
    learned_from = _learned_from(experiment, task)
    asked = Questions(task, task.require_split(experiment.split), samples=experiment.drawn)
    met = {problem.id: problem for questions in (*learned_from.values(), asked) for problem in questions.problems}
    task.require_runnable([*met.values()])
    begun = _begun_with(experiment, task)
    if not overwrite:
        _require_begun_with(begun, out / SETTINGS_FILE)
    source = ModelSource(experiment.model, experiment.loading)
    model, tokenizer = source.load()
    if experiment.tunes_states:
        find_mixers(model)  # refuses before the long work
    _begin(out, begun, overwrite)
    base = Answerer(model, tokenizer, journal=open_answers(answers_file(out / _RECORD_FILE), model))
    examples, seconds = _collected(experiment, base, learned_from, out, stage, overwrite)
    outcomes = {
        name: run_variant(variant, base, asked, examples, out=out / name, stage=named(stage, name))
        for name, variant in experiment.variants.items()
    }
    record = evaluation_record("demo", model_facts(source, model), asked, outcomes)
    record = replace(
        record,
        seconds={**seconds, **record.seconds},
        settings={name: getattr(experiment, name) for name in _SETTINGS},
        examples={
            split: Examples(len(verified), len(learned_from[split].problems), examples_sha256(verified))
            for split, verified in examples.items()
        },
    )
    write_record(out / _RECORD_FILE, record)
    return record


def _learned_from(experiment: Experiment, task: Task) -> dict[str, Questions]:
    """The problems that examples are collected from, by split.

    Raises:
        DatasetError: a split has none, or fewer than the experiment learns from.
    """
    problems = {split: task.require_split(split) for split in _COLLECTED}
    n_train = len(problems["train"])
    if experiment.train_problems is not None and experiment.train_problems > n_train:
        raise DatasetError(
            f"expected at least {experiment.train_problems} problems in the train split of {task.name}, got {n_train}; "
            "add rows, or lower train_problems"
        )
    problems["train"] = problems["train"][: experiment.train_problems]
    return {split: Questions(task, asked) for split, asked in problems.items()}


def _require_no_record(out: Path) -> None:
    if (out / _RECORD_FILE).exists():
        raise ConfigError(
            f"expected a new folder for the results, got {out}, which holds a record; choose another --out"
        )


def _begin(out: Path, begun: Mapping[str, Any], overwrite: bool) -> None:
    if overwrite or not (out / SETTINGS_FILE).exists():
        write_text(out / SETTINGS_FILE, json.dumps(begun, indent=1) + "\n")
    (out / _RECORD_FILE).unlink(missing_ok=True)  # of an experiment that makes room; interrupted, this one goes on


def unfinished(experiment: Experiment, folder: str | Path, sandbox: Sandbox | None = None) -> list[Path]:
    """Where in `folder` this experiment was begun, with the same settings, data and limits, and has not ended.

    Args:
        experiment: what is to be run.
        folder: of folders of experiments.
        sandbox: that programs will be judged in; None for the process-wide one.

    Returns:
        their folders, the one begun last first.

    Raises:
        S0Error: the task cannot be loaded.
    """
    wanted = _begun_with(experiment, experiment.load_task().judged_in(sandbox))
    begun = [path for path in Path(folder).glob(f"*/{SETTINGS_FILE}") if not (path.parent / _RECORD_FILE).exists()]
    begun.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in begun if _read(path) == wanted]


def _begun_with(experiment: Experiment, task: Task) -> dict[str, Any]:
    """What an experiment's folder tells from its beginning on: all its record depends on but weights and versions."""
    facts = {
        **asdict(experiment),
        "variants": {name: variant.recorded() for name, variant in experiment.variants.items()},
        "task_version": task.version,
        "data_sha256": task.data_sha256,
        "sandbox": judged_under(task.sandbox),
    }
    settings: dict[str, Any] = json.loads(json.dumps(facts))
    return settings


def _require_begun_with(settings: dict[str, Any], path: Path) -> None:
    """Refuse a folder whose settings file, if there is one, tells of other settings.

    Raises:
        ConfigError: it does; names what differs.
    """
    before = _read(path)
    if path.exists() and before != settings:
        known = before if isinstance(before, dict) else {}
        differing = [name for name in {**settings, **known} if known.get(name) != settings.get(name)]
        raise ConfigError(
            f"expected {path.parent} to have been begun with the same settings, got others for {', '.join(differing)} "
            "in its settings.json; choose another --out, or add --overwrite"
        )


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _collected(
    experiment: Experiment, base: Answerer, questions: Mapping[str, Questions], out: Path, stage: Stage, overwrite: bool
) -> tuple[dict[str, list[Example]], dict[str, float]]:
    """Verified examples of the train and the select problems, and the seconds each took, by stage."""
    examples: dict[str, list[Example]] = {}
    seconds: dict[str, float] = {}
    for split, samples in zip(_COLLECTED, (experiment.samples, experiment.select_samples), strict=True):
        settings, started = CollectSettings(samples=samples, seed=experiment.seed), time.perf_counter()
        with stage(f"collect {split}", samples * len(questions[split].problems)) as advance:
            examples[split] = collect(
                base, questions[split], examples_file(out, split), settings, overwrite=overwrite, on_done=advance
            )
        seconds[f"collect {split}"] = round(time.perf_counter() - started, 2)
    return examples, seconds


def examples_file(out: str | Path, split: str) -> Path:
    """Where `run_experiment` keeps the examples of a split."""
    return Path(out) / f"{split}.jsonl"
