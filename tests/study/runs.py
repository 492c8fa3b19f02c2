"""A demo that is as small as can be, and its record without what differs from call to call."""

from __future__ import annotations

import json
from pathlib import Path

from s0 import S0Config
from s0.bench import Variant
from s0.progress import silent
from s0.study import DemoSettings, run_demo
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning

SETTINGS = DemoSettings(data=str(Path(__file__).parents[1] / "golden/problems.jsonl"), samples=4, select_samples=2)
VARIANTS = {"s0": Variant(S0Config(n_steps=2, lr=1e-2, alpha="auto")), "lora": Variant(LoraTuning(n_steps=2, rank=2))}


def demo(folder: Path, sandbox: Sandbox | None = None) -> str:
    """The record of a demo in `folder`, as its file has it, without times."""
    run_demo(SETTINGS, folder, silent, sandbox, VARIANTS)
    return timeless(folder / "record.json")


def timeless(path: Path) -> str:
    """What a record's file holds, without times."""
    record = json.loads(path.read_text())
    del record["environment"]["time"]
    return json.dumps({**record, "seconds": list(record["seconds"])}, indent=1)
