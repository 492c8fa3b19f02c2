"""Judging answers in processes of our own, never in the calling one: SQLite can be made to burn time and memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s0.errors import DatasetError, SandboxError
from s0.tasks.sandbox import Verdict
from s0.tasks.sql.problem import SqlProblem
from s0.tasks.sql.worker import Limits

_BOOTSTRAP = """\
import json, sys, types
for name in ("s0", "s0.tasks", "s0.tasks.sql"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules["s0.tasks.sql"].__path__.append(sys.argv[1])
from s0.tasks.sql.worker import Limits, main
main(Limits(**json.loads(sys.argv[2])))
"""
"""The packages stand in empty, since importing the real ones takes seconds and the memory limit."""

_START_LIMIT_S = 60.0
_SPOILT_AFTER = ("timeout", "memory", "killed")


def judge(
    answers: Sequence[tuple[SqlProblem, str]], jobs: int | None = None, limits: Limits | None = None
) -> list[Verdict]:
    """Run queries and compare their results with those of the gold queries.

    Args:
        answers: (problem, query) in any number and order; equal pairs are run once.
        jobs: processes at a time; None takes the number of processor cores this process may use.
        limits: for each query on each database; None takes the defaults.

    Returns:
        one verdict per answer, in order. Reasons: "passed", "wrong answer", "too many rows" (than can be right),
        "SQL error: ...", "timeout", "memory", "killed".

    Raises:
        DatasetError: a gold query gives no result within the limits; names the problem.
        SandboxError: the process that runs queries does not start or breaks by itself.
    """
    unique = list(dict.fromkeys(answers))
    pool = _Pool(limits or Limits())
    executor = ThreadPoolExecutor(max(1, min(jobs or _cores(), len(unique))))
    try:
        verdicts = dict(zip(unique, executor.map(lambda pair: pool.judge(*pair), unique), strict=True))
    finally:
        executor.shutdown(cancel_futures=True)  # after an error or an interrupt, finish only what runs
        pool.close()
    return [verdicts[pair] for pair in answers]


class _Pool:
    """Processes that wait for work; one that broke is not put back."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._idle: list[_Worker] = []

    def judge(self, problem: SqlProblem, query: str) -> Verdict:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._limits)
        try:
            verdict = worker.judge(problem, query)
        except BaseException:
            worker.close()
            raise
        if verdict.reason in _SPOILT_AFTER:
            worker.close()
        else:
            self._idle.append(worker)
        return verdict

    def close(self) -> None:
        for worker in self._idle:
            worker.close()


class _Worker:
    """One process and the connection to it."""

    def __init__(self, limits: Limits) -> None:
        self._link, theirs = socket.socketpair()
        self._lines = self._link.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _BOOTSTRAP),
                    *(str(Path(__file__).parent), json.dumps(asdict(limits))),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # an interrupt typed at the terminal is for us
            )
        self._link.settimeout(_START_LIMIT_S)
        if self._hear() is None:
            raise self._broken()
        self._link.settimeout(limits.wall_s)

    def judge(self, problem: SqlProblem, query: str) -> Verdict:
        job = {
            "databases": [str(path) for path in problem.databases],
            "gold": problem.gold,
            "answer": query,
            "ordered": problem.ordered,
        }
        with suppress(OSError):  # it has ended: nothing will be heard either
            self._link.sendall(json.dumps(job).encode() + b"\n")
        running: dict[str, Any] = {}
        while (message := self._hear()) is not None:
            if "running" in message:
                running = message
            elif "refused" in message:
                raise _gold_failed(problem, running, message["refused"])
            else:
                return Verdict(**message)
        reason = self._cause_of_end()
        if not running or reason is None:
            raise self._broken()
        if running["running"] == "gold":
            raise _gold_failed(problem, running, reason)
        return Verdict(False, reason)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        for end in (self.process.stderr, self._lines, self._link):
            end.close()

    def _hear(self) -> dict[str, Any] | None:
        """The next message; None if the process has ended or said nothing for too long."""
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _cause_of_end(self) -> str | None:
        """Why a process says no more: a verdict's reason, or None where no query is to blame."""
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:  # silent but alive
            return "timeout"
        if status >= 0:
            return None
        return "timeout" if status == -signal.SIGXCPU else "killed"

    def _broken(self) -> SandboxError:
        self.process.kill()
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        got = said[-1][:300] if said else f"status {self.process.returncode}"
        return SandboxError(f"expected a process that runs SQL queries; got, from {sys.executable}: {got}; run again")


def _gold_failed(problem: SqlProblem, running: dict[str, Any], reason: str) -> DatasetError:
    return DatasetError(
        f"{problem.id}: expected the gold query to give a result on {running['database']}; got {reason}; "
        "correct the query or the database, or leave the problem out"
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
