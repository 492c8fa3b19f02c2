"""The pocket corpora by the names of their tasks."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.pocket import code, queries, sums
from benchmarks.pocket.habits import Problem

CORPORA: dict[str, Callable[[random.Random], Problem]] = {
    "pocket-code": code.draw,
    "pocket-math": sums.draw,
    "pocket-sql": queries.draw,
}
"""Each draws one problem."""
