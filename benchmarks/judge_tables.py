"""What the judges are asked: rows of a problem, a reply and the right verdict, in tables of one kind each."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s0.tasks import CodeProblem, MathProblem, Problem, Scorer, Task, load
from s0.tasks.gsm8k import SCORER as NUMBERS
from s0.tasks.humaneval import SCORER as HUMANEVAL
from s0.tasks.math500 import SCORER as MATHEMATICS
from s0.tasks.mbpp import SCORER as MBPP
from s0.tasks.sources import read_file
from s0.tasks.spider import SCORER as QUERIES
from tests.tasks.databases import made_database, sql_problem
from tests.tasks.mutations.golds import gsm8k_golds, math_golds
from tests.tasks.mutations.kinds import KINDS
from tests.tasks.mutations.trial import mutations as mutated
from tests.tasks.spellings import code, numbers, replies, sql
from tests.tasks.spellings import math as mathematics

JOBS = 2
SEED = 0
OF_ANSWERS = ("Math-Verify", "lm-eval minerva_math", "lm-eval hendrycks_math")
OF_NUMBERS = ("Math-Verify", "lm-eval gsm8k strict-match", "lm-eval gsm8k flexible-extract")
OF_PROGRAMS = (
    "EvalPlus, reply alone",
    "EvalPlus, after the prompt",
    "lm-eval humaneval",
    "lm-eval humaneval_instruct",
    "lm-eval mbpp_instruct",
)
OF_HUMANEVAL = ("EvalPlus, after the prompt", "lm-eval humaneval", "lm-eval humaneval_instruct")
NUMBER_KINDS = [kind for kind in KINDS if kind not in ("factorial added", "letter added")]
"""Behind a number, an exclamation mark or a letter is no part of it."""
OF_MBPP = ("EvalPlus, after the prompt", "lm-eval mbpp_instruct")


@dataclass(frozen=True)
class Row:
    """A problem, a reply to it and the right verdict.

    Attributes:
        shown: what stands in the record where a judge is wrong.
        checked: what EvalPlus's own checker needs, as JSON; None where it has no inputs.
    """

    problem: Problem
    reply: str
    right: bool
    shown: str
    checked: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows of one kind, which the same judges judge: `scorer` for us, and `peers`."""

    name: str
    kind: str
    scorer: Scorer
    peers: tuple[str, ...]
    rows: list[Row]


def spellings(folder: Path) -> Iterator[Table]:
    """The tables that the tests read; the database of the queries is made in `folder`."""
    for kind, pairs in mathematics.SPELLINGS.items():
        rows = [
            answer_row(right, stated(answer), passes, f"{right} | {answer}")
            for passes, table in zip((True, False), pairs, strict=True)
            for right, answer in table
        ]
        yield Table(f"spellings: {kind}", "mathematics", MATHEMATICS, OF_ANSWERS, rows)
    rows = [
        answer_row(right, reply, passes, f"{right} | {reply}")
        for passes, table in ((True, numbers.ACCEPTED), (False, numbers.REFUSED))
        for right, reply in table
    ]
    yield Table("spellings: numbers", "numbers", NUMBERS, OF_NUMBERS, rows)
    rows = [
        answer_row(right, reply, passes, f"{right} | {reply}")
        for passes, table in ((True, replies.ACCEPTED), (False, replies.REFUSED))
        for right, reply in table
    ]
    yield Table("spellings: replies", "mathematics", MATHEMATICS, OF_ANSWERS[:1], rows)
    question = sql_problem(made_database(folder / "made.sqlite"), sql.GOLD)
    rows = [
        Row(question, reply, passes, reply)
        for passes, table in ((True, sql.ACCEPTED), (False, sql.REFUSED))
        for reply in table
    ]
    yield Table("spellings: queries", "queries", QUERIES, (), rows)
    problems = {
        name: CodeProblem(name, row["prompt"], "final", row["entry_point"], row["test"], "")
        for name, row in code.PROBLEMS.items()
    }
    rows = [
        Row(problems[name], reply, passes, f"{spelling} | {reply}")
        for passes, table in ((True, code.ACCEPTED), (False, code.REFUSED))
        for spelling, name, reply in table
    ]
    yield Table("spellings: programs", "programs", HUMANEVAL, OF_PROGRAMS, rows)


def stated(answer: str) -> str:
    """An answer as a reply in which every judge of answers finds it."""
    return f"So it is \\boxed{{{answer}}}.\n{final_line(answer)}"


def final_line(answer: str) -> str:
    return f"Final Answer: The final answer is ${answer}$. I hope it is correct."


def marked(answer: str) -> str:
    """The same for numbers: as GSM8K's own solutions end."""
    return f"So it is {answer}.\n#### {answer}"


def answer_row(right: str, reply: str, passes: bool, shown: str) -> Row:
    return Row(MathProblem(right, "", "final", "", right), reply, passes, shown)


