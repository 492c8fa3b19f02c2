"""The pocket models on every pocket task: untouched, and with a state tuned on what `s0 collect` keeps.

    python benchmarks/pocket_models.py [--folder benchmarks/results/pocket] [--jobs 2]

Examples come from the first 96 train problems, the state's scale from the select split; both variants answer the 240
final problems greedily and sixteen times each by sampling. The other settings are those that grid.py chose for
pocket-code. Untouched only: the model without recurrent layers. One file per model and task; those that are there are
not run again. A quarter of an hour on two cores; the models were made by `make pocket`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from grid import winner
from units import kept, run_units

from s0 import S0Config, load_model
from s0.bench import Samples, Variant
from s0.models import POCKET_MODELS
from s0.progress import Advance
from s0.record import plain
from s0.study import POCKET_TRAIN_PROBLEMS, Unit, run_unit
from s0.tasks.sandbox import Sandbox

FOLDER = Path(__file__).resolve().parent / "results" / "pocket"
TASKS = ("pocket-code", "pocket-math", "pocket-sql")
N_SAMPLES = 16


def run(model_name: str, task_name: str) -> dict[str, Any]:
    model, _ = load_model(model_name)
    variants = {"base": Variant()}
    if model_name != "pocket:transformer":
        variants["s0"] = Variant(S0Config(**winner(model_name, "s0")))
    unit = Unit(model_name, variants, task_name, train_problems=POCKET_TRAIN_PROBLEMS, drawn=Samples(N_SAMPLES))
    notes: dict[str, str] = {}

    @contextmanager
    def noted(name: str, total: int | None) -> Iterator[Advance]:
        yield lambda count, note="", **_: notes.update({name: note})

    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        record = run_unit(unit, folder, stage=noted, sandbox=sandbox)
    assert record.sampled is not None and record.examples
    fields = plain(record)
    del fields["answers"], fields["sampled"]["answers"]
    return {
        **fields,
        "kind": "pocket_models",
        "benchmark": "pocket_models",
        "problems": list(record.problems),
        "greedy": {name: kept(answers) for name, answers in record.answers.items()},
        "drawn": {name: kept(answers) for name, answers in record.sampled.answers.items()},
        "weights": model.num_parameters(),
        "examples": {
            split: {"n": examples.n, "of": notes[f"collect {split}"], "sha256": examples.sha256}
            for split, examples in record.examples.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    units = [(model, task) for task in TASKS for model in POCKET_MODELS]
    run_units(units, run, chosen.folder, chosen.jobs)


if __name__ == "__main__":
    main()
