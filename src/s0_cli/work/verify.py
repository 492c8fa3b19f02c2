"""`s0 verify`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from s0.bench import environment
from s0.core.families import family_of
from s0.verify import CHECKS, FAILS, advice
from s0.verify import verify as run_checks
from s0_cli.groups import ModelOptions
from s0_cli.work.stages import stage


def verify(model: ModelOptions) -> dict[str, Any]:
    """`s0 verify`."""
    loaded, tokenizer = model.source.load()
    with stage("checking", len(CHECKS)) as advance:
        results = run_checks(
            loaded, tokenizer, checks=CHECKS, progress=lambda result: advance(1, f"{result.name}: {result.status}")
        )
    return {
        "kind": "verification",
        "environment": environment(),
        "model": model.name,
        "class": type(loaded).__name__,
        "family": family_of(loaded),
        "counts": dict(Counter(result.status for result in results)),
        "failed": [result.name for result in results if result.status == FAILS],
        "advice": advice(results),
        "checks": [asdict(result) for result in results],
    }
