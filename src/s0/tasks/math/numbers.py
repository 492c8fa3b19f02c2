r"""Judging answers that are one number, by either of two rules.

`paper`     the strict rule of the published harness (lm-eval's `strict-match`): the first `#### ` that a number
            follows (`#### (-?[0-9.,]+)`), compared with the right answer as text; commas, dollar signs and a full stop
            at the end do not count. `#### $18`, `####18`, `#### 18.00` and \boxed{18} fail.
`standard`  the number that the reply says is its answer (`s0.tasks.math.finding` has the rule of its places): after the
            last `####`, else in the last \boxed{}, else after "the answer is", else the last number of the reply that
            no "not" stands before. Compared as numbers: 1,234 and 1234.00 are equal.

How a number is written (`first_number`): -1234.5 with a hyphen, dash or minus sign; thousands parted by commas, spaces
or LaTeX's spaces; 7/2, \frac72, 3 1/2 and ½; 1e3, 10^3 and 1.2 \times 10^3; 1.5 million and 5k. Currency and per cent
signs and units do not count. What an answer says is its first number, after the last equals sign if it has any.

Something that a number is only a part or a bound of is an answer, and equal to none: ranges (5-7) and choices (4 or 5),
lists (4, 5), times (6:30), dates, decimal commas (1,8), sums and products that are not worked out, 2\pi, 2x, > 5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import ClassVar

from s0.tasks.math.answer_scorer import AnswerScorer, math_problem
from s0.tasks.math.finding import (
    after_copula,
    boxed,
    conclusion,
    denies,
    has_words,
    marked,
    places,
    since_retracted,
    stated,
    without_reason,
)
from s0.tasks.problem import MathProblem, Problem
from s0.tasks.sandbox import Sandbox, Verdict

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_LONGEST = 60
"""Characters of a number that anybody means."""
_LONGEST_PLACE = 1000
"""Characters of what stands behind a mark or in a box that can matter to its number."""
_LARGEST_POWER = 60

_FRACTIONS = "½ 1/2 ⅓ 1/3 ⅔ 2/3 ¼ 1/4 ¾ 3/4 ⅕ 1/5 ⅖ 2/5 ⅗ 3/5 ⅘ 4/5 ⅙ 1/6 ⅚ 5/6 ⅛ 1/8 ⅜ 3/8 ⅝ 5/8 ⅞ 7/8"
_CHARACTERS = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full width
    | dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}", "-")
    | dict.fromkeys("\N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}~", " ")
    | {digit: f"^{number}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {
        character: f" {fraction}"
        for character, fraction in zip(_FRACTIONS.split()[::2], _FRACTIONS.split()[1::2], strict=True)
    }
    | {"×": "*", "·": "*", "⋅": "*", "⁄": "/", "≈": " ", "≠": "≤", "≥": "≤", "<": "≤", ">": "≤", "→": " "}
)
_PLAIN = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\{,\}|,\\!", ","),
        (r"\\[,!;:> ]|\\(?:q?quad|approx|left|right|displaystyle|therefore|implies|Rightarrow)(?![a-zA-Z])", " "),
        (r"(?<=\d)\s*\\[dtc]?frac(?![a-zA-Z])", r" \\frac"),
        (r"\\[dtc]?frac\s*\{\s*(-?[\d.,]+)\s*\}\s*(?:\{\s*([\d.,]+)\s*\}|(\d))", r"\1/\2\3"),
        (r"\\[dtc]?frac\s*(\d)\s*(?:\{\s*([\d.,]+)\s*\}|(\d))", r"\1/\2\3"),
        (r"\\(?:times|cdot|ast)(?![a-zA-Z])|(?<=\d)\s*[xX]\s*(?=10\s?\^)", "*"),
        (r"\*\*", "^"),
        (
            r"\\(?:text\w*|math(?:rm|bf|it)|mbox|bold|boxed|fbox)(?![a-zA-Z])|\\(?=[$%#&])|\^\s*(?:\{\s*)?\\circ\s*\}?",
            " ",
        ),
        (r"\^\s*\{\s*([-+]?\d+)\s*\}", r"^\1"),
        (r"\\(?:le|ge|lt|gt|ne)(?:q|qslant)?(?![a-zA-Z])|[≤!]=", "≤"),
        (r"(?<=\w)[$€£¥₹{}]+(?=\w)", " "),
        (r"[$€£¥₹{}]|\\[()\[\]]", ""),
    )
]
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {"k": 10**3, "K": 10**3, "M": 10**6}
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?![\d,])|\d+)"
_NUMBER = re.compile(
    rf"(?P<minus>(?<![\w)\]])-|^\s*-\s+|\b(?:minus|negative)[ ])?(?<!\w)(?:(?P<mixed>\d+)[ ]+(?=\d+/\d))?"
    rf"(?P<top>{_DIGITS}(?:\.\d+)?|\.\d+)(?:[ ]?/[ ]?(?P<bottom>{_DIGITS}(?:\.\d+)?))?"
    r"(?:[eE](?P<e>[-+]?\d+)(?!\w)|[ ]?\^[ ]?(?P<power>-?\d+)(?![\w.]))?"
    r"(?:[ ]?\*[ ]?10[ ]?\^[ ]?(?P<ten>[-+]?\d+)(?!\w))?"
    rf"(?:[ ]*(?P<scale>(?:{'|'.join(name for name in _SCALES if len(name) > 1)}))\b|(?P<letter>[kKM])\b)?",
)
_COUNTED = r"(?:cents?|pence|seconds?|minutes?|hours?|days?|months?|inch(?:es)?|ounces?)"
_GOES_ON = re.compile(
    r"[.,:/'’_]\d"
    r"|[)\]\s]*(?:[-+*/^:±÷≤—xX]|\.{2,3}|…)\s*[(\[√]*-?\.?\d|[)\]\s]*[+*^÷±]\s*\w"
    r"|\s*(?:\\[a-zA-Z]|[π√])|[a-dn-qx-z](?![\w'’])|\s[nxyz](?![\w'’])"
    r"|(?:\s*[,;])?\s*(?:or|nor|to|through|and/or)\s+(?:\w+\s+){0,2}?-?\.?\d|(?:\s*,)?\s*and\s+-?\.?\d"
    r"|\s*[,;]\s*-?\.?\d|\s+-?\.?\d"
    r"|\s+(?P<unit>\w+),?\s+or\s+(?:\w+\s+){0,2}?-?\d[\d.,]*(?:\s+(?P=unit)\b|\s*(?:[.!?)]|\Z))"
    rf"|\s+\w+\s+(?:and\s+)?\d[\d.]*\s+{_COUNTED}\b"
    r"|\s+(?:squared|cubed|factorial)\b|\s+(?:divided|multiplied)\b|\s+(?:plus|minus|times)\s+-?\.?\d"
)
"""What follows a number that is a part of something else."""
_BOUND = re.compile(r"\\[a-zA-Z]|[≤±√^*/]\s*\(?\s*\Z|(?<!\w)[a-zA-Z]\s*[-+]\s*\Z")
"""What stands before such a number."""
_AFTER_NUMBER = re.compile(r"\d(?:[.,:/'’_]|\s*[-+*/^:±÷—]\s*|\s*\b(?:or|to|through)\s+(?:\w+\s+){0,2}?)\Z")
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|instead of|rather than|between(?:\s+\S+\s+and)?)|n['’]t)(?:\s+[a-z]+)?\s+\Z",
    re.IGNORECASE,
)
_NEXT_NAME = re.compile(r"\d.*(?:[,;]|\b(?:or|and))\s*[a-zA-Z]\w*\s*\Z", re.DOTALL)
_ITEM = re.compile(r"^[ \t]*[-*•][ \t]+", re.MULTILINE)
_HEADING = re.compile(r"\d+[.):]\s+\S|(?!(?:the\s+)?(?:final\s+)?answer\b|[a-z]\s*=)[^\W\d]", re.IGNORECASE)
"""`#### 2. The total` and `#### Step 2` are headings, not answers."""
_KINDS = {"marked": marked, "boxed": boxed, "stated": stated}
_UNCERTAIN = math.nan
"""What is said where no single number is: it equals nothing."""


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
        """See `Scorer`."""
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

    def _read(self, completion: str) -> tuple[str, Fraction | float | None]:
        """(form, number); no number where the form is "unparsable" or "empty"."""
        text = conclusion(completion, self.ends)
        for form, place in places(text, _KINDS):
            if form == "marked" and _HEADING.match(place):
                continue
            if (number := _said(place[:_LONGEST_PLACE])) is not None:
                return form, number
        if (number := _last_number(since_retracted(text))) is not None:
            return "last_number", number
        return ("unparsable" if text.strip() else "empty"), None


def first_number(text: str) -> Fraction | None:
    """The number that a text begins with or leads to; None where there is none, or none for certain."""
    number = _first_number(_plain(text))
    return number if isinstance(number, Fraction) else None


def _said(place: str) -> Fraction | float | None:
    """The number that a place says; None where it says none, `_UNCERTAIN` where not a single one for certain."""
    statement = _plain(without_reason(after_copula(place)))
    before, _, after = statement.rpartition("=")
    number = _first_number(after)
    if number is None:
        return _first_number(statement)
    return _UNCERTAIN if _NEXT_NAME.search(before) else number


def _first_number(text: str) -> Fraction | float | None:
    values = _values(text)
    match, value = next(values, (None, None))
    if match is None:
        return None
    before = text[: match.start()]
    if denies(before):
        return None
    told_apart = not has_words(before) or all(other == value for _, other in values)
    if _BOUND.search(before) or _GOES_ON.match(text, match.end()) or not told_apart:
        return _UNCERTAIN
    return value


def _last_number(text: str) -> Fraction | float | None:
    text = _plain(_ITEM.sub("", text))
    matches = reversed([*_NUMBER.finditer(text)])
    said = (match for match in matches if not _NEGATED.search(_before(text, match)))
    match, value = next(((match, value) for match in said if (value := _value(match)) is not None), (None, None))
    if match is None:
        return None
    before = _before(text, match)
    is_part = _AFTER_NUMBER.search(before) or (match["minus"] and re.search(r"\d\s*\Z", before))
    return _UNCERTAIN if is_part or _BOUND.search(before) or _GOES_ON.match(text, match.end()) else value


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - _LONGEST) : match.start()].rpartition("\n")[2]


def _plain(text: str) -> str:
    """The text without LaTeX, as far as numbers are written in it, and without signs of currencies."""
    text = text.translate(_CHARACTERS)
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    return text


def _values(text: str) -> Iterator[tuple[re.Match[str], Fraction]]:
    """Every number of a plain text."""
    for match in _NUMBER.finditer(text):
        if (value := _value(match)) is not None:
            yield match, value


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > _LONGEST:
        return None
    powers = [int(match[part] or 0) for part in ("e", "ten", "power")]
    if any(abs(power) > _LARGEST_POWER for power in powers):
        return None
    top, bottom = (Fraction(re.sub("[, ]", "", match[part] or "1")) for part in ("top", "bottom"))
    if bottom == 0 or (top == 0 and powers[2] < 0):
        return None
    value = Fraction(match["mixed"] or 0) + top / bottom
    if match["power"]:
        value = value ** powers[2]
    value *= Fraction(10) ** (powers[0] + powers[1]) * _SCALES.get(match["scale"] or match["letter"], 1)
    return -value if match["minus"] else value


def _letters(number: str) -> str:
    return number.replace(",", "").replace("$", "").strip().removesuffix(".")
