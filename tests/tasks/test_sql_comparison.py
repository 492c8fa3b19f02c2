"""When two results are the same table, against trying every order of the columns."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0.tasks.sql.comparison import Row, same_table

CELLS = st.sampled_from([None, 0, 1, 2, 1.0, "1", "a", b"a"])


@st.composite
def pairs_of_tables(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Two tables of one width: unrelated, or one shuffled and perhaps changed in one cell or in one column's order."""
    width = draw(st.integers(1, 4))
    table = st.lists(st.tuples(*[CELLS] * width), max_size=6)
    first = draw(table)
    if not first or draw(st.booleans()):
        return first, draw(table)
    columns = draw(st.permutations(range(width)))
    second = [[row[column] for column in columns] for row in draw(st.permutations(first))]
    change = draw(st.sampled_from(["none", "cell", "order"]))
    if change == "cell":
        second[0][0] = draw(CELLS)
    elif change == "order":
        for row, cell in zip(second, draw(st.permutations([row[0] for row in second])), strict=True):
            row[0] = cell
    return first, [tuple(row) for row in second]


def by_every_order(expected: list[Row], got: list[Row], ordered: bool) -> bool:
    if not expected or not got:
        return len(expected) == len(got)
    for columns in itertools.permutations(range(len(expected[0]))):
        moved = [tuple(row[column] for column in columns) for row in got]
        if moved == expected if ordered else Counter(moved) == Counter(expected):
            return True
    return False


@settings(max_examples=200)
@given(pairs_of_tables(), st.booleans())
def test_as_by_trying_every_order(tables: tuple[list[Row], list[Row]], ordered: bool) -> None:
    assert same_table(*tables, ordered) == by_every_order(*tables, ordered)


@pytest.mark.parametrize("ordered", [False, True])
def test_columns_may_stand_in_any_order_but_hold_together(ordered: bool) -> None:
    expected: list[Row] = [("Ada", 31), ("Ben", 25)]
    assert same_table(expected, [(31, "Ada"), (25, "Ben")], ordered)
    assert not same_table(expected, [("Ada", 25), ("Ben", 31)], ordered)


@pytest.mark.parametrize("ordered", [False, True])
def test_every_column_stands_for_one(ordered: bool) -> None:
    twice_a: list[Row] = [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)]
    twice_b: list[Row] = [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1)]
    assert same_table(twice_a, twice_a, ordered)
    assert not same_table([row[:2] for row in twice_a], [row[1:] for row in twice_a], ordered)
    assert same_table(twice_a, twice_b, ordered) == (not ordered)


def test_rows_count_as_often_as_they_occur() -> None:
    assert same_table([(1,), (1,), (2,)], [(2,), (1,), (1,)], ordered=False)
    assert not same_table([(1,), (1,), (2,)], [(1,), (2,), (2,)], ordered=False)
    assert not same_table([(1,), (1,)], [(1,)], ordered=False)


def test_order_counts_only_where_it_is_asked_for() -> None:
    assert same_table([(1,), (2,)], [(2,), (1,)], ordered=False)
    assert not same_table([(1,), (2,)], [(2,), (1,)], ordered=True)


SAME = [(1, 1.0), (0.1 + 0.2, 0.3), (2, 2.0000000000000004), (float("inf"), float("inf")), (0.0, -0.0), (None, None)]
OTHER = [
    (1, "1"),
    ("a", b"a"),
    ("a", "A"),
    ("a", "a "),
    (None, 0),
    (None, ""),
    (None, "None"),
    (0.3, 0.3000001),
    (1e-12, 0.0),
    (2**60, 2**60 + 1),
    (9007199254740993, 9007199254740992),
    (float("inf"), 1e308),
    ("\udcff", "\udcfe"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_equal_cells(one: object, two: object) -> None:
    assert same_table([(one,)], [(two,)], ordered=False)  # type: ignore[arg-type]
    assert same_table([(two, 1)], [(one, 1)], ordered=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_different_cells(one: object, two: object) -> None:
    for ordered in (False, True):
        assert not same_table([(one,)], [(two,)], ordered)  # type: ignore[arg-type]
        assert not same_table([(one, 0.5)], [(two, 0.5)], ordered)  # type: ignore[arg-type]


def test_rounding_is_the_same_wherever_it_falls() -> None:
    """Two cells that differ by rounding in one result and not in the other."""
    near = 0.1 + 0.2
    assert same_table([(0.3, "a"), (near, "b")], [(near, "a"), (0.3, "b")], ordered=False)
    assert same_table([(0.3,), (near,)], [(near,), (near,)], ordered=False)


def test_no_chain_of_close_numbers_joins_distant_ones() -> None:
    step = 0.8e-9
    expected: list[Row] = [(1.0,), (1.0 + step,), (1.0 + 2 * step,), (1.0 + 3 * step,)]
    assert not same_table(expected, [(1.0,)] * 4, ordered=False)


def test_a_float_between_does_not_join_two_integers() -> None:
    whole = 2**53
    expected: list[Row] = [(whole, 0.5), (float(whole), 0.5)]
    assert not same_table([*expected, (whole + 1, 0.5)], [*expected, (whole + 2, 0.5)], ordered=False)


@pytest.mark.parametrize("columns", [12, 40])
def test_many_alike_columns_are_told_apart(columns: int) -> None:
    """Every column holds as many ones; their orders are 12! or 40!."""
    chance = random.Random(0)
    made = [chance.sample([0] * 15 + [1] * 15, 30) for _ in range(columns)]
    rows = list(zip(*made, strict=True))
    order = chance.sample(range(columns), columns)
    moved = [[row[column] for column in order] for row in chance.sample(rows, 30)]
    assert same_table(rows, [tuple(row) for row in moved], ordered=False)
    one, zero = (next(number for number, row in enumerate(moved) if row[5] == bit) for bit in (1, 0))
    moved[one][5], moved[zero][5] = 0, 1
    assert not same_table(rows, [tuple(row) for row in moved], ordered=False)


def test_equal_columns_are_tried_once() -> None:
    """Thirty columns of the same cells in the same rows, and a last one that fits nowhere."""
    rows: list[Row] = [(*[bit] * 30, 0, 1 - bit) for bit in (0, 1, 0, 1)]
    other: list[Row] = [(*[bit] * 30, 0, odd) for bit, odd in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert same_table(rows, rows, ordered=False)
    assert not same_table(rows, other, ordered=False)
