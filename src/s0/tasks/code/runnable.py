"""Trying a user's own tests before any answer is generated: what cannot run would fail every answer, or judge none."""

from __future__ import annotations

from collections.abc import Sequence

from s0.errors import DatasetError
from s0.tasks.code.extraction import prompt_with_stub
from s0.tasks.code.scoring import program
from s0.tasks.problem import CodeProblem
from s0.tasks.sandbox import CANNOT_RUN, NOT_JUDGED, Program, Sandbox
from s0.tasks.workers import each_once

AVAILABLE = "prompts, solutions and tests run with Python's standard library and numpy alone"
_IDLE = "def {}(*arguments, **keywords):\n    pass\n"


def require_runnable(problems: Sequence[CodeProblem], sandbox: Sandbox) -> None:
    """Run the test of every problem once.

    It is tried with the canonical solution, which must pass; where there is none with a function that does nothing,
    which gets a test as far as its first failing assert.

    Args:
        problems: those that will be asked.
        sandbox: to run them in.

    Raises:
        DatasetError: a test cannot run, its own code lacks a name, or a solution does not pass; names the problem.
        SandboxError: the sandbox broke.
    """
    each_once(problems, lambda problem: _require_runnable(problem, sandbox), None)


def _require_runnable(problem: CodeProblem, sandbox: Sandbox) -> None:
    place = f"problem {problem.id!r}"
    solved = bool(problem.canonical_solution.strip())
    source = program(problem, problem.canonical_solution, "standard") if solved else _IDLE.format(problem.entry_point)
    if source is None:
        raise DatasetError(
            f"{place}: expected a canonical_solution that is {problem.entry_point!r} or its body; got neither; "
            "correct the solution"
        )
    (verdict,) = sandbox.judge([Program(source, prompt_with_stub(problem), problem.test, problem.entry_point)], jobs=1)
    if not verdict.judged:
        why = verdict.reason.removeprefix(NOT_JUDGED).removeprefix(CANNOT_RUN)
        raise DatasetError(
            f"{place}: expected a test of {problem.entry_point!r} that runs on plain data; got {why}; correct the test "
            f"or the prompt{_available(why)}"
        )
    if verdict.reason.startswith("test: "):
        raised = verdict.reason.removeprefix("test: ")
        raise DatasetError(
            f"{place}: expected a test that can run; got {raised} from its own code; correct the test"
            f"{_available(raised)}"
        )
    if solved and not verdict.passed:
        raise DatasetError(
            f"{place}: expected a canonical_solution that passes its own test; got {verdict.reason!r}; correct the "
            f"solution or the test{_available(verdict.reason)}"
        )


def _available(reason: str) -> str:
    """What there is to import, where that is what a program went wrong by."""
    return f": {AVAILABLE}" if ModuleNotFoundError.__name__ in reason else ""
