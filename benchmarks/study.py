"""The results page: tuning the initial state of the pocket models, beside all it should be held against.

    python benchmarks/study.py [--seeds 10] [--folder benchmarks/results/study] [--jobs 2]

One seed is one sampling of examples; every variant of a seed learns from the same ones and answers the same 240 final
problems greedily. LoRA's initial weights and the wrong contents are drawn with that seed too. Settings are the winners
of grid.py, chosen on the select split; "published" are the paper's. One file per model and seed; those that are there
are not run again. Seven minutes a seed on two cores; `python benchmarks/pages.py` makes the tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from grid import winner
from units import run_units

from s0 import S0Config, load_model, tasks
from s0.bench import CollectSettings, Questions, Variant, collect, environment, run_variant, summary
from s0.core.fingerprint import fingerprint
from s0.examples import examples_sha256
from s0.tasks.sandbox import Sandbox
from s0.tasks.scoring import SCORINGS
from s0.train import LoraTuning, PrefixTuning

FOLDER = Path(__file__).resolve().parent / "results" / "study"
MODELS = ("pocket:gdn", "pocket:mamba2", "pocket:transformer")
SHOTS = 3


def variants_of(model_name: str, seed: int) -> dict[str, Variant]:
    """By name; the untouched model first."""
    lora = Variant(LoraTuning(**{**winner(model_name, "lora"), "seed": seed}))
    few_shot = Variant(shots=SHOTS)
    if model_name == "pocket:transformer":
        prefix = Variant(PrefixTuning(**{**winner(model_name, "prefix"), "seed": seed}))
        return {"base": Variant(), "few_shot": few_shot, "lora_r24": lora, "prefix": prefix}
    s0 = S0Config(**winner(model_name, "s0"))
    return {
        "base": Variant(),
        "s0_auto": Variant(s0),
        "s0_published": Variant(S0Config()),
        "lora_r24": lora,
        "lora_matched": Variant(LoraTuning(**{**winner(model_name, "lora_matched"), "seed": seed})),
        "format_control": Variant(s0, content="wrong", seed=seed),
        "few_shot": few_shot,
    }


def run(model_name: str, seed: int) -> dict[str, Any]:
    model, tokenizer = load_model(model_name)
    task = tasks.load("pocket-code")
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        examples = {
            split: collect(
                model, tokenizer, task, task.split(split), Path(folder) / split,
                CollectSettings(samples=samples, seed=seed), sandbox=sandbox,
            )
            for split, samples in (("train", 16), ("select", 4))
        }  # fmt: skip
        outcomes = {
            name: run_variant(
                name, variant, model, tokenizer, Questions(task, task.split("final")), examples["train"],
                examples["select"], sandbox=sandbox,
            )
            for name, variant in variants_of(model_name, seed).items()
        }  # fmt: skip
    return {
        "benchmark": "study",
        "environment": environment(),
        "model": {"name": model_name, "fingerprint": fingerprint(model)},
        "task": {"name": task.name, "version": task.version, "data_sha256": task.data_sha256},
        "seed": seed,
        "examples": {split: {"n": len(found), "sha256": examples_sha256(found)} for split, found in examples.items()},
        "problems": [problem.id for problem in task.split("final")],
        "variants": {
            name: {
                **outcome.facts,
                "seconds": outcome.seconds,
                "summary": summary(outcome.answers),
                # One character per problem, in the order of `problems`: 1 passed, 0 failed.
                "verdicts": {
                    scoring: "".join(str(int(one.passed[scoring])) for one in outcome.answers) for scoring in SCORINGS
                },
            }
            for name, outcome in outcomes.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    run_units([(model, seed) for seed in range(chosen.seeds) for model in MODELS], run, chosen.folder, chosen.jobs)


if __name__ == "__main__":
    main()
