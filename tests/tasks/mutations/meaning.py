r"""What an answer in LaTeX means, read by a small parser of its own: nothing here is shared with the judge.

A formula is its values at three points, to 30 digits; a set is its elements in any order, a tuple its elements in
theirs, an interval what it contains, a matrix its entries, words their letters, a numeral its value and base, a
quantity its value and unit. As in the task, a unit, a base, a per cent or a degree sign counts only where both sides
have one, and `x = 5` says what 5 says. What has two readings (`1/2x`, `x^12`) is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import mpmath

from tests.tasks.mutations.formula import Unreadable, real, value_at

N_POINTS = 3
_N_CLAIMS = 60
"""Points at which inequalities of several variables are tried."""
_DIGITS, _WORKING_DIGITS = 30, 60
_OPENING, _CLOSING = "([{", ")]}"
_RELATIONS = {"\\leq": "<=", "\\le": "<=", "\\geq": ">=", "\\ge": ">=", "\\ne": "!=", "<": "<", ">": ">", "=": "="}
_RELATION = re.compile(r"\\(?:leq?|geq?|ne)(?![a-zA-Z])|[<>=]")
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}
_NAME = re.compile(r"[a-zA-Z]'*(?:_\{?\w+\}?)?(?:\([a-z]\))?")
_WORDS = re.compile(r"(?:\s*\\text\{[^{}]*\}\s*)+")
_NUMERAL = re.compile(r"(-?)([\dA-Z]+)(?:\.([\dA-Z]+))?\s*_\s*\{?(\d+)\}?")
_UNIT = re.compile(r"(.*[\d})a-z!])\s*\\text\{([^{}]*)\}\s*(?:\^\s*\{?(\d)\}?)?", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
UNITS = (
    ("cm", "m", "km", "mm", "inch", "foot", "yard", "mile"),
    ("second", "minute", "hour", "day", "week", "month", "year"),
    ("cent", "dollar"),
    ("am", "pm"),
    ("gram", "kg", "mg", "pound", "ounce"),
)
"""Units of one kind, by their own names."""
_SYNONYMS = {
    "centimeter": "cm", "meter": "m", "kilometer": "km", "millimeter": "mm", "inche": "inch", "in": "inch",
    "feet": "foot", "ft": "foot", "g": "gram", "gm": "gram", "lb": "pound", "hr": "hour", "min": "minute",
    "sec": "second", "degree": "^\\circ", "percent": "%",
}  # fmt: skip


_MULTIPLIERS = {"thousand": 1000, "million": 10**6}


@dataclass(frozen=True)
class Number:
    """The values at the points."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Parts:
    """Several meanings: in the order of a tuple, in any order of a set."""

    ordered: bool
    items: tuple[Meaning, ...]


@dataclass(frozen=True)
class Region:
    """Some of the real numbers.

    Attributes:
        contains: whether a number belongs to it.
        ends: all numbers at which that changes.
        name: of the variable that it is said of, if it is.
    """

    contains: Callable[[Any], bool]
    ends: tuple[Any, ...]
    name: str | None = None


@dataclass(frozen=True)
class Matrix:
    """Entries by row."""

    rows: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Equation:
    """The difference of both sides; `name` and `value` where the left side is but a name."""

    difference: Number
    name: str | None
    value: Meaning | None


@dataclass(frozen=True)
class Claim:
    """An inequality of several variables: whether it holds, at many points."""

    truths: tuple[bool, ...]


@dataclass(frozen=True)
class Quantity:
    """A value and a unit with its power."""

    value: Meaning
    unit: str
    power: int


@dataclass(frozen=True)
class Numeral:
    """A number written in a base."""

    value: Any
    base: int


@dataclass(frozen=True)
class Words:
    """Letters and digits of each item, items sorted."""

    items: tuple[str, ...]


Meaning = Number | Parts | Region | Matrix | Equation | Claim | Quantity | Numeral | Words


def differ(first: str, second: str) -> bool | None:
    """Whether two answers mean different things; None where that cannot be shown."""
    with mpmath.workdps(_WORKING_DIGITS):
        try:
            return _differ(read(first), read(second))
        except (Unreadable, ArithmeticError, ValueError, RecursionError):
            return None


