"""Tests as tables: a function called on listed inputs, its results compared with a reference solution's.

The format of EvalPlus (Liu et al. 2023). The reference runs in the checker's process, never beside the candidate.
"""

from __future__ import annotations

import json
from typing import Any

from s0.errors import DatasetError

_CLOSE = """\
def _close(right, result, rtol, atol, equal_nan, tolerant):
    if right == result:
        return True
    if isinstance(right, (list, tuple)):
        kind = list if isinstance(right, list) else tuple
        return isinstance(result, kind) and len(right) == len(result) and all(
            _close(*pair, rtol, atol, equal_nan, tolerant) for pair in zip(right, result)
        )
    if isinstance(right, dict):
        return isinstance(result, dict) and right.keys() == result.keys() and all(
            _close(right[key], result[key], rtol, atol, equal_nan, tolerant) for key in right
        )
    if not isinstance(right, tolerant) or not isinstance(result, (int, float)) or bool in (type(right), type(result)):
        return False
    if right != right or result != result:
        return equal_nan and right != right and result != result
    infinite = float("inf")
    return abs(right) < infinite and abs(result) < infinite and abs(right - result) <= atol + rtol * abs(right)


"""
"""Equal as Python has it, or else within a tolerance: what the tests below compare with.

A float that differs from the right one by at most atol + rtol * right is as good (numpy's rule); in `tolerant` are the
types of right values that this holds for. Lists, tuples and the values of dictionaries are compared part by part,
where they are of one kind and length. An infinity is near no other number, and a bool near none.
"""

_TEST = """\
import json
import sys
import types

_module = sys.modules["reference"] = types.ModuleType("reference")  # a dataclass looks its module up
_names = vars(_module)
exec(compile({reference!r}, "<reference>", "exec"), _names)
_reference = _names[{entry_point!r}]
_atol = {atol!r} or 1e-6


def check(candidate):
    for text in {inputs!r}:
        result = candidate(*json.loads(text))
        if {entry_point!r} == "find_zero":  # any zero of the polynomial is right
            assert abs(_names["poly"](*json.loads(text), result)) <= _atol
        else:
            assert _close(_reference(*json.loads(text)), result, 1e-7, _atol, True, float)
"""

_STAND_IN = """\
class np:
    ndarray = type("ndarray", (), {})
    float64 = float32 = float

    @staticmethod
    def allclose(result, right, rtol=1e-05, atol=1e-08, equal_nan=False):
        return _close(right, result, rtol, atol, equal_nan, (int, float))

    class testing:
        @staticmethod
        def assert_allclose(result, right, rtol=1e-07, atol=0, equal_nan=True):
            assert np.allclose(result, right, rtol, atol, equal_nan)
"""
"""What tests get that import numpy to compare floats: no jail holds numpy. It is stricter, for numpy stretches a number
to the length of a list, and takes a tuple for a list."""


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
    return _CLOSE + _TEST.format(reference=reference, entry_point=entry_point, inputs=texts, atol=float(atol))


def without_numpy(test: str) -> str:
    """A published test with a stand-in for the few names of numpy that it uses."""
    return test.replace("import numpy as np\n", _CLOSE + _STAND_IN)
