"""Records: everything needed to check a number, or to make it again."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from s0.bench.evaluate import Answer, Samples, sampled_summary, solved, summary
from s0.bench.stats import compare, holm, paired_t, pass_at_k
from s0.bench.variants import Outcome, Questions
from s0.files import write_text
from s0.record import effect
from s0.tasks import SCORINGS
from s0.tasks.sandbox import Sandbox

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
    kind: str,
    model: Mapping[str, str],
    questions: Questions,
    outcomes: Mapping[str, Outcome],
    sandbox: Sandbox | None = None,
) -> dict[str, Any]:
    """The record of variants that answered the same questions: facts, answers with verdicts, summaries, comparisons.

    Args:
        kind: of job, "demo" or "eval".
        model: its name and fingerprint.
        questions: what was asked.
        outcomes: by variant, the untouched model first.
        sandbox: that programs were judged in; None for the process-wide one.
    """
    task = questions.task
    answers = {name: outcome.answers for name, outcome in outcomes.items()}
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
        "sandbox": None if sandbox is None else {"backend": sandbox.backend, **asdict(sandbox.limits)},
        "split": questions.problems[0].split,
        "chat": questions.chat,
        "seconds": {stage: spent for outcome in outcomes.values() for stage, spent in outcome.seconds.items()},
        "variants": {name: dict(outcome.facts) for name, outcome in outcomes.items()},
        "final": {name: summary(outcome.answers) for name, outcome in outcomes.items()},
        "comparisons": comparisons(answers),
        "sampled": sampled_part(questions.samples, outcomes),
        "problems": {problem.id: problem.prompt for problem in questions.problems},
        "answers": {name: [asdict(one) for one in given] for name, given in answers.items()},
    }


def sampled_part(samples: Samples | None, outcomes: Mapping[str, Outcome]) -> dict[str, Any] | None:
    """The record of the answers that were drawn: settings, summaries, comparisons, and every answer."""
    if samples is None:
        return None
    answers = {name: outcome.sampled for name, outcome in outcomes.items()}
    return {
        **asdict(samples),
        "final": {name: sampled_summary(given, samples) for name, given in answers.items()},
        "comparisons": sampled_comparisons(answers, samples),
        "answers": {name: [asdict(one) for one in given] for name, given in answers.items()},
    }


def comparisons(answers: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    """Every variant against the first, and every later one against the second, pair by pair, under both scorings.

    `p_holm` is McNemar's p adjusted for the number of comparisons under that scoring; `effect` what all that shows.
    """
    compared: list[dict[str, Any]] = [{"first": one, "second": other} for one, other in _pairs(answers)]
    for scoring in SCORINGS:
        for entry in compared:
            before, after = answers[entry["first"]], answers[entry["second"]]
            result = compare([one.passed[scoring] for one in before], [one.passed[scoring] for one in after])
            flips = {name: [before[i].problem for i in getattr(result, name)] for name in ("gained", "lost")}
            entry[scoring] = {**asdict(result), **flips}
        adjusted = holm([entry[scoring]["p_value"] for entry in compared])
        for entry, p_value in zip(compared, adjusted, strict=True):
            entry[scoring]["p_holm"] = p_value
    for entry in compared:
        entry["effect"] = effect(entry)
    return compared


def sampled_comparisons(answers: Mapping[str, Sequence[Answer]], samples: Samples) -> list[dict[str, Any]]:
    """The same pairs by pass@1 and pass@n of their samples: differences problem by problem with 95% t-intervals.

    None on a single problem, where there is nothing to tell luck by.

    `p_holm` is the paired t-test's p over problems, adjusted for the number of pairs under that scoring and k.
    """
    if len(solved(next(iter(answers.values())), SCORINGS[0])) < 2:
        return []
    compared: list[dict[str, Any]] = [{"first": one, "second": other} for one, other in _pairs(answers)]
    for scoring in SCORINGS:
        correct = {name: list(solved(given, scoring).values()) for name, given in answers.items()}
        for entry in compared:
            entry[scoring] = {}
        for k in sorted({1, samples.n}):
            rates = {name: [pass_at_k(samples.n, count, k) for count in counts] for name, counts in correct.items()}
            results = [paired_t(rates[entry["first"]], rates[entry["second"]]) for entry in compared]
            for entry, one, p_holm in zip(compared, results, holm([one.p_value for one in results]), strict=True):
                told = {name: getattr(one, name) for name in ("difference", "low", "high", "p_value")}
                entry[scoring][str(k)] = {**told, "p_holm": p_holm}
    return compared


def _pairs(answers: Mapping[str, Sequence[Answer]]) -> list[tuple[str, str]]:
    first, *others = answers
    return [(first, other) for other in others] + [(others[0], other) for other in others[1:]]


def write_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON: under a temporary name first, then renamed.

    Raises:
        OSError: it cannot be written there. Its answers took long, so it is kept in the system's folder for temporary
            files then, and the error says where.
    """
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        spare = _elsewhere(Path(path).name, text)
        if spare is None:
            raise
        raise OSError(
            f"expected to write {path}, got: {error.strerror or error}; the record is kept in {spare}; move it"
        ) from error


def _elsewhere(name: str, text: str) -> Path | None:
    try:
        path = Path(tempfile.mkdtemp(prefix="s0-record-")) / name
        write_text(path, text)
    except OSError:
        return None
    return path
