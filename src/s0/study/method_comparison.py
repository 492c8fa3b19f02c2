"""Units in the form of the results in `method_comparison` of PEFT's repository, which its own tools tabulate.

What a unit does not record is 0 where PEFT reads a number (memory), and null elsewhere; the size of a file is that of
the trained numbers in float32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from s0.study.runner import Standing
from s0.study.store import VariantRecord

_BYTES_OF_A_NUMBER = 4
_PEFT_TYPES: Mapping[str, str | None] = {
    "prefix": "PREFIX_TUNING",
    "gains": "LN_TUNING",
    "full": None,
}
"""What PEFT calls its methods; full fine-tuning has no config there. The others go by our name, in capitals."""


def method_comparison(standing: Standing) -> dict[str, bytes]:
    """The trained units of a study that are done.

    Args:
        standing: how far it is.

    Returns:
        a JSON file each, by name; a unit in several places of the study is there once for each.
    """
    files = {}
    for cell in standing.plan.cells:
        record = standing.records.get(cell.key)
        if isinstance(record, VariantRecord) and record.run.training:
            amount = "" if cell.amount.n is None else f"-{cell.amount.n}-draw{cell.draw}"
            name = f"{cell.variant}-{cell.model}-{cell.task}{amount}-seed{cell.seed}"
            for asked in record.answered:
                experiment = f"{record.unit.method}/{_plain(f'{standing.study.name}-{name}-{asked}')}"
                text = json.dumps(_result(record, asked, experiment), indent=2) + "\n"
                files[f"{experiment.replace('/', '--')}.json"] = text.encode()
    return files


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", name)


def _result(record: VariantRecord, asked: str, experiment: str) -> dict[str, Any]:
    run, versions = record.run, record.environment.get("versions", {})
    training: Mapping[str, Any] = msgspec.to_builtins(run.training)
    answered = record.answered[asked]
    settings = dict(run.settings or {})
    n_parameters = run.parameters or 0
    seconds = record.seconds or 0.0
    metrics = {
        "step": settings.get("n_steps"),
        "test accuracy": answered.summary.pass_at_1.standard.value,
        "train loss": training.get("final_loss"),
        "train samples": training.get("n_examples", 0) * settings.get("n_steps", 0),
        "train total tokens": 0,
    }
    return {
        "run_info": {
            "created_at": record.environment.get("time"),
            "total_time": seconds + (answered.seconds or 0.0),
            "experiment_name": experiment,
            "peft_branch": f"s0-tuning {versions.get('s0-tuning', '')}".strip(),
            "train_config": {"model_id": record.model.name, "dtype": record.model.dtype, "task": asked, **settings},
            "peft_config": _peft_config(record.unit.method, settings),
            "error_msg": "",  # PEFT's table wants numbers, so what nobody measured is 0 there; see `not_measured`
            "not_measured": ["accelerator_memory_*", "train total tokens", "num_total_params"],
        },
        "train_info": {
            "accelerator_memory_reserved_avg": 0,
            "accelerator_memory_max": 0,
            "accelerator_memory_reserved_99th": 0,
            "train_time": seconds,
            "file_size": n_parameters * _BYTES_OF_A_NUMBER,
            "num_trainable_params": n_parameters,
            "num_total_params": None,
            "status": "success",
            "metrics": [metrics],
        },
        "meta_info": {
            "model_info": {"sha": record.model.fingerprint, "created_at": None},
            "dataset_info": {asked: {"sha": answered.task.data_sha256, "created_at": None}},
            "package_info": {
                f"{package}-version": versions.get(package)
                for package in ("transformers", "peft", "torch", "datasets", "bitsandbytes", "s0-tuning")
            },
            "system_info": {name: record.environment.get(name) for name in ("platform", "python", "device")},
        },
    }


def _peft_config(method: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    peft_type = _PEFT_TYPES.get(method, method.upper())
    return None if peft_type is None else {"peft_type": peft_type, **settings}
