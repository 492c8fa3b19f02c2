"""From parsed rows in HumanEval's format to problems: keys, types, splits, duplicates, all checked."""

from __future__ import annotations

import ast

from s0.errors import DatasetError
from s0.tasks.code.extraction import prompt_with_stub
from s0.tasks.code.parsing import parses
from s0.tasks.problem import CodeProblem
from s0.tasks.sources import field, mapping, refuse_duplicates, splits_of

KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def problems_from_rows(rows: list[tuple[str, object]]) -> list[CodeProblem]:
    """Check rows in HumanEval's format and give each its split.

    Args:
        rows: (place, parsed JSON value); the place is what an error names.

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
    for place, problem in zip(places, problems, strict=True):
        check_sources(place, problem)
    return problems


def check_sources(place: str, problem: CodeProblem) -> None:
    """Refuse a prompt that does not end with the function's signature, and a test that Python cannot read.

    Raises:
        DatasetError: it is one of these.
    """
    stub = prompt_with_stub(problem)
    if not parses(stub) or not _defines_last(stub, problem.entry_point):
        raise DatasetError(
            f"{place}: expected a prompt that ends with the signature of {problem.entry_point!r} and its docstring; "
            f"got {problem.prompt[-60:]!r}; correct the prompt or the entry point"
        )
    if not parses(problem.test):
        raise DatasetError(f"{place}: expected a test that Python can read; got a syntax error; correct the test")


def _defines_last(source: str, name: str) -> bool:
    last = ast.parse(source).body[-1]
    return isinstance(last, (ast.FunctionDef, ast.AsyncFunctionDef)) and last.name == name
