"""numpy's arrays and numbers: how each is taken apart into plain data, and made again.

numpy is imported where one arrives, and nowhere before. What holds Python objects stays away, as do subclasses of
arrays. An array that arrives is a copy: what is done to it in place is not done to the sender's.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_DTYPE = re.compile("[<>|=][?biufcSUmM][0-9]{1,8}(\\[[a-zA-Z0-9]{1,4}\\])?")
"""The dtypes that are read: of fixed size and without structure, which are truth values, numbers, texts, times."""

ARRAY, NUMBER = "array", "number"


def parts_of(value: object) -> tuple[str, tuple[object, ...]] | None:
    """The kind, `ARRAY` or `NUMBER`, with type, shape and bytes; None of anything else.

    A program may have put what it likes in numpy's place: then it describes what it likes, as data.
    """
    array, generic = (getattr(sys.modules.get("numpy"), name, None) for name in ("ndarray", "generic"))
    if not isinstance(array, type) or not isinstance(generic, type):
        return None
    if type(value) is array:
        kind = ARRAY
    elif issubclass(type(value), generic) and type(value).__module__ == "numpy":
        kind = NUMBER
    else:
        return None
    content: Any = value
    dtype = content.dtype.str
    if not _DTYPE.fullmatch(dtype):
        return None
    return kind, (dtype, tuple(map(int, content.shape)), content.tobytes())


def together(kind: type, items: list[Any]) -> Any:
    """Numbers of one numpy type as one array, (n,); None of anything else, and of spans of time, which have units."""
    numpy = sys.modules.get("numpy")
    numbers = tuple(getattr(numpy, name, None) for name in ("number", "bool_"))
    if not all(isinstance(each, type) for each in numbers) or not issubclass(kind, numbers):  # type: ignore[arg-type]
        return None
    if kind.__module__ != "numpy" or issubclass(kind, getattr(numpy, "timedelta64", ())):
        return None
    return sys.modules["numpy"].array(items, dtype=items[0].dtype)


def array(dtype: str, shape: tuple[int, ...], content: bytes) -> Any:
    """The array of these parts.

    Raises:
        ValueError: they make none, or there is no numpy here.
    """
    if not _is_kind(dtype) or type(content) is not bytes or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("no type, shape and bytes of an array")
    try:
        import numpy
    except ImportError as error:
        raise ValueError("there is no numpy to read this") from error
    flat = numpy.frombuffer(bytearray(content), dtype) if content else numpy.empty(0, dtype)
    return flat.reshape(shape)


def number(dtype: str, shape: tuple[int, ...], content: bytes) -> Any:
    """The number of these parts; the shape is ().

    Raises:
        ValueError: as `array`.
    """
    if shape != ():
        raise ValueError("no number")
    return array(dtype, shape, content)[()]


def _is_kind(dtype: object) -> bool:
    return type(dtype) is str and _DTYPE.fullmatch(dtype) is not None
