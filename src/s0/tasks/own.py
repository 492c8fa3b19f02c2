r"""A user's own problems: a JSONL file, one problem per line, all with tests or all with answers.

    {"prompt": "def area(w, h):\n    \"\"\"The area of a rectangle.\"\"\"\n",
     "entry_point": "area",
     "test": "def check(candidate):\n    assert candidate(2, 3) == 6\n"}

    {"prompt": "What is a third of 12?\nAnswer:", "answer": "4"}

(one line each in the file). Further keys, all optional; null is as good as no key:

    id                    else the number of the row, from 0
    split                 "train", "select" or "final", in all rows or in none; else cut as HumanEval is
    canonical_solution    a body that passes the test: `Task.require_runnable` makes sure
    question              of rows with answers: what a chat user asks; else the prompt

With tests, the prompt ends with the signature and docstring of the function, and `s0.tasks.code` judges; with
answers (LaTeX, or numbers with or without quotes), `s0.tasks.math` judges. Then:

    s0 eval --model MODEL --task own --data problems.jsonl
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.code import NAMED
from s0.tasks.code.rows import check_sources, defines_check, read_test
from s0.tasks.humaneval import SCORER as CODE
from s0.tasks.humaneval import STOP
from s0.tasks.math.scoring import MathScorer
from s0.tasks.problem import CodeProblem, MathProblem, Problem
from s0.tasks.sources import field, mapping, read_file, refuse_duplicates, sha256_of, splits_of

CHANGES = (
    "programs are judged as HumanEval's, answers as MATH-500's",
    NAMED,
    "programs by the third rules of HumanEval, answers by the second of MATH-500",
)
MATH = MathScorer("{question}\n\nReason step by step, and put the final answer in \\boxed{{}}.")


def load_own(data: Path | None) -> Task:
    """The problems of a file in the format above.

    Raises:
        DatasetError: see `s0.tasks.load`; or rows with tests and rows with answers in one file.
    """
    if data is None:
        raise DatasetError(
            "expected `data=PATH` to a .jsonl file of your own problems, got none: one JSON object per line, with a "
            "prompt and either entry_point and test, or an answer"
        )
    table = read_file(data)
    rows = [(place, _without_nulls(mapping(place, row))) for place, row in table.rows]
    with_answers = "answer" in rows[0][1]
    _require_one_kind(rows)
    make = _math if with_answers else _code
    problems = [
        make(place, row, str(row.get("id", number)), split)
        for number, ((place, row), split) in enumerate(zip(rows, splits_of(rows), strict=True))
    ]
    refuse_duplicates(problems, [place for place, _ in rows], "id", "prompt")
    return Task(
        name="own",
        version=str(len(CHANGES)),
        problems=problems,
        data_sha256=sha256_of(table),
        stop=[] if with_answers else list(STOP),
        max_new_tokens=1024 if with_answers else 512,
        scorer=MATH if with_answers else CODE,
        changes=CHANGES,
        correctable=True,
    )


def _require_one_kind(rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
    places = {"answer" in row: place for place, row in reversed(rows) if "answer" in row or "test" in row}
    if len(places) == 2:
        raise DatasetError(
            f"expected rows with tests or rows with answers, got an answer in {places[True]} and a test in "
            f"{places[False]}; make a file of each kind"
        )


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _code(place: str, row: dict[str, Any], identifier: str, split: str) -> Problem:
    prompt, name, test = (field(place, row, key, str, "own") for key in ("prompt", "entry_point", "test"))
    problem = CodeProblem(identifier, prompt, split, name, test, str(row.get("canonical_solution", "")))
    passed = check_sources(place, problem)
    if passed is not None:
        raise DatasetError(
            f"{place}: expected a test that passes data to {name!r}, which runs in a process of its own; got {passed}; "
            "correct the test"
        )
    if not defines_check(read_test(place, test)):
        raise DatasetError(
            f"{place}: expected a test that defines check(candidate), to be called with {name!r}; got none; put the "
            "asserts into such a function"
        )
    return problem


def _math(place: str, row: dict[str, Any], identifier: str, split: str) -> Problem:
    prompt, answer = field(place, row, "prompt", str, "own"), _answer(place, row)
    return MathProblem(identifier, prompt, split, str(row.get("question", prompt)), answer)


def _answer(place: str, row: dict[str, Any]) -> str:
    """The text that is compared; a JSON number in digits, 4.0 as "4.0"."""
    answer = row.get("answer")
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        if not math.isfinite(answer):
            raise DatasetError(f"{place}: expected 'answer' to be a finite number; got {answer}; correct the row")
        return f"{Decimal(repr(answer)):f}"  # without an exponent, which no reply would be compared with
    text = field(place, row, "answer", str, "own")
    if not text.strip():
        raise DatasetError(f"{place}: expected an 'answer'; got an empty one; correct the row")
    return text