@lru_cache(64)
def read(text: str) -> Meaning:
    """What an answer means.

    Raises:
        Unreadable: it has no reading, or several.
    """
    plain = _plain(text)
    if _WORDS.fullmatch(plain):
        letters = " ".join(re.findall(r"\\text\{([^{}]*)\}", plain)).lower()
        items = ("".join(filter(str.isalnum, item)) for item in re.split(r",|\band\b|\bor\b", letters))
        return Words(tuple(sorted(filter(None, items))))
    if (match := _NUMERAL.fullmatch(plain)) and re.search(r"\d", match[2]):
        return _numeral(*match.groups())
    if (separator := re.match(r"([a-zA-Z])\s*\\in(?![a-zA-Z])", plain)) is not None:
        return _named(read(plain[separator.end() :]), separator[1])
    if _top_level(plain, _RELATION):
        return _relation(plain)
    for command, both in (("cup", any), ("cap", all)):
        pieces = _split(plain, re.compile(rf"\\{command}(?![a-zA-Z])"))
        if len(pieces) > 1:
            return _joined([_region(read(piece)) for piece in pieces], both)
    return _parts(plain)


def _plain(text: str) -> str:
    """One spelling of commands, no spacing commands, no commas within numbers."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])\.?", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\(?:mbox|text|textbf|mathrm)\s*(?=\{)", r"\\text", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,?\s*\\!)\s*(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<!\\)\\[!,;: ]|\\q?quad|~|\\?\$", " ", text)
    text = re.sub(r",?\s*\\text\{\s*(?:and|or)\s*\}", ",", text)
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}", r"^\\circ", text)
    text = text.replace("\\%", "%").strip().rstrip(".,;").strip()
    return text.replace(",", "") if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text) else text


def _numeral(minus: str, whole: str, rest: str | None, base: str) -> Numeral:
    digits, radix = whole + (rest or ""), int(base)
    if not 2 <= radix <= 36 or any(int(digit, 36) >= radix for digit in digits):
        raise Unreadable(f"digits {digits} in base {base}")
    value = mpmath.mpf(int(digits, radix)) / mpmath.mpf(radix) ** len(rest or "")
    return Numeral(-value if minus else value, radix)


def _named(meaning: Meaning, name: str) -> Meaning:
    return Region(meaning.contains, meaning.ends, name) if isinstance(meaning, Region) else meaning


def _relation(plain: str) -> Meaning:
    signs = [_RELATIONS[sign] for sign in _top_level(plain, _RELATION)]
    sides = [side.strip() for side in _split(plain, _RELATION)]
    if signs == ["="]:
        left, right = sides
        if not _NAME.fullmatch(left):
            return Equation(_minus(number(left), number(right)), None, None)
        value = read(right)
        shared = isinstance(value, Number)
        return Equation(_minus(number(left), value) if shared else Number(()), left, value)
    if "=" in signs:
        raise Unreadable("several equations")
    names = [place for place, side in enumerate(sides) if _NAME.fullmatch(side)]
    if len(names) == 1 and all(_is_constant(side) for place, side in enumerate(sides) if place != names[0]):
        return _bounds(sides, signs, names[0])
    return Claim(tuple(_true(sides, signs, point) for point in range(_N_CLAIMS)))


def _is_constant(side: str) -> bool:
    return len(set(number(side).values)) == 1


def _bounds(sides: list[str], signs: list[str], place: int) -> Region:
    regions = []
    if place > 0:
        regions.append(_half(_MIRRORED[signs[place - 1]], number(sides[place - 1]).values[0]))
    if place < len(signs):
        regions.append(_half(signs[place], number(sides[place + 1]).values[0]))
    if len(sides) > len(regions) + 1:
        raise Unreadable("a chain of more than two bounds")
    return _named(_joined(regions, all), sides[place])  # type: ignore[return-value]


def _half(sign: str, end: Any) -> Region:
    return Region(lambda number: _HOLDS[sign](number, real(end)), (real(end),))


def _true(sides: list[str], signs: list[str], point: int) -> bool:
    values = [real(value_at(side, point)) for side in sides]
    return all(_HOLDS[sign](*pair) for sign, pair in zip(signs, pairwise(values), strict=True))


def _region(meaning: Meaning) -> Region:
    if isinstance(meaning, Region):
        return meaning
    if not isinstance(meaning, Parts) or not all(isinstance(item, Number) for item in meaning.items):
        raise Unreadable("no set of numbers")
    ends = tuple(real(item.values[0]) for item in meaning.items)  # type: ignore[union-attr]
    if meaning.ordered:
        if len(ends) != 2:
            raise Unreadable("an interval of more than two ends")
        return Region(lambda number: ends[0] < number < ends[1], ends)
    return Region(lambda number: number in ends, ends)


def _joined(regions: Sequence[Region], both: Callable[[Any], bool]) -> Region:
    ends = tuple(end for region in regions for end in region.ends)
    return Region(lambda number: both(region.contains(number) for region in regions), ends)


def _parts(plain: str) -> Meaning:
    pieces = [piece.strip() for piece in _split(plain, re.compile(","))]
    if len(pieces) > 1:
        return Parts(False, tuple(item for piece in pieces for item in _signs(piece)))
    if plain.startswith("\\{") and plain.endswith("\\}"):
        inner = _split(plain[2:-2], re.compile(","))
        return Parts(False, tuple(item for piece in inner for item in _signs(piece.strip())))
    if plain[:1] in ("(", "[") and plain[-1:] in (")", "]") and _closes_at_end(plain):
        inner = _split(plain[1:-1], re.compile(","))
        if len(inner) > 1:
            return _tuple(plain[0], inner, plain[-1])
        if plain[0] + plain[-1] != "()":
            raise Unreadable("one part in square brackets")
    if match := _MATRIX.fullmatch(plain):
        rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", match[2]) if row.strip()]
        return Matrix(tuple(tuple(number(entry) for entry in row.split("&")) for row in rows))
    if "\\pm" in plain:
        return Parts(False, tuple(_signs(plain)))
    return _quantity(plain)


def _tuple(opening: str, inner: list[str], closing: str) -> Meaning:
    infinite = any(re.fullmatch(r"\s*-?\s*\\infty\s*", piece) for piece in inner)
    if opening + closing == "()" and not infinite:
        return Parts(True, tuple(read(piece) for piece in inner))
    if len(inner) != 2:
        raise Unreadable("square brackets around more than two parts")
    low, high = (_end(piece) for piece in inner)
    above, below = _HOLDS[">=" if opening == "[" else ">"], _HOLDS["<=" if closing == "]" else "<"]
    ends = tuple(end for end in (low, high) if mpmath.isfinite(end))
    return Region(lambda number: above(number, low) and below(number, high), ends)


def _end(piece: str) -> Any:
    match = re.fullmatch(r"\s*([-+]?)\s*\\infty\s*", piece)
    if match:
        return -mpmath.inf if match[1] == "-" else mpmath.inf
    return real(number(piece).values[0])


def _signs(piece: str) -> list[Meaning]:
    if "\\pm" not in piece:
        return [read(piece)]
    return [read(piece.replace("\\pm", sign, 1).replace("\\pm", sign)) for sign in "+-"]


def _quantity(plain: str) -> Meaning:
    if match := _UNIT.fullmatch(plain):
        name = re.sub(r"[^a-z ]", "", match[2].lower()).split()
        power = 2 if "square" in name else 3 if "cubic" in name else int(match[3] or 1)
        unit = " ".join(word for word in name if word not in ("square", "cubic", "units", "unit"))
        unit = unit if len(unit) < 3 else unit.removesuffix("s")
        value = number(match[1])
        if unit in _MULTIPLIERS:
            return Number(tuple(_MULTIPLIERS[unit] * point for point in value.values))
        return Quantity(value, _SYNONYMS.get(unit, unit), power) if unit else value
    for sign in ("%", "^\\circ"):
        if plain.endswith(sign) and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", plain):
            return Quantity(number(plain.removesuffix(sign)), sign, 1)
    return number(plain)


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that a text begins with is the one that it ends with."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False


def _top_level(text: str, pattern: re.Pattern[str]) -> list[str]:
    return [match[0] for match in _outside(text, pattern)]


def _split(text: str, pattern: re.Pattern[str]) -> list[str]:
    cuts = [(match.start(), match.end()) for match in _outside(text, pattern)]
    starts, ends = [0, *(end for _, end in cuts)], [*(start for start, _ in cuts), len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _outside(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Matches that no bracket or environment surrounds."""
    depth, depths = 0, []
    for position, character in enumerate(text):
        depth -= character in _CLOSING or text.startswith("\\end{", position)
        depths.append(depth)
        depth += character in _OPENING or text.startswith("\\begin{", position)
    return [match for match in pattern.finditer(text) if match.start() < len(text) and depths[match.start()] == 0]


