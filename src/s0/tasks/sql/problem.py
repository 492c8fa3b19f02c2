"""A question about a database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s0.tasks.problem import Problem


@dataclass(frozen=True)
class SqlProblem(Problem):
    """A question that one query answers; the prompt ends in `SELECT`.

    Attributes:
        databases: SQLite files of one schema; the answer must be right on every one.
        gold: a query that is right by definition.
        ordered: whether the order of the rows matters: the gold query sorts at its outermost level.
    """

    databases: tuple[Path, ...]
    gold: str
    ordered: bool
