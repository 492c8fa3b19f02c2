"""Trained units as the tools in `method_comparison` of PEFT's repository take them."""

from __future__ import annotations

import json
from pathlib import Path

from s0.study.method_comparison import method_comparison
from s0.study.runner import opened, standing
from s0.study.store import VariantRecord

READ_BY_PEFT = {
    "run_info": {
        "created_at": str,
        "total_time": float,
        "experiment_name": str,
        "peft_branch": str,
        "peft_config": dict,
    },
    "train_info": {
        "accelerator_memory_reserved_avg": int,
        "accelerator_memory_max": int,
        "accelerator_memory_reserved_99th": int,
        "train_time": float,
        "file_size": int,
        "num_trainable_params": int,
        "status": str,
        "metrics": list,
    },
}
"""What its table of results takes of a file, and as what."""


RECORDS = Path(__file__).parents[2] / "benchmarks"


def test_every_trained_unit_is_a_file_with_what_peft_reads() -> None:
    done = standing(*opened(RECORDS / "studies" / "prefix.toml", RECORDS / "results" / "studies"))
    files = method_comparison(done)
    runs = [done.records.get(cell.key) for cell in done.plan.cells]
    trained = [run for run in runs if isinstance(run, VariantRecord) and run.unit.method != "base"]
    assert len(files) == len(trained) > 0
    for name, text in files.items():
        result = json.loads(text)
        for part, fields in READ_BY_PEFT.items():
            for field, kind in fields.items():
                assert isinstance(result[part][field], kind), (name, field)
        (metrics,) = result["train_info"]["metrics"]
        assert 0 <= metrics["test accuracy"] <= 1 and metrics["train loss"] > 0 and metrics["train samples"] > 0
        assert {"step", "train total tokens"} <= metrics.keys()
        assert name == result["run_info"]["experiment_name"].replace("/", "--") + ".json"
        assert {"transformers-version", "peft-version", "torch-version"} <= result["meta_info"]["package_info"].keys()
    kinds = {json.loads(text)["run_info"]["peft_config"]["peft_type"] for text in files.values()}
    assert kinds == {"LORA", "PREFIX_TUNING"}
