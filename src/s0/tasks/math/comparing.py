r"""Whether two answers in LaTeX mean the same. Runs in processes of its own (`worker`), since it can take for ever.

`math_verify` reads the formulas and knows sets, intervals and inequalities. It is not asked alone, since it compares
differences with a rounded zero: it takes 1/2004! for 1/2006! and 10^{-20} for 10^{-21}, a pair for a set in any order,
and two equations that it cannot solve for equal. So answers are taken apart here first: bracket by bracket, part by
part, left and right side. Formulas that have a value are compared by that value at 50 digits, at several values of
their variables; only what has none is left to `math_verify`. A decimal number passes for a formula that it is rounded
from, from six places on.
"""

from __future__ import annotations

import logging
import re
import zlib
from functools import lru_cache
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # says that it has no time limit: the caller has one

_FORMULAS = [LatexExtractionConfig()]
_DIGITS = 50
_TOLERANCE = sympy.Float("1e-40", _DIGITS)
_PLACES = 6
"""So many digits must a decimal number have, and after the point, to pass for what it is rounded from."""
_N_POINTS, _N_POSITIVE = 4, 2
_DECIMAL = re.compile(r"\s*-?(?:\d+\.?(?P<places>\d*)|\.(?P<only>\d+))\s*")
_RELATION = re.compile(r"\\(?:le|ge|lt|gt|ne|neq|in|notin|subset)(?![a-zA-Z])|[<>]")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DEGREES = re.compile(r"(-?\d+(?:\.\d+)?)\s*\^\s*\\circ")
_REPEATING = re.compile(r"\s*(-?)(\d*)\.(\d*)\\overline\{(\d+)\}\s*")
_OPENING, _CLOSING = "([{", ")]}"


def equal(right: str, answer: str) -> bool:
    """Whether `answer` says the same as `right`; both tidy (`latex.tidy`), without units."""
    right, answer = (_DEGREES.sub(r"{\\frac{\1\\pi}{180}}", text) for text in (right, answer))
    kinds = (_brackets(right), _brackets(answer))
    if kinds[0] in ("set", "list") and kinds[1] in ("set", "list"):
        return _in_any_order(_parts(right), _parts(answer))
    if "\\cup" in right and "\\cup" in answer:
        return _in_any_order(_split(right, "\\cup"), _split(answer, "\\cup")) or _verified(right, answer)
    if kinds[0] != kinds[1] and not _RELATION.search(right + answer):
        return False
    if len(kinds[0]) == 2 and kinds[0] == kinds[1]:
        ours, theirs = _parts(right), _parts(answer)
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return _same_formula(right, answer)


def _brackets(text: str) -> str:
    """The two brackets around parts with commas between; "set" where they are braces; "list" of bare parts; else ""."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set"
    if _THOUSANDS.fullmatch(text):
        return ""
    if text[:1] in "([" and text[-1:] in ")]" and text and _closes_at_end(text) and len(_split(text[1:-1], ",")) > 1:
        return text[0] + text[-1]
    return "list" if len(_split(text, ",")) > 1 or "\\pm" in text else ""


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False


def _parts(text: str) -> list[str]:
    """What stands within the brackets, part by part; one with a plus-minus sign is two parts."""
    kind = _brackets(text)
    inner = text[2:-2] if kind == "set" else text[1:-1] if len(kind) == 2 else text
    parts = [part.strip() for part in _split(inner, ",")]
    if len(kind) == 2:
        return parts
    return [sign for part in parts for sign in _signs(part)]


def _signs(part: str) -> list[str]:
    return [part.replace("\\pm", sign) for sign in "+-"] if "\\pm" in part else [part]


def _split(text: str, separator: str) -> list[str]:
    """Split where no bracket is open."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and text.startswith(separator, position):
            parts.append(text[start:position])
            start = position + len(separator)
    return [*parts, text[start:]]


