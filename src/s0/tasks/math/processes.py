"""Comparing formulas in processes of our own, which are killed when they take too long: see `comparing` for why."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Sequence
from typing import TypeAlias

from s0.tasks.math import worker as inside
from s0.tasks.math.worker import Limits
from s0.tasks.sandbox import Verdict
from s0.tasks.workers import Worker, each_once

Pair: TypeAlias = "tuple[str, str]"
"""(right, answer), both tidy."""


class Comparers:
    """Processes that compare formulas. Thread-safe; they start when first needed and are kept."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._idle: list[_Comparer] = []
        self._owner = os.getpid()

    def judge(self, jobs: Sequence[Pair], at_a_time: int | None = None) -> list[Verdict]:
        """One verdict per job, in order; equal jobs are done once.

        Reasons: "passed", "wrong answer", "timeout", "scorer failed" (the comparison broke: never a pass).

        Raises:
            SandboxError: no such process starts here.
        """
        return each_once(jobs, self._judge_one, at_a_time)

    def close(self) -> None:
        """End the processes; new ones start when they are needed again."""
        while self._idle:
            self._idle.pop().close()

    def _judge_one(self, pair: Pair) -> Verdict:
        comparer = self._take()
        try:
            verdict = comparer.judge(pair)
        except BaseException:
            comparer.close()
            raise
        if verdict is None:
            reason = "timeout" if comparer.cause_of_end() == "timeout" else "scorer failed"
            comparer.close()
            return Verdict(False, reason)
        self._idle.append(comparer)
        return verdict

    def _take(self) -> _Comparer:
        if self._owner != os.getpid():  # a forked copy: the processes belong to the original
            self._idle, self._owner = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return _Comparer(self._limits)


class _Comparer(Worker):
    """One process and the connection to it."""

    does = "compares formulas"
    remedy = "install s0-tuning with its dependencies (math-verify among them) for that interpreter"

    def __init__(self, limits: Limits) -> None:
        # Python looks into the folder it is started in for modules.
        super().__init__(inside, limits, cwd="/", start_limit_s=120.0)

    def judge(self, pair: Pair) -> Verdict | None:
        """The verdict, None where the process ended or has said nothing for too long."""
        self._say({"pair": pair})
        message = self._hear()
        if message is None:
            return None
        if "failed" in message:
            return Verdict(False, "scorer failed")
        return Verdict(message["equal"], "passed" if message["equal"] else "wrong answer")


@functools.cache
def shared() -> Comparers:
    """The process-wide comparers with default limits; closed at exit."""
    comparers = Comparers()
    atexit.register(comparers.close)
    return comparers
