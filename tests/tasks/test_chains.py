"""Programs of many names that depend on each other are read in time, and as the rule says."""

from __future__ import annotations

import ast
import inspect
import json
import symtable
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0 import tasks
from s0.tasks import Task
from s0.tasks.code import extraction
from s0.tasks.code.demonstration import helpers, without_demonstration
from s0.tasks.code.extraction import Extraction, extract
from s0.tasks.code.statements import Statement, statements
from s0.tasks.math import finding
from s0.tasks.problem import CodeProblem
from tests.tasks import in_rounds, test_extraction
from tests.tasks.spellings.code import ACCEPTED, REFUSED

NAMES = ["f", "g", "h", "a", "b", "c", "d", "e"]
LINES = [
    "{0} = {1}",
    "{0} = {1}",
    "{0} = {0} + {1}",
    "{0}, {1} = {2}, 1",
    "{0} += {1}",
    "{0}: int = {1}",
    "{0}[0] = {1}",
    "{0}.append({1})",
    "{0}({1})",
    "print({0})",
    "assert {0} == {1}",
    "import {0}",
    "from {0} import {1} as {2}",
    "from {0} import *",
    "def {0}(x):\n    return {1} + {2}",
    "def {0}(x):\n    global {1}\n    {1} = {2}",
    "def {0}(x):\n    {1}.append(x)",
    "@{0}\ndef {1}(x):\n    return {2}",
    "@{0}.register\ndef {1}(x):\n    return x",
    "class {0}({1}):\n    {2} = {0}",
    "for {0} in {1}:\n    {2} = {0}",
    "if {0}:\n    {1} = 1\nelse:\n    {2} = 1",
    "{0} = 1; {1} = {2}; print({0})",
    "{0} = lambda: {1}({2})",
    "{0}",
]


def _line(template: str, *names: str) -> str:
    return template.format(*names)


NAME = st.sampled_from(NAMES)
LINE = st.builds(_line, st.sampled_from(LINES), NAME, NAME, NAME)
CHAINS = st.builds(
    lambda names, template: [_line(template, *pair, pair[0]) for pair in pairwise(names)],
    st.permutations(NAMES),
    st.sampled_from(LINES),
)
PROGRAM = st.builds(lambda lines, chain: "\n".join([*lines, *chain]), st.lists(LINE, max_size=8), CHAINS | st.just([]))


def _statements(source: str) -> list[Statement]:
    return statements(ast.parse(source), source)


@settings(max_examples=200, deadline=None)
@given(PROGRAM, PROGRAM, st.lists(PROGRAM, max_size=3), st.booleans())
def test_names_are_followed_as_the_rule_says(before: str, source: str, around: list[str], prose: bool) -> None:
    own = _statements(source)
    given_before = _statements(before if prose else "")
    kept = without_demonstration(given_before, own, "f", prose=prose)
    assert kept == in_rounds.without_demonstration(given_before, own, "f", prose=prose)
    others = [_statements(part) for part in around]
    assert helpers(kept, others) == in_rounds.helpers(kept, others)


def _extracted(problem: CodeProblem, replies: list[str]) -> list[Extraction]:
    return [extract(problem, reply) for reply in replies]


def test_every_table_of_replies_is_read_as_the_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(test_extraction)
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    replies = [text for text in texts if isinstance(text, str) and "\n" in text]
    replies += [reply for _, _, reply in (*ACCEPTED, *REFUSED)]
    assert len(replies) > 100
    problem = tasks.load("pocket-code").problems[0]
    assert isinstance(problem, CodeProblem)
    problems = [*(_named(problem, name) for name in ("nth", "tally", "total")), problem]
    read = [_extracted(problem, replies) for problem in problems]
    monkeypatch.setattr(extraction, "without_demonstration", in_rounds.without_demonstration)
    monkeypatch.setattr(extraction, "helpers", in_rounds.helpers)
    assert read == [_extracted(problem, replies) for problem in problems]


def _named(problem: CodeProblem, name: str) -> CodeProblem:
    return CodeProblem(problem.id, f"def {name}(x):\n", problem.split, name, problem.test, problem.canonical_solution)


def _lines(template: str, n: int) -> str:
    """The template n times: `{i}` is the number, `{j}` the next one."""
    return "".join(template.format(i=i, j=i + 1) for i in range(n))


def _fenced(*code: str) -> str:
    return f"```python\n{''.join(code)}```\n"


def _summing(n: int) -> str:
    return f"def NAME(*a):\n    return {_lines('a{i} + ', n)}1\n"


