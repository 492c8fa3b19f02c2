"""Which cases of many the default run takes: some of each kind. `make test-slow` takes the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Values of a parameter, all but the quick ones marked slow.

    Args:
        cases: every value; where several parameters go together, a tuple of theirs.
        quick: those of the default run, each one of the cases.
    """
    every = list(cases)
    assert all(case in every for case in quick), quick
    return [case if case in quick else _slow(case) for case in every]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
