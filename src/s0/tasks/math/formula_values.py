r"""Whether formulas have the same value: at 50 digits, at several values of their variables.

A difference is compared with the size of the number, and never with a rounded zero: `math_verify` takes 1/2004! for
1/2006! and 10^{-20} for 10^{-21}. A value of which no digit is certain is no value. A decimal number passes for a
formula that it is rounded from, from six places on.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import sympy

from s0.tasks.math.formula import read

_DIGITS = 50
_TOLERANCE = sympy.Float("1e-40", _DIGITS)
_PLACES = 6
"""How many digits a decimal number must have, all in all and after the point, to pass for what it is rounded from."""
_N_POINTS, _N_POSITIVE = 4, 2
_N_WHOLE = 1
"""More points where all variables are whole numbers, for formulas that are rounded there."""
_FAR = (-1000, -10, 10, 1000)
"""More points so far from zero, for formulas that change at some place: |x - 3| is 3 - x at all small numbers."""
_DECIMAL = re.compile(r"\s*-?\s*(?:\d+\.?(?P<places>\d*)|\.(?P<only>\d+))\s*")


def same_value(first: Any, second: Any) -> bool | None:
    """Whether two formulas have the same value at every point; None where one has none, or only some are the same."""
    if isinstance(first, sympy.MatrixBase) or isinstance(second, sympy.MatrixBase):
        return _same_matrix(first, second)
    if not isinstance(first, sympy.Expr) or not isinstance(second, sympy.Expr):
        return None
    if first.is_infinite or second.is_infinite:
        return bool(first == second) and first in (sympy.oo, -sympy.oo)
    steps = first.has(sympy.floor, sympy.ceiling) or second.has(sympy.floor, sympy.ceiling)
    verdicts = []
    for point in range(_N_POINTS + _N_WHOLE if steps else _N_POINTS):
        left, right = value_at(first, point), value_at(second, point)
        verdicts.append(None if left is None or right is None else _close(left, right))
    if False in verdicts[:_N_POSITIVE] or False in verdicts[_N_POINTS:]:
        return False
    far = (_far_values(formula) for formula in (first, second)) if _bends(first) or _bends(second) else ((), ())
    differ = any(None not in pair and not _close(*pair) for pair in zip(*far, strict=True))
    return True if all(verdicts) and not differ else None


def _bends(formula: sympy.Expr) -> bool:
    """Whether one of two formulas can stand for it to the left of some place and the other to the right."""
    roots = (power.exp for power in formula.atoms(sympy.Pow) if not power.base.is_number)
    return formula.has(sympy.Abs, sympy.Max, sympy.Min) or any(
        exponent.is_Rational and not exponent.is_Integer for exponent in roots
    )


def _far_values(formula: sympy.Expr) -> list[Any]:
    return [value_at(formula, 0, scale) for scale in _FAR]


def _same_matrix(first: Any, second: Any) -> bool | None:
    if (
        not (isinstance(first, sympy.MatrixBase) and isinstance(second, sympy.MatrixBase))
        or first.shape != second.shape
    ):
        return False
    entries = [same_value(*pair) for pair in zip(first, second, strict=True)]
    return False if False in entries else None if None in entries else True


def is_rounding(decimal: str, formula: str) -> bool:
    """Whether `decimal` is a number with enough digits that the value of a formula, no decimal itself, rounds to."""
    match = _DECIMAL.fullmatch(decimal)
    if match is None or _DECIMAL.fullmatch(formula):
        return False
    places = len(match["places"] or match["only"] or "")
    digits = decimal.strip().lstrip("-0. ").replace(".", "")
    exact, rounded = read(formula), read(decimal)
    value = value_at(exact, 0) if isinstance(exact, sympy.Expr) and not exact.free_symbols else None
    if min(places, len(digits)) < _PLACES or value is None or rounded is None or not value.is_real:
        return False
    return bool(abs(value - rounded) * 2 <= sympy.Rational(1, 10**places))


def proportion(first: Any, second: Any, *, positive: bool = False) -> bool:
    """Whether one formula is the other times a number, the same at every point and not zero."""
    if not isinstance(first, sympy.Expr) or not isinstance(second, sympy.Expr):
        return False
    ratios = [_quotient(value_at(first, point), value_at(second, point)) for point in range(_N_POINTS)]
    if _bends(first) or _bends(second):
        ratios += map(_quotient, _far_values(first), _far_values(second))
    if None in ratios or not all(_close(ratio, ratios[0]) for ratio in ratios):
        return False
    return not positive or bool(ratios[0].is_real and ratios[0] > 0)


def _quotient(first: Any, second: Any) -> Any:
    return None if first is None or second is None or first == 0 or second == 0 else first / second


def value_at(formula: Any, point: int, scale: int = 1) -> Any:
    """The number a formula gives at one of several points: every variable has a value of its own; None without one."""
    coordinates = {symbol: scale * _coordinate(symbol.name, point) for symbol in formula.free_symbols}
    try:
        exact = formula.subs(coordinates).doit()
        value = exact if exact.is_Rational else exact.evalf(_DIGITS)  # 100! has more digits than that
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    if any(part._prec == 1 for part in value.atoms(sympy.Float)):
        return None  # so close to zero that no digit is certain
    return value


def _coordinate(name: str, point: int) -> Any:
    """Between 0.3 and 2.3, at the first points; at the others of either sign; whole numbers at the last."""
    drawn = zlib.crc32(f"{point} {name}".encode())
    if point >= _N_POINTS:
        return sympy.Integer(2 + drawn % 97)
    size = sympy.Rational(300 + drawn % 1999, 1000)
    return size if point < _N_POSITIVE or drawn % 2 else -size


def _close(first: Any, second: Any) -> bool:
    if first.is_Rational and second.is_Rational:
        return bool(first == second)
    difference, size = (sympy.Abs(number).evalf(_DIGITS) for number in (first - second, first))
    return bool(difference <= _TOLERANCE * size)
