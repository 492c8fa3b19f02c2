"""Judging many jobs at a time, and processes of our own that stay for one job after another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeVar

from s0.errors import SandboxError

Job = TypeVar("Job", bound=Hashable)
Outcome = TypeVar("Outcome")

_BOOTSTRAP = """\
import importlib, json, sys, types
module, folder, limits = sys.argv[1:]
package = module.rpartition(".")[0]
for name in ("s0", "s0.tasks", package):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
sys.modules[package].__path__.append(folder)
worker = importlib.import_module(module)
worker.main(worker.Limits(**json.loads(limits)))
"""
"""The packages stand in empty, since importing the real ones takes seconds and more memory than a worker may have."""


def each_once(jobs: Sequence[Job], do: Callable[[Job], Outcome], at_a_time: int | None) -> list[Outcome]:
    """What `do` makes of every job, in order; equal jobs are done once.

    Args:
        jobs: in any number.
        do: called from several threads; what it raises ends the rest.
        at_a_time: None takes the number of processor cores this process may use.
    """
    unique = list(dict.fromkeys(jobs))
    executor = ThreadPoolExecutor(max(1, min(at_a_time or _cores(), len(unique))))
    try:
        outcomes = dict(zip(unique, executor.map(do, unique), strict=True))
    finally:
        executor.shutdown(cancel_futures=True)  # after an error or an interrupt, finish only what runs
    return [outcomes[job] for job in jobs]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Bounds(Protocol):
    """The `Limits` of a worker's module: a dataclass of numbers, this among them."""

    @property
    def wall_s(self) -> float:
        """Seconds until a process that says nothing counts as lost."""


class Worker:
    """A process that runs one module, and the connection to it.

    The module has `Limits` and `main(limits)`, which says {"ready": true} on the socket that is its standard input and
    then answers jobs there, a line of JSON each, until the socket is closed. It can import its siblings, and the
    libraries that `flags` leave it, but nothing else of this package.

    Attributes:
        does, remedy: for the error where it does not start or breaks: what it does, and what to do about that.
        process: for its status.
    """

    does: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(
        self,
        module: ModuleType,
        limits: Bounds,
        *,
        flags: Sequence[str] = (),
        cwd: str | None = None,
        start_limit_s: float,
    ) -> None:
        """Start the process.

        Args:
            module: what it runs.
            limits: handed to the module; its `wall_s` holds for every answer.
            flags: for the interpreter.
            cwd: the folder that it runs in; None for the caller's.
            start_limit_s: seconds until it must be ready.

        Raises:
            SandboxError: it does not start.
        """
        self._link, theirs = socket.socketpair()
        self._link.settimeout(start_limit_s)
        self._lines = self._link.makefile("rb")
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *flags, "-B", "-X", "utf8", "-c", _BOOTSTRAP),
                    *(module.__name__, str(Path(str(module.__file__)).parent), json.dumps(vars(limits))),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=cwd,
                start_new_session=True,  # an interrupt typed at the terminal is for us
            )
        if self._hear() is None:
            raise self._broken()
        self._link.settimeout(limits.wall_s)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        for end in (self.process.stderr, self._lines, self._link):
            end.close()

    def _say(self, job: dict[str, Any]) -> None:
        with suppress(OSError):  # it has ended: nothing will be heard either
            self._link.sendall(json.dumps(job).encode() + b"\n")

    def _hear(self) -> dict[str, Any] | None:
        """The next message; None if the process has ended or said nothing for too long."""
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def cause_of_end(self) -> str | None:
        """Why a process says no more: a verdict's reason, or None where it has ended by itself."""
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
        return SandboxError(f"expected a process that {self.does}; got, from {sys.executable}: {got}; {self.remedy}")
