"""The main job in one call: collect, train, evaluate, compare, and keep a record of all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s0.bench.variants import Variant
from s0.models import AS_PUBLISHED, LoadSettings
from s0.progress import Stage
from s0.record import Record
from s0.study.experiment import Experiment, run_experiment, unfinished
from s0.tasks.pocket import POCKET_TASKS
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning, PrefixTuning, S0Config

# Winners on the select split of benchmarks/studies/grid.toml; `make grid` runs it again.
POCKET_VARIANTS: Mapping[str, Mapping[str, Variant]] = {
    "pocket:gdn": {
        "s0": Variant(S0Config(n_steps=20, lr=1e-2, alpha="auto")),
        "lora": Variant(LoraTuning(n_steps=50, lr=5e-4)),
    },
    "pocket:mamba2": {
        "s0": Variant(S0Config(n_steps=20, lr=3e-2, alpha="auto")),
        "lora": Variant(LoraTuning(n_steps=20, lr=2e-3)),
    },
    "pocket:transformer": {
        "lora": Variant(LoraTuning(n_steps=50, lr=5e-4)),
        "prefix": Variant(PrefixTuning(n_steps=50, lr=1e-3)),
    },
}
PUBLISHED_VARIANTS = {"s0": Variant(S0Config(alpha="auto")), "lora": Variant(LoraTuning())}
"""For any other model: the paper's settings, except that the state's scale is chosen on select problems."""
POCKET_TRAIN_PROBLEMS = 96
"""How many of the train problems that ship a demo learns from: as many as the settings above were chosen with, and as
the records of all studies have."""


@dataclass(frozen=True)
class DemoSettings:
    """What `s0 demo` runs. Of problems that ship with the package it learns from the first 96 train problems.

    Attributes:
        model: a pocket model by default; any hybrid model works.
        loading: how the model is loaded.
        task: judges examples and answers.
        data: a file in the task's format, or None for the task's own.
        seed: of the sampling of examples, the only chance in the job.
        samples: at most this many per training problem.
        select_samples: at most this many per select problem; the examples they give choose the state's scale.
    """

    model: str = "pocket:gdn"
    loading: LoadSettings = AS_PUBLISHED
    task: str = "pocket-code"
    data: str | None = None
    seed: int = 0
    samples: int = 16
    select_samples: int = 4


def unfinished_demos(settings: DemoSettings, folder: str | Path, sandbox: Sandbox | None = None) -> list[Path]:
    """Where in `folder` a demo with these settings has not come to its end; see `s0.study.experiment.unfinished`."""
    return unfinished(_experiment(settings), folder, sandbox)


def run_demo(
    settings: DemoSettings,
    out: str | Path,
    stage: Stage,
    sandbox: Sandbox | None = None,
    variants: Mapping[str, Variant] | None = None,
    overwrite: bool = False,
) -> Record:
    """Collect examples, tune on them (a state and LoRA, where nothing else is said), answer untouched and tuned.

    Args:
        settings: what to run.
        variants: what to train, by name; None for the model's usual ones.
        out, stage, sandbox, overwrite: as of `run_experiment`, whose files and errors it has.
    """
    return run_experiment(_experiment(settings, variants), out, stage=stage, sandbox=sandbox, overwrite=overwrite)


def _experiment(settings: DemoSettings, variants: Mapping[str, Variant] | None = None) -> Experiment:
    tuned = variants or POCKET_VARIANTS.get(settings.model, PUBLISHED_VARIANTS)
    is_shipped = settings.data is None and settings.task in POCKET_TASKS
    train_problems = POCKET_TRAIN_PROBLEMS if is_shipped else None
    return Experiment(variants={"base": Variant(), **tuned}, train_problems=train_problems, **vars(settings))
