"""What a scorer is, and the two rules that every scorer has.

`paper`     the rule of the benchmark's published harness, with its faults.
`standard`  what the completion says, read with care.

What that means for one kind of problem stands at the top of its scorer's file. The difference between the two scores
of the same completions is the effect of their format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from s0.errors import ConfigError
from s0.tasks.problem import Problem
from s0.tasks.sandbox import Sandbox, Verdict

SCORINGS = ("standard", "paper")


class Scorer(Protocol):
    """Judges the completions of one kind of problem. Equal scorers judge equally."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Every form a completion can have; "unparsable" (nothing to judge) and "empty" are among them, last."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What each of `SCORINGS` does, in a few words."""

    def verdicts(
        self, completions: Sequence[tuple[Problem, str]], scoring: str, jobs: int | None, sandbox: Sandbox | None
    ) -> list[Verdict]:
        """One verdict per completion, in order; see `s0.tasks.Task.verdicts`."""

    def format_of(self, problem: Problem, completion: str) -> str:
        """Which of `formats` a completion has, as the standard scoring reads it."""

    def request(self, problem: Problem) -> str:
        """What a user asks in a chat."""


def check_scoring(name: str) -> None:
    """Refuse what is none of `SCORINGS`.

    Raises:
        ConfigError: there is no scoring of that name.
    """
    if name not in SCORINGS:
        raise ConfigError(f"expected one of the scorings {', '.join(SCORINGS)}; got {name!r}; correct the name")
