"""What goes into the sandbox and what comes out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A candidate program and the test that judges it, as source text.

    `source` defines `entry_point`; `prompt` holds helper functions the test may use and runs beside `test`, which
    defines `check(candidate)`; either may call the entry point. `timeout_s` stands in for that of the sandbox's limits.
    """

    source: str
    prompt: str
    test: str
    entry_point: str
    timeout_s: float | None = None


NOT_JUDGED = "not judged: "
"""How the reason begins where a completion could be neither right nor wrong; what follows says why."""
CANNOT_RUN = "the test cannot run: "
"""How that goes on where no program could be judged by the test."""


@dataclass(frozen=True)
class Verdict:
    """Whether a completion solves its problem, and why not.

    `reason` is one of: "passed", "wrong answer", "timeout", "memory", "too large" (the source, an answer, or what the
    test makes of an answer and passes on), "other name", "unparsable", "empty", "exit", "killed", "killed: SIGNAL",
    "exception: TYPE"; "test: TYPE" where the test's own code raised a NameError or an ImportError: no program can pass
    it then; or "not judged: WHY" where judging itself is not possible: the test cannot run, or it needs more of an
    answer than data. A completion that is not judged has not passed, and is counted apart.
    """

    passed: bool
    reason: str

    @property
    def judged(self) -> bool:
        """Whether it says anything about the completion."""
        return not self.reason.startswith(NOT_JUDGED)
