"""Data-only messages between the checker and the candidate.

What passes is written as plain content and built anew by the receiver: nothing that comes out of `decode` carries
behaviour of the sender. Of a subclass only the content passes, read through the class of the standard library, never
through a method that the subclass may have replaced: an `int` whose `__eq__` claims everything arrives as the number.

    plain       None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, bytearray
    collections namedtuple, Counter, OrderedDict, defaultdict (a factory of its own is lost), deque
    others      what `kinds` lists: range, Decimal, dates, views of dictionaries, types by name ...
    away        anything else stays where it is: a description that the caller supplies passes in its place

Lists, dictionaries and sets keep their identity (see `scope`): one that occurs twice arrives as one, one that the
receiver sent comes back as the receiver's own, and after the value follow the new contents of those that changed.

A value is a tag byte and its payload; sizes are little-endian unsigned 32-bit numbers:

    N T F               None, True, False
    i s b y  size bytes int (two's complement), str (UTF-8, lone surrogates kept), bytes, bytearray
    d c                 float (8 bytes), complex (16)
    l t e z  items      list, tuple, set, frozenset
    m C O    items x 2  dict, Counter, OrderedDict: keys, then values
    f k      value then defaultdict: name of the factory, then as a dict; deque: its bound, then items
    n        value then namedtuple: (name, fields), then items
    v        value      a type, function or single value, by its name
    K        value x 2  of `kinds`: name, parts
    A        value      what stays away: its description
    r        size       an object of the scope, by number; with u its new contents follow

Items of one type are packed, so that a million numbers take milliseconds: after the count

    *  values, one by one           Q D B  64-bit ints, floats, bools
    0  a byte for every None        S      strings: lengths, then one text of all
    L M  lists, tuples: lengths, then the items of all of them as one
"""

from __future__ import annotations

import functools
import itertools
import keyword
import struct
from array import array
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable
from typing import Any

from s0.tasks.sandbox.guest import kinds
from s0.tasks.sandbox.guest.scope import DICTIONARIES, MUTABLE, Scope, base_of, pairs_class, replace

MAX_DEPTH = 100
"""Containers within containers; Python's own recursion limit must not decide this."""
MAX_VALUES = 4_000_000
"""Values in one message: bounds the memory that decoding a message can take."""
MAX_MESSAGE_BYTES = 64 << 20
MAX_FIELDS = 100

_SIZE = struct.Struct("<I")
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_SINGLE = {ord("N"): None, ord("T"): True, ord("F"): False}
_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
_MAPPINGS: dict[type, bytes] = {dict: b"m", Counter: b"C", OrderedDict: b"O", defaultdict: b"f"}
_NUMBERS = {ord("Q"): "q", ord("D"): "d"}
_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
_KNOWN = frozenset((*_SCALARS, *_SEQUENCES, *MUTABLE, *kinds.TAKEN_APART))

Update = tuple[Any, Any]
"""An object that was known before a message, and one that holds its new contents."""


class CodecError(ValueError):
    """The value cannot pass, or the bytes are no message of this codec."""


class TooLarge(CodecError):
    """More values, bytes or depth than a message may have."""


def stays(value: object) -> object:
    """For messages in which nothing may stay away.

    Raises:
        CodecError: always.
    """
    raise CodecError(f"{type(value).__name__} is not plain data")


def encode(
    value: object,
    scope: Scope | None = None,
    away: Callable[[object], object] = stays,
    *,
    with_changes: bool = False,
) -> bytes:
    """Write one value.

    Args:
        value: what to write.
        scope: objects that both sides know; those that are new in `value` join it.
        away: gives a description, of plain data, of what is none.
        with_changes: whether the new contents of all watched objects follow, not of those alone that `value` holds.

    Raises:
        CodecError: `away` has raised it.
        TooLarge: a cap is exceeded.
    """
    scope = scope or Scope()
    size = len(scope.objects)
    writer = _Writer(scope, away)
    try:
        writer.write(value, 0)
        writer.changes(scope.all_changed() if with_changes else [])
    except RuntimeError as error:  # too deep where it is called, or a container changed its size while it was read
        scope.forget_from(size)
        raise TooLarge(str(error)) from None
    except BaseException:
        scope.forget_from(size)
        raise
    return bytes(writer.out)


def decode(data: bytes, scope: Scope | None = None, home: Callable[[object], object] = stays) -> object:
    """Read the one value that `data` holds, and give changed objects their new contents.

    Args:
        data: a message.
        scope: as of `encode`, in the same state.
        home: gives what a description stands for.

    Raises:
        CodecError: truncated, trailing or unknown bytes, or parts that make no value; nothing has changed then.
        TooLarge: a cap is exceeded.
    """
    value, updates = read(data, scope or Scope(), home)
    apply(updates)
    return value


