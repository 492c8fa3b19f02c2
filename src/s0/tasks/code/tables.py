"""Tests as tables: a function called on listed inputs, its results compared with a reference solution's.

The format of EvalPlus (Liu et al. 2023). The reference runs in the checker's process, never beside the candidate.
"""

from __future__ import annotations

import json
from typing import Any

from s0.errors import DatasetError

_TEST = """\
import json

_names = {{"__name__": "__reference__"}}
exec(compile({reference!r}, "<reference>", "exec"), _names)
_reference = _names[{entry_point!r}]
_atol = {atol!r} or 1e-6


def _same(right, given):
    if right == given:
        return True
    if isinstance(right, float) and isinstance(given, (int, float)) and not isinstance(given, bool):
        return abs(right - given) <= _atol + 1e-7 * abs(right) or (right != right and given != given)
    if isinstance(right, (list, tuple)) and type(right) is type(given):
        return len(right) == len(given) and all(map(_same, right, given))
    if isinstance(right, dict) and isinstance(given, dict):
        return right.keys() == given.keys() and all(_same(right[key], given[key]) for key in right)
    return False


def check(candidate):
    for text in {inputs!r}:
        given = candidate(*json.loads(text))
        if {entry_point!r} == "find_zero":  # any zero of the polynomial is right
            assert abs(_names["poly"](*json.loads(text), given)) <= _atol
        else:
            assert _same(_reference(*json.loads(text)), given)
"""

_STAND_IN = """\
class np:
    ndarray = type("ndarray", (), {})
    float64 = float32 = float

    @staticmethod
    def allclose(given, right, rtol=1e-05, atol=1e-08):
        if isinstance(right, (list, tuple)):
            return (
                isinstance(given, (list, tuple)) and len(given) == len(right)
                and all(np.allclose(one, other, rtol, atol) for one, other in zip(given, right))
            )
        return given == right or abs(given - right) <= atol + rtol * abs(right)

    class testing:
        @staticmethod
        def assert_allclose(given, right, rtol=1e-07, atol=0):
            assert np.allclose(given, right, rtol, atol)
"""
"""For tests that import numpy, which no jail holds, to compare floats."""


def table_test(place: str, entry_point: str, reference: str, inputs: list[Any], atol: float) -> str:
    """A test that calls the candidate on every list of arguments and compares what it gives with the reference's.

    Args:
        place: of the row, for errors.
        entry_point: the function's name.
        reference: source that defines it.
        inputs: lists of arguments.
        atol: absolute tolerance for floats; 0 stands for 1e-6.

    Raises:
        DatasetError: no inputs, or one that is no list.
    """
    if not inputs or not all(isinstance(arguments, list) for arguments in inputs):
        raise DatasetError(f"{place}: expected base_input to hold lists of arguments; got {inputs!r:.60}; correct it")
    texts = [json.dumps(arguments) for arguments in inputs]
    return _TEST.format(reference=reference, entry_point=entry_point, inputs=texts, atol=float(atol))


def without_numpy(test: str) -> str:
    """A published test with a stand-in for the few names of numpy that it uses."""
    return test.replace("import numpy as np\n", _STAND_IN)
