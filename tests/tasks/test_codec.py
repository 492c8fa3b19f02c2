"""Only plain data crosses, and all plain data does."""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks.sandbox.guest import codec

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 4000), 1 << 4000)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())  # lone surrogates included
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=5) | st.sets(HASHABLE, max_size=5) | st.dictionaries(HASHABLE, inner, max_size=5)
    ),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """The value with its exact types, and floats by their bits: nan equals itself, -0.0 differs from 0.0."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack("<d", value)
    if kind is complex:
        return kind, struct.pack("<dd", value.real, value.imag)
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    return kind, value


@given(PLAIN)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert shape(codec.decode(codec.encode(value))) == shape(value)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except codec.CodecError:
        return
    assert shape(codec.decode(codec.encode(value))) == shape(value)


@given(PLAIN, st.integers(0, 200))
def test_a_truncated_message_is_refused(value: Any, kept: int) -> None:
    data = codec.encode(value)
    with pytest.raises(codec.CodecError):
        codec.decode(data[: min(kept, len(data) - 1)])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(codec.encode(1) + b"N")


class AlwaysEqual(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class Text(str):
    pass


class Colour(IntEnum):
    RED = 1


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        AlwaysEqual(1), Text("a"), Colour.RED, Pair(1, 2), object(), len, int, range(3), (i for i in "ab"),
        map(len, ""),
        bytearray(b"a"), memoryview(b"a"), deque([1]), {}.keys(), NotImplemented, Ellipsis, slice(1),
        [AlwaysEqual(1)],
        {AlwaysEqual(1): 2}, {1: AlwaysEqual(1)}, (1, {AlwaysEqual(1)}), type("L", (list,), {})(),
        type("D", (dict,), {})(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_could_carry_behaviour_is_refused(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.encode(value)


@pytest.mark.parametrize("value", [Counter("aab"), OrderedDict(a=1), defaultdict(int, a=1)])
def test_dictionaries_of_the_standard_library_travel_as_plain_ones(value: Any) -> None:
    back = codec.decode(codec.encode(value))
    assert type(back) is dict
    assert back == value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_capped_on_both_sides() -> None:
    codec.decode(codec.encode(nested(codec.MAX_DEPTH)))
    with pytest.raises(codec.CodecError):
        codec.encode(nested(codec.MAX_DEPTH + 1))
    with pytest.raises(codec.CodecError):
        codec.decode(b"l\x01\x00\x00\x00" * (codec.MAX_DEPTH + 1) + b"N")


def test_a_value_within_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(codec.CodecError):
        codec.encode(loop)


@pytest.mark.parametrize(
    "value", [b"a" * (codec.MAX_MESSAGE_BYTES + 1), [None] * (codec.MAX_VALUES + 1)], ids=["bytes", "values"]
)
def test_size_is_capped(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.encode(value)


def test_announced_sizes_take_no_memory() -> None:
    for tag in b"isbltezm":
        with pytest.raises(codec.CodecError):
            codec.decode(bytes([tag]) + b"\xff\xff\xff\xff")


def test_a_list_as_a_key_is_refused() -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(b"m\x01\x00\x00\x00" + codec.encode([1]) + codec.encode(1))


def test_nan_and_zero_keep_their_kind() -> None:
    assert math.isnan(codec.decode(codec.encode(math.nan)))  # type: ignore[arg-type]
    assert math.copysign(1, codec.decode(codec.encode(-0.0))) == -1  # type: ignore[arg-type]