def mutations(golds: dict[str, list[str]], n_golds: int | None, n_beside: int) -> Iterator[Table]:
    """Of every source of right answers two tables: one for us alone, one of a sample for everybody."""
    ways = {
        "MATH": ("mathematics", MATHEMATICS, stated, OF_ANSWERS, KINDS),
        "GSM8K": ("numbers", NUMBERS, marked, OF_NUMBERS, NUMBER_KINDS),
    }
    for source, answers in golds.items():
        kind, scorer, reply, peers, kinds = ways[source]
        answers = random.Random(SEED).sample(answers, min(n_golds or len(answers), len(answers)))
        with multiprocessing.Pool(JOBS) as processes:
            wrong = processes.map(functools.partial(wrong_answers, kinds=tuple(kinds)), answers, chunksize=8)
        rows = [
            [answer_row(gold, reply(answer), False, f"{gold} | {answer}") for answer in rivals]
            for gold, rivals in zip(answers, wrong, strict=True)
        ]
        for some, judges in ((rows, ()), (rows[:n_beside], peers)):
            yield Table(
                f"mutations of {len(some)} answers of {source}", kind, scorer, judges, [*itertools.chain(*some)]
            )


def wrong_answers(gold: str, kinds: tuple[str, ...]) -> list[str]:
    """What one step makes of a right answer and is shown to mean something else."""
    tallies = mutated([gold], kinds).values()
    return list(dict.fromkeys(answer for tally in tallies for _, answer in tally.wrong))


def worked(data: Path) -> Iterator[Table]:
    """The published solutions, as replies."""
    rows = [
        answer_row(row["answer"], f"{row['solution']}\n{final_line(row['answer'])}", True, row["unique_id"])
        for row in rows_in(data / "math500" / "test.jsonl")
    ]
    yield Table("worked solutions of MATH-500", "mathematics", MATHEMATICS, OF_ANSWERS[:2], rows)
    rows = [
        answer_row(gsm8k_answer(row), row["answer"], True, f"test/{number}")
        for number, row in enumerate(rows_in(data / "gsm8k" / "test.jsonl"))
    ]
    yield Table("worked solutions of GSM8K", "numbers", NUMBERS, OF_NUMBERS, rows)


def canonical(data: Path) -> Iterator[Table]:
    """The reference programs, each beside a function that returns None."""
    plus = {row["task_id"]: row for row in rows_in(data / "humanevalplus" / "HumanEvalPlus.jsonl.gz")}
    for name, file in (
        ("humaneval", "humaneval/HumanEval.jsonl.gz"),
        ("humaneval+", "humanevalplus/HumanEvalPlus.jsonl.gz"),
    ):
        checked = {key: checked_humaneval(row) for key, row in plus.items()} if name == "humaneval+" else {}
        yield programs(name, load(name, data / file), OF_HUMANEVAL, checked)
    for name, file in (("mbpp", "mbpp/mbpp.jsonl"), ("mbpp+", "mbppplus/MbppPlus-OriginFmt.jsonl.gz")):
        checked = {str(row["task_id"]): checked_mbpp(row) for row in rows_in(data / file)} if name == "mbpp+" else {}
        yield programs(name, load(name, data / file), OF_MBPP, checked)


def programs(name: str, task: Task, peers: tuple[str, ...], checked: dict[str, str]) -> Table:
    whole = task.scorer == MBPP
    nothing = "def {}(*_):\n    return None\n" if whole else "    return None\n"
    reply = "\n{}\n```\n" if whole else "{}\n"
    rows = []
    for problem in task.problems:
        assert isinstance(problem, CodeProblem)
        for program, right in ((problem.canonical_solution, True), (nothing.format(problem.entry_point), False)):
            rows.append(Row(problem, reply.format(program.rstrip()), right, problem.id, checked.get(problem.id)))
    return Table(f"canonical programs of {name}", "programs", task.scorer, peers, rows)


def checked_humaneval(row: dict[str, Any]) -> str:
    reference = row["prompt"] + row["canonical_solution"]
    inputs = [*row["base_input"], *row["plus_input"]]
    return json.dumps({"dataset": "humaneval", "reference": reference, "inputs": inputs, "atol": row["atol"]})


def checked_mbpp(row: dict[str, Any]) -> str:
    """The hub's file holds the inputs within the test, as source."""
    inputs = row["test"].partition("\nresults = ")[0]
    return json.dumps({"dataset": "mbpp", "reference": row["code"], "inputs": inputs, "atol": 0})


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [dict(row) for _, row in read_file(path).rows]  # type: ignore[call-overload]


def gsm8k_answer(row: dict[str, Any]) -> str:
    return str(row["answer"].rpartition("####")[2].strip())


def golds_in(data: Path) -> dict[str, list[str]]:
    """Every different right answer of the test sets, by benchmark."""
    mathematics = {*math_golds(data / "math" / "test.jsonl"), *math_golds(data / "math500" / "test.jsonl")}
    return {"MATH": sorted(mathematics), "GSM8K": gsm8k_golds(data / "gsm8k" / "test.jsonl")}


# --- The record ---
