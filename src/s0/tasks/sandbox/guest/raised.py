"""Exceptions of the candidate: described as plain data there, raised here as classes of the checker's making.

A description is (name, names of the classes that its class is or inherits from, args, attributes, text). Such a name
stands for the builtin exception, or for one that the prompt defines: the test may catch either.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST_NAME = 80
_LONGEST_TEXT = 10_000
_MOST_ATTRIBUTES = 100
_NOT_RAISED = (StopIteration, StopAsyncIteration)
"""They would end a loop of the test that is not theirs to end; RuntimeError stands for them, as in PEP 479."""


def describe(error: BaseException, passes: Callable[[object], bool]) -> tuple[object, ...]:
    """What can be said of an exception.

    Args:
        error: the candidate's.
        passes: whether a value is plain data.
    """
    kind = type(error)
    bases = tuple(base.__name__ for base in kind.__mro__ if _is_of_that_name(base))
    args: Any = BaseException.__dict__["args"].__get__(error)
    try:
        text = str(error)[:_LONGEST_TEXT]
    except Exception:
        text = ""
    attributes = {
        name: value
        for name, value in (getattr(error, "__dict__", None) or {}).items()
        if type(name) is str and not name.startswith("_") and passes(value)
    }
    return kind.__name__, bases, args if passes(args) else None, attributes, text


def _is_of_that_name(kind: type) -> bool:
    """Whether nobody would take it for a builtin one that it is not."""
    return getattr(builtins, kind.__name__, kind) is kind


def is_name(name: object) -> bool:
    """Whether it can be the name of an exception."""
    return isinstance(name, str) and name.isidentifier() and len(name) < _LONGEST_NAME


def is_description(value: object) -> bool:
    """Whether `describe` could have given it."""
    match value:
        case (name, tuple() as bases, tuple() | None, dict() as attributes, str()):
            names = [name, *bases, *attributes]
            return len(bases) < 100 and len(attributes) <= _MOST_ATTRIBUTES and all(map(is_name, names))
    return False


def exception_of(description: tuple[Any, ...], names: Mapping[str, object]) -> Exception:
    """An exception that the test may catch as it would catch the candidate's.

    Args:
        description: for which `is_description` holds.
        names: those of the prompt, which the candidate has as well.
    """
    name, base_names, args, attributes, text = description
    known = {**names, **vars(builtins)}
    bases = _nearest([base for base in map(known.get, base_names) if _is_exception(base)])
    if any(issubclass(base, _NOT_RAISED) for base in bases):
        return RuntimeError(f"the candidate raised {name}")
    error = _exact(bases, name, args, text) or _made(name, bases, text) or _made(name, [Exception], text)
    assert error is not None
    if args is not None:
        error.args = args
    error.__dict__.update({key: value for key, value in attributes.items() if not key.startswith("_")})
    return error


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _nearest(classes: list[Any]) -> list[Any]:
    """Those that no other one inherits from."""
    unique = list(dict.fromkeys(classes))
    nearest = [kind for kind in unique if not any(issubclass(other, kind) and other is not kind for other in unique)]
    return nearest or [Exception]


def _exact(bases: list[Any], name: str, args: Any, text: str) -> Exception | None:
    """The builtin exception itself, where it is one and says the same."""
    if args is None or bases[0].__name__ != name:
        return None
    try:
        error = bases[0](*args)
        return error if str(error)[:_LONGEST_TEXT] == text else None
    except Exception:
        return None


def _made(name: str, bases: list[Any], text: str) -> Exception | None:
    try:
        kind: Any = type(name, tuple(bases), {"__str__": lambda _: text})
        error: Exception = kind.__new__(kind)
    except TypeError:  # classes that no class can inherit from together, a group of no exceptions
        return None
    return error
