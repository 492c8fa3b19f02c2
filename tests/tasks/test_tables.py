"""What counts as equal in tests of the EvalPlus kind: as Python has it, or floats within a tolerance."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks.code.tables import table_test, without_numpy

Pair = namedtuple("Pair", "a b")
INF, NAN = math.inf, math.nan
BIG = 10**400

EQUAL: list[tuple[Any, Any]] = [
    (1.0, 1.0 + 1e-9),
    (1e300, 1e300 * (1 + 1e-9)),
    (0.0, -0.0),
    (0.0, 1e-7),
    (2.0, 2),
    (2, 2.0),
    (1, True),
    (2.9999999999999996, 3),
    (INF, INF),
    (-INF, -INF),
    ([0.5, INF], [0.5 + 1e-9, INF]),
    ([[0.1], [0.2, [0.3]]], [[0.1], [0.1 + 0.1, [0.1 + 0.2]]]),
    ((0.3, "a"), (0.1 + 0.2, "a")),
    ((0.3, 1), Pair(0.1 + 0.2, 1)),
    ({"a": 0.3}, {"a": 0.1 + 0.2}),
    ({1, 2}, frozenset({2, 1})),
    ({"a": [(0.3,)]}, {"a": [(0.1 + 0.2,)]}),
    ([], []),
    (None, None),
    (0.5, Decimal("0.5")),
    (0.5, Fraction(1, 2)),
    ("a", "a"),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (INF, 5.0),
    (INF, 5),
    (INF, -INF),
    (5.0, INF),
    (-INF, -1e308),
    (INF, NAN),
    (NAN, INF),
    (NAN, 5.0),
    (5.0, NAN),
    (NAN, None),
    (NAN, "nan"),
    (1.0, 1.0 + 1e-5),
    (0.0, 1e-5),
    (0.9999999999, True),
    (1e-9, False),
    (True, 0.9999999999),
    (False, 1e-9),
    (None, 1e-9),
    (1e-9, None),
    ([0.5], (0.5,)),
    ([0.5], (0.5 + 1e-9,)),
    ((0.5,), [0.5 + 1e-9]),
    ([0.5, 0.5], 0.5),
    (0.5, [0.5]),
    ([0.5], [0.5, 0.5]),
    ([0.5, 0.5], [0.5]),
    ([], [1.0]),
    ([1.0], []),
    ([], None),
    ([[0.5]], [[0.6]]),
    ({"a": 0.5}, {"a": 0.6}),
    ({"a": 0.5}, {"b": 0.5}),
    ({"a": 0.5}, {"a": 0.5, "b": 0.5}),
    ({"a": 0.5}, [("a", 0.5 + 1e-9)]),
    ({0.5}, {0.6}),
    ({1}, [1]),
    ("1.0", 1.0),
    (1.0, "1.0"),
    (b"a", "a"),
    (0.3, Decimal("0.3")),
    (1.0, 1.0 + 1e-9j),
]
ONLY_IN_THE_TABLE_DIFFERENT: list[tuple[Any, Any]] = [
    (10**20, 10**20 + 1),
    (3, 3.0000000001),
    ([1, 0.5], [1.0000000001, 0.5]),
]
"""A whole number is right or wrong where the reference gives one; numpy's own tolerance holds for it as well."""


def names_of(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(source, names)
    return names


TABLE = names_of(table_test("line 1", "f", "def f():\n    return RIGHT\n", [[]], 0))
NUMPY = names_of(without_numpy("import numpy as np\n"))["np"]


def of_the_table(right: object, result: object) -> bool:
    TABLE["_names"]["RIGHT"] = right
    return holds(lambda: TABLE["check"](lambda: result))


def of_numpy(right: object, result: object) -> bool:
    return bool(NUMPY.allclose(result, right, rtol=1e-7, atol=1e-6))


def holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("compare", [of_the_table, of_numpy])
@pytest.mark.parametrize(("right", "result"), EQUAL)
def test_equal_or_near_is_right(compare: Callable[[object, object], bool], right: object, result: object) -> None:
    assert compare(right, result)


@pytest.mark.parametrize("compare", [of_the_table, of_numpy])
@pytest.mark.parametrize(("right", "result"), DIFFERENT)
def test_different_is_wrong(compare: Callable[[object, object], bool], right: object, result: object) -> None:
    assert not compare(right, result)


@pytest.mark.parametrize(("right", "result"), ONLY_IN_THE_TABLE_DIFFERENT)
def test_no_tolerance_for_a_whole_number_of_the_references(right: object, result: object) -> None:
    assert not of_the_table(right, result)
    assert of_numpy(right, result)


def test_not_a_number_is_right_where_the_reference_gives_it() -> None:
    assert of_the_table(NAN, float("nan")) and of_the_table([NAN, 1.0], [float("nan"), 1.0])
    assert not of_numpy(NAN, float("nan"))  # numpy's own default


def test_a_number_too_large_for_a_float_is_no_right_answer() -> None:
    with pytest.raises(OverflowError):  # which the checker calls a wrong answer
        of_the_table(1.0, BIG)
    assert not of_the_table(INF, BIG)


def test_assert_allclose_raises_what_numpys_raises() -> None:
    NUMPY.testing.assert_allclose([0.1 + 0.2], [0.3])
    with pytest.raises(AssertionError):
        NUMPY.testing.assert_allclose([0.3], [0.4])


def test_a_reference_may_define_what_looks_its_own_module_up() -> None:
    reference = (
        "from dataclasses import dataclass\n\n@dataclass\nclass P:\n    x: int\n\ndef f(x):\n    return P(x).x\n"
    )
    check = names_of(table_test("line 1", "f", reference, [[3]], 0))["check"]
    assert holds(lambda: check(lambda x: x)) and not holds(lambda: check(lambda x: 4))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_what_python_holds_for_equal_is_right_and_kinds_are_kept(right: Any, result: Any) -> None:
    assert of_the_table(right, right)
    if not of_the_table_or_overflow(right, result):
        assert right != result
    elif not isinstance(right, (int, float)):
        assert isinstance(result, type(right))


def of_the_table_or_overflow(right: object, result: object) -> bool:
    try:
        return of_the_table(right, result)
    except OverflowError:
        return False
