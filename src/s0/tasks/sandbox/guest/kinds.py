"""Values that are neither numbers, texts nor containers: how each is taken apart, and made again from plain parts.

Types and functions pass by their name, and only those that do nothing but compute.
"""

from __future__ import annotations

import builtins
import datetime
import functools
import keyword
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from s0.tasks.sandbox.guest import arrays

_PLAIN_TYPES = (
    bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice, object,
    Counter, OrderedDict, defaultdict, deque, Decimal, Fraction,
    datetime.date, datetime.time, datetime.datetime, datetime.timedelta,
    type(None), type(Ellipsis), type(NotImplemented),
)  # fmt: skip
_PURE_FUNCTIONS = (
    abs, all, any, ascii, bin, chr, divmod, hex, isinstance, issubclass, len, max, min, oct, ord, pow, repr, round,
    sorted, sum,
)  # fmt: skip
_ERRORS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}  # fmt: skip
_BY_NAME: dict[str, object] = {
    **{f"type {kind.__name__}": kind for kind in _PLAIN_TYPES},
    **{f"error {name}": kind for name, kind in _ERRORS.items()},
    **{f"function {function.__name__}": function for function in _PURE_FUNCTIONS},
    "Ellipsis": Ellipsis,
    "NotImplemented": NotImplemented,
}
_NAMES = {id(value): name for name, value in _BY_NAME.items()}

_MOST_FIELDS = 100

FACTORIES = (int, float, str, list, tuple, dict, set, bool, complex)
"""Types that a defaultdict keeps as its factory."""


def name_of(value: object) -> str | None:
    """How a type, a function or a single value that passes by name is called."""
    return _NAMES.get(id(value))


def named(name: str) -> object:
    """What `name_of` calls so.

    Raises:
        KeyError: nothing.
    """
    return _BY_NAME[name]


def _zone_parts(zone: datetime.tzinfo | None) -> tuple[object, ...]:
    if zone is None:
        return ()
    if type(zone) is not datetime.timezone:
        raise TypeError("a time zone with rules of its own")
    return _delta_parts(zone.utcoffset(None))


def _zone(parts: tuple[int, ...]) -> datetime.timezone | None:
    return datetime.timezone(datetime.timedelta(*parts)) if parts else None


def _date_parts(value: datetime.date) -> tuple[object, ...]:
    return (_DATE.year(value), _DATE.month(value), _DATE.day(value))


def _delta_parts(value: datetime.timedelta) -> tuple[object, ...]:
    return (_DELTA.days(value), _DELTA.seconds(value), _DELTA.microseconds(value))


def _clock_parts(value: Any, fields: _Fields) -> tuple[object, ...]:
    numbers = (fields.hour(value), fields.minute(value), fields.second(value), fields.microsecond(value))
    return (*numbers, fields.fold(value), _zone_parts(fields.tzinfo(value)))


class _Fields:
    """The attributes of a class as functions: a subclass cannot answer in their place."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Callable[[object], Any]:
        getter: Callable[[object], Any] = getattr(self._kind, name).__get__
        setattr(self, name, getter)
        return getter


_DATE, _DELTA = _Fields(datetime.date), _Fields(datetime.timedelta)
_TIME, _DATETIME = _Fields(datetime.time), _Fields(datetime.datetime)
_RANGE, _SLICE = _Fields(range), _Fields(slice)


def _moment(year: int, month: int, day: int, *clock: Any) -> datetime.datetime:
    hour, minute, second, microsecond, fold, zone = clock
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, _zone(zone), fold=fold)


def _time(*clock: Any) -> datetime.time:
    hour, minute, second, microsecond, fold, zone = clock
    return datetime.time(hour, minute, second, microsecond, _zone(zone), fold=fold)


def _fraction(numerator: int, denominator: int) -> Fraction:
    if type(numerator) is not int or type(denominator) is not int or math.gcd(numerator, denominator) != 1:
        raise ValueError("not a reduced fraction")
    return Fraction(numerator, denominator)


def _decimal(text: str) -> Decimal:
    if type(text) is not str:
        raise TypeError("not a text")
    return Decimal(text)


def _views(
    prefix: str, kind: Any
) -> dict[type, tuple[str, Callable[[Any], tuple[object, ...]], Callable[..., object]]]:
    """The three views of a dictionary; each brings a dictionary of its own, which holds what it shows."""
    empty = kind()
    return {
        type(empty.keys()): (prefix + "keys", tuple, lambda *keys: kind.fromkeys(keys).keys()),
        type(empty.values()): (prefix + "values", tuple, lambda *values: kind(enumerate(values)).values()),
        type(empty.items()): (prefix + "items", tuple, lambda *items: kind(items).items()),
    }


TAKEN_APART: dict[type, tuple[str, Callable[[Any], tuple[object, ...]], Callable[..., object]]] = {
    range: ("range", lambda value: (_RANGE.start(value), _RANGE.stop(value), _RANGE.step(value)), range),
    slice: ("slice", lambda value: (_SLICE.start(value), _SLICE.stop(value), _SLICE.step(value)), slice),
    Decimal: ("Decimal", lambda value: (Decimal.__str__(value),), _decimal),
    Fraction: ("Fraction", lambda value: (int(value._numerator), int(value._denominator)), _fraction),
    datetime.date: ("date", _date_parts, datetime.date),
    datetime.time: ("time", lambda value: _clock_parts(value, _TIME), _time),
    datetime.datetime: (
        "datetime", lambda value: (*_date_parts(value), *_clock_parts(value, _DATETIME)), _moment,
    ),
    datetime.timedelta: ("timedelta", _delta_parts, datetime.timedelta),
    **_views("", dict),
    **_views("ordered ", OrderedDict),
}  # fmt: skip
"""By type: its name in messages, what it is taken apart into, and what makes it of those parts."""
MADE: dict[str, Callable[..., object]] = {
    **{name: make for name, _, make in TAKEN_APART.values()},
    arrays.ARRAY: arrays.array,
    arrays.NUMBER: arrays.number,
}


def heading_of(kind: type, size: int) -> tuple[str, tuple[str, ...]] | None:
    """Name and fields of a subclass of tuple, where it is as `namedtuple` makes them."""
    heading = (kind.__name__, getattr(kind, "_fields", None))
    return heading if _is_heading(heading) and len(heading[1]) == size else None  # type: ignore[arg-type, return-value]


def _is_heading(heading: object) -> bool:
    match heading:
        case (str(), tuple() as fields) if len(set(fields)) == len(fields) <= _MOST_FIELDS:
            return all(type(name) is str and _is_name(name) for name in (heading[0], *fields))
    return False


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and len(name) <= 100


def named_tuple(heading: Any) -> Any:
    """The class that `heading_of` has named, made anew.

    Raises:
        ValueError: it never names one so.
    """
    if not _is_heading(heading) or any(field.startswith("_") for field in heading[1]):
        raise ValueError("no name and fields of a namedtuple")
    return _named_tuple_class(*heading)


@functools.lru_cache(256)
def _named_tuple_class(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)
