"""Data-only messages between the checker and the candidate.

Exactly these types pass, nested in each other: None, bool, int, float, complex, str, bytes, list, tuple, dict,
set, frozenset. A subclass is refused, since an `int` that overrides `__eq__` could claim to equal anything; so are
objects, functions and generators. Three dictionaries of the standard library (Counter, defaultdict, OrderedDict) are
honest answers where a dict is asked for and compare as one: they travel as plain dicts. What arrives is built by the
receiver from plain parts: nothing that comes out of `decode` carries behaviour of the sender.

One value is one tag byte and its payload; sizes are little-endian unsigned 32-bit numbers:

    N T F            None, True, False
    i size bytes     int, two's complement, little-endian        d 8 bytes        float (IEEE 754, so nan, inf, -0.0)
    s size bytes     str, UTF-8 with lone surrogates kept        c 16 bytes       complex
    b size bytes     bytes                                       l t e z count    list, tuple, set, frozenset
    m count          dict, then key and value in turn, order kept
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable

MAX_DEPTH = 100
"""Containers within containers; Python's own recursion limit must not decide this."""
MAX_VALUES = 1_000_000
"""Values in one message: bounds the memory that decoding a message can take."""
MAX_MESSAGE_BYTES = 8 << 20

_SIZE = struct.Struct("<I")
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_CONTAINER_TAGS: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
_DICT_TYPES = (dict, Counter, OrderedDict, defaultdict)
_BUILDERS: dict[int, Callable[[list[object]], object]] = {
    ord("l"): list,
    ord("t"): tuple,
    ord("e"): set,
    ord("z"): frozenset,
}


class CodecError(ValueError):
    """The value is not plain data, or is too deep or too large; or the bytes are no message of this codec."""


def encode(value: object) -> bytes:
    """Write one value.

    Raises:
        CodecError: a part of `value` has another type than the exact ones above, or a cap is exceeded.
    """
    writer = _Writer()
    try:
        writer.write(value, 0)
    except RuntimeError as error:  # a container changed its size while it was read
        raise CodecError(str(error)) from None
    return bytes(writer.out)


def decode(data: bytes) -> object:
    """Read the one value that `data` holds, all of it.

    Raises:
        CodecError: truncated, trailing or unknown bytes, a key that cannot be hashed, or a cap is exceeded.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise CodecError(f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    reader = _Reader(data)
    value = reader.read(0)
    if reader.position != len(data):
        raise CodecError(f"{len(data) - reader.position} bytes after the value")
    return value


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self.values = 0

    def write(self, value: object, depth: int) -> None:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise CodecError(f"nested deeper than {MAX_DEPTH} or more than {MAX_VALUES} values")
        kind = type(value)
        if kind in _CONTAINER_TAGS:
            self._container(_CONTAINER_TAGS[kind], value, depth)
        elif kind in _DICT_TYPES:
            self._dict(value, depth)
        else:
            self._scalar(value, kind)
        if len(self.out) > MAX_MESSAGE_BYTES:
            raise CodecError(f"more than {MAX_MESSAGE_BYTES} bytes")

    def _container(self, tag: bytes, value: object, depth: int) -> None:
        assert isinstance(value, (list, tuple, set, frozenset))
        self.out += tag + _SIZE.pack(len(value))
        for item in value:
            self.write(item, depth + 1)

    def _dict(self, value: object, depth: int) -> None:
        assert isinstance(value, dict)
        self.out += b"m" + _SIZE.pack(len(value))
        for key, item in value.items():
            self.write(key, depth + 1)
            self.write(item, depth + 1)

    def _scalar(self, value: object, kind: type) -> None:
        if value is None:
            self.out += b"N"
        elif isinstance(value, bool):
            self.out += b"T" if value else b"F"
        elif isinstance(value, int) and kind is int:
            self._sized(b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
        elif isinstance(value, float) and kind is float:
            self.out += b"d" + _FLOAT.pack(value)
        elif isinstance(value, complex) and kind is complex:
            self.out += b"c" + _COMPLEX.pack(value.real, value.imag)
        elif isinstance(value, str) and kind is str:
            self._sized(b"s", value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, bytes) and kind is bytes:
            self._sized(b"b", value)
        else:
            raise CodecError(f"{kind.__name__} is not plain data")

    def _sized(self, tag: bytes, payload: bytes) -> None:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise CodecError(f"more than {MAX_MESSAGE_BYTES} bytes")
        self.out += tag + _SIZE.pack(len(payload)) + payload


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.values = 0

    def read(self, depth: int) -> object:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise CodecError(f"nested deeper than {MAX_DEPTH} or more than {MAX_VALUES} values")
        tag = self._take(1)[0]
        if tag in _BUILDERS:
            items = [self.read(depth + 1) for _ in range(self._count())]
            return self._hashing(lambda: _BUILDERS[tag](items))
        if tag == ord("m"):
            pairs = [(self.read(depth + 1), self.read(depth + 1)) for _ in range(self._count())]
            return self._hashing(lambda: dict(pairs))
        return self._scalar(tag)

    def _scalar(self, tag: int) -> object:
        if tag in b"NTF":
            return {ord("N"): None, ord("T"): True, ord("F"): False}[tag]
        if tag == ord("d"):
            return _FLOAT.unpack(self._take(8))[0]
        if tag == ord("c"):
            return complex(*_COMPLEX.unpack(self._take(16)))
        if tag not in b"isb":
            raise CodecError(f"unknown tag {tag}")
        payload = self._take(_SIZE.unpack(self._take(4))[0])
        if tag == ord("i"):
            return int.from_bytes(payload, "little", signed=True)
        if tag == ord("b"):
            return payload
        try:
            return payload.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CodecError(str(error)) from None

    def _count(self) -> int:
        count: int = _SIZE.unpack(self._take(4))[0]
        if count > len(self.data) - self.position:  # every value takes a byte at least
            raise CodecError(f"{count} values announced, {len(self.data) - self.position} bytes left")
        return count

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise CodecError("the message ends within a value")
        part = self.data[self.position : end]
        self.position = end
        return part

    @staticmethod
    def _hashing(build: Callable[[], object]) -> object:
        try:
            return build()
        except TypeError as error:  # a list as a key
            raise CodecError(str(error)) from None
