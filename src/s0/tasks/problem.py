"""One problem of any kind; every kind adds what its scorer needs."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "select", "final")


@dataclass(frozen=True)
class Problem:
    """What a model is asked.

    Attributes:
        id: unique within its task.
        prompt: the text that a model continues, as it stands.
        split: one of `SPLITS`.
    """

    id: str
    prompt: str
    split: str


@dataclass(frozen=True)
class CodeProblem(Problem):
    """A function to be written; the prompt is Python source.

    Attributes:
        entry_point: that function's name.
        test: source that defines `check(candidate)`; it fails by raising.
        canonical_solution: what passes when it stands after the prompt: a body where the prompt ends with the
            function's signature and docstring (HumanEval), else the whole function (MBPP).
    """

    entry_point: str
    test: str
    canonical_solution: str


@dataclass(frozen=True)
class MathProblem(Problem):
    """A question with one answer.

    Attributes:
        question: its text alone, without what `prompt` puts around it.
        answer: the right one, a number (GSM8K) or LaTeX (MATH).
    """

    question: str
    answer: str
