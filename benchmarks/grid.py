"""Which settings each method gets on each pocket model: chosen on the select split, never on the final one.

    python benchmarks/grid.py [--folder benchmarks/results/grid] [--jobs 2]

Every setting learns from the same examples (seed 0 of the demo's sampling) and answers the 96 select problems greedily;
the highest pass@1 under the standard scoring wins, of equal ones the shortest training. S0 takes its scale from the
select examples' loss (alpha="auto"), so its learning rate and steps are chosen here and its scale again in every run.
One file per model and kind of variant; those that are there are not run again. About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from units import kept, path_of, run_units, seconds_of, task_facts

from s0 import S0Config, load_model
from s0.adapter.names_on_disk import from_disk
from s0.bench import Variant
from s0.core.families import find_mixers, recurrence_of
from s0.record import plain
from s0.study import POCKET_TRAIN_PROBLEMS, Unit, run_unit
from s0.tasks.sandbox import Sandbox
from s0.train import LoraTuning, PrefixTuning, rank_matching

FOLDER = Path(__file__).resolve().parent / "results" / "grid"
UNITS = [
    *((model, kind) for model in ("pocket:gdn", "pocket:mamba2") for kind in ("s0", "lora", "lora_matched")),
    ("pocket:transformer", "lora"),
    ("pocket:transformer", "prefix"),
]
# Learning rates and steps. LoRA's 1e-4 and 5e-4 with 50 steps are the paper's, S0's 1e-3 with 20 too.
LORA_COURSES = ((1e-4, 50), (5e-4, 50), (2e-3, 20), (5e-3, 20))
S0_COURSES = ((1e-3, 20), (1e-2, 20), (3e-2, 20), (1e-2, 40))
PREFIX_RATES = (1e-3, 1e-2)


def tried(kind: str, model: Any) -> list[Variant]:
    if kind == "s0":
        return [Variant(S0Config(n_steps=steps, lr=lr, alpha="auto")) for lr, steps in S0_COURSES]
    if kind == "prefix":
        return [
            Variant(PrefixTuning(n_steps=50, lr=lr, projection=projection))
            for projection in (True, False)
            for lr in PREFIX_RATES
        ]
    rank = LoraTuning.rank
    if kind == "lora_matched":
        shapes = [recurrence_of(mixer).state_shape(mixer) for mixer in find_mixers(model).values()]
        rank = rank_matching(model, sum(heads * keys * values for heads, keys, values in shapes), LoraTuning.targets)
    return [Variant(LoraTuning(n_steps=steps, lr=lr, rank=rank)) for lr, steps in LORA_COURSES]


def run(model_name: str, kind: str) -> dict[str, Any]:
    model, _ = load_model(model_name)
    variants = {f"{kind} {number}": variant for number, variant in enumerate(tried(kind, model))}
    unit = Unit(model_name, variants, split="select", train_problems=POCKET_TRAIN_PROBLEMS)
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        record = run_unit(unit, folder, sandbox=sandbox)
    return {
        "benchmark": "grid",
        "environment": record.environment,
        "task": task_facts(record),
        "model": model_name,
        "kind": kind,
        "problems": list(record.problems),
        "n_examples": {split: examples.n for split, examples in (record.examples or {}).items()},
        "rows": [
            {
                "settings": run.settings,
                "parameters": run.parameters,
                "final_loss": run.training.final_loss if run.training else None,
                "alpha": run.scale.chosen if run.scale else None,
                "select": plain(record.final[name])["pass_at_1"],
                "seconds": seconds_of(record, name),
                **kept(record.answers[name]),
            }
            for name, run in record.variants.items()
        ],
    }


def best(rows: Sequence[Mapping[str, Any]]) -> int:
    """The row that wins."""
    return max(
        range(len(rows)), key=lambda i: (rows[i]["select"]["standard"]["count"], -rows[i]["settings"]["n_steps"])
    )


def winner(model_name: str, kind: str) -> dict[str, Any]:
    """The settings that won, from the record."""
    rows = json.loads(path_of(FOLDER, (model_name, kind)).read_text(encoding="utf-8"))["rows"]
    return from_disk(rows[best(rows)]["settings"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    run_units(UNITS, run, chosen.folder, chosen.jobs)


if __name__ == "__main__":
    main()
