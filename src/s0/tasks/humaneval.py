"""Tasks in HumanEval's format: one JSON object per problem.

Keys: task_id, prompt, entry_point, canonical_solution, test; and optionally split ("train", "select" or "final", in
all rows or in none). Without it the first 64 of 164 rows are for training, the next 16 for selection, the last 84
final; files of another length are cut in the same proportions. Source of the format: Chen et al. 2021.

HumanEval+ (Liu et al. 2023) has many more tests per problem and is read in either of its formats: that of the Hugging
Face hub, which is HumanEval's, and EvalPlus's own file, with base_input, plus_input and atol instead of test, where
the canonical solution computes what is right (`s0.tasks.code.tables`).

Rows whose tests no answer can pass are left out, and `Task.left_out` names them: those that pass to the function what
cannot cross to another process (`s0.tasks.code.crossing`), and HumanEval/32 as the hub has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s0.tasks.base import Task
from s0.tasks.code import KEPT, NAMED, CodeScorer
from s0.tasks.code.rows import problems_from_rows
from s0.tasks.code.tables import table_test, without_numpy
from s0.tasks.problem import CodeProblem
from s0.tasks.sources import Hub, Table, field, mapping, read, sha256_of

HUB = Hub("openai/openai_humaneval", "test", 164)
PLUS = Hub("evalplus/humanevalplus", "test", 164)
CHANGES = (
    "body, function, fence and prose are all read; the checker has a process of its own",
    NAMED,
    KEPT,
)
SCORER = CodeScorer(
    "Complete this Python function. Answer with the whole function in one ```python block.\n\n```python\n{prompt}```"
)

STOP = ("\nif __name__", "\nprint(", "\nassert ", "\ndef check(", "\nMETADATA", "\n>>> ")
"""No completion that begins with its answer goes on after one of these.

The usual "\\ndef " and "\\nclass " are missing on purpose: a reply that begins with an import or a helper and then
repeats the whole function holds them, and "\\n#" and "\\nif " stand inside unindented bodies. A demonstration after the
function costs tokens, not the verdict: the standard scoring drops it.
"""


def load_humaneval(data: Path | None) -> Task:
    """HumanEval from a local file, or from the Hugging Face hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    return _task("humaneval", read(data, HUB), max_new_tokens=512)


def load_humaneval_plus(data: Path | None) -> Task:
    """HumanEval+ from a local file in either format, or from the Hugging Face hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    table = read(data, PLUS)
    rows = [(place, _with_test(place, mapping(place, row))) for place, row in table.rows]
    return _task("humaneval+", Table(table.content, [*rows]), max_new_tokens=512)


def _with_test(place: str, row: dict[str, Any]) -> dict[str, Any]:
    if "base_input" not in row:
        return {**row, "test": without_numpy(field(place, row, "test", str, "HumanEval+"))}
    prompt, body, name = (
        field(place, row, key, str, "HumanEval+") for key in ("prompt", "canonical_solution", "entry_point")
    )
    inputs = [*field(place, row, "base_input", list, "HumanEval+"), *(row.get("plus_input") or [])]
    return {**row, "test": table_test(place, name, prompt + body, inputs, float(row.get("atol") or 0))}


def _task(name: str, table: Table, max_new_tokens: int) -> Task:
    readable, left_out = problems_from_rows(table.rows)
    unpassable = [problem for problem in readable if _unpacks_a_number(problem)]
    left_out += [f"{problem.id}: its test unpacks the number that a right answer returns" for problem in unpassable]
    return Task(
        name=name,
        version=str(len(CHANGES)),
        problems=[problem for problem in readable if problem not in unpassable],
        data_sha256=sha256_of(table),
        stop=list(STOP),
        max_new_tokens=max_new_tokens,
        scorer=SCORER,
        changes=CHANGES,
        left_out=tuple(left_out),
    )


def _unpacks_a_number(problem: CodeProblem) -> bool:
    """Whether it is `find_zero` with the hub's test, which calls `_poly(*candidate(*inp), inp)`."""
    return problem.id == "HumanEval/32" and "*candidate(" in problem.test
