"""Whatever a model writes is judged: no reply raises, in any task and scoring, and none takes more than its share."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s0 import tasks
from s0.tasks import SCORINGS, Task, replies
from s0.tasks.code import parsing
from s0.tasks.problem import CodeProblem, Problem
from s0.tasks.sandbox import Limits, Sandbox, Verdict
from tests.breadth import mostly_slow

ENDS = [
    "\r", "\r\n", "\r\r\r", "\n", "\f", "\v", "\0", "\x1c", "\x85", "\u2028", "\ufeff", "\ud800", "\udfff\ud800",
    "\t", "  ",
]  # fmt: skip
MARKS = [
    "<think>", "</think>", "<answer>", "</answer>", "<|im_end|>", "</s>", "```", "```python\n", "~~~", "'''", '"""',
    "'", '"', "`", "#", "\\", "$", "$$", "**", "####", "{", "}", "(", ")", "[", "]", "😀", "é", "٣", "𝟘", "−", "½",
]  # fmt: skip
CODE = [
    "def NAME(*args):\n    return args[0]\n", "def NAME(", "    return 1\n", "return ", "yield\n", "async ",
    "lambda: ", "class A:\n", "    x = 1\n", "x = 1\n", "NAME = 1\n", "import os\n", "from x import *\n", "@a\n",
    "if x:\n", "else:\n", "try:\n", "del NAME\n", "global NAME\n", "print(NAME(1))\n", "assert NAME(1)\n",
    "match x:\n", "    case 1: pass\n", "f'{", "x = x = ", ":=", ";", "\\\n", ">>> NAME(1)\n",
    "raise StopIteration\n", "while 1: pass\n", "[[[[[", "0x", "1_000", "nonlocal x\n", "await x\n",
    "type X = int\n",
]  # fmt: skip
LATEX = [
    "\\boxed{", "\\boxed 1", "\\fbox{", "\\frac", "\\frac{1}{2}", "\\sqrt", "\\sqrt[3]{x}", "^", "_", "^{2}",
    "\\left(", "\\right)", "\\text{", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "\\pi", "\\infty", "\\cup",
    "\\pm", "!", "%", "\\%", "^\\circ", "x=", "1,000", "0.5", ".", "1e9", "-", "+", "/", "|", "the answer is ",
    "Answer: ", "so ", "and ", "or ", "Wait, no. ", "half of ", "dollars", "\\in", "[0,1)", "(-\\infty,2]", "_2",
    "\\overline{3}", "\\dot{3}", "9" * 50, "10^{10^{10}}", "1/0", "\\log_", "\\sin ",
]  # fmt: skip
SQL = [
    "SELECT ", "select a ", "FROM t ", "WHERE ", "a = ", "'b'", "''", "--", "/*", "*/", ";", "WITH x AS (",
    "UNION ", "GROUP BY ", "ORDER BY 1 ", "LIMIT ", "* ", "count(*) ", "(", ")", ",", "a.b ", "\"c\"", "[d]", "`e`",
    "NULL ", "x'00'", "randomblob(1000000000)",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c", "PRAGMA ", "ATTACH 'x' AS y",
    "?", ":a", "@",
]  # fmt: skip
FRAGMENTS = {"pocket-code": CODE, "pocket-math": LATEX, "math500": LATEX, "pocket-sql": SQL}


def _near(task: str) -> st.SearchStrategy[str]:
    """Text made of what the task's answers are made of, and of what no answer should hold."""
    own = st.sampled_from(FRAGMENTS[task])
    any_part = own | st.sampled_from(MARKS) | st.sampled_from(ENDS) | st.text(max_size=5) | own
    from_bytes = st.binary(max_size=200).map(lambda data: data.decode("latin-1"))
    return st.lists(any_part, max_size=25).map("".join) | from_bytes | st.text(max_size=100)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sandbox]:
    """For programs many of which never end."""
    with Sandbox(limits=Limits(timeout_s=0.3)) as opened:
        yield opened


@pytest.fixture(scope="module")
def all_tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    rows = tmp_path_factory.mktemp("rows") / "math.jsonl"
    row = {"unique_id": "a", "problem": "?", "solution": "", "answer": "\\frac{1}{2}"}
    rows.write_text(json.dumps(row) + "\n")
    named = {name: tasks.load(name) for name in ("pocket-code", "pocket-math", "pocket-sql")}
    return {**named, "math500": tasks.load("math500", data=rows)}


def _judged(task: Task, name: str, texts: list[str], sandbox: Sandbox) -> None:
    problem = task.problems[0]
    if isinstance(problem, CodeProblem):
        texts = [text.replace("NAME", problem.entry_point) for text in texts]
    pairs: list[tuple[Problem, str]] = [(problem, text) for text in texts]
    for scoring in SCORINGS:
        verdicts = task.judged_in(sandbox).verdicts(pairs, scoring)
        assert len(verdicts) == len(pairs) and all(isinstance(verdict, Verdict) for verdict in verdicts)
        assert all(verdict.judged for verdict in verdicts)
    assert {task.format_of(*pair) for pair in pairs} <= set(task.scorer.formats), name


def _test_of(examples: int, each: int) -> Callable[..., None]:
    def test(all_tasks: dict[str, Task], impatient: Sandbox, name: str) -> None:
        @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
        @given(st.lists(_near(name), min_size=each, max_size=each))
        def judged(texts: list[str]) -> None:
            _judged(all_tasks[name], name, texts, impatient)

        judged()

    return test


test_any_reply_is_judged = pytest.mark.parametrize("name", FRAGMENTS)(_test_of(4, 25))
test_thousands_of_replies_are_judged = pytest.mark.slow(pytest.mark.parametrize("name", FRAGMENTS)(_test_of(15, 40)))


