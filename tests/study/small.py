"""A study as small as can be, and the process of the tests in the place of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from s0.study.plan import AnyUnit
from s0.study.work import do

PROBLEMS = Path(__file__).parents[1] / "golden" / "problems.jsonl"
STUDY = f"""
title = "Small"
models = ["pocket:gdn"]
tasks = ["pocket-code"]
seeds = 1
limit = 4
data = {{ pocket-code = "{PROBLEMS}" }}
[collection]
samples = 4
select_samples = 2
[variants.base]
[variants.s0]
method = "s0"
settings = {{ n_steps = 2, lr = 1e-2, alpha = 1 }}
[variants.lora]
method = "lora"
settings = {{ n_steps = 1, rank = 2 }}
"""
GRID = STUDY.replace("limit", 'split = "select"\nlimit').replace(
    "alpha = 1 }", "alpha = 1 }\ngrid = [{ n_steps = 2 }, { n_steps = 1 }]"
)


def written(folder: Path, text: str = STUDY, name: str = "small") -> Path:
    """A study file in a folder."""
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Here:
    """Does units in this process."""

    at_once = 1

    def run(self, units: Sequence[AnyUnit], folder: Path) -> Iterator[str]:
        for unit in units:
            do(msgspec.json.encode(unit), str(folder))
            yield unit.key


def timeless(folder: Path) -> dict[str, Any]:
    """The records of all units by key, without times."""
    return {path.stem: _without_times(json.loads(path.read_text())) for path in (folder / "records").glob("*.json")}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(part) for key, part in value.items() if key not in ("seconds", "time")}
    return [_without_times(part) for part in value] if isinstance(value, list) else value
