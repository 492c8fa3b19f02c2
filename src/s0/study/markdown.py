"""Figures and tables of a study in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from s0.study.tables import Interval


def in_cells(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def heads(names: Sequence[str]) -> list[str]:
    """The first two lines of a table with these columns."""
    return [in_cells(names), "|" + "---|" * len(names)]


def points(interval: Interval, sign: str = "") -> str:
    """A mean with its interval, where it has one."""
    return f"{interval[0]:{sign}.1f}{spread(interval, sign)}"


def spread(interval: Interval | None, sign: str = "+") -> str:
    """The interval alone, behind a space; nothing where it is a point, or there is none."""
    if interval is None or interval[1] == interval[2]:
        return ""
    return f" [{interval[1]:{sign}.1f}, {interval[2]:{sign}.1f}]"


def p_value(value: float | None) -> str:
    """A p-value, or a dash where nothing was tested."""
    return "-" if value is None else f"{value:.1g}"
