"""Trained units as the tools in `method_comparison` of PEFT's repository take them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s0.study.method_comparison import METHOD_COMPARISON, method_comparison
from s0.study.runner import opened, run, standing
from tests.cli.calls import s0
from tests.study.small import Here, written

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


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = written(tmp_path_factory.mktemp("study"))
    study, store = opened(file, file.parent)
    run(standing(study, store), store, Here())
    return file


def test_every_trained_unit_is_a_file_with_what_peft_reads(small: Path) -> None:
    done = standing(*opened(small, small.parent))
    files = method_comparison(done)
    trained = [cell for cell in done.plan.cells if done.plan.variants[cell.key].method != "base"]
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
    assert {json.loads(text)["run_info"]["peft_config"]["peft_type"] for text in files.values()} == {"S0", "LORA"}


def test_a_report_has_them_beside_it_on_request(small: Path, tmp_path: Path) -> None:
    command = ("study", "report", str(small), "--records", str(small.parent), "--method-comparison")
    refused = s0(*command)
    assert refused.returncode == 2 and "expected --out" in refused.stderr
    out = tmp_path / "report"
    assert s0(*command, "--out", str(out)).returncode == 0
    assert any((out / METHOD_COMPARISON).glob("lora--*.json"))
    assert s0(*command, "--out", str(out), "--overwrite").returncode == 0
