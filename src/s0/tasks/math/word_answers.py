r"""Answers that are words: names, choices, dates. They are compared as words only where both sides are words.

Words for sure is what stands in `\text{...}`; bare letters are too where they can be no formula: a run of four or more
that spells no function. To what is words for sure, bare letters and digits are compared as words as well. Then case,
articles, quotation marks, outer brackets and a full stop do not count. Commas and hyphens do not where there is a word
of three letters or more; in what is shorter, such as `A,C`, every sign counts.
"""

from __future__ import annotations

import re

from s0.tasks.math.latex import FUNCTIONS

_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_ONLY_TEXT = re.compile(r"(?:\\text\{[^{}]*\}|[\s().,])+")
_BARE_WORDS = re.compile(r"[a-zA-Z][a-zA-Z ,.'-]*")
_FORMULA_NAMES = re.compile(
    rf"{FUNCTIONS}|sqrt|cbrt|theta|alpha|beta|gamma|delta|lambda|omega|sigma|infinity|abs|phi|pi"
)
_NOON = re.compile(r"(?<![a-z])([ap])\.? ?m\b\.?")
_TOKEN = re.compile(r"[a-z]+|(?<![a-z\d])-?\d[\d.:,/]*\d|(?<![a-z\d])-?\d|[\d.:]+|[^\w\s,.'\"-]")
_ARTICLES = {"a", "an", "the"}


def same(right: str, answer: str) -> bool | None:
    """Whether two tidy answers are the same words; None where they are not both words, so that formulas decide."""
    said, reply = _said(right), _said(answer)
    if said is None or reply is None or not (is_text(right) or (_surely(right) and _surely(answer))):
        return None
    return said == reply


def is_text(answer: str) -> bool:
    r"""Whether a tidy answer is nothing but `\text{...}`, so that it is words and no formula."""
    return "\\text" in answer and _ONLY_TEXT.fullmatch(answer) is not None


def _surely(answer: str) -> bool:
    if is_text(answer):
        return True
    long = re.search(r"[a-zA-Z]{4}", answer)
    return _BARE_WORDS.fullmatch(answer) is not None and long is not None and not _FORMULA_NAMES.search(answer.lower())


def _said(answer: str) -> tuple[str, ...] | None:
    """The words; None of what holds signs that no words have."""
    plain = _TEXT.sub(r" \1 ", answer).replace("\\land", "and").replace("\\lor", "or").lower()
    plain = _NOON.sub(r"\1m", plain).strip(" .\"'`")
    if not re.fullmatch(r"[\w\s().,'\":/%$-]*", plain) or "_" in plain:
        return None
    if match := re.fullmatch(r"\(?\s*([a-z])\s*\)?", plain):
        return (match[1],)
    if re.fullmatch(r"\([^()]*\)", plain):
        plain = plain[1:-1]
    if not re.search(r"[a-z]{3}", plain):
        return ("".join(plain.split()),)
    return tuple(token for token in _TOKEN.findall(plain) if token not in _ARTICLES)
