"""Right programs pass however they are written, wrong ones in tempting spellings do not: run in the real sandbox."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0.tasks import CodeProblem, Task, load
from s0.tasks.code.extraction import extract, prompt_with_stub
from s0.tasks.sandbox import Sandbox
from tests.tasks.real_data import data_path
from tests.tasks.spellings.code import ACCEPTED, PROBLEMS, REFUSED


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("own") / "problems.jsonl"
    path.write_text("".join(json.dumps({"id": name, **row}) + "\n" for name, row in PROBLEMS.items()))
    return load("own", path)


@pytest.mark.parametrize(("replies", "passes"), [(ACCEPTED, True), (REFUSED, False)], ids=["accepted", "refused"])
def test_every_spelling_has_its_verdict(
    task: Task, any_sandbox: Sandbox, replies: list[tuple[str, str, str]], passes: bool
) -> None:
    problems = {problem.id: problem for problem in task.problems}
    assert len(replies) >= 30
    verdicts = task.judged_in(any_sandbox).verdicts([(problems[name], reply) for _, name, reply in replies])
    bent = [(spelling, v.reason) for (spelling, *_), v in zip(replies, verdicts, strict=True) if v.passed != passes]
    assert not bent


CHAT: dict[str, Callable[[str, str], str]] = {
    "bare": lambda code, name: code,
    "fenced": lambda code, name: f"```python\n{code}\n```",
    "prose and fence": lambda code, name: f"Sure! Here's the code:\n\n```python\n{code}\n```\nIt's done.",
    "prose": lambda code, name: f"Here is the function:\n\n{code}\n\nThis returns what is asked for.",
    "usage before": lambda code, name: f"For\n```python\n{name}(1)\n```\nwrite\n```python\n{code}\n```\n",
    "usage after": lambda code, name: f"```python\n{code}\n```\nUse it:\n```python\nprint({name}(1))\n```\n",
    "thinking": lambda code, name: f"```python\ndef {name}(): pass\n```\n</think>\n```python\n{code}\n```\n",
    "answer tags": lambda code, name: f"It is\n<answer>\n{code}\n</answer>",
}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("each", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize(("name", "file"), [("humaneval", "humaneval/HumanEval.jsonl.gz"), ("mbpp", "mbpp/mbpp.jsonl")])
def test_every_published_solution_is_found_in_chat(name: str, file: str, each: int) -> None:
    for problem in load(name, data_path(file)).problems[::each]:
        assert isinstance(problem, CodeProblem)
        whole = problem.canonical_solution if name == "mbpp" else problem.prompt + problem.canonical_solution
        expected = _function(whole, problem.entry_point)
        for spelling, spelled in CHAT.items():
            found = extract(problem, spelled(whole, problem.entry_point)).program
            assert found is not None and _function(found, problem.entry_point) == expected, (problem.id, spelling)


def _function(source: str, name: str) -> str:
    (*_, last) = (node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    return ast.dump(last)


PARTS_OF_CODE = [
    *("```", "```python\n", "~~~\n", '"""', "'", "def nth(n):", "\n", "\n    ", "return n", "nth = ", "nth(1)", "("),
    *("\r", "\x0c", "\x0b", "\x1c", "\u2028", "\0", "\ud800", "\ufeff", ";", "@nth\n", "class nth:", "import nth"),
    *("<think>", "</think>", "</s>", "from __future__ import annotations", "global nth", "nonlocal n", "T[0] = 1"),
    *("\t", "é", "\\", "#"),
    *("if __name__ == '__main__':", "print(", ")", "lambda: ", "from x import *", "try:", "else:", "x = "),
]  # fmt: skip
NEAR_CODE = st.lists(st.sampled_from(PARTS_OF_CODE), max_size=25).map("".join)


@given(NEAR_CODE)
@settings(max_examples=100, deadline=None)
def test_no_text_near_code_breaks_the_reading(reply: str) -> None:
    for prompt in (PROBLEMS["nth"]["prompt"], PROBLEMS["nth"]["prompt"].replace("\n", "\r\n"), '"""Say n."""\n'):
        problem = CodeProblem("p", prompt, "final", "nth", "def check(candidate):\n    pass\n", "")
        extraction = extract(problem, reply)
        if extraction.program is not None:
            ast.parse(extraction.program)
            assert prompt_with_stub(problem).split("\n")[0] in extraction.program
