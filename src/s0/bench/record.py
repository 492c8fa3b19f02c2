"""Records: everything needed to check a number, or to make it again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from s0.bench.evaluate import Answer, summary
from s0.bench.stats import compare, holm
from s0.bench.variants import Outcome, Questions
from s0.files import write_text
from s0.tasks import SCORINGS

_PACKAGES = ("s0-tuning", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """When and on what a record was made: UTC time, package versions, Python, platform, device, threads."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu_threads": torch.get_num_threads(),
    }


def evaluation_record(
    kind: str, model: Mapping[str, str], questions: Questions, outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """The record of variants that answered the same questions: facts, answers with verdicts, summaries, comparisons.

    Args:
        kind: of job, "demo" or "eval".
        model: its name and fingerprint.
        questions: what was asked.
        outcomes: by variant, the untouched model first.
    """
    task = questions.task
    return {
        "kind": kind,
        "environment": environment(),
        "model": dict(model),
        "task": {
            "name": task.name,
            "version": task.version,
            "data_sha256": task.data_sha256,
            "scorings": dict(task.scorer.notes),
            "left_out": list(task.left_out),
        },
        "split": questions.problems[0].split,
        "chat": questions.chat,
        "seconds": {stage: spent for outcome in outcomes.values() for stage, spent in outcome.seconds.items()},
        "variants": {name: dict(outcome.facts) for name, outcome in outcomes.items()},
        "final": {name: summary(outcome.answers) for name, outcome in outcomes.items()},
        "comparisons": comparisons({name: outcome.answers for name, outcome in outcomes.items()}),
        "problems": {problem.id: problem.prompt for problem in questions.problems},
        "answers": {name: [asdict(one) for one in outcome.answers] for name, outcome in outcomes.items()},
    }


def comparisons(answers: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    """Every variant against the first, and every later one against the second, pair by pair, under both scorings.

    `p_holm` is McNemar's p adjusted for the number of comparisons under that scoring.
    """
    first, *others = answers
    pairs = [(first, other) for other in others] + [(others[0], other) for other in others[1:]]
    compared: list[dict[str, Any]] = [{"first": one, "second": other} for one, other in pairs]
    for scoring in SCORINGS:
        for entry in compared:
            before, after = answers[entry["first"]], answers[entry["second"]]
            result = compare([one.passed[scoring] for one in before], [one.passed[scoring] for one in after])
            flips = {name: [before[i].problem for i in getattr(result, name)] for name in ("gained", "lost")}
            entry[scoring] = {**asdict(result), **flips}
        adjusted = holm([entry[scoring]["p_value"] for entry in compared])
        for entry, p_value in zip(compared, adjusted, strict=True):
            entry[scoring]["p_holm"] = p_value
    return compared


def write_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON: under a temporary name first, then renamed."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
