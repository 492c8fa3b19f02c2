"""The real file: every canonical solution in every accepted form, and every one of them spoilt."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from s0.tasks import CodeProblem, Task, load
from s0.tasks.sandbox import Sandbox

BODY_FORMS: dict[str, Callable[[CodeProblem], str]] = {
    "indented": lambda problem: problem.canonical_solution,
    "unindented": lambda problem: textwrap.dedent(problem.canonical_solution).strip("\n"),
    "first indent lost": lambda problem: problem.canonical_solution.strip(),
    "fenced body": lambda problem: f"```python\n{problem.canonical_solution}```",
    "code and prose after": lambda problem: (
        problem.canonical_solution + "\n\ndef other(x):\n    return 1\n\nprint(1 / 0)\nassert False\nThis is (prose.\n"
    ),
}
FUNCTION_FORMS: dict[str, Callable[[CodeProblem], str]] = {
    "function": lambda problem: problem.prompt + problem.canonical_solution,
    "fenced function": lambda problem: f"```python\n{problem.prompt}{problem.canonical_solution}\n```",
}
OTHER_FORMS: dict[str, Callable[[CodeProblem], str]] = {
    "prose and fence": lambda problem: f"Sure:\n```python\n{problem.prompt}{problem.canonical_solution}\n```\nDone.",
    "function, calls, main guard": lambda problem: (
        f"{problem.prompt}{problem.canonical_solution}\nprint({problem.entry_point}())\n"
        "if __name__ == '__main__':\n    exit()\n"
    ),
}
FORMS = {**BODY_FORMS, **FUNCTION_FORMS, **OTHER_FORMS}
FORMAT_OF_FORM = {
    "indented": "body",
    "unindented": "body_unindented",
    "first indent lost": "body_unindented",
    "code and prose after": "body",
    "function": "function",
    "function, calls, main guard": "function",
}


@pytest.fixture(scope="module")
def task(humaneval_file: Path) -> Task:
    return load("humaneval", humaneval_file)


def passing(
    task: Task, sandbox: Sandbox, forms: dict[str, Callable[[CodeProblem], str]], scoring: str
) -> dict[str, int]:
    completions = [(problem, form(problem)) for form in forms.values() for problem in task.problems]
    verdicts = task.judged_in(sandbox).verdicts(completions, scoring=scoring)
    passed = [
        sum(verdict.passed for verdict in verdicts[start : start + 164]) for start in range(0, len(verdicts), 164)
    ]
    return dict(zip(forms, passed, strict=True))


def test_the_splits_are_those_of_the_protocol(task: Task) -> None:
    assert Counter(problem.split for problem in task.problems) == {"train": 64, "select": 16, "final": 84}
    assert [problem.id for problem in task.split("final")] == [f"HumanEval/{number}" for number in range(80, 164)]
    assert task.data_sha256 == "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"


@pytest.mark.slow
def test_every_form_of_every_right_answer_passes(task: Task, any_sandbox: Sandbox) -> None:
    assert passing(task, any_sandbox, FORMS, "standard") == dict.fromkeys(FORMS, 164)


@pytest.mark.slow
def test_the_papers_scoring_fails_bodies_and_passes_whole_functions(task: Task, any_sandbox: Sandbox) -> None:
    forms = {**BODY_FORMS, **FUNCTION_FORMS}
    expected = {**dict.fromkeys(BODY_FORMS, 0), **dict.fromkeys(FUNCTION_FORMS, 164)}
    assert passing(task, any_sandbox, forms, "paper") == expected


def test_every_answer_fails_once_it_returns_something_else(task: Task, any_sandbox: Sandbox) -> None:
    verdicts = task.judged_in(any_sandbox).verdicts([(problem, spoilt(problem)) for problem in task.problems])
    assert [problem.id for problem, verdict in zip(task.problems, verdicts, strict=True) if verdict.passed] == []
    assert {verdict.reason for verdict in verdicts} <= {"wrong answer"}


def spoilt(problem: CodeProblem) -> str:
    class Spoil(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.Return:
            return ast.Return(ast.Constant("spoilt"))

    tree = ast.parse(problem.prompt + problem.canonical_solution)
    tree.body[-1] = Spoil().visit(tree.body[-1])
    return ast.unparse(ast.fix_missing_locations(tree))


def test_the_format_is_told_apart(task: Task) -> None:
    for name, expected in FORMAT_OF_FORM.items():
        counts = Counter(task.format_of(problem, FORMS[name](problem)) for problem in task.problems)
        assert counts == {expected: 164}, name


def test_no_stop_string_cuts_a_right_answer(task: Task) -> None:
    for form in ("indented", "unindented", "function"):
        for problem in task.problems:
            completion = FORMS[form](problem)
            assert not any(stop in completion for stop in task.stop), (problem.id, form)
