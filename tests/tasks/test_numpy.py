"""numpy is the one package that programs import beside the standard library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from s0.tasks.sandbox import Program, Sandbox
from s0.tasks.sandbox.granted import granted
from s0.tasks.sandbox.launch import readable

COMPUTING = """
import numpy as np

def told(numbers):
    array = np.array(numbers, dtype=float)
    halves = np.linalg.solve(np.diag([2.0] * len(numbers)), array)
    drawn = np.random.default_rng(0).integers(10, 20)
    return {"sum": np.sum(array), "halves": list(halves), "long": np.int64(len(array)), "drawn": 10 <= drawn < 20,
            "complex": np.sqrt(np.complex128(-4)), "many": np.arange(3).tolist()}
"""
TOLD = "def check(told):\n    got = told([1, 2, 3])\n"
RIGHT = "{'sum': 6, 'halves': [0.5, 1, 1.5], 'long': 3, 'drawn': True, 'complex': 2j, 'many': [0, 1, 2]}"


@pytest.fixture(autouse=True)
def installed() -> None:
    if "numpy" not in readable().packages:
        pytest.skip("the interpreter that runs programs cannot import the numpy that is installed")


def _reasons(sandbox: Sandbox, *programs: tuple[str, str]) -> list[str]:
    judged = sandbox.judge([Program(source, "", test, "told") for source, test in programs])
    return [verdict.reason for verdict in judged]


def test_numbers_of_numpy_are_numbers(any_sandbox: Sandbox) -> None:
    wrong = RIGHT.replace("'long': 3", "'long': 4")
    programs = [(COMPUTING, f"{TOLD}    assert got == {right}\n") for right in (RIGHT, wrong)]
    assert _reasons(any_sandbox, *programs) == ["passed", "wrong answer"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("np.array([1, 2])", "[1, 2]"),  # Python cannot tell either: an array compares item by item
        ("np.array([1, 2])", "1"),
        ("np.datetime64('2000-01-01')", "1"),
        ("np.longdouble(1) / 3", "0.5"),
        ("type('number', (np.int64,), {'item': lambda self: 'right'})(1)", "'right'"),
        ("type('number', (np.int64,), {'item': lambda self: 2})(1)", "2"),
    ],
)
def test_what_is_no_number_of_pythons_is_not_taken_for_one(any_sandbox: Sandbox, answer: str, right: str) -> None:
    source = f"import numpy as np\ndef told():\n    return {answer}\n"
    assert _reasons(any_sandbox, (source, f"def check(told):\n    assert told() == {right}\n")) != ["passed"]


@pytest.mark.parametrize("name", ["scipy", "torch", "pytest", "s0.errors"])
def test_nothing_else_that_is_installed_can_be_imported(any_sandbox: Sandbox, name: str) -> None:
    source = f"import numpy\ndef told():\n    import {name}\n"
    assert _reasons(any_sandbox, (source, "def check(told):\n    told()\n")) == ["exception: ModuleNotFoundError"]


def test_a_numpy_that_the_interpreter_cannot_load_is_not_granted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "numpy"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('made for another Python')\n")
    monkeypatch.setattr("s0.tasks.sandbox.granted._folders_of_packages", lambda: {"numpy": str(package)})
    found = granted((sys.executable, "-I", "-c"))
    assert found.packages == {}
    assert not any(path.startswith(str(tmp_path)) for path in found.paths)
