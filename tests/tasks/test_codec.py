"""Only plain data crosses, and all plain data does."""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks.sandbox.guest import codec, raised
from s0.tasks.sandbox.guest.scope import Scope
from s0.tasks.sandbox.guest.standin import StandIns

ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
OTHERS = (
    st.decimals()
    | st.fractions()
    | st.dates()
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
    | st.sampled_from([int, Decimal, ValueError, len, ..., NotImplemented, type(None)])
)
Pair = namedtuple("Pair", "a b")
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 4000), 1 << 4000)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())  # lone surrogates included
    | st.binary()
    | OTHERS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.frozensets(inner, max_size=4)
        | st.tuples(inner, inner).map(lambda pair: Pair(*pair))
    ),
    max_leaves=8,
)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(st.lists(st.integers() | st.booleans(), max_size=3), max_size=3)
        | st.lists(st.integers(), max_size=5)
        | st.lists(st.floats(), max_size=5)
        | st.lists(st.text(max_size=3), max_size=5)
        | st.sets(HASHABLE, max_size=5)
        | st.dictionaries(HASHABLE, inner, max_size=5)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(lambda pairs: defaultdict(list, pairs))
        | st.lists(HASHABLE, max_size=3).map(Counter)
        | st.tuples(st.lists(inner, max_size=4), st.none() | st.integers(0, 5)).map(lambda parts: deque(*parts))
        | st.binary(max_size=5).map(bytearray)
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
    if kind is deque:
        return kind, value.maxlen, [shape(item) for item in value]
    if kind is list or isinstance(value, tuple):
        return kind.__name__, getattr(value, "_fields", None), [shape(item) for item in value]
    if isinstance(value, dict):
        factory = value.default_factory if kind is defaultdict else None
        return kind, factory, [(shape(key), shape(item)) for key, item in value.items()]
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime, time):
        return kind, repr(value)
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


