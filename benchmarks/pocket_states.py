"""The states that ship with the pocket models: what the study's first seed learns of pocket-code, in a folder each.

    python benchmarks/pocket_states.py [--study benchmarks/results/study]

They are written to where `s0.models.shipped_states` looks, with the record of what each has gained beside it, once
their answers to the 240 final problems are those that the study has recorded. Two minutes on two cores; settings and
the study are `make study`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from study import FOLDER, variants_of
from units import kept, path_of

from s0.bench import Variant
from s0.files import write_files
from s0.models import POCKET_MODELS, STATES_FOLDER
from s0.study import POCKET_TRAIN_PROBLEMS, Unit, run_unit
from s0.tasks.sandbox import Sandbox

MODELS = ("pocket:gdn", "pocket:mamba2")
TASK, SEED, VARIANT = "pocket-code", 0, "s0_auto"


def make(model_name: str, recorded: dict[str, Any]) -> Path:
    variant = variants_of(model_name, SEED)[VARIANT]
    variants = {"base": Variant(), VARIANT: variant}
    unit = Unit(model_name, variants, task=TASK, seed=SEED, train_problems=POCKET_TRAIN_PROBLEMS)
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        record = run_unit(unit, folder, sandbox=sandbox)
        written = [*sorted(Path(folder, VARIANT).iterdir()), Path(folder, "record.json")]
        files = {path.name: path.read_bytes() for path in written}
    if kept(record.answers[VARIANT])["completions"] != recorded["completions"]:
        raise SystemExit(f"expected of {model_name} the answers that the study has recorded, got others; `make study`")
    out = POCKET_MODELS[model_name] / STATES_FOLDER / TASK
    write_files(out, files)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for model_name in MODELS:
        record = json.loads(path_of(chosen.study, (model_name, SEED)).read_text(encoding="utf-8"))
        print(make(model_name, record["variants"][VARIANT]))


if __name__ == "__main__":
    main()
