"""From parsed rows to problems: keys, types, splits, duplicates, all checked before anything is run."""

from __future__ import annotations

import ast

from s0.errors import DatasetError
from s0.tasks.extraction import parses, prompt_with_stub
from s0.tasks.problem import SPLITS, Problem

_KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_TRAIN_SHARE, _SELECT_SHARE = 64 / 164, 16 / 164


def problems_from_rows(rows: list[tuple[str, object]]) -> list[Problem]:
    """Check rows in HumanEval's format and give each its split.

    Args:
        rows: (place, parsed JSON value); the place is what an error names.

    Raises:
        DatasetError: no rows, a missing key, a wrong type, an unknown split, source Python cannot read, or two rows
            that are one problem.
    """
    if not rows:
        raise DatasetError("expected at least one problem; got an empty file; check the path")
    checked = [(place, _checked(place, row)) for place, row in rows]
    splits = _splits(checked)
    problems = [
        Problem(row["task_id"], row["prompt"], row["entry_point"], row["test"], row["canonical_solution"], split)
        for (_, row), split in zip(checked, splits, strict=True)
    ]
    places = [place for place, _ in rows]
    _refuse_duplicates([problem.id for problem in problems], places, "task_id")
    _refuse_duplicates([" ".join(problem.prompt.split()) for problem in problems], places, "prompt")
    for place, problem in zip(places, problems, strict=True):
        _check_sources(place, problem)
    return problems


def _checked(place: str, row: object) -> dict[str, str]:
    if not isinstance(row, dict):
        raise DatasetError(f"{place}: expected a JSON object; got {type(row).__name__}; one problem per line")
    for key in _KEYS:
        if key not in row:
            got = ", ".join(map(str, row)) or "none"
            raise DatasetError(f"{place}: expected the key {key!r}; got {got}; convert the file to HumanEval's format")
    for key in (*_KEYS, "split"):
        value = row.get(key, "")
        if not isinstance(value, str):
            raise DatasetError(f"{place}: expected {key!r} to be a string; got {type(value).__name__}; correct the row")
    return row


def _splits(rows: list[tuple[str, dict[str, str]]]) -> list[str]:
    named = [row.get("split") for _, row in rows]
    if all(name is None for name in named):
        train = round(len(rows) * _TRAIN_SHARE)
        select = round(len(rows) * _SELECT_SHARE)
        return ["train"] * train + ["select"] * select + ["final"] * (len(rows) - train - select)
    for (place, _), name in zip(rows, named, strict=True):
        if name not in SPLITS:
            raise DatasetError(
                f"{place}: expected 'split' to be one of {', '.join(SPLITS)} in every row, or in none; got {name!r}; "
                "correct the row"
            )
    return [name for name in named if name is not None]


def _refuse_duplicates(values: list[str], places: list[str], key: str) -> None:
    """Two rows that are one problem could stand in two splits. Prompts are compared with white space folded."""
    first: dict[str, str] = {}
    for value, place in zip(values, places, strict=True):
        if value in first:
            raise DatasetError(
                f"expected every {key!r} once; got the same in {first[value]} and {place}; remove one of the rows"
            )
        first[value] = place


def _check_sources(place: str, problem: Problem) -> None:
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
