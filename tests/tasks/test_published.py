"""The published files: every canonical solution passes or its row is left out by name, and a spoilt one fails."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from s0.tasks import CodeProblem, Task, load
from s0.tasks.sandbox import Sandbox, shared
from tests.tasks.real_data import data_path


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes:
        path: below the folder of the real data.
        rows: how many it has.
        left_out: ids of those that are left out.
        step: of how many rows one is run, where each takes a second, or another file has the same ones.
        weak: ids of those whose published test passes a spoilt solution too, with the way of spoiling.
    """

    task: str
    path: str
    rows: int
    left_out: tuple[str, ...] = ()
    step: int = 1
    weak: frozenset[tuple[str, str]] = frozenset()


EVERY_ROW = "S0_EVERY_ROW" in os.environ
"""Also of the files whose tests take longest: after a change to the judge."""
HUMANEVAL = File("humaneval", "humaneval/HumanEval.jsonl.gz", 164)
HUMANEVAL_PLUS_OF_THE_HUB = File(
    "humaneval+",
    "humanevalplus/HumanEvalPlus-OriginFmt.jsonl.gz",
    164,
    left_out=("HumanEval/32",),
    step=1 if EVERY_ROW else 5,
)
HUMANEVAL_PLUS = File("humaneval+", "humanevalplus/HumanEvalPlus.jsonl.gz", 164, step=1 if EVERY_ROW else 2)
MBPP = File(
    "mbpp",
    "mbpp/mbpp.jsonl",
    974,
    left_out=("367", "601", "927"),
    weak=frozenset(
        {
            ("404", "its argument"),  # the smaller of two numbers, which comes first in every assert
            ("698", "its argument"),  # a dictionary in another order, which is equal
            ("847", "its argument"),  # a copy of a list, which is equal
            ("899", "true"),  # the answer in every assert
        }
    ),
)
MBPP_SANITIZED = File("mbpp", "mbpp/sanitized-mbpp.json", 427, weak=frozenset({("404", "its argument")}))
MBPP_PLUS = File("mbpp+", "mbppplus/MbppPlus-OriginFmt.jsonl.gz", 378, left_out=("255",), step=1 if EVERY_ROW else 2)
FILES = [HUMANEVAL, HUMANEVAL_PLUS_OF_THE_HUB, HUMANEVAL_PLUS, MBPP, MBPP_SANITIZED, MBPP_PLUS]
QUICK = [HUMANEVAL]


def loaded(file: File) -> Task:
    return load(file.task, data_path(file.path))


def require_all_right(file: File, sandbox: Sandbox) -> None:
    task = loaded(file)
    assert tuple(line.partition(":")[0] for line in task.left_out) == file.left_out
    assert len(task.problems) + len(task.left_out) == file.rows
    problems = task.problems[:: file.step]
    verdicts = task.judged_in(sandbox).verdicts([(problem, solution(problem)) for problem in problems])
    failed = {problem.id: verdict.reason for problem, verdict in zip(problems, verdicts, strict=True)}
    assert {identifier: reason for identifier, reason in failed.items() if reason != "passed"} == {}


def solution(problem: object) -> str:
    assert isinstance(problem, CodeProblem)
    return problem.canonical_solution


@pytest.mark.parametrize("file", QUICK, ids=lambda file: file.path)
@pytest.mark.slow
def test_every_canonical_solution_passes(file: File) -> None:
    require_all_right(file, shared())


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in FILES if file not in QUICK], ids=lambda file: file.path)
def test_every_canonical_solution_of_the_large_files_passes(file: File) -> None:
    require_all_right(file, shared())


def body_of(write: Callable[[list[str]], str]) -> Callable[[CodeProblem], str]:
    """The canonical solution's functions, with another body in that of the entry point."""

    def spoilt(problem: CodeProblem) -> str:
        source = problem.canonical_solution
        if not source.startswith(("def ", "import ", "from ", "class ")):
            source = problem.prompt + source
        tree = ast.parse(source)
        entry = next(
            node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point
        )
        parameters = [parameter.arg for parameter in entry.args.args]
        entry.body = ast.parse(write(parameters)).body
        return ast.unparse(tree)

    return spoilt


SPOILT = {
    "nothing": body_of(lambda parameters: "pass"),
    "its argument": body_of(lambda parameters: f"return {parameters[0]}" if parameters else "return ()"),
    "no number": body_of(lambda parameters: "return float('nan')"),
    "an infinity": body_of(lambda parameters: "return float('inf')"),
    "true": body_of(lambda parameters: "return True"),
    "an empty list": body_of(lambda parameters: "return []"),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_no_spoilt_solution_passes(file: File) -> None:
    task = loaded(file)
    asked = [(problem, name) for problem in task.problems[:: file.step] for name in SPOILT]
    completions = [(problem, SPOILT[name](problem)) for problem, name in asked if isinstance(problem, CodeProblem)]
    verdicts = task.judged_in(shared()).verdicts(completions)
    passed = {(problem.id, name) for (problem, name), verdict in zip(asked, verdicts, strict=True) if verdict.passed}
    assert passed == file.weak
