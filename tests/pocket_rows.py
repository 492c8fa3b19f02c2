"""A few of the pocket problems as a data file, for jobs that must be short."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path


def write_rows(path: Path, **per_split: int) -> Path:
    """Write `n` rows of each split named, e.g. `train=6, final=4`: the easiest (shortest) of the first 432."""
    lines = resources.files("s0.tasks").joinpath("data", "pocket_code.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines[:432]), key=lambda row: len(row["canonical_solution"]))
    chosen = [row for split, n in per_split.items() for row in [row for row in rows if row["split"] == split][:n]]
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return path
