"""From a completion to the program that is executed, by either of two rules.

`paper`     exactly what the published harness did (Young 2026, `experiments/humaneval.py`): thinking removed, white
            space stripped from both ends, one leading ```python fence and one trailing fence dropped, appended to the
            prompt. The first line's indent is lost on the way, so a right answer that is the body alone fails, and
            one that repeats the whole function passes.
`standard`  what the completion says, found by a parser (`s0.tasks.extraction`): the body, indented or not, the whole
            function, with or without a fence, prose around it or more code after it.

The difference between the two scores of the same completions is the effect of their format.
"""

from __future__ import annotations

import re

from s0.errors import ConfigError
from s0.tasks.extraction import extract, prompt_with_stub
from s0.tasks.problem import Problem

__all__ = ["FORMATS", "SCORINGS", "format_of", "program", "prompt_with_stub"]

SCORINGS = ("standard", "paper")
FORMATS = ("body", "body_unindented", "function", "fenced", "unparsable", "empty")

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_LEADING_FENCE = re.compile(r"\A```python\s*\n?")
_TRAILING_FENCE = re.compile(r"\n?```\s*\Z")


def program(problem: Problem, completion: str, scoring: str) -> str | None:
    """The source text that defines the problem's entry point, or None where `standard` finds no code.

    `paper` always makes a program, be it one that Python cannot read.

    Raises:
        ConfigError: there is no scoring of that name.
    """
    if scoring not in SCORINGS:
        raise ConfigError(f"expected one of the scorings {', '.join(SCORINGS)}; got {scoring!r}; correct the name")
    if scoring == "standard":
        return extract(problem, completion).program
    reply = _LEADING_FENCE.sub("", _THINKING.sub("", completion).strip())
    return problem.prompt + _TRAILING_FENCE.sub("", reply.strip()).strip() + "\n"


def format_of(completion: str, problem: Problem) -> str:
    """Which of `FORMATS` a completion has, as the standard scoring reads it; the same code, so the two agree."""
    return extract(problem, completion).format
