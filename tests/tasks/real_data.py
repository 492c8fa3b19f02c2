"""The real benchmark files, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_path(name: str) -> Path:
    """A file or folder of the real benchmarks; where there is none, the test is skipped."""
    folder = os.environ.get("S0_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(folder, name)
    if not path.exists():
        pytest.skip(f"the real data is not at {path}; S0_DATA_DIR names the folder that holds {name}")
    return path
