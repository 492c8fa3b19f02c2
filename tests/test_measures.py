"""The measures of `benchmarks/measures.py` see what passes a limit, and let be what somebody else has chosen.

They see names that say nothing, too.
"""

from __future__ import annotations

import pytest

from benchmarks.measures import COMMANDS, FOREIGN, Function, empty_names_in, functions_in, passed

LONG = "def long(a):\n" + "    a += 1\n" * 60
MANY = "class Some:\n    def many(self, a, b, c, *rest, d, e, **more):\n        return a\n"


@pytest.mark.parametrize(("text", "says"), [(LONG, "long: 61 lines"), (MANY, "many: 7 parameters")])
def test_what_passes_a_limit_is_named(text: str, says: str) -> None:
    functions = [*functions_in("src/s0/x.py", text), *[Function("src/s0/x.py", "short", 1, 3, 1)] * 20]
    assert [line.split(" ", 1)[1] for line in passed(functions, {})] == [says]
    assert not passed([*functions_in(f"{COMMANDS}tuning.py", text), *functions[1:]], {})


def test_a_long_file_and_a_house_of_long_functions_are_named() -> None:
    functions = [Function("src/s0/x.py", f"f{i}", i, 26, 1) for i in range(20)]
    told = passed(functions, {"src/s0/x.py": 421})
    assert told == ["src/s0/x.py: 421 lines", "nine functions in ten: up to 26 lines"]


def test_every_exempt_function_is_there() -> None:
    from benchmarks.measures import ROOT

    for file, names in FOREIGN.items():
        there = {function.name for function in functions_in(file, (ROOT / file).read_text())}
        assert names.keys() <= there


@pytest.mark.parametrize(
    "text",
    [
        "one = 1",
        "found: int",
        "for i, told in pairs: ...",
        "def f(*, held=None): ...",
        "def given(): ...",
        "self._given = 1",
        "[sound for sound in sounds]",
        "(going := 1)",
        "lambda one: 1",
        "import a as found",
    ],
)
def test_a_name_that_says_nothing_is_named(text: str) -> None:
    (line,) = empty_names_in("src/s0/x.py", text)
    assert line.startswith("src/s0/x.py:1 ") and line.endswith(": a name that says nothing")


def test_words_and_longer_names_are_free() -> None:
    assert empty_names_in("src/s0/x.py", 'one_step = row["found"]  # told\nstate.write(given=one)') == []
