"""The states that ship with the pocket models: what the study's first seed learns of pocket-code, in a folder each.

    python benchmarks/pocket_states.py

They are written to where `s0.models.shipped_states` looks, with the record of what each has gained beside it, once
their answers to the 240 final problems are those that the study has recorded. Two minutes on two cores; settings and
the study are `make study`'s.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from study_tables import answers_in, recorded

from s0.bench import Variant
from s0.files import write_files
from s0.models import POCKET_MODELS, STATES_FOLDER
from s0.record import compressed
from s0.study import POCKET_TRAIN_PROBLEMS, Experiment, run_experiment
from s0.study.store import VariantRecord
from s0.tasks.sandbox import Sandbox

MODELS = ("pocket:gdn", "pocket:mamba2")
TASK, SEED, VARIANT = "pocket-code", 0, "s0_auto"


def make(model_name: str, known: VariantRecord) -> Path:
    variants = {"base": Variant(), VARIANT: known.unit.variant}
    experiment = Experiment(model_name, variants, task=TASK, seed=SEED, train_problems=POCKET_TRAIN_PROBLEMS)
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        record = run_experiment(experiment, folder, sandbox=sandbox)
        written = [*sorted(Path(folder, VARIANT).iterdir()), Path(folder, "record.json")]
        files = {path.name: path.read_bytes() for path in written}
    completions = compressed([answer.completion for answer in record.answers[VARIANT]])
    if completions != answers_in(known).completions:
        raise SystemExit(f"expected of {model_name} the answers that the study has recorded, got others; `make study`")
    out = POCKET_MODELS[model_name] / STATES_FOLDER / TASK
    write_files(out, files)
    return out


def main() -> None:
    torch.set_num_threads(1)
    for model_name in MODELS:
        print(make(model_name, recorded("main", VARIANT, model_name, TASK, SEED)))


if __name__ == "__main__":
    main()
