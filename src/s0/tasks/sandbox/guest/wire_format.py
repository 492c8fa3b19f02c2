"""The bytes of a message, for `writer` and `reader`.

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

The value is followed by the number of changes, and each of them as `u`.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict

MAX_DEPTH = 100
"""Containers within containers; Python's own recursion limit must not decide this."""
MAX_VALUES = 4_000_000
"""Values in one message: bounds the memory that decoding a message can take."""
MAX_MESSAGE_BYTES = 64 << 20

SIZE = struct.Struct("<I")
FLOAT = struct.Struct("<d")
COMPLEX = struct.Struct("<dd")
SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}
MAPPINGS: dict[type, bytes] = {dict: b"m", Counter: b"C", OrderedDict: b"O", defaultdict: b"f"}


class CodecError(ValueError):
    """The value cannot pass, or the bytes are no message of this codec."""


class TooLarge(CodecError):
    """More values, bytes or depth than a message may have."""
