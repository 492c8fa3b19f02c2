"""Data-only messages between the checker and the candidate.

What passes is written as plain content and built anew by the receiver: nothing that comes out of `decode` carries
behaviour of the sender. Of a subclass only the content passes, read through the class of the standard library, never
through a method that the subclass may have replaced: an `int` whose `__eq__` claims everything arrives as the number.

    plain       None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, bytearray
    collections namedtuple, Counter, OrderedDict, defaultdict (a factory of its own is lost), deque
    others      what `kinds` lists: range, Decimal, dates, views of dictionaries, types by name ...
    numpy       arrays, and numbers of its own; those that are a float or complex arrive as Python's
    away        anything else stays where it is: a description that the caller supplies passes in its place

Lists, dictionaries and sets keep their identity (see `scope`): one that occurs twice arrives as one, one that the
receiver sent comes back as the receiver's own, and after the value follow the new contents of those that changed.

The bytes are those of `wire_format`; `writer` and `reader` turn values into them and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from s0.tasks.sandbox.guest.reader import Reader, Update
from s0.tasks.sandbox.guest.scope import Scope, replace
from s0.tasks.sandbox.guest.wire_format import MAX_DEPTH, MAX_MESSAGE_BYTES, MAX_VALUES, CodecError, TooLarge
from s0.tasks.sandbox.guest.writer import Writer

__all__ = [
    "MAX_DEPTH",
    "MAX_MESSAGE_BYTES",
    "MAX_VALUES",
    "CodecError",
    "TooLarge",
    "Update",
    "apply",
    "decode",
    "encode",
    "read",
]


def stays(value: object) -> object:
    """Refuse `value`: the message is one in which nothing may stay on its side.

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
    writer = Writer(scope, away)
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
    reader = Reader(data, scope, home)
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
