"""Comparing formulas in processes of our own, which are killed when they take too long: see `comparing` for why."""

from __future__ import annotations

import atexit
import functools
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
from typing import Any, TypeAlias

from s0.errors import SandboxError
from s0.tasks.math.worker import Limits
from s0.tasks.sandbox import Verdict

Pairs: TypeAlias = "tuple[tuple[str, str], ...]"
"""(right, answer) pairs; one that is equal makes the answer right."""

_BOOTSTRAP = """\
import json, sys, types
for name in ("s0", "s0.tasks", "s0.tasks.math"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules["s0.tasks.math"].__path__.append(sys.argv[1])
from s0.tasks.math.worker import Limits, main
main(Limits(**json.loads(sys.argv[2])))
"""
"""The packages stand in empty, since importing the real ones takes seconds and much memory."""

_START_LIMIT_S = 120.0


class Comparers:
    """Processes that compare formulas. Thread-safe; they start when first needed and are kept."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._idle: list[_Comparer] = []
        self._owner = os.getpid()

    def judge(self, jobs: Sequence[Pairs], at_a_time: int | None = None) -> list[Verdict]:
        """One verdict per job, in order; equal jobs are done once.

        Reasons: "passed", "wrong answer", "timed out", "scorer failed" (the comparison broke: never a pass).

        Raises:
            SandboxError: no such process starts here.
        """
        unique = list(dict.fromkeys(jobs))
        executor = ThreadPoolExecutor(max(1, min(at_a_time or _cores(), len(unique))))
        try:
            verdicts = dict(zip(unique, executor.map(self._judge_one, unique), strict=True))
        finally:
            executor.shutdown(cancel_futures=True)  # after an error or an interrupt, finish only what runs
        return [verdicts[job] for job in jobs]

    def close(self) -> None:
        """End the processes; new ones start when they are needed again."""
        while self._idle:
            self._idle.pop().close()

    def _judge_one(self, pairs: Pairs) -> Verdict:
        comparer = self._take()
        try:
            verdict = comparer.judge(pairs)
        except BaseException:
            comparer.close()
            raise
        if verdict is None:
            reason = comparer.cause_of_end()
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


class _Comparer:
    """One process and the connection to it."""

    def __init__(self, limits: Limits) -> None:
        self._link, theirs = socket.socketpair()
        self._link.settimeout(_START_LIMIT_S)
        self._lines = self._link.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-B", "-X", "utf8", "-c", _BOOTSTRAP),
                    *(str(Path(__file__).parent), json.dumps(asdict(limits))),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",  # which Python looks into for modules
                start_new_session=True,  # an interrupt typed at the terminal is for us
            )
        if self._hear() is None:
            self.process.kill()
            said = self.process.communicate()[1].decode("utf-8", "replace").strip().splitlines()
            self._lines.close()
            self._link.close()
            got = said[-1][:300] if said else f"status {self.process.returncode}"
            raise SandboxError(
                f"expected a process that compares formulas; got, from {sys.executable}: {got}; "
                "install s0-tuning with its dependencies (math-verify among them) for that interpreter"
            )
        self._link.settimeout(limits.wall_s)

    def judge(self, pairs: Pairs) -> Verdict | None:
        """The verdict, None where the process ended or has said nothing for too long."""
        with suppress(OSError):  # it has ended: nothing will be heard either
            self._link.sendall(json.dumps({"pairs": pairs}).encode() + b"\n")
        message = self._hear()
        if message is None:
            return None
        if "failed" in message:
            return Verdict(False, "scorer failed")
        return Verdict(message["equal"], "passed" if message["equal"] else "wrong answer")

    def cause_of_end(self) -> str:
        """Why a process says no more."""
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:  # silent but alive
            return "timed out"
        return "timed out" if -status == signal.SIGXCPU else "scorer failed"

    def close(self) -> None:
        self._lines.close()
        self._link.close()
        self.process.kill()
        self.process.communicate()

    def _hear(self) -> dict[str, Any] | None:
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None


@functools.cache
def shared() -> Comparers:
    """The process-wide comparers with default limits; closed at exit."""
    comparers = Comparers()
    atexit.register(comparers.close)
    return comparers


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
