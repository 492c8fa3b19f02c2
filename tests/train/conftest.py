"""Trainers that many tests look at and none changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s0 import S0Trainer
from tests.breadth import mostly_slow
from tests.train.helpers import FAMILIES, shared


@pytest.fixture(params=mostly_slow(FAMILIES, ["qwen3_5"]))
def active(request: pytest.FixtureRequest) -> Iterator[S0Trainer]:
    """A trained trainer of each family, active during the test."""
    made = shared(request.param)
    made.activate()
    yield made
    made.deactivate()
