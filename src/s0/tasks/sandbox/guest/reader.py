"""Reading a value, see `wire_format` and `codec`. Whatever the bytes are, a value comes out or a CodecError."""

from __future__ import annotations

import functools
import itertools
import struct
from array import array
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from s0.tasks.sandbox.guest import kinds
from s0.tasks.sandbox.guest.scope import MUTABLE, Scope, base_of, pairs_class
from s0.tasks.sandbox.guest.wire_format import (
    COMPLEX,
    FLOAT,
    MAPPINGS,
    MAX_DEPTH,
    MAX_VALUES,
    SEQUENCES,
    SIZE,
    CodecError,
    TooLarge,
)

_SINGLE = {ord("N"): None, ord("T"): True, ord("F"): False}
_NUMBERS = {ord("Q"): "q", ord("D"): "d"}
Update = tuple[Any, Any]
"""An object that was known before a message, and one that holds its new contents."""


class Reader:
    """Reads one message; `updates` are the changes that it holds. `home` gives what a description stands for."""

    def __init__(self, data: bytes, scope: Scope, home: Callable[[object], object]) -> None:
        self.position = 0
        self.updates: list[Update] = []
        self._data = data
        self._scope = scope
        self._home = home
        self._values = 0

    def read(self, depth: int) -> Any:
        """The next value of the frame, at this depth of values within values."""
        self._count(1, depth)
        tag = self._byte()
        if tag in _SINGLE:
            return _SINGLE[tag]
        if tag in b"isbdc":
            return self._scalar(tag)
        if tag in b"tzn":
            return self._immutable(tag, depth)
        if tag == ord("r"):
            return self._known(self._size())
        if tag == ord("u"):
            return self._update(depth)
        if tag in b"vKA":
            return self._made(tag, depth)
        return self._mutable(tag, depth, self._scope.add)

    def changes(self) -> None:
        """Take over what has changed of the objects that are known."""
        for _ in range(self._size()):
            self._count(1, 0)
            if self._byte() != ord("u"):
                raise CodecError("no change of a known object")
            self._update(0)

    def _known(self, number: int) -> Any:
        if number >= len(self._scope.objects):
            raise CodecError(f"object {number} of {len(self._scope.objects)}")
        return self._scope.objects[number]

    def _update(self, depth: int) -> Any:
        target = self._known(self._size())
        source = self._mutable(self._byte(), depth, lambda _: None)
        if type(source) is not base_of(type(target), MUTABLE):
            raise CodecError("new contents of another kind")
        self.updates.append((target, source))
        return target

    def _scalar(self, tag: int) -> object:
        if tag == ord("d"):
            return FLOAT.unpack(self._take(8))[0]
        if tag == ord("c"):
            return complex(*COMPLEX.unpack(self._take(16)))
        payload = self._take(self._size())
        if tag == ord("i"):
            return int.from_bytes(payload, "little", signed=True)
        return payload if tag == ord("b") else _text(payload)

    def _immutable(self, tag: int, depth: int) -> object:
        build: Callable[[list[Any]], object] = tuple
        if tag == ord("n"):
            build = _built(kinds.named_tuple, self.read(depth + 1))._make
        elif tag == ord("z"):
            build = frozenset
        return _built(build, self._items(depth))

    def _mutable(self, tag: int, depth: int, number: Callable[[Any], None]) -> Any:
        """A container that is numbered before its contents are read, as they may hold itself."""
        if tag == ord("y"):
            text = bytearray(self._take(self._size()))
            number(text)
            return text
        heading = self.read(depth + 1) if tag in b"fk" else None
        container: Any = _empty(tag, heading)
        number(container)
        items = self._items(depth)
        if isinstance(container, dict):
            values = self._items(depth)
            if len(items) != len(values):
                raise CodecError(f"{len(items)} keys, {len(values)} values")
            fill = functools.partial(pairs_class(type(container)).update, container)  # a Counter's own would add
            _built(fill, zip(items, values, strict=True))
        elif isinstance(container, set):
            _built(container.update, items)
        else:
            container.extend(items)
        return container

    def _made(self, tag: int, depth: int) -> object:
        value = self.read(depth + 1)
        if tag == ord("A"):
            return self._home(value)
        if tag == ord("v"):
            return _built(kinds.named, value)
        parts = self.read(depth + 1)
        return _built(lambda name: kinds.MADE[name](*parts), value)

    def _items(self, depth: int) -> list[Any]:
        form = self._byte()
        count = self._size()
        self._count(count, depth + 1)
        if form == ord("*"):
            self._values -= count  # `read` counts them
            self._require(count)
            return [self.read(depth + 1) for _ in range(count)]
        if form in _NUMBERS:
            numbers = array(_NUMBERS[form])
            numbers.frombytes(self._take(8 * count))
            return numbers.tolist()
        if form == ord("G"):
            return self._numbers(count, depth)
        if form == ord("B"):
            return list(map(bool, self._take(count)))
        if form == ord("0"):
            self._take(count)
            return [None] * count
        if form == ord("S"):
            return self._strings(count)
        if form in b"LM":
            return self._rows(form, count, depth)
        raise CodecError(f"unknown form {form}")

    def _strings(self, count: int) -> list[str]:
        borders = self._borders(count)
        text = _text(self._take(self._size()))
        if borders[-1] != len(text):
            raise CodecError(f"strings of {borders[-1]} characters in {len(text)}")
        return [text[start:end] for start, end in itertools.pairwise(borders)]

    def _rows(self, form: int, count: int, depth: int) -> list[Any]:
        borders = self._borders(count)
        rows: list[list[Any]] = [[] for _ in range(count)] if form == ord("L") else []
        for row in rows:
            self._scope.add(row)
        items = self._items(depth + 1)
        if borders[-1] != len(items):
            raise CodecError(f"rows of {borders[-1]} values for {len(items)}")
        if form == ord("M"):
            whole = tuple(items)
            return [whole[start:end] for start, end in itertools.pairwise(borders)]
        for row, (start, end) in zip(rows, itertools.pairwise(borders), strict=True):
            row += items[start:end]
        return rows

    def _borders(self, count: int) -> list[int]:
        lengths = struct.unpack(f"<{count}I", self._take(4 * count))
        return list(itertools.accumulate(lengths, initial=0))

    def _byte(self) -> int:
        self._require(1)
        self.position += 1
        return self._data[self.position - 1]

    def _size(self) -> int:
        self._require(SIZE.size)
        size: int = SIZE.unpack_from(self._data, self.position)[0]
        self.position += SIZE.size
        return size

    def _count(self, values: int, depth: int) -> None:
        self._values += values
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise TooLarge(f"nested deeper than {MAX_DEPTH} or more than {MAX_VALUES} values")

    def _require(self, size: int) -> None:
        if size > len(self._data) - self.position:
            raise CodecError("the message ends within a value")

    def _take(self, size: int) -> bytes:
        self._require(size)
        start, self.position = self.position, self.position + size
        return self._data[start : self.position]

    def _numbers(self, count: int, depth: int) -> list[Any]:
        """Numbers of one numpy type, sent as one array."""
        numbers = self.read(depth + 1)
        if getattr(numbers, "shape", None) != (count,):
            raise CodecError("not as many numbers as were said")
        return list(numbers)


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise CodecError(str(error)) from None


def _built(build: Callable[[Any], Any], parts: Any) -> Any:
    """Raises CodecError where the parts make no such value: a list as a key, a fraction over zero."""
    try:
        return build(parts)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise CodecError(f"{type(error).__name__}: {error}") from None


def _empty(tag: int, heading: Any) -> Any:
    """The container that a tag begins, without its contents."""
    if tag == ord("k"):
        return _built(lambda bound: deque(maxlen=bound), heading)
    if tag == ord("f"):
        return defaultdict(None if heading is None else _built(_FACTORIES.__getitem__, heading))
    if tag not in _EMPTY:
        raise CodecError(f"unknown tag {tag}")
    return _EMPTY[tag]()


_EMPTY = {
    **{ord(tag): kind for kind, tag in SEQUENCES.items() if kind in MUTABLE},
    **{ord(tag): kind for kind, tag in MAPPINGS.items()},
}
_FACTORIES = {kind.__name__: kind for kind in kinds.FACTORIES}