def number(text: str) -> Number:
    """The values of a formula at the points.

    Raises:
        Unreadable: it is none, or has no finite value at one of them.
    """
    return Number(tuple(value_at(text, point) for point in range(N_POINTS)))


def _minus(first: Number, second: Meaning) -> Number:
    if not isinstance(second, Number):
        raise Unreadable("a difference of what is no number")
    return Number(tuple(left - right for left, right in zip(first.values, second.values, strict=True)))


def _differ(first: Meaning, second: Meaning) -> bool | None:
    if isinstance(first, Equation) or isinstance(second, Equation):
        return _equations_differ(first, second)
    if isinstance(first, Quantity) or isinstance(second, Quantity):
        return _quantities_differ(first, second)
    if isinstance(first, Number) and isinstance(second, Number):
        return _numbers_differ(first.values, second.values)
    if isinstance(first, Parts | Number) and isinstance(second, Parts | Number):
        return _parts_differ(first, second)
    if isinstance(first, Region | Parts) and isinstance(second, Region | Parts):
        return _regions_differ(first, second)
    if isinstance(first, Matrix) and isinstance(second, Matrix):
        if [len(row) for row in first.rows] != [len(row) for row in second.rows]:
            return True
        return _any_differs(zip(sum(first.rows, ()), sum(second.rows, ()), strict=True))
    if isinstance(first, Numeral) and isinstance(second, Numeral):
        return (first.value, first.base) != (second.value, second.base)
    if isinstance(first, Claim) and isinstance(second, Claim):
        return True if first.truths != second.truths else None
    if isinstance(first, Words) and isinstance(second, Words):
        return first.items != second.items
    return None


