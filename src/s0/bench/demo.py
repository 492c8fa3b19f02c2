"""The main job in one call: collect, train, evaluate, compare, and keep a record of all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from msgspec.structs import replace

from s0.adapter.fingerprint import fingerprint
from s0.bench.collect import CollectSettings, collect
from s0.bench.record import evaluation_record
from s0.bench.variants import Outcome, Questions, Variant, run_variant
from s0.core.families import find_mixers
from s0.errors import ConfigError
from s0.examples import Example, examples_sha256
from s0.models import load_model
from s0.progress import Stage
from s0.record import Examples, Model, Record, write_record
from s0.tasks import SPLITS
from s0.tasks import load as load_task
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning, PrefixTuning, S0Config

# Winners of the grid on the select split, benchmarks/results/grid; `python benchmarks/grid.py` makes it again.
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


@dataclass(frozen=True)
class DemoSettings:
    """What `s0 demo` runs.

    Attributes:
        model: a pocket model by default; any hybrid model works.
        task: judges examples and answers.
        data: a file in the task's format, or None for the task's own.
        seed: of the sampling of examples, the only chance in the job.
        samples: at most this many per training problem.
        select_samples: at most this many per select problem; the examples they give choose the state's scale.
    """

    model: str = "pocket:gdn"
    task: str = "pocket-code"
    data: str | None = None
    seed: int = 0
    samples: int = 16
    select_samples: int = 4


def run_demo(
    settings: DemoSettings,
    out: str | Path,
    stage: Stage,
    sandbox: Sandbox | None = None,
    variants: Mapping[str, Variant] | None = None,
    overwrite: bool = False,
) -> Record:
    """Collect examples, tune a state and LoRA on them, answer the final split untouched and tuned.

    Writes `train.jsonl`, `select.jsonl`, a folder for everything tuned, and `record.json` under `out`.

    Args:
        settings: what to run.
        out: a folder without a record in it, or with `overwrite`.
        stage: shows progress.
        sandbox: None for the strongest of this machine.
        variants: what to train, by name; None for the model's usual ones.
        overwrite: replace a finished demo, and examples that were collected with other settings.

    Returns:
        the record, with settings and the counts of examples.

    Raises:
        S0Error: as the single steps.
    """
    out = Path(out)
    if (out / "record.json").exists() and not overwrite:
        raise ConfigError(
            f"expected a new folder for the results, got {out}, which holds a record; choose another --out"
        )
    task = load_task(settings.task, settings.data)
    splits = {split: task.require_split(split) for split in SPLITS}
    task.require_runnable([problem for problems in splits.values() for problem in problems], sandbox)
    model, tokenizer = load_model(settings.model)
    variants = variants or POCKET_VARIANTS.get(settings.model, PUBLISHED_VARIANTS)
    if any(variant.method == "s0" for variant in variants.values()):
        find_mixers(model)  # refuses before the long work
    base = Model(settings.model, fingerprint(model))
    (out / "record.json").unlink(missing_ok=True)  # of a demo that makes room; interrupted, this one goes on
    examples: dict[str, list[Example]] = {}
    seconds: dict[str, float] = {}
    for split, samples in (("train", settings.samples), ("select", settings.select_samples)):
        asking = CollectSettings(samples=samples, seed=settings.seed)
        started = time.perf_counter()
        problems = splits[split]
        with stage(f"collect {split}", asking.samples * len(problems)) as advance:
            examples[split] = collect(
                model,
                tokenizer,
                task,
                problems,
                out / f"{split}.jsonl",
                asking,
                overwrite=overwrite,
                sandbox=sandbox,
                on_done=advance,
            )
        seconds[f"collect {split}"] = round(time.perf_counter() - started, 2)
    questions = Questions(task, splits["final"])
    outcomes: dict[str, Outcome] = {
        name: run_variant(
            name, variant, model, tokenizer, questions, examples["train"], examples["select"],
            out=out / name, stage=stage, sandbox=sandbox,
        )
        for name, variant in {"base": Variant(), **variants}.items()
    }  # fmt: skip
    record = evaluation_record("demo", base, questions, outcomes, sandbox)
    record = replace(
        record,
        seconds={**seconds, **record.seconds},
        settings=asdict(settings),
        examples={
            split: Examples(len(verified), len(splits[split]), examples_sha256(verified))
            for split, verified in examples.items()
        },
    )
    write_record(out / "record.json", record)
    return record