class Liar(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([7])

    def __len__(self) -> int:
        return 9


@pytest.mark.parametrize(
    "value",
    [
        object(), (i for i in "ab"), map(len, ""), memoryview(b"a"), AlwaysEqual, print, eval, open, codec, Text.upper,
        [object()], {1: object()}, (1, {object()}), ValueError(), type, super, property, BaseException, SystemExit,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_could_carry_behaviour_is_refused(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.encode(value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (AlwaysEqual(1), 1), (Text("a"), "a"), (Colour.RED, 1), (type("F", (float,), {})(0.5), 0.5),
        (type("B", (bytes,), {})(b"a"), b"a"), (Liar([1, 2]), [1, 2]), (type("T", (tuple,), {})((1, 2)), (1, 2)),
        (type("D", (dict,), {"items": None, "keys": None})({1: 2}), {1: 2}), (type("S", (set,), {})({1}), {1}),
        (type("C", (Counter,), {"items": None})("aa"), Counter("aa")), ({AlwaysEqual(1): [Liar([3])]}, {1: [[3]]}),
        (type("Z", (complex,), {})(1j), 1j), (type("E", (Decimal,), {"__str__": None})("1.0"), Decimal("1.0")),
        (type("A", (date,), {"year": 3})(2020, 1, 2), date(2020, 1, 2)),
        (type("Q", (deque,), {})([1], 2), deque([1], 2)),
        (type("R", (Fraction,), {})(1, 2), Fraction(1, 2)), (defaultdict(lambda: 1, a=2), defaultdict(None, a=2)),
        (OrderedDict(a=1).keys(), {"a"}), ({1: 2}.items(), {(1, 2)}), (slice(1, None), slice(1, None)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_of_a_subclass_the_plain_content_passes(value: Any, plain: Any) -> None:
    back = codec.decode(codec.encode(value))
    assert back == plain and plain == back
    if not isinstance(plain, set):
        assert shape(back) == shape(plain) and type(back) is type(plain)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_capped_on_both_sides() -> None:
    codec.decode(codec.encode(nested(codec.MAX_DEPTH)))
    with pytest.raises(codec.CodecError):
        codec.encode(nested(codec.MAX_DEPTH + 1))
    with pytest.raises(codec.TooLarge):
        codec.decode(b"l*\x01\x00\x00\x00" * (codec.MAX_DEPTH + 1) + b"N")


def test_identity_is_kept_within_a_value_and_loops_are_allowed() -> None:
    loop: list[Any] = [[], {}]
    loop.append(loop)
    loop.append(loop[0])
    back: Any = codec.decode(codec.encode(loop))
    assert back[2] is back and back[3] is back[0] and back[:2] == [[], {}]
    rows = [[1], [2]]
    again: Any = codec.decode(codec.encode([rows, rows[1]]))
    assert again == [[[1], [2]], [2]] and again[1] is again[0][1]


@pytest.mark.parametrize(
    "value", [b"a" * (codec.MAX_MESSAGE_BYTES + 1), [None] * (codec.MAX_VALUES + 1)], ids=["bytes", "values"]
)
def test_size_is_capped(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.encode(value)


def test_announced_sizes_take_no_memory() -> None:
    for tag in (*b"isby", *(b"l" + bytes([form]) for form in b"*QDB0SLM"), *(b"m" + bytes([form]) for form in b"*QD")):
        start = tag if isinstance(tag, bytes) else bytes([tag])
        for size in (b"\xff\xff\xff\xff", b"\xff\xff\x3c\x00"):
            with pytest.raises(codec.CodecError):
                codec.decode(start + size)


def size(number: int) -> bytes:
    return struct.pack("<I", number)


def written(value: Any) -> bytes:
    """A value as it stands within a message."""
    return codec.encode(value)[:-4]  # no changes follow


def items(*values: bytes) -> bytes:
    return b"*" + size(len(values)) + b"".join(values)


ONE, LIST = written(1), written([])
HOSTILE = {
    "a list as a key": b"m" + items(LIST) + items(ONE),
    "a list in a set": b"e" + items(LIST),
    "a dictionary in a frozenset": b"z" + items(b"m" + items() + items()),
    "more keys than values": b"m" + items(ONE, ONE) + items(ONE),
    "an unknown tag": b"?",
    "an unknown form": b"l?" + size(1) + ONE,
    "an object that is not known": b"r" + size(0),
    "a change of an object that is not known": b"u" + size(7) + LIST,
    "a change to another kind": b"l" + items(LIST, b"u" + size(1) + b"e" + items()),
    "a change to no container": b"l" + items(LIST, b"u" + size(1) + ONE),
    "a change to a reference": b"l" + items(LIST, b"u" + size(1) + b"r" + size(1)),
    "fields that are no names": b"n" + written(("P", ("a", "b: __import__('os')"))) + items(ONE, ONE),
    "fields that are keywords": b"n" + written(("P", ("def",))) + items(ONE),
    "fields that are special": b"n" + written(("P", ("__eq__",))) + items(ONE),
    "fields of other letters": b"n" + written(("P", ("\uff49f",))) + items(ONE),
    "fields that occur twice": b"n" + written(("P", ("a", "a"))) + items(ONE, ONE),
    "fields that are no texts": b"n" + written(("P", (1, 2))) + items(ONE, ONE),
    "fields in a list": b"n" + written(("P", ["a"])) + items(ONE),
    "too many fields": b"n" + written(("P", tuple(f"a{n}" for n in range(101)))) + items(*[ONE] * 101),
    "a name that is none": b"n" + written(("P(1)", ("a",))) + items(ONE),
    "fewer values than fields": b"n" + written(("P", ("a", "b"))) + items(ONE),
    "no heading at all": b"n" + ONE + items(ONE),
    "a decimal that is none": b"K" + written("Decimal") + written(("one",)),
    "a decimal from a number": b"K" + written("Decimal") + written((1.5,)),
    "a fraction over zero": b"K" + written("Fraction") + written((1, 0)),
    "a fraction of floats": b"K" + written("Fraction") + written((0.5, 2)),
    "a fraction that is not reduced": b"K" + written("Fraction") + written((2, 4)),
    "a range without a step": b"K" + written("range") + written((1, 2, 0)),
    "a range of texts": b"K" + written("range") + written(("a", "b", "c")),
    "a date that is none": b"K" + written("date") + written((2020, 13, 1)),
    "a time of texts": b"K" + written("time") + written(("1", 2, 3, 4, 0, ())),
    "a zone of two days": b"K" + written("datetime") + written((2020, 1, 1, 0, 0, 0, 0, 0, (2, 0, 0))),
    "a duration past all bounds": b"K" + written("timedelta") + written((10**12, 0, 0)),
    "views of lists": b"K" + written("keys") + written(([1],)),
    "pairs of three": b"K" + written("items") + written(((1, 2, 3),)),
    "parts that are no tuple": b"K" + written("range") + ONE,
    "another kind": b"K" + written("eval") + written(("1",)),
    "a kind without a name": b"K" + written([1]) + written(()),
    "a function by name": b"v" + written("function eval"),
    "a type by name": b"v" + written("type type"),
    "an exception that ends processes": b"v" + written("error SystemExit"),
    "a name that is a list": b"v" + written([1]),
    "a bound below zero": b"k" + written(-1) + items(),
    "a bound that is a text": b"k" + written("5") + items(),
    "a factory that runs": b"f" + written("eval") + items() + items(),
    "a factory that is a list": b"f" + written([1]) + items() + items(),
    "strings past their text": b"lS" + size(1) + size(5) + size(1) + b"a",
    "strings short of their text": b"lS" + size(1) + size(0) + size(1) + b"a",
    "strings that are no UTF-8": b"lS" + size(1) + size(1) + size(1) + b"\xff",
    "rows past their items": b"lL" + size(1) + size(3) + items(ONE),
    "rows short of their items": b"lM" + size(1) + size(0) + items(ONE),
    "rows that grow without bound": b"lM" + b"".join(b"" for _ in ()) + size(1) + size(2**32 - 1) + items(),
    "something away where nothing may be": b"A" + written(("known", 0)),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_refused(name: str) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(HOSTILE[name] + size(0))


def test_changes_that_are_none_are_refused() -> None:
    for changes in (size(1), size(1) + ONE, size(1) + LIST, size(2**31)):
        with pytest.raises(codec.CodecError):
            codec.decode(ONE + changes)


def test_a_refused_message_changes_nothing() -> None:
    scope, known = Scope(), [1]
    scope.add(known)
    change = b"u" + size(0) + b"l" + items(ONE, ONE)
    with pytest.raises(codec.CodecError):
        codec.decode(b"t" + items(change, b"?") + size(0), scope)
    assert known == [1]
    codec.decode(b"t" + items(change) + size(0), scope)
    assert known == [1, 1]


def test_numbers_of_any_length_pass() -> None:
    text = "1" + "0" * 1_000_000
    assert codec.decode(codec.encode(Decimal(text))) == Decimal(text)
    assert codec.decode(codec.encode(1 << 4_000_000)) == 1 << 4_000_000


def stand_ins() -> StandIns:
    def refuse(use: str, name: str) -> Any:
        raise AssertionError(f"{use} of {name}")

    return StandIns(refuse, lambda number: iter([number]))


OBJECT = ("object", 0, "Point", True, ("__len__",), None)


@pytest.mark.parametrize(
    "description",
    [
        ("known", 0), ("known", -1), ("known", "0"), ("object",), (), None, 5, [], ("known", [0]),
        ("object", "0", "Point", True, (), None), ("object", 0, b"Point", True, (), None),
        ("object", 0, "Point", 1, (), None), ("object", 0, "Point", True, ["__len__"], None),
        ("object", 0, "Point", True, ("__eq__",), None), ("object", 0, "Point", True, ("__class__",), None),
        ("object", 0, "Point", True, ("__getattribute__",), None), ("object", 0, "Point", True, ([],), None),
        ("object", 0, "Point", True, (), True), ("object", 0, "Point", True, (), ([],)),
        ("object", 0, "Point", True, (), []),
    ],
    ids=repr,
)  # fmt: skip
def test_a_hostile_description_of_an_object_is_refused(description: Any) -> None:
    with pytest.raises(codec.CodecError):
        stand_ins().from_description(description)


def test_an_object_is_described_once() -> None:
    known = stand_ins()
    value: Any = known.from_description(OBJECT)
    assert known.from_description(("known", 0)) is value and known.describe(value) == ("known", 0)
    with pytest.raises(codec.CodecError):
        known.from_description(OBJECT)
    assert value != known.from_description(("object", 1, "Point", True, (), None))
    for name in ("", "a" * 61, "passed\n", "\u00e9", "x y"):
        other = stand_ins().from_description(("object", 0, name, True, (), None))
        assert type(other).__name__ == "object" and other != value and bool(other)


@pytest.mark.parametrize(
    "description",
    [
        None, (), "ValueError", ("E",), ("E f", (), (), {}, ""), ("E" * 80, (), (), {}, ""), (b"E", (), (), {}, ""),
        ("E", [], (), {}, ""), ("E", ("a b",), (), {}, ""), ("E", (1,), (), {}, ""), ("E", (), [], {}, ""),
        ("E", (), (), {"a b": 1}, ""), ("E", (), (), {1: 1}, ""), ("E", (), (), [], ""), ("E", (), (), {}, b""),
        ("E", ("Exception",) * 100, (), {}, ""), ("E", (), (), {f"a{n}": n for n in range(101)}, ""),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_hostile_description_of_an_exception_is_refused(description: Any) -> None:
    assert not raised.is_description(description)


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        (("E", ("SystemExit", "BaseException"), (), {}, ""), Exception),
        (("E", ("KeyboardInterrupt",), (), {}, ""), Exception),
        (("E", ("StopIteration", "Exception"), (), {}, ""), RuntimeError),
        (("E", ("GeneratorExit",), (), {}, ""), Exception),
        (("E", ("eval", "type", "int"), (), {}, ""), Exception),
        (("E", ("OSError", "SyntaxError"), (), {}, "both"), Exception),
        (("E", ("ExceptionGroup",), ("a", [1]), {}, "group"), Exception),
        (
            ("ValueError", ("ValueError",), (1, 2), {"args": 5, "__class__": 1, "with_traceback": 3}, "(1, 2)"),
            ValueError,
        ),
        (("UnicodeDecodeError", ("UnicodeDecodeError",), (), {}, "bad"), UnicodeDecodeError),
        (("OSError", ("OSError",), (2, "x", "y"), {}, "z"), OSError),
    ],
)
def test_an_exception_is_of_the_checkers_making(description: Any, kind: type[Exception]) -> None:
    assert raised.is_description(description)
    error = raised.exception_of(description, {})
    assert isinstance(error, kind) and isinstance(error, Exception)
    assert not isinstance(error, (StopIteration, StopAsyncIteration))
    assert str(error) == description[-1] or kind is RuntimeError
    assert isinstance(error.args, tuple)


def test_nan_and_zero_keep_their_kind() -> None:
    assert math.isnan(codec.decode(codec.encode(math.nan)))  # type: ignore[arg-type]
    assert math.copysign(1, codec.decode(codec.encode(-0.0))) == -1  # type: ignore[arg-type]
