"""From parsed rows in HumanEval's format to problems: keys, types, splits, duplicates, all checked."""

from __future__ import annotations

import ast

from s0.errors import DatasetError
from s0.tasks.code.bindings import FUNCTIONS, Bindings, walk
from s0.tasks.code.crossing import cannot_cross
from s0.tasks.code.extraction import prompt_with_stub
from s0.tasks.code.parsing import parse, parses
from s0.tasks.problem import CodeProblem
from s0.tasks.sources import field, mapping, refuse_duplicates, splits_of

KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def problems_from_rows(rows: list[tuple[str, object]]) -> tuple[list[CodeProblem], list[str]]:
    """Check rows in HumanEval's format and give each its split.

    Args:
        rows: (place, parsed JSON value); the place is what an error names.

    Returns:
        the problems that can be judged, and lines for `Task.left_out` of the others.

    Raises:
        DatasetError: a missing key, a wrong type, an unknown split, source Python cannot read, or two rows that are
            one problem.
    """
    checked = [(place, mapping(place, row)) for place, row in rows]
    texts = [{key: field(place, row, key, str, "HumanEval") for key in KEYS} for place, row in checked]
    problems = [
        CodeProblem(row["task_id"], row["prompt"], split, row["entry_point"], row["test"], row["canonical_solution"])
        for row, split in zip(texts, splits_of(checked), strict=True)
    ]
    places = [place for place, _ in rows]
    refuse_duplicates(problems, places, "task_id", "prompt")
    passed = [check_sources(place, problem) for place, problem in zip(places, problems, strict=True)]
    return (
        [problem for problem, what in zip(problems, passed, strict=True) if what is None],
        [left_out_for(problem.id, what) for problem, what in zip(problems, passed, strict=True) if what is not None],
    )


def left_out_for(identifier: str, passed: str) -> str:
    """The line of `Task.left_out` for a test that passes what cannot cross."""
    return f"{identifier}: its test passes {passed}; only data can cross to the function's process"


def check_sources(place: str, problem: CodeProblem) -> str | None:
    """Refuse a prompt that does not end with the function's signature, and a test that Python cannot read.

    Returns:
        what the test surely passes to the function and cannot, or None: see `cannot_cross`.

    Raises:
        DatasetError: it is one of these.
    """
    stub = prompt_with_stub(problem)
    if not parses(stub) or not _defines_last(stub, problem.entry_point):
        raise DatasetError(
            f"{place}: expected a prompt that ends with the signature of {problem.entry_point!r} and its docstring; "
            f"got {problem.prompt[-60:]!r}; correct the prompt or the entry point"
        )
    return cannot_cross(read_test(place, problem.test), stub, problem.entry_point)


def defines_check(test: ast.Module) -> bool:
    """Whether a test binds `check`, which is called with the function under test."""
    if any(isinstance(statement, FUNCTIONS) and statement.name == "check" for statement in test.body):
        return True
    names = Bindings(walk(test)).names()
    return "check" in names or "*" in names


def read_test(place: str, source: str) -> ast.Module:
    """A test as parsed.

    Raises:
        DatasetError: Python cannot read it.
    """
    tree, _ = parse(source)
    if tree is None:
        raise DatasetError(f"{place}: expected a test that Python can read; got a syntax error; correct the test")
    return tree


def _defines_last(source: str, name: str) -> bool:
    last = ast.parse(source).body[-1]
    return isinstance(last, (ast.FunctionDef, ast.AsyncFunctionDef)) and last.name == name
