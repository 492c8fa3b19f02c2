"""Figures and tables of a study in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from s0.study.tables import Interval

_NO_SPREAD = 1e-9
"""Below this an interval is a point."""


def in_cells(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def heads(names: Sequence[str]) -> list[str]:
    """The first two lines of a table with these columns."""
    return [in_cells(names), "|" + "---|" * len(names)]


def points(interval: Interval, sign: str = "") -> str:
    """A mean with its interval, where it has one."""
    return f"{interval[0]:{sign}.1f}{spread(interval, sign)}"


def spread(interval: Interval, sign: str = "+") -> str:
    """The interval alone; nothing where it is a point."""
    _, low, high = interval
    return f" [{low:{sign}.1f}, {high:{sign}.1f}]" if high - low > _NO_SPREAD else ""


def p_value(value: float | None, tested: Interval) -> str:
    """A p-value; a test of differences that are all the same says nothing."""
    _, low, high = tested
    return "-" if value is None or high - low < _NO_SPREAD else f"{value:.1g}"
