r"""Sets of real numbers, however they are written: intervals and their unions, `x < 2`, `\mathbb{R}`, `x \ne 5`.

    union       part (\cup | \lor) part ...     parts with \cap or \land in between are intersected first
    part        \mathbb{R}, \emptyset, an interval, \{numbers\}, `A \setminus B`, `x \in A`, `x = 5`, `\{x : relation\}`
    relation    of one name with one number, or of one name between two: `1 < x \le 2`

Two sets are the same if their pieces are, end by end, open or closed. A relation names what it is about; where both
sides name it, it must have the same name. What has an end that is no real number is no such set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

from s0.tasks.math.formula import read
from s0.tasks.math.formula_values import same_value, value_at
from s0.tasks.math.latex import EQUALS, closing, split, unwrapped

_UNION = re.compile(r"\\(?:cup|lor)(?![a-zA-Z])")
_INTERSECTION = re.compile(r"\\(?:cap|land)(?![a-zA-Z])")
_WITHOUT = re.compile(r"\\setminus(?![a-zA-Z])|\\(?=\\\{)")
_IN = re.compile(r"\\in(?![a-zA-Z])")
_SUCH_THAT = re.compile(r"[|:]|,(?=[^,]*[<>]|[^,]*\\[lgn]e(?![a-zA-Z]))")
RELATION = re.compile(r"(<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z]))")
_NAME = re.compile(r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:_\{?\w\}?)?(?:\( ?[a-z] ?\))?")
_COMMA = re.compile("[,;]")
MIRRORED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


@dataclass(frozen=True)
class RealSet:
    """A set of real numbers, and the name of what is in it; "" where it is not said."""

    name: str
    numbers: sympy.Set


class _NoSetError(ValueError):
    """Not a set of real numbers."""


def read_set(text: str) -> RealSet | None:
    """The set that a tidy answer is, None where it is none."""
    try:
        return _union(text)
    except (_NoSetError, TypeError, ValueError, NotImplementedError):
        return None  # sympy cannot order some numbers


def same_set(ours: RealSet, theirs: RealSet) -> bool:
    """Whether two sets have the same pieces."""
    if ours.name and theirs.name and ours.name != theirs.name:
        return False
    pieces, others = _pieces(ours.numbers), _pieces(theirs.numbers)
    return len(pieces) == len(others) and all(map(_same_piece, pieces, others))


def _union(text: str) -> RealSet:
    return _joined([_intersection(part) for part in split(text, _UNION)], sympy.Union)


def _intersection(text: str) -> RealSet:
    return _joined([_part(part) for part in split(text, _INTERSECTION)], sympy.Intersection)


def _joined(sets: list[RealSet], join: Any) -> RealSet:
    names = {part.name for part in sets}
    if len(names) > 1:
        raise _NoSetError(names)
    return RealSet(names.pop(), join(*(part.numbers for part in sets)))


def _part(text: str) -> RealSet:
    text = unwrapped(text)
    whole, *taken = split(text, _WITHOUT)
    if taken:
        return RealSet(
            "", sympy.Complement(_part(whole).numbers, sympy.Union(*(_part(part).numbers for part in taken)))
        )
    if text == "\\mathbb{R}":
        return RealSet("", sympy.S.Reals)
    if text == "\\emptyset":
        return RealSet("", sympy.S.EmptySet)
    if text.startswith("\\{") and text.endswith("\\}"):
        return _braced(text[2:-2].strip())
    name, *within = split(text, _IN)
    if len(within) == 1 and _NAME.fullmatch(name):
        return RealSet(_plain(name), _union(within[0]).numbers)
    name, *equal = split(text, EQUALS)
    if len(equal) == 1 and _NAME.fullmatch(name):
        return RealSet(_plain(name), sympy.FiniteSet(_number(equal[0])))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and closing(text) == len(text) - 1:
        return _interval(text)
    return _relation(text)


def _braced(inner: str) -> RealSet:
    about, *rest = split(inner, _SUCH_THAT)
    if rest and re.fullmatch(rf"(?:{_NAME.pattern}) ?(?:\\in ?\\mathbb\{{R\}})?", about):
        return RealSet("", _union(inner[len(about) + 1 :].strip().lstrip("|: ")).numbers)
    return RealSet("", sympy.FiniteSet(*map(_number, split(inner, _COMMA))))


def _interval(text: str) -> RealSet:
    ends = split(text[1:-1], _COMMA)
    if len(ends) != 2:
        return _union(text[1:-1]) if len(ends) == 1 and text[0] == "(" else _relation(text)
    low, high = map(_number, ends)
    closed_at_infinity = (high == sympy.oo and text[-1] == "]") or (low == -sympy.oo and text[0] == "[")
    if not low < high or closed_at_infinity:
        raise _NoSetError(text)
    return RealSet("", sympy.Interval(low, high, text[0] == "(", text[-1] == ")"))


def _relation(text: str) -> RealSet:
    members = [part.strip() for part in RELATION.split(text)]
    sides, signs = members[::2], members[1::2]
    names = [_NAME.fullmatch(side) is not None and read(side) not in (sympy.pi, sympy.oo, sympy.E) for side in sides]
    if sum(names) != 1 or not signs or len(signs) > 2 or (len(signs) == 2 and not names[1]):
        raise _NoSetError(text)
    place = names.index(True)
    bounds = [_half(MIRRORED[signs[place - 1]], sides[place - 1])] if place else []
    bounds += [_half(signs[place], sides[place + 1])] if place < len(signs) else []
    return RealSet(_plain(sides[place]), sympy.Intersection(*bounds))


def _half(sign: str, end: str) -> sympy.Set:
    """What is less than an end, or more, or not it."""
    number = _number(end)
    if sign == "\\ne":
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(number))
    if sign in ("<", "\\le"):
        return sympy.Interval(-sympy.oo, number, True, sign == "<")
    return sympy.Interval(number, sympy.oo, sign == ">", True)


def _number(text: str) -> sympy.Expr:
    number = read(text)
    if number in (sympy.oo, -sympy.oo):
        return number
    if not isinstance(number, sympy.Expr) or number.free_symbols or not _is_real(number):
        raise _NoSetError(text)
    return number


def _is_real(number: sympy.Expr) -> bool:
    value = value_at(number, 0)
    return value is not None and bool(value.is_real)


def _plain(name: str) -> str:
    return re.sub(r"[\s{}]", "", name)


def _pieces(numbers: sympy.Set) -> list[sympy.Set]:
    """Intervals and single numbers, in order."""
    parts = numbers.args if isinstance(numbers, sympy.Union) else (numbers,)
    pieces: list[sympy.Set] = []
    for part in parts:
        if part is sympy.S.EmptySet:
            continue
        if part is sympy.S.Reals:
            part = sympy.Interval(-sympy.oo, sympy.oo)
        if not isinstance(part, (sympy.Interval, sympy.FiniteSet)):
            raise _NoSetError(part)
        pieces += [sympy.FiniteSet(number) for number in part] if isinstance(part, sympy.FiniteSet) else [part]
    return sorted(pieces, key=lambda piece: float(piece.inf))


def _same_piece(ours: sympy.Set, theirs: sympy.Set) -> bool:
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, sympy.Interval) and (
        (ours.left_open, ours.right_open) != (theirs.left_open, theirs.right_open)
    ):
        return False
    return bool(same_value(ours.inf, theirs.inf) and same_value(ours.sup, theirs.sup))
