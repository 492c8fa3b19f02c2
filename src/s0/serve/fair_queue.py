"""Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng 1996, doi 10.1145/248156.248171).

Every state has the same share of what the model does, in tokens, as long as requests wait for it, whoever sends how
many and how long ones. Each has a clock, which goes on by the tokens of what is taken from it, and the one whose clock
is behind is next. A state that nobody has asked for begins at the clock of what was taken last: it has saved nothing
up. Requests on one state are taken in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class FairQueue(Generic[Job]):
    """What waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Job, int]] = {}  # by state: its jobs and their tokens, the oldest first
        self._clocks: dict[str, float] = {}  # of these states
        self._clock = 0.0  # of what was taken last

    def add(self, job: Job, state: str, n_tokens: int) -> None:
        """Let a job wait that takes so many tokens, read and written."""
        if state not in self._waiting:
            self._waiting[state] = {}
            self._clocks[state] = max(self._clock, self._clocks.get(state, 0.0))
        self._waiting[state][job] = n_tokens

    def first(self, may_begin: Callable[[Job], bool] = lambda job: True) -> tuple[str, Job] | None:
        """The state whose turn it is, and its oldest job, as if those that may not begin did not wait."""
        by_turn = sorted(self._waiting, key=self._clocks.__getitem__)
        return next(((state, job) for state in by_turn for job in self._waiting[state] if may_begin(job)), None)

    def take(self, job: Job, state: str) -> None:
        """The job begins."""
        self._clock = max(self._clock, self._clocks[state])
        self._clocks[state] += self._waiting[state][job]
        self.discard(job, state)
        passed = [name for name, clock in self._clocks.items() if name not in self._waiting and clock <= self._clock]
        for name in passed:
            del self._clocks[name]

    def discard(self, job: Job, state: str) -> None:
        """The job waits no more; nothing happens if it does not."""
        jobs = self._waiting.get(state, {})
        jobs.pop(job, None)
        if not jobs:
            self._waiting.pop(state, None)
