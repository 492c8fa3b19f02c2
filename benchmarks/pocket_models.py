"""The pocket models on every pocket task: untouched, and with a state tuned on what `s0 collect` keeps.

    python benchmarks/pocket_models.py [--folder benchmarks/results/pocket] [--jobs 2]

Examples come from the train split, the state's scale from the select split; both variants answer the 240 final problems
greedily and sixteen times each by sampling. The other settings are those that grid.py chose for pocket-code. Untouched
only: the model without recurrent layers. One file per model and task; those that are there are not run again. A quarter
of an hour on two cores; the models were made by `make pocket`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from grid import winner
from units import kept, run_units

from s0 import S0Config, load_model, tasks
from s0.adapter.fingerprint import fingerprint
from s0.bench import (
    CollectSettings,
    Questions,
    Samples,
    Variant,
    collect,
    evaluation_record,
    run_variant,
)
from s0.examples import examples_sha256
from s0.models import POCKET_MODELS
from s0.record import Model, plain
from s0.tasks.sandbox import Sandbox

FOLDER = Path(__file__).resolve().parent / "results" / "pocket"
TASKS = ("pocket-code", "pocket-math", "pocket-sql")
N_SAMPLES = 16


def run(model_name: str, task_name: str) -> dict[str, Any]:
    model, tokenizer = load_model(model_name)
    task = tasks.load(task_name)
    variants = {"base": Variant()}
    if model_name != "pocket:transformer":
        variants["s0"] = Variant(S0Config(**winner(model_name, "s0")))
    questions = Questions(task, task.split("final"), samples=Samples(N_SAMPLES))
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        examples, drawn = {}, {}
        for split, samples in (("train", 16), ("select", 4)):

            def told(_: int, note: str, split: str = split) -> None:
                drawn[split] = note

            examples[split] = collect(
                model, tokenizer, task, task.split(split), Path(folder) / f"{split}.jsonl",
                CollectSettings(samples=samples), sandbox=sandbox, on_done=told,
            )  # fmt: skip
        outcomes = {
            name: run_variant(
                name, variant, model, tokenizer, questions, examples["train"], examples["select"], sandbox=sandbox
            )
            for name, variant in variants.items()
        }
    base = Model(model_name, fingerprint(model))
    record = plain(evaluation_record("pocket_models", base, questions, outcomes, sandbox))
    del record["answers"], record["sampled"]["answers"]
    return {
        **record,
        "benchmark": "pocket_models",
        "problems": list(record["problems"]),
        "greedy": {name: kept(outcome.answers) for name, outcome in outcomes.items()},
        "drawn": {name: kept(outcome.sampled) for name, outcome in outcomes.items()},
        "weights": model.num_parameters(),
        "examples": {
            split: {"n": len(found), "of": drawn[split], "sha256": examples_sha256(found)}
            for split, found in examples.items()
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
