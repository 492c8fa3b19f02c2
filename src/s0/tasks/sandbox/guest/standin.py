"""The checker's side of what stays with the candidate: objects that say no more than the candidate's description.

A stand-in has the truth value of its object and equals itself alone; compared with an object of the test's side whose
class has the same name, such as a dataclass of the prompt, it cannot be judged. An iterator's hands out what the
candidate's yields. Any other use that would work in Python ends the check as not judged, out of reach of the test's
`except`; one that no object of that type allows, such as the length of a generator, raises TypeError as in Python.

What a description says is the candidate's claim. It cannot claim more than an object of its own could do anyway:
true or false, and which uses it offers.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from s0.tasks.sandbox.guest.codec import CodecError
from s0.tasks.sandbox.guest.kept_objects import SPECIAL_METHODS, UNHASHABLE

_TYPES = {
    "re.Match": re.Match,
    "re.Pattern": re.Pattern,
    "function": types.FunctionType,
    "builtin_function_or_method": types.BuiltinFunctionType,
    "method": types.MethodType,
    "module": types.ModuleType,
    "generator": types.GeneratorType,
    "coroutine": types.CoroutineType,
    "async_generator": types.AsyncGeneratorType,
    "map": map,
    "filter": filter,
    "zip": zip,
    "enumerate": enumerate,
    "reversed": reversed,
}
"""What `isinstance` holds a stand-in for."""
TEST_MODULE = "__test__"
"""The `__module__` of classes that the prompt or the test defines."""
_ALWAYS = ("__str__", "__repr__", "__format__", "__reduce_ex__", "__setattr__", "__delattr__", "__dir__")
_OF_ITERATORS = ("__iter__", "__next__")
_LONGEST_NAME = 60


class StandIns:
    """The stand-ins of one program, by the candidate's numbers.

    Args:
        refuse: ends the check; is told the use and the name of the type.
        fetch: gives an iterator over what the candidate's iterator of that number yields.
    """

    def __init__(self, refuse: Callable[[str, str], NoReturn], fetch: Callable[[int], Iterator[object]]) -> None:
        self._refuse = refuse
        self._fetch = fetch
        self._objects: dict[int, object] = {}
        self._numbers: dict[int, int] = {}
        self._class_of = functools.lru_cache(256)(self._make_class)

    def describe(self, value: object) -> tuple[object, ...]:
        """What `codec.encode` writes for a stand-in: it goes back to the candidate as its object.

        Raises:
            CodecError: `value` is no stand-in.
        """
        number = self._numbers.get(id(value))
        if number is None:
            raise CodecError(f"{type(value).__name__} is not plain data")
        return "known", number

    def from_description(self, description: object) -> object:
        """For `codec.decode`.

        Raises:
            CodecError: the candidate's side of this code never describes an object so.
        """
        match description:
            case ("known", int() as number) if number in self._objects:
                return self._objects[number]
            case ("object", int() as number, str() as name, (bool() | None) as truth, tuple() as methods, offered):
                if number not in self._objects and (offered is None or type(offered) is tuple):
                    return self._add(number, name, truth, methods, offered)
        raise CodecError("not a description of an object")

    def _add(
        self, number: int, name: str, truth: bool | None, methods: tuple[Any, ...], offered: tuple[Any, ...] | None
    ) -> object:
        if not SPECIAL_METHODS.issuperset(_hashable(methods) - {UNHASHABLE}):
            raise CodecError("not a special method")
        attributes = None if offered is None else _hashable(offered)
        kind = self._class_of(_shown(name), truth, _hashable(methods), attributes)
        value = kind.__new__(kind)
        if offered is not None:
            _STREAM.__set__(value, self._fetch(number))
        self._objects[number] = value
        self._numbers[id(value)] = number
        return value

    def _make_class(
        self, name: str, truth: bool | None, methods: frozenset[str], offered: frozenset[str] | None
    ) -> Any:
        """A class of stand-ins; `offered` are the public attributes of an iterator, None for other objects."""

        def refusing(use: str) -> Callable[..., NoReturn]:
            return lambda *_, **__: self._refuse(use, name)

        def attribute(value: object, attribute: str) -> object:
            if attribute == "__class__":
                return _TYPES.get(name, type(value))
            if offered is not None and attribute in _OF_ITERATORS:
                return object.__getattribute__(value, attribute)
            if offered is not None and attribute not in offered and not attribute.startswith("_"):
                raise AttributeError(f"{name!r} object has no attribute {attribute!r}")
            return self._refuse(f".{attribute}", name)

        namespace: dict[str, Any] = {use: refusing(use.strip("_")) for use in (*methods - {UNHASHABLE}, *_ALWAYS)}

        def equals(value: object, other: object) -> object:
            has_its_name = type(other).__name__ == name.rpartition(".")[2]
            if has_its_name and type(other).__module__ == TEST_MODULE:
                self._refuse("==", name)
            return NotImplemented

        namespace["__eq__"] = equals
        namespace["__hash__"] = object.__hash__
        namespace["__getattribute__"] = attribute
        namespace["__bool__"] = refusing("bool") if truth is None else lambda _: truth
        if UNHASHABLE in methods:
            namespace["__hash__"] = None
        if offered is not None:
            namespace["__iter__"] = lambda value: value
            namespace["__next__"] = lambda value: next(_STREAM.__get__(value))
        return type(name.rpartition(".")[2] or name, (_StandIn,), {**namespace, "__slots__": ()})


class _StandIn:
    __slots__ = ("_stream",)


_STREAM: Any = _StandIn.__dict__["_stream"]


def _shown(name: str) -> str:
    """A type's name fit to be told to people."""
    return name if re.fullmatch(rf"[A-Za-z0-9_.<>]{{1,{_LONGEST_NAME}}}", name) else "object"


def _hashable(names: tuple[Any, ...]) -> frozenset[Any]:
    if not all(type(name) is str for name in names):
        raise CodecError("not a name")
    return frozenset(names)
