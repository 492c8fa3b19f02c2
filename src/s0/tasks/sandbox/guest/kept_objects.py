"""What is not data stays with the candidate; here is how the candidate describes it, and knows it again.

A description is a tuple of plain data: ("known", number), or of an object that is new

    ("object", number, name of its type, truth value or None, special methods that its type has, iterator)

where `iterator` holds the names of the public attributes of one, and is None for other objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SPECIAL = """
    call len iter next reversed getitem setitem delitem contains enter exit await aiter anext aenter aexit
    index int float complex round trunc floor ceil neg pos abs invert lt le gt ge bytes fspath
    add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor
    radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor
    iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ior ixor
"""
SPECIAL_METHODS = frozenset(f"__{name}__" for name in _SPECIAL.split())
"""Those that make a use of an object work; an object without one fails at that use in Python, too."""
UNHASHABLE = "no __hash__"


class Kept:
    """The candidate's objects that the checker knows by number."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def describe(self, value: object) -> tuple[object, ...]:
        """What `codec.encode` writes for a value that stays here: its number, and once all that a stand-in needs."""
        number = self._numbers.get(id(value))
        if number is not None:
            return "known", number
        kind = type(value)
        try:
            truth = bool(value)
        except Exception:
            truth = None
        number = self._numbers[id(value)] = len(self._objects)
        self._objects.append(value)
        return "object", number, _full_name(kind), truth, _special_methods(kind), _attributes(value)

    def known(self, description: Any) -> object:
        """What `codec.decode` makes of a description: what the checker means by the description that it sends back."""
        return self._objects[description[1]]

    def iterators_from(self, number: int) -> Iterator[tuple[int, Any]]:
        """Numbers and objects, of the iterators among those from `number` on."""
        return ((at, value) for at, value in enumerate(self._objects[number:], number) if is_iterator(type(value)))

    def __len__(self) -> int:
        return len(self._objects)

    def forget_from(self, size: int) -> None:
        """Take back the numbers from `size` on: the message with their descriptions was not sent."""
        for value in self._objects[size:]:
            del self._numbers[id(value)]
        del self._objects[size:]


def is_iterator(kind: type) -> bool:
    """Whether objects of the type give their items one after the other, once."""
    return _has(kind, "__next__") and _has(kind, "__iter__")


def _full_name(kind: type) -> str:
    module = getattr(kind, "__module__", "builtins")
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _special_methods(kind: type) -> tuple[str, ...]:
    names = [name for name in SPECIAL_METHODS if _has(kind, name)]
    return tuple(sorted(names)) if kind.__hash__ is not None else (*sorted(names), UNHASHABLE)


def _attributes(value: object) -> tuple[str, ...] | None:
    """The names of an iterator's attributes; None of any other value.

    Python asks iterators for some that they lack, as `dict` does for `keys`, and goes by their absence.
    """
    kind = type(value)
    if not is_iterator(kind):
        return None
    names = {name for base in kind.__mro__ for name in vars(base)}.union(getattr(value, "__dict__", ()))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def _has(kind: type, name: str) -> bool:
    """Whether objects of the type have the method: not `hasattr`, which would find one of the type's own type."""
    definitions = [vars(base)[name] for base in kind.__mro__ if base is not object and name in vars(base)]
    return bool(definitions) and definitions[0] is not None
