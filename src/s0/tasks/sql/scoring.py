"""Judging queries: from a completion to the query that is executed, by either of two rules.

`paper`     what a harness without care does (none is published for this task): the reply as it stands up to its first
            semicolon, after the prompt's SELECT unless it begins with one. A fence or a word of prose fails.
`standard`  the query that the completion holds (`s0.tasks.sql.extraction`): gone on from the prompt or whole, fenced
            or not, with prose around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from s0.errors import DatasetError
from s0.tasks.problem import Problem
from s0.tasks.sandbox import Sandbox, Verdict
from s0.tasks.sql.extraction import extract
from s0.tasks.sql.judge import judge
from s0.tasks.sql.problem import SqlProblem


@dataclass(frozen=True)
class SqlScorer:
    """Runs the query and compares its result with the gold query's, on every database of the problem.

    Attributes:
        ask: what a user asks in a chat, with {prompt} for the problem's, without the SELECT at its end.
    """

    ask: str
    formats: ClassVar[tuple[str, ...]] = ("continuation", "statement", "fenced", "prose", "unparsable", "empty")
    notes: ClassVar[dict[str, str]] = {
        "standard": "the query found in any form",
        "paper": "the reply up to its first semicolon, as it stands",
    }

    def verdicts(
        self, completions: Sequence[tuple[Problem, str]], scoring: str, jobs: int | None, sandbox: Sandbox | None
    ) -> list[Verdict]:
        """See `s0.tasks.Task.verdicts`; `sandbox` is for programs, queries have processes of their own."""
        asked = [(_sql(problem), reply) for problem, reply in completions]
        queries = [query(reply, scoring) for _, reply in asked]
        pairs = [(problem, text) for (problem, _), text in zip(asked, queries, strict=True) if text is not None]
        judged = iter(judge(pairs, jobs))
        return [
            Verdict(False, extract(reply).format) if text is None else next(judged)
            for (_, reply), text in zip(asked, queries, strict=True)
        ]

    def format_of(self, problem: Problem, completion: str) -> str:
        """See `Scorer`."""
        return extract(completion).format

    def request(self, problem: Problem) -> str:
        """See `Scorer`."""
        return self.ask.format(prompt=problem.prompt.removesuffix("SELECT"))


def query(completion: str, scoring: str) -> str | None:
    """The query that is executed, or None where `standard` finds none.

    `paper` always makes one, be it text that SQLite cannot read.
    """
    if scoring == "standard":
        return extract(completion).query
    reply = completion.strip().partition(";")[0]
    return reply if reply[:6].upper() == "SELECT" else f"SELECT {reply}"


def _sql(problem: Problem) -> SqlProblem:
    if not isinstance(problem, SqlProblem):
        raise DatasetError(
            f"{problem.id}: expected a problem with databases; got {type(problem).__name__}; use its task"
        )
    return problem
