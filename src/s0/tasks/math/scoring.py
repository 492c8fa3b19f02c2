r"""Judging answers in LaTeX, by either of two rules.

`paper`     the published harness of MATH (Hendrycks et al. 2021): what stands in the last \boxed{} of the reply, in
            normal form (`paper`), must be the right answer's normal form letter by letter. \frac{2}{4},
            0.25 for \frac{1}{4} and x = 1, 2 for 2, 1 fail; no box is no answer.
`standard`  the last \boxed{}, else the text after the last `####`, else what the reply states or concludes, else the
            reply where it is one short line (`finding` has the whole rule); compared as mathematics, by the rule that
            `comparing` states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from s0.tasks.math import latex, paper, word_answers
from s0.tasks.math.answer_scorer import AnswerScorer, math_problem
from s0.tasks.math.comparers import Pair, shared
from s0.tasks.math.finding import bare, boxed, concluded, conclusion, marked, places, said, stated
from s0.tasks.problem import MathProblem, Problem
from s0.tasks.sandbox import Sandbox, Verdict

_LONGEST = 1000  # characters of an answer that is worth a comparison
_KINDS = {"boxed": boxed, "marked": marked, "stated": stated, "concluded": concluded, "bare": bare}


class MathScorer(AnswerScorer):
    """Compares the answer that a reply gives with the right one."""

    formats: ClassVar[tuple[str, ...]] = ("boxed", "marked", "stated", "concluded", "bare", "unparsable", "empty")
    notes: ClassVar[dict[str, str]] = {
        "standard": "the answer a reply gives, compared as mathematics",
        "paper": "the published harness: the last \\boxed{}, compared as text in a normal form",
    }

    def verdicts(
        self, completions: Sequence[tuple[Problem, str]], scoring: str, jobs: int | None, sandbox: Sandbox | None
    ) -> list[Verdict]:
        """See `Scorer`."""
        asked = [(math_problem(problem), completion) for problem, completion in completions]
        if scoring == "paper":
            return [_published(problem, completion) for problem, completion in asked]
        decided = [self._decided(problem, completion) for problem, completion in asked]
        open_pairs = [outcome for outcome in decided if not isinstance(outcome, Verdict)]
        compared = iter(shared().judge(open_pairs, jobs)) if open_pairs else iter(())
        return [outcome if isinstance(outcome, Verdict) else next(compared) for outcome in decided]

    def _decided(self, problem: MathProblem, completion: str) -> Verdict | Pair:
        """The verdict where letters decide, else what must be compared."""
        form, answer = self._read(completion)
        if answer is None:
            return Verdict(False, form)
        if len(answer) > _LONGEST:
            return Verdict(False, "wrong answer")
        same = decide(latex.tidy(problem.answer), latex.tidy(answer))
        if isinstance(same, bool):
            return Verdict(same, "passed" if same else "wrong answer")
        return same

    def _read(self, completion: str) -> tuple[str, str | None]:
        """(form, answer); no answer where the form is "unparsable" or "empty"."""
        text = conclusion(completion, self.ends)
        for form, place in places(text, _KINDS):
            answer = place if form in ("boxed", "marked") else said(place)
            if answer is not None:
                return form, answer
        return ("unparsable" if text.strip() else "empty"), None


def decide(right: str, answer: str) -> bool | Pair:
    """Whether two tidy answers mean the same where their letters tell, else the pair to compare."""
    if latex.same_letters(right, answer):
        return True
    spoken = word_answers.same(right, answer)
    return (right, answer) if spoken is None else spoken


def _published(problem: MathProblem, completion: str) -> Verdict:
    box = paper.last_box(completion)
    if box is None:
        return Verdict(False, "unparsable" if completion.strip() else "empty")
    passed = paper.normal_form(box) == paper.normal_form(problem.answer)
    return Verdict(passed, "passed" if passed else "wrong answer")
