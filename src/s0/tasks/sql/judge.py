"""Judging answers in processes of our own, never in the calling one: SQLite can be made to burn time and memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

from s0.errors import DatasetError
from s0.tasks.sandbox import Verdict
from s0.tasks.sql import worker as inside
from s0.tasks.sql.problem import SqlProblem
from s0.tasks.sql.worker import Limits
from s0.tasks.workers import Pool, Worker, each_once

Answer: TypeAlias = "tuple[SqlProblem, str]"
"""(problem, query)."""

_SPOILT_AFTER = ("timeout", "memory", "killed")


def judge(answers: Sequence[Answer], jobs: int | None = None, limits: Limits | None = None) -> list[Verdict]:
    """Run queries and compare their results with those of the gold queries.

    Args:
        answers: in any number and order; equal ones are run once.
        jobs: processes at a time; None takes the number of processor cores this process may use.
        limits: for each query on each database; None takes the defaults, whose processes are kept for the next call.

    Returns:
        one verdict per answer, in order. Reasons: "passed", "wrong answer", "too many rows" (than can be right),
        "SQL error: ...", "timeout", "memory", "killed".

    Raises:
        DatasetError: a gold query gives no result within the limits; names the problem.
        SandboxError: the process that runs queries does not start or breaks by itself.
    """
    if limits is None:
        return each_once(answers, _shared().judge, jobs)
    with _Workers(limits) as workers:
        return each_once(answers, workers.judge, jobs)


class _Workers(Pool["_Worker"]):
    """Processes that run queries."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(functools.partial(_Worker, limits))

    def judge(self, answer: Answer) -> Verdict:
        with self._member() as worker:
            verdict = worker.judge(*answer)
            if verdict.reason in _SPOILT_AFTER:
                worker.close()
            return verdict


@functools.cache
def _shared() -> _Workers:
    """The process-wide ones with default limits; closed at exit."""
    return _Workers(Limits())


class _Worker(Worker):
    """One process and the connection to it."""

    does = "runs SQL queries"
    remedy = "run again"

    def __init__(self, limits: Limits) -> None:
        # Nothing but the standard library is needed.
        super().__init__(inside, limits, flags=("-I", "-S"), cwd="/", start_limit_s=60.0)

    def judge(self, problem: SqlProblem, query: str) -> Verdict:
        job = {
            "databases": [str(path.absolute()) for path in problem.databases],
            "gold": problem.gold,
            "answer": query,
            "ordered": problem.ordered,
        }
        self._say(job)
        running: dict[str, Any] = {}
        while (message := self._hear()) is not None:
            if "running" in message:
                running = message
            elif "refused" in message:
                raise _gold_error(problem, running, message["refused"])
            else:
                return Verdict(**message)
        reason = self.cause_of_end()
        if not running or reason is None:
            raise self._broken_error()
        if running["running"] == "gold":
            raise _gold_error(problem, running, reason)
        return Verdict(False, reason)


def _gold_error(problem: SqlProblem, running: dict[str, Any], reason: str) -> DatasetError:
    return DatasetError(
        f"{problem.id}: expected the gold query to give a result on {running['database']}; got {reason}; "
        "correct the query or the database, or leave the problem out"
    )