@pytest.mark.parametrize("name", mostly_slow(FRAGMENTS, ["pocket-sql"]))
def test_replies_of_any_size_are_judged(all_tasks: dict[str, Task], any_sandbox: Sandbox, name: str) -> None:
    deep = "".join(left * 100 + "1" + right * 100 for left, right in ("()", "[]", "{}"))
    large = ["1," * 100_000, "(" * 100_000, "é" * 200_000, "\r" * 200_000, deep]
    _judged(all_tasks[name], name, [*large, *(f"\\boxed{{{text}}}" for text in large), "x" * (9 << 20)], any_sandbox)


def test_answers_that_a_test_passes_on_or_enlarges_cost_their_own_verdict(any_sandbox: Sandbox) -> None:
    tests = ["assert rev(rev(x)) == x", "assert rev(rev(x) * 2) is not None"]
    deep = "r = []\n    for _ in range(99): r = [r]\n    return r"
    bodies = [deep, "return [None] * 999_997", "return 'a' * (8 << 20)", "return -1"]
    task = tasks.load("pocket-code")
    some = task.problems[0]
    assert isinstance(some, CodeProblem)
    for line in tests:
        test = f"def check(rev):\n    x = [1]\n    {line}\n"
        problem = replace(some, prompt="def rev(x):\n", entry_point="rev", test=test, canonical_solution="")
        verdicts = task.judged_in(any_sandbox).verdicts([(problem, f"def rev(x):\n    {body}\n") for body in bodies])
        assert all(verdict.judged for verdict in verdicts), verdicts


def units_of(name: str) -> list[str]:
    return [
        *ENDS,
        *MARKS,
        *FRAGMENTS[name],
        "- a\n",
        "a;",
        "x[0] = 1\n",
        "The sum of two numbers.\n",
        "1 ",
        "$1$, ",
        "a b ",
    ]


def read(task: Task, text: str) -> None:
    task.format_of(task.problems[0], text)


def steps_of(task: Task, text: str) -> int:
    """How many functions are called in reading a reply, Python's and C's."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read(task, text)
    finally:
        sys.setprofile(before)
    return steps


MOST_STEPS = 2_000_000
"""What the parser's budget allows: nothing to speak of for a reply of usual length, and no more for a longer one."""
WORST = {"pocket-code": ["class A:\n", "if x:\n", "try:\n", "@a\n", "x = 1\n", "- a\n", "```\nx = 1\n"]}


def _out_of_proportion(task: Task, units: list[str]) -> dict[str, list[int]]:
    is_code = isinstance(task.problems[0], CodeProblem)
    lengths, allowed = ((2000, 8000), MOST_STEPS) if is_code else ((1000, 4000), 0)
    steps = {unit: [steps_of(task, unit * (length // len(unit))) for length in lengths] for unit in units}
    return {unit: found for unit, found in steps.items() if found[1] > max(5 * found[0] + 500, allowed)}


@pytest.mark.parametrize("name", mostly_slow(FRAGMENTS, ["pocket-math", "math500", "pocket-sql"]))
def test_reading_a_reply_takes_steps_in_proportion_to_its_length(all_tasks: dict[str, Task], name: str) -> None:
    assert _out_of_proportion(all_tasks[name], WORST.get(name, units_of(name))) == {}


@pytest.mark.slow
def test_reading_code_takes_steps_in_proportion_to_its_length(all_tasks: dict[str, Task]) -> None:
    assert _out_of_proportion(all_tasks["pocket-code"], units_of("pocket-code")) == {}


@pytest.mark.slow
def test_the_parser_reads_a_bounded_number_of_characters(
    all_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = parsing.parse
    given_to_it = []
    monkeypatch.setattr(parsing, "parse", lambda source: given_to_it.append(len(source)) or original(source))
    for unit in ("@a\n", "```\n@a\n```\n", "class A:\n", "a()\n-\n"):
        given_to_it.clear()
        read(all_tasks["pocket-code"], unit * 10_000)
        assert sum(given_to_it) < 12_000_000 and len(given_to_it) < 1010, unit


def test_of_a_reply_beyond_all_measure_the_end_is_read() -> None:
    assert replies.conclusion("a" * 200_000 + "b") == "a" * 99_999 + "b"
    assert replies.conclusion("<think>" + "a" * 1_000_000 + "</think>b") == "b"


GOING_BACK = [
    'x = "' + '\\"' * 50_000,
    "Answer\na:" + "-" * 100_000 + ' "\n',
    "1" + "\x1c" * 100_000 + "{",
    "1^" + " " * 100_000 + "x",
    "the answer is $1$" + " " * 100_000 + "\nx",
    "$1$" + "\n" * 100_000 + "x",
    "#### " + "1," * 50_000 + "=5",
    "\\boxed{" + "1," * 50_000 + "=5}",
    "answer" * 2 + " " * 100_000 + "x",
]
"""What regular expressions once took minutes for, and what would make them, by the ways in which such are written."""


@pytest.mark.parametrize("name", mostly_slow(FRAGMENTS, ["math500", "pocket-code"]))
def test_no_regular_expression_goes_back_to_the_beginning(all_tasks: dict[str, Task], name: str) -> None:
    for text in GOING_BACK:
        read(all_tasks[name], text)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAGMENTS)
def test_no_reply_holds_its_reader_up(all_tasks: dict[str, Task], name: str) -> None:
    """Regular expressions take steps that nobody counts: one that went astray would never end here."""
    chance = random.Random(0)
    for unit in WORST.get(name, units_of(name)):
        read(all_tasks[name], unit * (100_000 // len(unit)))
    for _ in range(20):
        parts = chance.sample(units_of(name), 5)
        read(all_tasks[name], "".join(chance.choices(parts, k=10_000)))
