"""Judging programs: from a completion to the program that is executed, by either of two rules.

`paper`     exactly what the published harness did (Young 2026, `experiments/humaneval.py`): thinking removed, white
            space stripped from both ends, one leading ```python fence and one trailing fence dropped, appended to the
            prompt. The first line's indent is lost on the way, so a right answer that is the body alone fails, and
            one that repeats the whole function passes.
`standard`  what the completion says, found by a parser (`s0.tasks.code.extraction`): the body, indented or not, the
            whole function, with or without a fence, prose around it or more code after it. The block that defines
            the function decides, the last complete one if several. A function under another name than the one asked
            for fails, as it does by the paper's rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from s0.errors import DatasetError
from s0.tasks.code.extraction import extract, prompt_with_stub
from s0.tasks.problem import CodeProblem, Problem
from s0.tasks.sandbox import Program, Sandbox, Verdict, shared
from s0.tasks.workers import each_once

_THINKING = re.compile(r"<think>.*?(?:</think>|(?P<open>\Z))", re.DOTALL)
"""`<think>.*?</think>`, and all that is left where no end comes: looked for once, not from every further `<think>`."""
_LEADING_FENCE = re.compile(r"\A```python\s*\n?")
_TRAILING_FENCE = re.compile(r"\n?```\s*\Z")

_TIMES_THE_CANONICAL = 4.0
"""What a right answer may take, measured in the time that the canonical solution takes."""
_LONGEST_MEASURE_S = 60.0

NAMED = "a function under another name than the one asked for fails, and is called that"
KEPT = (
    "the last complete block that defines the function decides, and all but demonstration stays of it; values, "
    "exceptions and changed arguments cross to the test as what they are in Python; processor time is limited, not the "
    "clock's, by the reference's where that is slow; what cannot be judged costs its own verdict"
)
"""Changes that the tasks with programs share."""


@dataclass(frozen=True)
class CodeScorer:
    """Runs what a model wrote against the problem's tests, in a sandbox; equal programs once.

    Attributes:
        ask: what a user asks in a chat, with {prompt} for the problem's.
    """

    ask: str
    formats: ClassVar[tuple[str, ...]] = (
        "body",
        "body_unindented",
        "function",
        "fenced",
        "other_name",
        "unparsable",
        "empty",
    )
    notes: ClassVar[dict[str, str]] = {
        "standard": "code found by a parser: a body, or the last block that defines the function asked for",
        "paper": "the published harness: a body alone fails, a whole function passes",
    }

    def verdicts(
        self, completions: Sequence[tuple[Problem, str]], scoring: str, jobs: int | None, sandbox: Sandbox | None
    ) -> list[Verdict]:
        """See `Scorer`."""
        asked = [(_code(problem), reply) for problem, reply in completions]
        sources = [program(problem, reply, scoring) for problem, reply in asked]
        programs = [
            (problem, Program(source, prompt_with_stub(problem), problem.test, problem.entry_point))
            for (problem, _), source in zip(asked, sources, strict=True)
            if source is not None
        ]
        judged = iter(_judged(programs, sandbox or shared(), jobs) if programs else [])
        return [
            Verdict(False, extract(problem, reply).format.replace("_", " ")) if source is None else next(judged)
            for (problem, reply), source in zip(asked, sources, strict=True)
        ]

    def format_of(self, problem: Problem, completion: str) -> str:
        """See `Scorer`."""
        return extract(_code(problem), completion).format

    def request(self, problem: Problem) -> str:
        """See `Scorer`."""
        return self.ask.format(prompt=problem.prompt)


def program(problem: CodeProblem, completion: str, scoring: str) -> str | None:
    """The source text that defines the problem's entry point, or None where `standard` finds no code.

    `paper` always makes a program, be it one that Python cannot read.
    """
    if scoring == "standard":
        return extract(problem, completion).program
    reply = _LEADING_FENCE.sub("", _THINKING.sub(_unless_closed, completion).strip())
    return problem.prompt + _TRAILING_FENCE.sub("", reply.strip()).strip() + "\n"


def _unless_closed(thinking: re.Match[str]) -> str:
    return "" if thinking["open"] is None else thinking[0]


def _judged(programs: list[tuple[CodeProblem, Program]], sandbox: Sandbox, jobs: int | None) -> list[Verdict]:
    """Verdicts; what takes too long is judged again where the canonical solution needs more than the default."""
    verdicts = sandbox.judge([source for _, source in programs], jobs)
    late = [index for index, verdict in enumerate(verdicts) if verdict.reason == "timeout"]
    limits = each_once([programs[index][0] for index in late], lambda problem: _time_for(problem, sandbox), jobs)
    again = {index: limit for index, limit in zip(late, limits, strict=True) if limit > sandbox.limits.timeout_s}
    patient = [replace(programs[index][1], timeout_s=limit) for index, limit in again.items()]
    for index, verdict in zip(again, sandbox.judge(patient, jobs), strict=True):
        verdicts[index] = verdict
    return verdicts


def _time_for(problem: CodeProblem, sandbox: Sandbox) -> float:
    """Seconds that a right answer may need; 0 where there is no canonical solution to measure."""
    source = program(problem, problem.canonical_solution, "standard") if problem.canonical_solution.strip() else None
    if source is None:
        return 0.0
    canonical = Program(
        source, prompt_with_stub(problem), problem.test, problem.entry_point, timeout_s=_LONGEST_MEASURE_S
    )
    return _TIMES_THE_CANONICAL * (sandbox.cpu_seconds(canonical) or 0.0)


def _code(problem: Problem) -> CodeProblem:
    if not isinstance(problem, CodeProblem):
        raise DatasetError(f"{problem.id}: expected a problem with tests; got {type(problem).__name__}; use its task")
    return problem
