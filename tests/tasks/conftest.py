"""One sandbox per backend of this machine, and the real HumanEval file where it is at hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s0.tasks.sandbox import UNSAFE, Limits, Sandbox, backends
from s0.tasks.sandbox.launch import LINUX_BACKENDS
from tests.tasks.real_data import data_path

BACKENDS_OF_THIS_SYSTEM = LINUX_BACKENDS if sys.platform == "linux" else ("sandbox-exec",)
"""The strongest first. Weaker ones are tried where everything is: `make test-slow`."""
STRONGEST, *WEAKER = BACKENDS_OF_THIS_SYSTEM


@pytest.fixture(scope="session", params=[STRONGEST, *(pytest.param(name, marks=pytest.mark.slow) for name in WEAKER)])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    trouble = backends.trouble_with(request.param)
    if trouble is not None:
        pytest.skip(f"{request.param} does not work on this machine: {trouble}")
    with Sandbox(request.param, limits=Limits(timeout_s=0.2)) as opened:
        yield opened


@pytest.fixture(scope="session")
def any_sandbox() -> Iterator[Sandbox]:
    """The strongest backend, for tests in which the backend does not matter."""
    with Sandbox(limits=Limits(timeout_s=10.0)) as opened:
        yield opened


@pytest.fixture(scope="session")
def no_sandbox() -> Iterator[Sandbox]:
    """The defences removed: what must fail elsewhere succeeds here, so the tests have teeth."""
    with Sandbox(UNSAFE, limits=Limits(timeout_s=0.2)) as opened:
        yield opened


@pytest.fixture(scope="session")
def humaneval_file() -> Path:
    return data_path("humaneval/HumanEval.jsonl.gz")
