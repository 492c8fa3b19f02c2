"""Whether two results are the same table.

The official metric (Spider's test suites, Zhong et al. 2020) takes two results for equal if some order of the columns
makes them equal as multisets of rows, or as lists where the gold query has the words "order by" anywhere. So does
this, and differs where that is loose or blind:

- Rows are compared in order only where the gold query's outermost level sorts (`tokens.is_ordered`).
- Two empty results must have the same number of columns; there any two are equal.
- Numbers are equal within a relative 1e-9 if either is a float (sums depend on the order of the rows); there exactly.
- Text that is no UTF-8 keeps its bytes; there they are dropped, which can make two texts equal.
- DISTINCT stays in the query (there it is taken out of both unless `--keep_distinct` is given), as do the
  values it compares with (there `--plug_value` can replace them by the gold query's), and `> =` is not repaired.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeAlias

Cell: TypeAlias = "int | float | str | bytes | None"
Row: TypeAlias = "tuple[Cell, ...]"
Column: TypeAlias = "tuple[Cell, ...]"

_RELATIVE = 1e-9


def same_table(expected: Sequence[Row], got: Sequence[Row], ordered: bool) -> bool:
    """Whether an order of the columns makes `got` equal to `expected`; the rows of both are equally wide.

    Args:
        expected: rows of the gold query.
        got: rows of the answer.
        ordered: whether the order of the rows counts.
    """
    if len(expected) != len(got):
        return False
    if not expected:
        return True
    one_for_close = _one_for_close([*expected, *got])
    wanted = [tuple(one_for_close.get(cell, cell) for cell in column) for column in zip(*expected, strict=True)]
    offered = [tuple(one_for_close.get(cell, cell) for cell in column) for column in zip(*got, strict=True)]
    if ordered:
        return Counter(wanted) == Counter(offered)
    return _some_order_matches(wanted, offered)


def _one_for_close(rows: Sequence[Row]) -> dict[Cell, Cell]:
    """For every number the smallest of those it is close to, so that close numbers become equal.

    None is moved by more than the tolerance, and two different integers never become one.
    """
    numbers = {cell for row in rows for cell in row if isinstance(cell, (int, float))}
    if not any(isinstance(number, float) for number in numbers):
        return {}
    moved: dict[Cell, Cell] = {}
    smallest: float = math.nan  # close to nothing
    has_integer = False
    for number in sorted(numbers):
        integer = isinstance(number, int)
        if not math.isclose(number, smallest, rel_tol=_RELATIVE) or (integer and has_integer):
            smallest, has_integer = number, False
        has_integer |= integer
        moved[number] = smallest
    return moved


def _some_order_matches(wanted: list[Column], offered: list[Column]) -> bool:
    """Find the columns' order one column at a time.

    An offered column can stand for a wanted one only if both hold the same cells, and only if the rows made of the
    columns placed so far are the same in number and kind on both sides. That leaves next to no choice on real
    tables; on tables made to be hard the search is exponential (the problem is graph isomorphism), and the
    processor's time limit ends it.
    """
    by_cells: dict[frozenset[tuple[Cell, int]], list[int]] = defaultdict(list)
    for number, column in enumerate(offered):
        by_cells[frozenset(Counter(column).items())].append(number)
    candidates = [by_cells[frozenset(Counter(column).items())] for column in wanted]
    order = sorted(range(len(wanted)), key=lambda number: len(candidates[number]))
    start = [0] * len(wanted[0])

    def place(depth: int, taken: frozenset[int], rows_wanted: list[int], rows_offered: list[int]) -> bool:
        if depth == len(order):
            return True
        kinds: dict[tuple[int, Cell], int] = {}
        longer = _numbered(rows_wanted, wanted[order[depth]], kinds)
        tried: set[Column] = set()
        for number in candidates[order[depth]]:
            column = offered[number]
            if number in taken or column in tried:
                continue
            tried.add(column)
            other = _numbered(rows_offered, column, kinds)
            if Counter(longer) == Counter(other) and place(depth + 1, taken | {number}, longer, other):
                return True
        return False

    return place(0, frozenset(), start, start)


def _numbered(rows: list[int], column: Column, kinds: dict[tuple[int, Cell], int]) -> list[int]:
    """Every row with one more cell, as a number that equal rows share."""
    return [kinds.setdefault(key, len(kinds)) for key in zip(rows, column, strict=True)]
