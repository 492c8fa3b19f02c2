r"""Answers in LaTeX as text: one spelling for what looks the same, and the parts that decide by themselves.

Nothing here calculates; `comparing` does.
"""

from __future__ import annotations

import re

from s0.tasks.math.finding import braced

_SPELLINGS = (
    (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\.?", ""),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
    (r"\\(?:mbox|mathrm|textbf|textrm|textit|mathbf|operatorname)(?![a-zA-Z])\s*(?=\{)", r"\\text"),
    (r"\\text\s+(?=\{)", r"\\text"),
    (r"\{,\}", ","),
    (r"(?<=\d),?(?:\\!|\\,|\\ |~)\s*(?=\d{3}(?!\d))", ","),
    (r"(?<!\\)\\[!,;:> ]|~|\\q?quad(?![a-zA-Z])", " "),
    (r"\\\$|\$", ""),
    (r"\\%|\\?\\text\{\s*(?:%|percent|per cent)\s*\}|\s(?:percent|per cent)\b", "%"),
    (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])|\\degrees?(?![a-zA-Z])|°", r"^\\circ "),
    (r"\\l?brace(?![a-zA-Z])", r"\\{"),
    (r"\\rbrace(?![a-zA-Z])", r"\\}"),
    (r"\\(?:leq|leqslant)(?![a-zA-Z])|≤", r"\\le "),
    (r"\\(?:geq|geqslant)(?![a-zA-Z])|≥", r"\\ge "),
    (r"\\langle(?![a-zA-Z])", "("),
    (r"\\rangle(?![a-zA-Z])", ")"),
    (r"\N{MINUS SIGN}|–", "-"),
    (r"π", r"\\pi "),
    (r"∞", r"\\infty "),
    (r"∪", r"\\cup "),
    (r"√", r"\\sqrt"),
    (r"\\frac\s*(\d)\s*(?=\d|\{)", r"\\frac{\1}"),
    (r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}"),
    (r"\\sqrt\s*([\da-zA-Z])", r"\\sqrt{\1}"),
    (r"\s*,?\s*(?:\\text\{\s*,?\s*(?:and|or)\s*\}|(?<=\W)(?:and|or)(?=\W))\s*", ","),
    (r"\\text\{([^{}a-zA-Z]*)\}", r"\1"),
    (r"^[a-zA-Z]\s*\\in(?![a-zA-Z])", ""),
    (r"\s+", " "),
)
_SPELLED = [(re.compile(pattern), plain) for pattern, plain in _SPELLINGS]
_ENCLOSURES = (("\\[", "\\]"), ("\\(", "\\)"))
_BASE = re.compile(r"(?=\S*\d\S*_)(-?[\dA-Za-z.]+)\s*_\s*\{?\s*(?:\\text\{\s*)?(\d+|[a-z]+)\s*\}?\}?")
_NUMERALS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BASES = {
    **{word: number for number, word in enumerate(_NUMERALS, start=2)},
    **{"eleven": 11, "twelve": 12, "sixteen": 16},
}
_UNIT = re.compile(
    r"(?P<value>.*[\d})\]a-z])\s*(?:\^\\circ\s*(?P<degree>)|\\text\{(?P<text>[^{}]*)\}|\s(?P<plain>[a-z][a-z. ]+))"
    r"\s*(?P<power>\^\s*\{?\s*\d\s*\}?)?\s*",
    re.DOTALL,
)
_UNITS = {
    "length": "cm centimeter centimetre|mm millimeter millimetre|m meter metre|km kilometer kilometre|in inch inche|"
    "ft foot feet|yd yard|mi mile",
    "time": "s sec second|min minute|h hr hour|day|week|month|year",
    "money": "cent|dollar|pound|euro",
    "angle": "degree deg|radian rad",
    "clock": "am|pm",
    "mass": "g gram|kg kilogram|mg milligram|lb ounce oz|ton",
}
_UNIT_NAMES = {
    name: (kind, number)
    for kind, units in _UNITS.items()
    for number, names in enumerate(units.split("|"))
    for name in names.split()
}
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arc|log|ln)")