def read(data: bytes, scope: Scope, home: Callable[[object], object]) -> tuple[object, list[Update]]:
    """As `decode`, but for the changes: they are made by `apply`."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    reader = _Reader(data, scope, home)
    try:
        value = reader.read(0)
        reader.changes()
    except RecursionError as error:
        raise TooLarge(str(error)) from None
    if reader.position != len(data):
        raise CodecError(f"{len(data) - reader.position} bytes after the value")
    return value, reader.updates


def apply(updates: Iterable[Update]) -> None:
    """Give objects their new contents."""
    for target, source in updates:
        replace(target, source)


class _Writer:
    def __init__(self, scope: Scope, away: Callable[[object], object]) -> None:
        self.out = bytearray()
        self._scope = scope
        self._away = away
        self._values = 0
        self._updated: set[int] = set()

    def write(self, value: Any, depth: int) -> None:
        self._count(1, depth)
        kind = type(value)
        base = kind if kind in _KNOWN else base_of(kind, _KNOWN)
        if base in _SCALARS:
            self._scalar(base, value)
        elif base in MUTABLE:
            self._mutable(base, value, depth)
        elif base in _SEQUENCES:
            self._immutable(base, kind, value, depth)
        elif base in kinds.TAKEN_APART:
            self._apart(base, value, depth)
        elif (name := kinds.name_of(value)) is not None:
            self._tagged(b"v", name, depth)
        else:
            self._tagged(b"A", self._away(value), depth)

    def changes(self, numbers: list[int]) -> None:
        """The new contents of objects; those that the value holds have been written there."""
        left = [number for number in numbers if number not in self._updated]
        self.out += _SIZE.pack(len(left))
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
            self.out += b"r" + _SIZE.pack(number)

    def _update(self, number: int, depth: int) -> None:
        self._updated.add(number)
        self.out += b"u" + _SIZE.pack(number)
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
                self.out += _MAPPINGS[base]
            self._items(list(pairs_class(base).keys(value)), depth)
            self._items(list(pairs_class(base).values(value)), depth)
        else:
            self.out += _SEQUENCES[base]
            self._items(value if type(value) is list else list(base.__iter__(value)), depth)

    def _immutable(self, base: Any, kind: type, value: Any, depth: int) -> None:
        items = list(base.__iter__(value))
        heading = _heading(kind, len(items)) if kind is not base and base is tuple else None
        if heading is None:
            self.out += _SEQUENCES[base]
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
            self.out += b"d" + _FLOAT.pack(float.__float__(value))
        elif base is complex:
            self.out += b"c" + _COMPLEX.pack(_REAL(value), _IMAGINARY(value))
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
        elif kind is float:
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
        self.out += tag + _SIZE.pack(count)
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


class _Reader:
    def __init__(self, data: bytes, scope: Scope, home: Callable[[object], object]) -> None:
        self.position = 0
        self.updates: list[Update] = []
        self._data = data
        self._scope = scope
        self._home = home
        self._values = 0

    def read(self, depth: int) -> Any:
        self._count(1, depth)
        tag = self._take(1)[0]
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
        for _ in range(self._size()):
            self._count(1, 0)
            if self._take(1) != b"u":
                raise CodecError("no change of a known object")
            self._update(0)

    def _known(self, number: int) -> Any:
        if number >= len(self._scope.objects):
            raise CodecError(f"object {number} of {len(self._scope.objects)}")
        return self._scope.objects[number]

    def _update(self, depth: int) -> Any:
        target = self._known(self._size())
        source = self._mutable(self._take(1)[0], depth, lambda _: None)
        if type(source) is not base_of(type(target), MUTABLE):
            raise CodecError("new contents of another kind")
        self.updates.append((target, source))
        return target

    def _scalar(self, tag: int) -> object:
        if tag == ord("d"):
            return _FLOAT.unpack(self._take(8))[0]
        if tag == ord("c"):
            return complex(*_COMPLEX.unpack(self._take(16)))
        payload = self._take(self._size())
        if tag == ord("i"):
            return int.from_bytes(payload, "little", signed=True)
        return payload if tag == ord("b") else _text(payload)

    def _immutable(self, tag: int, depth: int) -> object:
        build: Callable[[list[Any]], object] = tuple
        if tag == ord("n"):
            build = _named_tuple(self.read(depth + 1))._make
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
        form = self._take(1)[0]
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

    def _size(self) -> int:
        size: int = _SIZE.unpack(self._take(4))[0]
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


_MAX_LENGTH = deque.__dict__["maxlen"].__get__
_FACTORY = defaultdict.__dict__["default_factory"].__get__
_REAL, _IMAGINARY = complex.__dict__["real"].__get__, complex.__dict__["imag"].__get__


def _sized(payload: bytes) -> bytes:
    return _SIZE.pack(len(payload)) + payload


def _sizes(lengths: list[int]) -> bytes:
    return struct.pack(f"<{len(lengths)}I", *lengths)


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
    **{ord(tag): kind for kind, tag in _SEQUENCES.items() if kind in MUTABLE},
    **{ord(tag): kind for kind, tag in _MAPPINGS.items()},
}
_FACTORIES = {kind.__name__: kind for kind in kinds.FACTORIES}


def _heading(kind: type, size: int) -> tuple[str, tuple[str, ...]] | None:
    """Name and fields, where `kind` is a class as `namedtuple` makes them."""
    heading = (kind.__name__, getattr(kind, "_fields", None))
    return heading if _is_heading(heading) and len(heading[1]) == size else None  # type: ignore[arg-type, return-value]


def _is_heading(heading: object) -> bool:
    match heading:
        case (str(), tuple() as fields) if len(set(fields)) == len(fields) <= MAX_FIELDS:
            return all(type(name) is str and _is_name(name) for name in (heading[0], *fields))
    return False


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and len(name) <= 100


def _named_tuple(heading: Any) -> Any:
    if not _is_heading(heading) or any(field.startswith("_") for field in heading[1]):
        raise CodecError("no name and fields of a namedtuple")
    return _named_tuple_class(*heading)


@functools.lru_cache(256)
def _named_tuple_class(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)
