"""Programs of many names that depend on each other are read in time, and as the rule says."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0 import tasks
from s0.tasks.code import extraction
from s0.tasks.code.demonstration import Statement, helpers, statements, without_demonstration
from s0.tasks.code.extraction import Extraction, extract
from s0.tasks.problem import CodeProblem
from tests.tasks import in_rounds, test_extraction
from tests.tasks.spellings.code import ACCEPTED, NTH, REFUSED, TALLY

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


@settings(max_examples=600, deadline=None)
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
    replies += [f"```python\n{NTH}```\n{reply}\n```python\n{TALLY}```" for reply in replies]
    assert len(replies) > 200
    problem = tasks.load("pocket-code").problems[0]
    assert isinstance(problem, CodeProblem)
    problems = [*(_named(problem, name) for name in ("nth", "tally", "total", "solve")), problem]
    read = [_extracted(problem, replies) for problem in problems]
    monkeypatch.setattr(extraction, "without_demonstration", in_rounds.without_demonstration)
    monkeypatch.setattr(extraction, "helpers", in_rounds.helpers)
    assert read == [_extracted(problem, replies) for problem in problems]


def _named(problem: CodeProblem, name: str) -> CodeProblem:
    return CodeProblem(problem.id, f"def {name}(x):\n", problem.split, name, problem.test, problem.canonical_solution)
