"""The sandbox as the rest of the library sees it: programs in, verdicts out, in order and in parallel."""

from __future__ import annotations

import atexit
import functools
import os
import threading
import weakref
from collections.abc import Sequence

from s0.errors import SandboxError
from s0.tasks.sandbox import backends
from s0.tasks.sandbox.cell import Cell, ServerLost
from s0.tasks.sandbox.launch import Limits
from s0.tasks.sandbox.programs import Program, Verdict
from s0.tasks.workers import each_once


class Sandbox:
    """Runs untrusted programs against their tests. Thread-safe; servers start when first needed and are kept.

    Args:
        backend: one of `backends.BACKENDS`; None takes the strongest that works here; "none" protects nothing but
            the verdict (see `backends`).
        limits: what one program may use.

    Raises:
        SandboxError: the backend does not work on this machine.
        ConfigError: there is no backend of that name.

    A context manager; `close` ends the servers. `limits` are those it was made with.
    """

    def __init__(self, backend: str | None = None, limits: Limits = Limits()) -> None:  # noqa: B008  # frozen
        self.backend = backend or backends.strongest()
        trouble = backends.trouble_with(self.backend)
        if trouble is not None:
            raise SandboxError(f"expected the backend {self.backend} to work here; got {trouble}; choose another one")
        self.limits = limits
        self._lock = threading.Lock()
        self._idle: list[Cell] = []
        self._seconds: dict[Program, float | None] = {}
        _open_sandboxes.add(self)

    def judge(self, programs: Sequence[Program], jobs: int | None = None) -> list[Verdict]:
        """Judge every program; equal programs once.

        Args:
            programs: what to run.
            jobs: how many at a time; None takes the number of processor cores this process may use.

        Raises:
            SandboxError: the sandbox broke.
        """
        return each_once(programs, lambda program: self._judge_one(program)[0], jobs)

    def cpu_seconds(self, program: Program) -> float | None:
        """The least `timeout_s` that `program` could have, measured once; None if it does not pass with its own.

        Raises:
            SandboxError: the sandbox broke.
        """
        if program not in self._seconds:
            verdict, seconds = self._judge_one(program)
            self._seconds[program] = seconds if verdict.passed else None
        return self._seconds[program]

    def close(self) -> None:
        """End all servers. The sandbox can be used again: it starts new ones."""
        with self._lock:
            cells, self._idle = self._idle, []
        for cell in cells:
            cell.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _judge_one(self, program: Program) -> tuple[Verdict, float]:
        """A verdict, and how long it took; on a lost server once more with new ones; then see who is to blame."""
        for _ in range(2):
            cell = self._take()
            try:
                verdict = cell.judge(program)
            except ServerLost as error:
                cell.close()
                loss = str(error)
            except BaseException:
                cell.close()
                raise
            else:
                seconds = cell.seconds
                self._give_back(cell)
                return verdict, seconds
        cell = self._take()
        if not backends.judges_rightly(cell):
            cell.close()
            raise SandboxError(f"expected the {self.backend} sandbox to run a program; got, twice: {loss}; run again")
        self._give_back(cell)
        return Verdict(False, "killed"), 0.0  # the sandbox is fine: this program takes it down

    def _take(self) -> Cell:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Cell(self.backend, self.limits)

    def _give_back(self, cell: Cell) -> None:
        with self._lock:
            self._idle.append(cell)

    def _abandon(self) -> None:
        """In a forked copy of this process the servers belong to the original: start anew."""
        self._lock = threading.Lock()
        cells, self._idle = self._idle, []
        for cell in cells:
            cell.abandon()


@functools.cache
def shared() -> Sandbox:
    """The process-wide sandbox with default limits on the strongest backend; closed at exit."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


_open_sandboxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _abandon_all() -> None:
    for sandbox in list(_open_sandboxes):
        sandbox._abandon()


os.register_at_fork(after_in_child=_abandon_all)