DEFINED = "def NAME(*a):\n    return 1\n"
CODE: dict[str, Callable[[int], str]] = {
    "forward chain": lambda n: _fenced(DEFINED, "a0 = NAME(1)\n", _lines("a{j} = a{i}\n", n)),
    "back chain": lambda n: _fenced(DEFINED, _lines("a{i} = a{j}\n", n), "print(a0)\n"),
    "needed chain": lambda n: _fenced(_lines("a{i} = a{j}\n", n), "def NAME(x):\n    return a0\n"),
    "names that nothing binds": lambda n: _fenced(_lines("b{i} = 1\n", n)) + _fenced(_summing(n)),
    "names from another block": lambda n: _fenced(_lines("a{i} = 1\n", n)) + _fenced(_summing(n)),
    "names from blocks of one line": lambda n: _lines(_fenced("a{i} = a{j}\n"), n) + _fenced(_summing(1)),
    "names from imports of all": lambda n: _fenced(_lines("from m{i} import *\n", n)) + _fenced(_summing(n)),
    "blocks of one line": lambda n: _lines(_fenced("a{i} = 1\n"), n),
    "blocks of functions": lambda n: _lines(_fenced("def f{i}(): 0\n"), n),
    "blocks that define": lambda n: _lines(_fenced("def NAME(x): return a{i}\n"), n),
    "functions calling the next": lambda n: _fenced(DEFINED, _lines("def f{i}(): f{j}()\n", n), "f0()\n"),
    "calls of functions that fill": lambda n: _fenced(
        _summing(1), _lines("def f{i}(): f{j}()\n", n), f"def f{n}(): a0.append(1)\n", _lines("f{i}()\n", n)
    ),
    "calls of functions that fill nothing": lambda n: _fenced(
        _summing(1), _lines("def f{i}(): f{j}()\n", n), _lines("f{i}()\n", n)
    ),
    "functions that fill for the next": lambda n: _fenced(
        _summing(1), _lines("def f{i}():\n  global a{i}\n  a{i} = a{j}\nf{i}()\n", n)
    ),
    "classes deriving": lambda n: _fenced(DEFINED, "class C0: 0\n", _lines("class C{j}(C{i}): 0\n", n)),
    "methods": lambda n: _fenced(DEFINED, "class C:\n", _lines("    def f{i}(self): 0\n", n)),
    "functions within": lambda n: _fenced("def NAME(x):\n", _lines("    def f{i}(): f{j}\n", n), "    return f0\n"),
    "imports printed": lambda n: _fenced(DEFINED, _lines("import m{i}\nprint(m{i})\n", n)),
    "one import of many": lambda n: _fenced(
        DEFINED, f"from m import {_lines('m{i}, ', n)}m\n", _lines("print(m{i})\n", n)
    ),
    "decorators": lambda n: _fenced(_lines("def d{i}(f): return f\n", n), _lines("@d{i}\n", n), DEFINED),
    "decorated": lambda n: _fenced(DEFINED, _lines("@d{i}.register\ndef f{i}(): 0\n", n)),
    "nested ifs": lambda n: _fenced(DEFINED, _lines("if a{i}:\n if b{i}:\n  if c{i}:\n   d{i} = e{i}\n", n)),
    "comparisons": lambda n: _fenced(DEFINED, f"x = {_lines('a{i} < ', n)}1\n"),
    "targets of one value": lambda n: _fenced(
        DEFINED, f"{_lines('a{i}, ', n)} = NAME(1)\n", _lines("print(a{i})\n", n)
    ),
    "statements on one line": lambda n: _fenced(DEFINED, _lines("a{i} = a{j}; ", n), "\n"),
    "one name shown often": lambda n: _fenced(DEFINED, _lines("x = {i}\nprint(x, a{i})\n", n)),
    "asserts": lambda n: _fenced(DEFINED, _lines("assert a{i} == NAME({i})\n", n)),
    "body": lambda n: _lines("    a{j} = a{i}\n", n) + "    return 1\n",
}  # fmt: skip
FAST = ["forward chain", "back chain", "names that nothing binds", "calls of functions that fill nothing", "body"]


def _steps(read: Callable[[], object]) -> int:
    """How many lines run in reading a reply; a line of a loop counts every time."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> object:
        nonlocal steps
        steps += 1
        # `symtable` compares every name of a scope with every scope within, in one C loop's time: a second at most
        return None if frame.f_code.co_filename == symtable.__file__ else count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        read()
    finally:
        sys.settrace(before)
    return steps


def _assert_in_proportion(shape: Callable[[int], str], n: int) -> None:
    problem = tasks.load("pocket-code").problems[0]
    assert isinstance(problem, CodeProblem)
    small, large = (shape(size).replace("NAME", problem.entry_point) for size in (n, 2 * n))
    assert extract(problem, large).format != "unparsable"
    assert _steps(lambda: extract(problem, large)) <= 2.3 * _steps(lambda: extract(problem, small))


@pytest.mark.parametrize("shape", FAST)
def test_names_take_steps_in_proportion_to_their_number(shape: str) -> None:
    _assert_in_proportion(CODE[shape], 200)


@pytest.mark.slow
@pytest.mark.parametrize("shape", CODE)
def test_many_names_take_steps_in_proportion_to_their_number(shape: str) -> None:
    _assert_in_proportion(CODE[shape], 300)


OTHERS = {
    "pocket-math": ["the answer is {i}. ", "#### {i}\n", "So {i} it is.\n", "Wait, no. It is {i}. ", "<answer>{i}"],
    "math500": ["\\boxed{{{i}}}, ", "\\boxed{{{i}}} x ", "\\boxed{{{i} + ", "$a_{i}$, ", "Answer: ${i}$\n", "{i} = "],
    "pocket-sql": ["SELECT a{i} FROM ", "```sql\nSELECT a{i}!\n```\n", "You select {i} of.\n", "a{i}, ", "(a{i} = "],
}


@pytest.mark.parametrize("name", OTHERS)
def test_answers_take_steps_in_proportion_to_their_number(tmp_path: Path, name: str) -> None:
    rows = tmp_path / "math.jsonl"
    rows.write_text(json.dumps({"unique_id": "a", "problem": "?", "solution": "", "answer": "1"}) + "\n")
    task: Task = tasks.load(name, data=rows) if name == "math500" else tasks.load(name)
    for unit in OTHERS[name]:
        small, large = (_lines(unit, size) for size in (150, 300))
        steps = [_steps(lambda text=text: task.format_of(task.problems[0], text)) for text in (small, large)]
        assert steps[1] <= 2.3 * steps[0] + 100, (unit, steps)


def test_boxes_within_boxes_fill_no_memory() -> None:
    text = "\\boxed{" * 12_000 + "1" + "}" * 12_000
    tracemalloc.start()
    try:
        innermost = next(finding.boxed(text))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert innermost == "1" and peak_bytes < 50 << 20
