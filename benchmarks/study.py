"""The results page: tuning the initial state of the pocket models, beside all it should be held against.

    python benchmarks/study.py [--seeds 10] [--folder benchmarks/results/study] [--jobs 2]

One seed is one sampling of examples; every variant of a seed learns from the same ones and answers the same 240 final
problems greedily. LoRA's initial weights and the wrong contents are drawn with that seed too. Settings are the winners
of grid.py, chosen on the select split; "published" are the paper's. One file per model and seed, with every completion;
those that are there are not run again. Seven minutes a seed on two cores; `python benchmarks/pages.py` makes tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from grid import winner
from units import kept, run_units, seconds_of, task_facts

from s0 import S0Config
from s0.bench import Variant
from s0.examples import Example, examples_sha256, read_examples
from s0.record import compressed, plain
from s0.study import POCKET_TRAIN_PROBLEMS, Unit, examples_file, run_unit
from s0.tasks.sandbox import Sandbox
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
    unit = Unit(model_name, variants_of(model_name, seed), seed=seed, train_problems=POCKET_TRAIN_PROBLEMS)
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        record = run_unit(unit, folder, sandbox=sandbox)
        examples = {split: read_examples(examples_file(folder, split)) for split in ("train", "select")}
    return {
        "benchmark": "study",
        "environment": record.environment,
        "model": plain(record.model),
        "task": task_facts(record),
        "seed": seed,
        "examples": {split: examples_facts(verified) for split, verified in examples.items()},
        "problems": list(record.problems),
        "variants": {
            name: {
                **plain(run),
                "seconds": seconds_of(record, name),
                "summary": plain(record.final[name]),
                **kept(record.answers[name]),
            }
            for name, run in record.variants.items()
        },
    }


def examples_facts(examples: Sequence[Example]) -> dict[str, Any]:
    """All of them passed: who changes the judge can see whether they still do."""
    return {
        "n": len(examples),
        "sha256": examples_sha256(examples),
        "problems": [example.provenance["problem"] for example in examples],
        "completions": compressed([example.completion for example in examples]),
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
