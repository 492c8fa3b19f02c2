"""Records: everything needed to check a number, or to make it again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from s0.files import write_text

_PACKAGES = ("s0-tuning", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """When and on what a record was made: UTC time, package versions, Python, platform, device, threads."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu_threads": torch.get_num_threads(),
    }


def write_record(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON: under a temporary name first, then renamed."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
