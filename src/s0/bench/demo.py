"""The main job in one call: collect, train, evaluate, compare, and keep a record of all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s0.bench.collect import CollectSettings, collect
from s0.bench.evaluate import comparison, evaluate, summary
from s0.bench.record import environment, write_record
from s0.core.fingerprint import fingerprint
from s0.errors import ConfigError
from s0.examples import examples_sha256
from s0.models import load_model
from s0.tasks import load as load_task
from s0.tasks.sandbox import Sandbox
from s0.train import S0Config, S0Trainer


@dataclass(frozen=True)
class DemoSettings:
    """What `s0 demo` runs.

    Attributes:
        model: a pocket model by default; any hybrid model works.
        task: judges examples and answers.
        data: a file in the task's format, or None for the task's own.
        seed: of the sampling of examples, the only chance in the job.
        train: how to tune.
        samples: at most this many per training problem.
    """

    model: str = "pocket:gdn"
    task: str = "pocket-code"
    data: str | None = None
    seed: int = 0
    train: S0Config | None = None
    samples: int = 16


# Chosen on the select split, see benchmarks/pocket/log.md; the published values stand beside them in S0Config.
POCKET_TRAINING = {"pocket:gdn": S0Config(n_steps=20, lr=1e-2, alpha=1.0)}

Stage = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Told a stage's name and size, shows its progress: called with the number of items just finished."""


def run_demo(settings: DemoSettings, out: str | Path, stage: Stage, sandbox: Sandbox | None = None) -> dict[str, Any]:
    """Collect examples on the train split, tune a state, answer the final split before and after.

    Writes `examples.jsonl`, `state/` and `record.json` under `out`.

    Returns:
        the record: settings, versions, hashes, seconds per stage, every answer with its verdicts, both summaries and
        their paired comparison.

    Raises:
        S0Error: as the single steps.
    """
    out = Path(out)
    if (out / "record.json").exists():
        raise ConfigError(
            f"expected a new folder for the results, got {out}, which holds a record; choose another --out"
        )
    task = load_task(settings.task, settings.data)
    model, tokenizer = load_model(settings.model)
    config = settings.train or POCKET_TRAINING.get(settings.model, S0Config())
    trainer = S0Trainer(model, tokenizer, config)
    seconds: dict[str, float] = {}

    def timed(name: str, total: int | None, work: Callable[[Callable[[int], None]], Any]) -> Any:
        start = time.perf_counter()
        with stage(name, total) as advance:
            result = work(advance)
        seconds[name] = round(time.perf_counter() - start, 2)
        return result

    asking = CollectSettings(samples=settings.samples, seed=settings.seed)
    train_problems, final = task.split("train"), task.split("final")
    rounds = -(-asking.samples // asking.per_round)
    examples = timed(
        "collect",
        rounds,
        lambda advance: collect(
            trainer.model, tokenizer, task, train_problems, out / "examples.jsonl", asking,
            sandbox=sandbox, on_round=lambda done, rounds, solved: advance(1),
        ),
    )  # fmt: skip
    trained = timed("train", None, lambda advance: trainer.train(examples, progress=False))
    trainer.save(out / "state")
    answers = {}
    for name, switch in (("base", trainer.deactivate), ("tuned", trainer.activate)):
        switch()
        answers[name] = timed(
            f"evaluate {name}",
            len(final),
            lambda advance: evaluate(trainer.model, tokenizer, task, final, sandbox=sandbox, on_done=advance),
        )
    record = {
        "kind": "demo",
        "settings": {**asdict(settings), "train": asdict(config), "collect": asdict(asking)},
        "environment": environment(),
        "model": {"name": settings.model, "fingerprint": fingerprint(trainer.model)},
        "task": {"name": task.name, "version": task.version, "data_sha256": task.data_sha256},
        "examples": {"n": len(examples), "of_problems": len(train_problems), "sha256": examples_sha256(examples)},
        "training": trained,
        "seconds": seconds,
        "final": {name: summary(given) for name, given in answers.items()},
        "comparison": comparison(answers["base"], answers["tuned"]),
        "answers": {name: [asdict(answer) for answer in given] for name, given in answers.items()},
    }
    write_record(out / "record.json", record)
    return record
