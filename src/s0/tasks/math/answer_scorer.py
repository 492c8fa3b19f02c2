"""What both scorers of answers share: asking, and telling the form of a reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from s0.errors import DatasetError
from s0.tasks.problem import MathProblem, Problem


@dataclass(frozen=True)
class AnswerScorer(ABC):
    """Finds the answer that a reply gives.

    Attributes:
        ask: what a user asks in a chat, with {question} for the problem's.
        ends: strings before which a reply is over: what a model goes on to write after its answer.
    """

    ask: str
    ends: tuple[str, ...] = ()

    def format_of(self, problem: Problem, completion: str) -> str:
        """See `Scorer`."""
        return self._read(completion)[0]

    def request(self, problem: Problem) -> str:
        """See `Scorer`."""
        return self.ask.format(question=math_problem(problem).question)

    @abstractmethod
    def _read(self, completion: str) -> tuple[str, object]:
        """(form, answer); None for the answer where the form is "unparsable" or "empty"."""


def math_problem(problem: Problem) -> MathProblem:
    """The problem, which has an answer.

    Raises:
        DatasetError: it has none.
    """
    if not isinstance(problem, MathProblem):
        got = type(problem).__name__
        raise DatasetError(f"{problem.id}: expected a problem with an answer; got {got}; use the task it is of")
    return problem
