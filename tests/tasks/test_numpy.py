"""numpy is the one package that programs import beside the standard library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from s0.tasks.sandbox import Program, Sandbox
from s0.tasks.sandbox.guest import arrays, codec
from s0.tasks.sandbox.launch import readable
from s0.tasks.sandbox.readable_paths import granted

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
    ("answer", "test"),
    [
        ("np.array([1, 2])", "(got == [1, 2]).all() and list(got) == [1, 2] and len(got) == 2"),
        ("np.array([[1.5, 2]]).T", "got.shape == (2, 1) and got.tolist() == [[1.5], [2]]"),
        ("np.array(5)", "got == 5"),
        ("np.array([5])", "got == [5]"),
        ("np.array([])", "got.shape == (0,)"),
        ("np.zeros((0, 3))", "got.shape == (0, 3)"),
        ("np.int64(3)", "got == 3 and not isinstance(got, int)"),
        ("np.float32(0.1)", "got == 0.1"),  # as numpy has it, which compares in the smaller type
        ("np.float64(0.1)", "got == 0.1 and isinstance(got, float)"),
        ("np.bool_(True)", "got and got is not True"),
        ("np.array(['a', 'bc'])", "list(got) == ['a', 'bc']"),
        ("np.datetime64('2000-01-01')", "str(got) == '2000-01-01'"),
        ("[np.timedelta64(1, 's'), np.timedelta64(1500, 'ms')]", "got[1] == np.timedelta64(1500, 'ms')"),
        ("{'a': [np.int64(1), np.int64(2)]}", "got == {'a': [1, 2]}"),
        ("list(np.arange(300_000))", "len(got) == 300_000 and got[7] == 7"),
        ("list(np.linspace(0, 1, 300_000))", "got[-1] == 1.0"),
        ("list(np.ones(300_000, bool))", "all(got)"),
    ],
)
def test_arrays_and_numbers_are_what_they_are_in_python(any_sandbox: Sandbox, answer: str, test: str) -> None:
    source = f"import numpy as np\ndef told():\n    return {answer}\n"
    check = "import numpy as np\ndef check(told):\n    got = told()\n    assert {}\n"
    both = [(source, check.format(text)) for text in (test, f"not ({test})")]
    assert _reasons(any_sandbox, *both) == ["passed", "wrong answer"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("np.array([1, 2])", "[1, 2]"),  # Python cannot tell: an array compares item by item
        ("np.longdouble(1) / 3", "0.5"),
        ("type('number', (np.int64,), {'item': lambda self: 'right'})(1)", "'right'"),
        ("type('number', (np.int64,), {'item': lambda self: 2})(1)", "2"),
        ("np.array([object()])", "[1]"),
        ("np.ma.array([1])", "2"),
    ],
)
def test_what_is_not_equal_does_not_pass(any_sandbox: Sandbox, answer: str, right: str) -> None:
    source = f"import numpy as np\ndef told():\n    return {answer}\n"
    assert _reasons(any_sandbox, (source, f"def check(told):\n    assert told() == {right}\n")) != ["passed"]


def test_arguments_are_arrays_too(any_sandbox: Sandbox) -> None:
    source = "def told(array):\n    return array * 2\n"
    test = "import numpy as np\ndef check(told):\n    assert np.allclose(told(np.ones((2, 3))), 2 * np.ones((2, 3)))\n"
    assert _reasons(any_sandbox, (source, test)) == ["passed"]


@pytest.mark.parametrize("stub", ["types.ModuleType('numpy')", "5", "types.SimpleNamespace(ndarray=int, generic=str)"])
def test_what_a_program_puts_in_numpys_place_changes_nothing(any_sandbox: Sandbox, stub: str) -> None:
    source = f"import sys, types\nsys.modules['numpy'] = {stub}\nclass Node: pass\ndef told():\n    return Node()\n"
    assert _reasons(any_sandbox, (source, "def check(told):\n    assert told() is not None\n")) == ["passed"]


@pytest.mark.parametrize("draw", ["np.random.rand()", "np.random.default_rng().random()", "np.random.randint(1 << 30)"])
def test_chance_is_the_same_in_every_run(any_sandbox: Sandbox, draw: str) -> None:
    source = (
        f"import numpy as np\ndef told():\n    raise type(f'drew_{{{draw}}}'.replace('.', '_'), (Exception,), {{}})\n"
    )
    (first,), (second,) = (_reasons(any_sandbox, (source + "#" * n, "def check(told):\n    told()\n")) for n in (0, 1))
    assert first == second and first.startswith("exception: drew_")


@pytest.mark.parametrize(
    "parts",
    [
        ("O8", (1,), bytes(8)),
        ("|O8", (1,), bytes(8)),
        ("<i8", (-1,), bytes(16)),
        ("<i8", (3,), bytes(16)),
        ("<i8", (1 << 62, 1 << 62), b""),
        ("<i8", ("a",), bytes(8)),
        ("<i8", 2, bytes(16)),
        ("<i8", (2,), "0" * 16),
        ("<f8,<f8", (1,), bytes(16)),
        ("V8", (1,), bytes(8)),
        ("<i3", (1,), bytes(3)),
        (7, (1,), bytes(8)),
    ],
)
@pytest.mark.parametrize("name", [arrays.ARRAY, arrays.NUMBER])
def test_parts_that_make_no_array_are_refused(name: str, parts: tuple[object, ...]) -> None:
    message = codec.encode(0)
    plain = b"K" + codec.encode(name)[: len(codec.encode(name)) - 4] + codec.encode(parts)
    assert codec.decode(message) == 0
    with pytest.raises(codec.CodecError):
        codec.decode(plain)


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
    monkeypatch.setattr("s0.tasks.sandbox.readable_paths._folders_of_packages", lambda: {"numpy": str(package)})
    found = granted((sys.executable, "-I", "-c"))
    assert found.packages == {}
    assert not any(path.startswith(str(tmp_path)) for path in found.paths)
