"""A demo and another experiment, as small as can be, and a record without what differs from call to call."""

from __future__ import annotations

import json
from pathlib import Path

from s0 import S0Config
from s0.bench import Samples, Variant
from s0.progress import silent
from s0.study import DemoSettings, Experiment, run_demo
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning

SETTINGS = DemoSettings(data=str(Path(__file__).parents[1] / "golden/problems.jsonl"), samples=4, select_samples=2)
VARIANTS = {"s0": Variant(S0Config(n_steps=2, lr=1e-2, alpha="auto")), "lora": Variant(LoraTuning(n_steps=2, rank=2))}


EXPERIMENT = Experiment(
    "pocket:gdn",
    {
        "few-shot": Variant(shots=1),
        "offset": Variant(S0Config(kind="offset", n_steps=1, lr=1e-2, alpha=1.0)),
        "form": Variant(LoraTuning(n_steps=1, rank=2), content="wrong"),
    },
    data=SETTINGS.data,
    samples=4,
    select_samples=2,
    drawn=Samples(2),
)
"""What the demo has none of: another first variant, an offset, wrong completions, drawn answers."""


def demo(folder: Path, sandbox: Sandbox | None = None) -> str:
    """The record of a demo in `folder`, as its file has it, without times."""
    run_demo(SETTINGS, folder, silent, sandbox, VARIANTS)
    return timeless(folder / "record.json")


def timeless(path: Path) -> str:
    """What a record's file holds, without times."""
    record = json.loads(path.read_text())
    del record["environment"]["time"]
    return json.dumps({**record, "seconds": list(record["seconds"])}, indent=1)
