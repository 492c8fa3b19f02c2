"""One sandbox per backend of this machine, and the real HumanEval file where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s0.tasks.sandbox import BACKENDS, UNSAFE, Sandbox, backends


@pytest.fixture(scope="session", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    trouble = backends.trouble_with(request.param)
    if trouble is not None:
        pytest.skip(f"{request.param} does not work on this machine: {trouble}")
    with Sandbox(request.param, timeout_s=1.0) as opened:
        yield opened


@pytest.fixture(scope="session")
def any_sandbox() -> Iterator[Sandbox]:
    """The strongest backend, for tests in which the backend does not matter."""
    with Sandbox(timeout_s=10.0) as opened:
        yield opened


@pytest.fixture(scope="session")
def no_sandbox() -> Iterator[Sandbox]:
    """The defences removed: what must fail elsewhere succeeds here, so the tests have teeth."""
    with Sandbox(UNSAFE, timeout_s=1.0) as opened:
        yield opened


@pytest.fixture(scope="session")
def humaneval_file() -> Path:
    folder = os.environ.get("S0_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(folder, "humaneval", "HumanEval.jsonl.gz")
    if not path.exists():
        pytest.skip(f"the HumanEval file is not at {path}; S0_DATA_DIR names the folder that holds humaneval/")
    return path