def tidy(answer: str) -> str:
    """One spelling for what looks the same: spacing, sizes of brackets, fraction commands, dollar signs, full stop."""
    text = answer.strip()
    for begin, end in _ENCLOSURES:
        text = text.removeprefix(begin).removesuffix(end)
    for pattern, plain in _SPELLED:
        text = pattern.sub(plain, text)
    return text.strip().rstrip(".,;").strip()


def same_letters(first: str, second: str) -> bool:
    """Whether two tidy answers are the same but for white space."""
    return "".join(first.split()) == "".join(second.split())


def words(answer: str) -> str | None:
    r"""Letters and digits of a tidy answer that is text, such as `\text{June 20}` or (C); None of a formula."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", answer)
    if "\\" in plain or not re.fullmatch(r"[\w\s().,'\"-]*", plain) or not re.search(r"[^\W\d_]", plain):
        return None
    return "".join(character for character in plain.lower() if character.isalnum())


def is_text(answer: str) -> bool:
    r"""Whether a tidy answer is nothing but `\text{...}`, so that it is words and no formula."""
    return re.fullmatch(r"(?:\s*\\text\{[^{}]*\}\s*)+", answer) is not None


def based(answer: str) -> tuple[str, int] | None:
    """(digits, base) of a tidy answer such as 2516_8; None of any other."""
    match = _BASE.fullmatch(answer)
    if match is None:
        return None
    base = int(match[2]) if match[2].isdigit() else _BASES.get(match[2], 0)
    return (match[1].upper(), base) if base else None


def without_unit(answer: str) -> tuple[str, str | None]:
    r"""A tidy answer without the unit at its end, and the unit's letters: `5 \text{ cm}^2` is 5 and cm.

    A word without \text counts only if it is a known unit, and a degree sign only outside of functions.
    """
    match = _UNIT.fullmatch(answer)
    if match is None:
        return answer, None
    if match["degree"] is not None:
        return (answer, None) if _TRIGONOMETRY.search(answer) else (match["value"], "degree")
    said = (match["text"] or match["plain"]).lower()
    unit = " ".join(re.sub(r"\b(?:square|cubic|sq)\b|[^a-z ]", "", said).split())
    if match["text"] is None and _known_unit(unit) is None and unit not in ("units", "unit"):
        return answer, None
    return match["value"].strip(), unit


def units_differ(first: str | None, second: str | None) -> bool:
    """Whether both are known units and of one kind, but not the same: cm and km, not cm and centimetres."""
    if first is None or second is None:
        return False
    one, other = _known_unit(first), _known_unit(second)
    return one is not None and other is not None and one[0] == other[0] and one != other


def _known_unit(unit: str) -> tuple[str, int] | None:
    letters = unit.replace(" ", "")
    return _UNIT_NAMES.get(letters) or _UNIT_NAMES.get(letters.removesuffix("s"))


def published(answer: str) -> str:
    """The published harness's normal form (Hendrycks et al. 2021), in which answers compare as strings."""
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if text.count("\\text{ ") == 1:
        text = text.partition("\\text{ ")[0]  # the unit
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    slashed = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    return f"\\frac{{{slashed[1]}}}{{{slashed[2]}}}" if slashed else text


def _braced_fractions(text: str) -> str:
    r"""`\frac12` and `\frac1{72}` with braces."""
    first, *rest = text.split("\\frac")
    for part in rest:
        if part[:1] != "{" and len(part) >= 2:
            part = f"{{{part[0]}}}" + (part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}")
        first += "\\frac" + part
    return first


def last_box(completion: str) -> str | None:
    r"""What stands in the last \boxed or \fbox, None without one or where its braces do not close."""
    start = max(completion.rfind("\\boxed"), completion.rfind("\\fbox"))
    if start < 0:
        return None
    rest = completion[start:].removeprefix("\\boxed").removeprefix("\\fbox")
    if rest.startswith(" "):
        return rest[1:].partition("$")[0]
    return braced(rest) if rest.startswith("{") else None
