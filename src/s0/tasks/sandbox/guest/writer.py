"""Writing a value, see `wire_format` and `codec`."""

from __future__ import annotations

import itertools
import struct
from array import array
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from s0.tasks.sandbox.guest import arrays, kinds
from s0.tasks.sandbox.guest.scope import DICTIONARIES, MUTABLE, Scope, base_of, pairs_class
from s0.tasks.sandbox.guest.wire_format import (
    COMPLEX,
    FLOAT,
    MAPPINGS,
    MAX_DEPTH,
    MAX_MESSAGE_BYTES,
    MAX_VALUES,
    SEQUENCES,
    SIZE,
    TooLarge,
)

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
_KNOWN = frozenset((*_SCALARS, *SEQUENCES, *MUTABLE, *kinds.TAKEN_APART))
_EXACT = {id(kind): kind for kind in _KNOWN}
"""By identity, since a metaclass can have its classes hash and compare as others."""


class Writer:
    """Writes one message; `out` is what has been written. `away` describes what is no data."""

    def __init__(self, scope: Scope, away: Callable[[object], object]) -> None:
        self.out = bytearray()
        self._scope = scope
        self._away = away
        self._values = 0
        self._updated: set[int] = set()

    def write(self, value: Any, depth: int) -> None:
        """Add a value to the frame, at this depth of values within values."""
        self._count(1, depth)
        kind = type(value)
        base = _EXACT.get(id(kind)) or base_of(kind, _KNOWN)
        if base in _SCALARS:
            self._scalar(base, value)
        elif base in MUTABLE:
            self._mutable(base, value, depth)
        elif base in SEQUENCES:
            self._immutable(base, kind, value, depth)
        elif base in kinds.TAKEN_APART:
            self._apart(base, value, depth)
        elif (name := kinds.name_of(value)) is not None:
            self._tagged(b"v", name, depth)
        elif (described := arrays.parts_of(value)) is not None:
            name, parts = described
            self._tagged(b"K", name, depth)
            self.write(parts, depth + 1)
        else:
            self._tagged(b"A", self._away(value), depth)

    def changes(self, numbers: list[int]) -> None:
        """The new contents of objects; those that the value holds have been written there."""
        left = [number for number in numbers if number not in self._updated]
        self.out += SIZE.pack(len(left))
        for number in left:
            self._count(1, 0)
            self._update(number, 0)
        self._check_size()

    def _mutable(self, base: type, value: Any, depth: int) -> None:
        number = self._scope.number_of(value)
        if number is None:
            self._scope.add(value)
            self._contents(base, value, depth)
        elif number not in self._updated and self._scope.changed(number):
            self._update(number, depth)
        else:
            self.out += b"r" + SIZE.pack(number)

    def _update(self, number: int, depth: int) -> None:
        self._updated.add(number)
        self.out += b"u" + SIZE.pack(number)
        value = self._scope.objects[number]
        base = base_of(type(value), MUTABLE)
        assert base is not None
        self._contents(base, value, depth)

    def _contents(self, base: Any, value: Any, depth: int) -> None:
        if base is bytearray:
            self._sized(b"y", bytes(bytearray.__getitem__(value, slice(None))))
        elif base is deque:
            self._tagged(b"k", _MAX_LENGTH(value), depth)
            self._items(list(deque.__iter__(value)), depth)
        elif base in DICTIONARIES:
            if base is defaultdict:
                factory = _FACTORY(value)
                self._tagged(b"f", factory.__name__ if factory in kinds.FACTORIES else None, depth)
            else:
                self.out += MAPPINGS[base]
            self._items(list(pairs_class(base).keys(value)), depth)
            self._items(list(pairs_class(base).values(value)), depth)
        else:
            self.out += SEQUENCES[base]
            self._items(value if type(value) is list else list(base.__iter__(value)), depth)

    def _immutable(self, base: Any, kind: type, value: Any, depth: int) -> None:
        items = list(base.__iter__(value))
        heading = kinds.heading_of(kind, len(items)) if kind is not base and base is tuple else None
        if heading is None:
            self.out += SEQUENCES[base]
        else:
            self._tagged(b"n", heading, depth)
        self._items(items, depth)

    def _apart(self, base: type, value: Any, depth: int) -> None:
        name, parts_of, _ = kinds.TAKEN_APART[base]
        try:
            parts = parts_of(value)
        except TypeError:  # a date in a time zone with rules of its own
            self._tagged(b"A", self._away(value), depth)
            return
        self._tagged(b"K", name, depth)
        self.write(parts, depth + 1)

    def _tagged(self, tag: bytes, value: object, depth: int) -> None:
        self.out += tag
        self.write(value, depth + 1)

    def _scalar(self, base: type, value: Any) -> None:
        if value is None:
            self.out += b"N"
        elif base is bool:
            self.out += b"T" if value else b"F"
        elif base is int:
            number = int.__int__(value)
            self._sized(b"i", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))
        elif base is float:
            self.out += b"d" + FLOAT.pack(float.__float__(value))
        elif base is complex:
            self.out += b"c" + COMPLEX.pack(_REAL(value), _IMAGINARY(value))
        elif base is str:
            self._sized(b"s", str.encode(value, "utf-8", "surrogatepass"))
        else:
            self._sized(b"b", bytes.__getitem__(value, slice(None)))

    def _items(self, items: list[Any], depth: int) -> None:
        self._count(len(items), depth + 1)
        types = set(map(type, items))
        if len(types) == 1 and self._packed(types.pop(), items, depth):
            return
        self._values -= len(items)  # `write` counts them
        self._counted(b"*", len(items))
        for item in items:
            self.write(item, depth + 1)

    def _packed(self, kind: type, items: list[Any], depth: int) -> bool:
        if kind is int:
            try:
                numbers = array("q", items)
            except OverflowError:
                return False
            self._counted(b"Q", len(items), numbers.tobytes())
        elif kind is float or (issubclass(kind, float) and kind.__module__ == "numpy"):
            self._counted(b"D", len(items), array("d", items).tobytes())
        elif kind is bool:
            self._counted(b"B", len(items), bytes(items))
        elif kind is type(None):
            self._counted(b"0", len(items), bytes(len(items)))
        elif kind is str:
            lengths = list(map(len, items))
            if sum(lengths) > MAX_MESSAGE_BYTES:
                raise TooLarge(f"more than {MAX_MESSAGE_BYTES} bytes")
            self._counted(b"S", len(items), _sizes(lengths))
            self.out += _sized("".join(items).encode("utf-8", "surrogatepass"))
        elif (numbers := arrays.together(kind, items)) is not None:
            self._counted(b"G", len(items))
            self.write(numbers, depth + 1)
        else:
            return self._rows(kind, items, depth)
        return True

    def _rows(self, kind: type, items: list[Any], depth: int) -> bool:
        if len(items) < 2 or kind not in (list, tuple) or (kind is list and not self._scope.add_all(items)):
            return False
        lengths = list(map(len, items))
        self._count(sum(lengths), depth + 2)
        self._values -= sum(lengths)  # `_items` counts them
        self._counted(b"L" if kind is list else b"M", len(items), _sizes(lengths))
        self._items(list(itertools.chain.from_iterable(items)), depth + 1)
        return True

    def _counted(self, tag: bytes, count: int, payload: bytes = b"") -> None:
        self.out += tag + SIZE.pack(count)
        self.out += payload
        self._check_size()

    def _sized(self, tag: bytes, payload: bytes) -> None:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"more than {MAX_MESSAGE_BYTES} bytes")
        self.out += tag + _sized(payload)
        self._check_size()

    def _count(self, values: int, depth: int) -> None:
        self._values += values
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise TooLarge(f"nested deeper than {MAX_DEPTH} or more than {MAX_VALUES} values")

    def _check_size(self) -> None:
        if len(self.out) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"more than {MAX_MESSAGE_BYTES} bytes")


_MAX_LENGTH = deque.__dict__["maxlen"].__get__
_FACTORY = defaultdict.__dict__["default_factory"].__get__
_REAL, _IMAGINARY = complex.__dict__["real"].__get__, complex.__dict__["imag"].__get__


def _sized(payload: bytes) -> bytes:
    return SIZE.pack(len(payload)) + payload


def _sizes(lengths: list[int]) -> bytes:
    return struct.pack(f"<{len(lengths)}I", *lengths)
