"""A few of the pocket problems as a data file, for jobs that must be short; and what the study says of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

from s0.study.runner import opened, standing
from s0.study.store import VariantRecord

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def write_rows(path: Path, **per_split: int) -> Path:
    """Write `n` rows of each split named, e.g. `train=6, final=4`: the easiest (shortest) of the first 432."""
    lines = resources.files("s0.tasks").joinpath("data", "pocket_code.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines[:432]), key=lambda row: len(row["canonical_solution"]))
    chosen = [row for split, n in per_split.items() for row in [row for row in rows if row["split"] == split][:n]]
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return path


def study_record(model: str) -> dict[str, VariantRecord]:
    """What the main study's first seed has recorded of a pocket model on pocket-code, by variant."""
    study, store = opened(BENCHMARKS / "studies" / "main.toml", BENCHMARKS / "results" / "studies")
    done = standing(replace(study, tasks=("pocket-code",), seeds=(0,)), store)
    records = {cell.variant: done.records[cell.key] for cell in done.plan.cells if cell.model == model}
    return {name: record for name, record in records.items() if isinstance(record, VariantRecord)}