def _equations_differ(first: Meaning, second: Meaning) -> bool | None:
    if not (isinstance(first, Equation) and isinstance(second, Equation)):
        equation, other = (first, second) if isinstance(first, Equation) else (second, first)
        return _differ(equation.value, other) if equation.value is not None else None  # type: ignore[union-attr]
    if first.value is not None and second.value is not None and first.name == second.name:
        return _differ(first.value, second.value)
    if not first.difference.values or not second.difference.values:
        return first.name != second.name
    ratios = [left / right for left, right in zip(first.difference.values, second.difference.values, strict=True)]
    return _numbers_differ(ratios[1:], ratios[:-1])


def _quantities_differ(first: Meaning, second: Meaning) -> bool | None:
    if not (isinstance(first, Quantity) and isinstance(second, Quantity)):
        quantity, other = (first, second) if isinstance(first, Quantity) else (second, first)
        values = _readings(quantity)  # type: ignore[arg-type]
        verdicts = [_differ(value, other) for value in values]
        return all(verdicts) if None not in verdicts else None
    if first.unit == second.unit:
        return first.power != second.power or _differ(first.value, second.value)
    of_one_kind = any(first.unit in names and second.unit in names for names in UNITS)
    if of_one_kind:
        return True if _differ(first.value, second.value) is False else None
    return True if _differ(first.value, second.value) else None


def _readings(quantity: Quantity) -> list[Meaning]:
    """The values that a quantity may be given as without its unit: 50% as 50 or as 0.5, an angle in radians."""
    factors = {"%": [mpmath.mpf(1) / 100], "^\\circ": [mpmath.pi / 180]}.get(quantity.unit, [])
    if not factors or not isinstance(quantity.value, Number):
        return [quantity.value]
    return [quantity.value, *(Number(tuple(value * factor for value in quantity.value.values)) for factor in factors)]


def _numbers_differ(first: Sequence[Any], second: Sequence[Any]) -> bool | None:
    """None where the values are close, but not to all digits."""
    gaps = [abs(left - right) / (max(abs(left), abs(right)) or 1) for left, right in zip(first, second, strict=True)]
    if max(gaps) > mpmath.mpf(10) ** (5 - _DIGITS):
        return True
    return False if max(gaps) < mpmath.mpf(10) ** -_DIGITS else None


def _any_differs(pairs: Any) -> bool | None:
    verdicts = [_differ(*pair) for pair in pairs]
    return True if True in verdicts else None if None in verdicts else False


def _parts_differ(first: Parts | Number, second: Parts | Number) -> bool | None:
    ours, theirs = (side if isinstance(side, Parts) else Parts(False, (side,)) for side in (first, second))
    if ours.ordered != theirs.ordered:
        return True
    if ours.ordered:
        return len(ours.items) != len(theirs.items) or _any_differs(zip(ours.items, theirs.items, strict=True))
    missing = [_misses(theirs, item) for item in ours.items] + [_misses(ours, item) for item in theirs.items]
    return True if True in missing else None if None in missing else False


def _misses(parts: Parts, item: Meaning) -> bool | None:
    verdicts = [_differ(item, other) for other in parts.items]
    return False if False in verdicts else None if None in verdicts else True


def _regions_differ(first: Region | Parts, second: Region | Parts) -> bool | None:
    if isinstance(first, Parts) or isinstance(second, Parts):
        parts = first if isinstance(first, Parts) else second
        if isinstance(parts, Parts) and parts.ordered and len(parts.items) != 2:
            return True
    ours, theirs = _region(first), _region(second)
    if ours.name is not None and theirs.name is not None and ours.name != theirs.name:
        return True
    ends = sorted({*ours.ends, *theirs.ends})
    between = [(low + high) / 2 for low, high in pairwise(ends)]
    probes = [*ends, *between, ends[0] - 1, ends[-1] + 1] if ends else [mpmath.mpf(0)]
    return any(ours.contains(probe) != theirs.contains(probe) for probe in probes)
