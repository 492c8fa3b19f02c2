"""Judging many jobs at a time, processes of our own for them, and pools in which these wait for the next job."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from s0.errors import SandboxError

Job = TypeVar("Job", bound=Hashable)
Outcome = TypeVar("Outcome")
AnyMember = TypeVar("AnyMember", bound="Member")
AnyPool = TypeVar("AnyPool", bound="Pool[Any]")

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


class Member(Protocol):
    """Does one job at a time for a `Pool`."""

    @property
    def spent(self) -> bool:
        """Whether it can do no more; so it is once closed."""

    def close(self) -> None:
        """End it; again changes nothing."""

    def abandon(self) -> None:
        """Let go of the member without ending it: this process is a forked copy of the one whose member it is."""


class Pool(Generic[AnyMember]):
    """Members that wait for their next job. Thread-safe; they are made when first needed and kept.

    A context manager; all pools are closed at exit. A forked copy of this process makes members of its own. What a
    subclass does with a member, it does in `_member`.

    Args:
        make: a new member.
    """

    def __init__(self, make: Callable[[], AnyMember]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[AnyMember] = []
        _pools.add(self)

    def close(self) -> None:
        """End the members that wait. The pool can be used again: it makes new ones."""
        for member in self._empty():
            member.close()

    def __enter__(self: AnyPool) -> AnyPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _member(self) -> Iterator[AnyMember]:
        """A member for one job; closed where that raises or leaves it spent, else kept."""
        member = self._take()
        try:
            yield member
        except BaseException:
            member.close()
            raise
        if member.spent:
            member.close()
            return
        with self._lock:
            self._idle.append(member)

    def _take(self) -> AnyMember:
        with self._lock:
            while self._idle:
                member = self._idle.pop()
                if not member.spent:
                    return member
                member.close()
        return self._make()

    def _empty(self) -> list[AnyMember]:
        with self._lock:
            members, self._idle = self._idle, []
        return members

    def _abandon(self) -> None:
        self._lock = threading.Lock()  # it may have been taken by a thread that the copy lacks
        for member in self._empty():
            member.abandon()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _abandon_all() -> None:
    for pool in list(_pools):
        pool._abandon()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(after_in_child=_abandon_all)


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
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the rest; not a pipe, which nobody empties
        command = [
            *(sys.executable, *flags, "-B", "-X", "utf8", "-c", _BOOTSTRAP),
            *(module.__name__, str(Path(str(module.__file__)).parent), json.dumps(vars(limits))),
        ]
        with theirs:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._said,
                    cwd=cwd,
                    start_new_session=True,  # an interrupt typed at the terminal is for us
                )
            except OSError as error:
                self._let_go()
                raise self._refused_error(str(error)) from error
        if self._hear() is None:
            raise self._broken_error()
        self._link.settimeout(limits.wall_s)

    @property
    def spent(self) -> bool:
        """See `Member`. A process that has ended while it waited is spent, too, and no job is to blame for it."""
        return self._lines.closed or self.process.poll() is not None

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self._let_go()

    def abandon(self) -> None:
        """See `Member`."""
        self.process.returncode = 0  # not our child: keeps `Popen` from waiting for it
        self._let_go()

    def _let_go(self) -> None:
        for end in (self._said, self._lines, self._link):
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

    def _broken_error(self) -> SandboxError:
        self.process.kill()
        self.process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        return self._refused_error(said[-1][:300] if said else f"status {self.process.returncode}")

    def _refused_error(self, got: str) -> SandboxError:
        return SandboxError(f"expected a process that {self.does}; got, from {sys.executable}: {got}; {self.remedy}")
