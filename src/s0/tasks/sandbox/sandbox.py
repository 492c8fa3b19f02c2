"""The sandbox as the rest of the library sees it: programs in, verdicts out, in order and in parallel."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from s0.errors import SandboxError
from s0.tasks.sandbox import backends
from s0.tasks.sandbox.cell import Cell, ServerLost
from s0.tasks.sandbox.launch import Limits
from s0.tasks.sandbox.programs import Program, Verdict
from s0.tasks.workers import Pool, each_once


class Sandbox(Pool[Cell]):
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
        super().__init__(functools.partial(Cell, self.backend, limits))
        self._seconds: dict[Program, float | None] = {}

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

    def _judge_one(self, program: Program) -> tuple[Verdict, float]:
        """A verdict, and how long it took; on a lost server once more with new ones; then see who is to blame."""
        for _ in range(2):
            try:
                with self._member() as cell:
                    return cell.judge(program), cell.seconds
            except ServerLost as error:
                loss = str(error)
        with self._member() as cell:
            if not backends.judges_rightly(cell):
                raise SandboxError(
                    f"expected the {self.backend} sandbox to run a program; got, twice: {loss}; run again"
                )
        return Verdict(False, "killed"), 0.0  # the sandbox is fine: this program takes it down


@functools.cache
def shared() -> Sandbox:
    """The process-wide sandbox with default limits on the strongest backend; closed at exit."""
    return Sandbox()
