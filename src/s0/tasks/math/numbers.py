r"""Judging answers that are one number, by either of two rules.

`paper`     the strict rule of the published harness (lm-eval's `strict-match`): the first `#### ` that a number
            follows (`#### (-?[0-9.,]+)`), compared with the right answer as text; commas, dollar signs and a full stop
            at the end do not count. `#### $18`, `####18`, `#### 18.00` and \boxed{18} fail.
`standard`  the number that the reply says is its answer: after the last `####`, else in the last \boxed{}, else after
            "the answer is", else the last number of the reply. Compared as numbers: 1,234 and 1234.00 are equal.
            Currency signs, per cent signs, units and what follows the number do not count; 7/2 is one number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

from s0.tasks.math.finding import boxed, conclusion, marked, stated
from s0.tasks.math.scorer import AnswerScorer, math_problem
from s0.tasks.problem import MathProblem, Problem
from s0.tasks.sandbox import Sandbox, Verdict

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\[,!; ](?=\d{3})"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
    (re.compile("\N{MINUS SIGN}"), "-"),
)
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"(?<!\w)(?P<minus>(?<![)\]}}])-)?(?:[$€£¥][ \t]?)?(?P<minus_inside>(?<=[$€£¥])-)?"
    rf"(?:(?P<mixed>\d+)[ \t]+(?=\d+/\d))?(?P<top>{_DIGITS}(?:\.\d+)?|\.\d+)"
    rf"(?:[ \t]?/[ \t]?(?P<bottom>{_DIGITS}(?:\.\d+)?))?"
)
_HEADING = re.compile(r"\d+[.):]\s+\S|(?!(?:the\s+)?(?:final\s+)?answer\b|[a-z]\s*=)[^\W\d]", re.IGNORECASE)
"""`#### 2. The total` and `#### Step 2` are headings, not answers."""
_LONGEST = 60  # characters of a number that anybody means


class NumberScorer(AnswerScorer):
    """Compares the number that a reply gives as its answer with the right one."""

    formats: ClassVar[tuple[str, ...]] = ("marked", "boxed", "stated", "last_number", "unparsable", "empty")
    notes: ClassVar[dict[str, str]] = {
        "standard": "the number a reply gives as its answer, compared as a number",
        "paper": "the published harness: the first #### and the number after it, compared as text",
    }

    def verdicts(
        self, completions: Sequence[tuple[Problem, str]], scoring: str, jobs: int | None, sandbox: Sandbox | None
    ) -> list[Verdict]:
        judge = self._strictly if scoring == "paper" else self._carefully
        return [judge(math_problem(problem), completion) for problem, completion in completions]

    def _strictly(self, problem: MathProblem, completion: str) -> Verdict:
        match = _STRICT.search(completion)
        if match is None:
            return Verdict(False, "unparsable" if completion.strip() else "empty")
        passed = _letters(match[1]) == _letters(problem.answer)
        return Verdict(passed, "passed" if passed else "wrong answer")

    def _carefully(self, problem: MathProblem, completion: str) -> Verdict:
        form, number = self._read(completion)
        if number is None:
            return Verdict(False, form)
        passed = number == first_number(problem.answer)
        return Verdict(passed, "passed" if passed else "wrong answer")

    def _read(self, completion: str) -> tuple[str, Fraction | None]:
        """(form, number); no number where the form is "unparsable" or "empty"."""
        text = conclusion(completion, self.ends)
        answers = (answer for answer in marked(text) if not _HEADING.match(answer))
        for form, places in (("marked", answers), ("boxed", boxed(text)), ("stated", stated(text))):
            for place in places:
                if (number := _after_equals(place)) is not None:
                    return form, number
        numbers = _numbers(text)
        if numbers:
            return "last_number", numbers[-1]
        return ("unparsable" if text.strip() else "empty"), None


def first_number(text: str) -> Fraction | None:
    """The first number in a text, None where there is none."""
    numbers = _numbers(text)
    return numbers[0] if numbers else None


def _after_equals(text: str) -> Fraction | None:
    """The first number after the last equals sign, or of the whole where none follows: `16 - 3 - 4 = 9 eggs`."""
    number = first_number(text.rpartition("=")[2])
    return first_number(text) if number is None else number


def _numbers(text: str) -> list[Fraction]:
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return [value for match in _NUMBER.finditer(text) if (value := _value(match)) is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > _LONGEST:
        return None
    top = Fraction(match["top"].replace(",", ""))
    bottom = Fraction((match["bottom"] or "1").replace(",", ""))
    if bottom == 0:
        return None
    value = Fraction(match["mixed"] or 0) + top / bottom
    return -value if match["minus"] or match["minus_inside"] else value


def _letters(number: str) -> str:
    return number.replace(",", "").replace("$", "").strip().removesuffix(".")
