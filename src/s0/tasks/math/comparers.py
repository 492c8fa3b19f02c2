"""Comparing formulas in processes of our own, which are killed when they take too long: see `comparing` for why."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

from s0.tasks.math import worker as inside
from s0.tasks.math.worker import Limits
from s0.tasks.sandbox import Verdict
from s0.tasks.workers import Pool, Worker, each_once

Pair: TypeAlias = "tuple[str, str]"
"""(right, answer), both tidy."""


class Comparers(Pool["_Comparer"]):
    """Processes that compare formulas. Thread-safe; they start when first needed and are kept."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(functools.partial(_Comparer, limits or Limits()))

    def judge(self, jobs: Sequence[Pair], at_a_time: int | None = None) -> list[Verdict]:
        """One verdict per job, in order; equal jobs are done once.

        Reasons: "passed", "wrong answer", "timeout", "scorer failed" (the comparison broke: never a pass).

        Raises:
            SandboxError: no such process starts here.
        """
        return each_once(jobs, self._judge_one, at_a_time)

    def _judge_one(self, pair: Pair) -> Verdict:
        with self._member() as comparer:
            return comparer.judge(pair)


class _Comparer(Worker):
    """One process and the connection to it."""

    does = "compares formulas"
    remedy = "install s0-tuning with its dependencies (math-verify among them) for that interpreter"

    def __init__(self, limits: Limits) -> None:
        # Python looks into the folder it is started in for modules.
        super().__init__(inside, limits, cwd="/", start_limit_s=120.0)

    def judge(self, pair: Pair) -> Verdict:
        """The verdict; the process is closed where it has ended or said nothing for too long."""
        self._say({"pair": pair})
        message = self._hear()
        if message is None:
            reason = "timeout" if self.cause_of_end() == "timeout" else "scorer failed"
            self.close()
            return Verdict(False, reason)
        if "failed" in message:
            return Verdict(False, "scorer failed")
        return Verdict(message["equal"], "passed" if message["equal"] else "wrong answer")


@functools.cache
def shared() -> Comparers:
    """The process-wide comparers with default limits; closed at exit."""
    return Comparers()
