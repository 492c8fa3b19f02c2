"""The mutable containers that both sides of a call know, by number.

Whoever writes a message and whoever reads it number its lists, dictionaries, sets and the like in the same order, so
a number stands for the same object on both sides: an object that occurs twice stays one, an argument that comes back
is the caller's own, and what was done to it can be sent as new contents of that number.
"""

from __future__ import annotations

import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Container
from typing import Any

DICTIONARIES = (Counter, OrderedDict, defaultdict, dict)
MUTABLE = frozenset((list, set, bytearray, deque, *DICTIONARIES))


class Scope:
    """Objects in the order in which they were numbered; kept alive, so that an identity stays theirs."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._watched: list[list[object]] = []

    def add(self, value: object) -> None:
        """Give an object the next number."""
        self._numbers[id(value)] = len(self.objects)
        self.objects.append(value)

    def add_all(self, values: list[Any]) -> bool:
        """Number all of them, if all are distinct and new."""
        identities = list(map(id, values))
        if len(set(identities)) < len(identities) or not self._numbers.keys().isdisjoint(identities):
            return False
        first = len(self.objects)
        self._numbers.update(zip(identities, range(first, first + len(values)), strict=True))
        self.objects += values
        return True

    def number_of(self, value: object) -> int | None:
        """The number of an object; None for one that has none."""
        return self._numbers.get(id(value))

    def forget_from(self, size: int) -> None:
        """Take back the numbers from `size` on: the message that gave them was not sent."""
        for value in self.objects[size:]:
            del self._numbers[id(value)]
        del self.objects[size:]

    def watch(self) -> None:
        """Note what all objects hold now."""
        self._watched += map(contents, self.objects[len(self._watched) :])

    def changed(self, number: int) -> bool:
        """Whether a watched object holds something else than was noted; then that is what is noted."""
        if number >= len(self._watched):
            return False
        before, now = self._watched[number], contents(self.objects[number])
        if len(before) == len(now) and all(map(operator.is_, before, now)):
            return False
        self._watched[number] = now
        return True

    def all_changed(self) -> list[int]:
        """The numbers of those that have changed."""
        return [number for number in range(len(self._watched)) if self.changed(number)]


def base_of(kind: type, known: Container[type]) -> type | None:
    """The nearest of the `known` classes that `kind` is or inherits from."""
    if kind in known:
        return kind
    return next((parent for parent in _ancestors(kind) if parent in known), None)


_ancestors = type.__dict__["__mro__"].__get__
"""Not `kind.__mro__`, which a metaclass may hide."""


def contents(value: Any) -> list[Any]:
    """What a mutable container holds, read through the class of the standard library, never a method of a subclass."""
    base = base_of(type(value), MUTABLE)
    if base in DICTIONARIES:
        return [*pairs_class(base).keys(value), *pairs_class(base).values(value)]
    assert base is not None
    return list(base.__iter__(value))  # type: ignore[attr-defined]  # all of `MUTABLE` have it


def pairs_class(base: type) -> Any:
    """The class whose `keys` and `values` keep the order: an OrderedDict has one of its own."""
    return OrderedDict if base is OrderedDict else dict


def replace(target: Any, source: Any) -> None:
    """Give `target` the contents of `source`; both are of one of the `MUTABLE` kinds."""
    base = base_of(type(target), MUTABLE)
    if base in (list, bytearray):
        base.__setitem__(target, slice(None), source)
    elif base is deque:
        deque.clear(target)
        deque.extend(target, source)
    elif base is set:
        set.clear(target)
        set.update(target, source)
    else:
        pairs_class(base or dict).clear(target)
        for key, item in source.items():
            pairs_class(base or dict).__setitem__(target, key, item)