def _in_any_order(ours: list[str], theirs: list[str]) -> bool:
    left = list(theirs)
    for part in ours:
        match = next((other for other in left if equal(part, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _same_formula(right: str, answer: str) -> bool:
    if _RELATION.search(right + answer):
        return _verified(right, answer)
    ours, theirs = _split(right, "="), _split(answer, "=")
    if len(ours) == len(theirs) == 2 and not (_is_name(ours[0]) and ours[0].strip() == theirs[0].strip()):
        return _same_equation(ours, theirs)
    # `x = 5` says 5, and `2 + 3 = 5` too; an equation says more than its right side
    if len(ours) > 1 and len(theirs) == 1 and not _is_name(ours[0]):
        return False
    same = _same_value(_read(ours[-1]), _read(theirs[-1]))
    if same is False:
        return _is_rounding(ours[-1], theirs[-1]) or _is_rounding(theirs[-1], ours[-1])
    return same or _verified(ours[-1], theirs[-1])


def _is_rounding(decimal: str, formula: str) -> bool:
    """Whether `decimal` is a number with enough digits that the value of a formula, no decimal itself, rounds to."""
    match = _DECIMAL.fullmatch(decimal)
    if match is None or _DECIMAL.fullmatch(formula):
        return False
    places = len(match["places"] or match["only"] or "")
    digits = decimal.strip().lstrip("-0.").replace(".", "")
    exact = _read(formula)
    value = _value(exact, 0) if isinstance(exact, sympy.Expr) and not exact.free_symbols else None
    if min(places, len(digits)) < _PLACES or value is None or not value.is_real:
        return False
    return bool(abs(value - _read(decimal)) * 2 <= sympy.Rational(1, 10**places))


def _is_name(text: str) -> bool:
    return re.fullmatch(r"\s*[a-zA-Z](?:_\{?\w\}?)?\s*(?:\(\s*[a-z]\s*\))?\s*", text) is not None


def _same_equation(ours: list[str], theirs: list[str]) -> bool:
    """Whether left minus right sides are the same up to a factor, so 2x = y and y - 2x = 0 are."""
    sides = [_read(text) for text in (*ours, *theirs)]
    if not all(isinstance(side, sympy.Expr) for side in sides):
        return False
    first, second = sides[0] - sides[1], sides[2] - sides[3]
    ratios = [_quotient(_value(first, point), _value(second, point)) for point in range(_N_POINTS)]
    return None not in ratios and all(_close(ratio, ratios[0]) for ratio in ratios)


def _quotient(first: Any, second: Any) -> Any:
    return None if first is None or second is None or first == 0 or second == 0 else first / second


@lru_cache(64)
def _read(text: str) -> Any:
    """The formula, None where there is none."""
    if _THOUSANDS.fullmatch(text.strip()):
        text = text.replace(",", "")
    if _DECIMAL.fullmatch(text):
        return sympy.Rational(text.strip())
    if match := _REPEATING.fullmatch(text):
        minus, whole, once, again = match.groups()
        value = sympy.Rational(int(whole + once or "0") * (10 ** len(again) - 1) + int(again), 10 ** len(again) - 1)
        return value / 10 ** len(once) * (-1 if minus else 1)
    found = parse(f"${text}$", _FORMULAS, parsing_timeout=None)
    if not found or isinstance(found[0], str):
        return None
    # a decimal number within a formula is meant exactly; in binary it would be a little more or less
    return found[0].xreplace({number: sympy.Rational(str(number)) for number in found[0].atoms(sympy.Float)})


def _same_value(first: Any, second: Any) -> bool | None:
    """Whether two formulas have the same value at every point; None where one has none, or only some are the same."""
    if isinstance(first, sympy.MatrixBase) and isinstance(second, sympy.MatrixBase):
        if first.shape != second.shape:
            return False
        entries = [_same_value(*pair) for pair in zip(first, second, strict=True)]
        return False if False in entries else None if None in entries else True
    if not isinstance(first, sympy.Expr) or not isinstance(second, sympy.Expr):
        return None
    verdicts = []
    for point in range(_N_POINTS):
        one, other = _value(first, point), _value(second, point)
        verdicts.append(None if one is None or other is None else _close(one, other))
    if False in verdicts[:_N_POSITIVE]:
        return False
    return True if all(verdicts) else None


def _value(formula: Any, point: int) -> Any:
    """The number a formula gives at one of several points: every variable has a value of its own; i is imaginary."""
    names = {symbol: symbol.name for symbol in formula.free_symbols}
    given = {symbol: sympy.I if name == "i" else _coordinate(name, point) for symbol, name in names.items()}
    try:
        exact = formula.subs(given).doit()
        value = exact if exact.is_Rational else exact.evalf(_DIGITS)  # 100! has more digits than that
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    if any(part._prec == 1 for part in value.atoms(sympy.Float)):
        return None  # so close to zero that no digit is certain
    return value


def _coordinate(name: str, point: int) -> Any:
    """Between 0.3 and 2.3, at the first points; at the others of either sign."""
    drawn = zlib.crc32(f"{point} {name}".encode())
    size = sympy.Rational(300 + drawn % 1999, 1000)
    return size if point < _N_POSITIVE or drawn % 2 else -size


def _close(one: Any, other: Any) -> bool:
    if one.is_Rational and other.is_Rational:
        return bool(one == other)
    difference, size = (sympy.Abs(number).evalf(_DIGITS) for number in (one - other, one))
    return bool(difference <= _TOLERANCE * size)


def _verified(right: str, answer: str) -> bool:
    ours, theirs = (parse(f"${text}$", _FORMULAS, parsing_timeout=None) for text in (right, answer))
    return bool(verify(ours, theirs, allow_set_relation_comp=True, timeout_seconds=None))
