r"""Whether two tidy answers mean the same. Runs in processes of its own (`worker`), since it can take for ever.

In this order; the first rule that both sides meet decides:

1. The same letters, white space aside, are the same (`latex`).
2. Words compare as words, where both sides are words (`word_answers`).
3. A name goes (`named_answers`) where one side has it: `x = 5` is 5. Two names must be the same. Equations are the same
   where left minus right sides are, up to a factor. `2 + 3 = 5` says 5, since it is true; `6 = 5` and `x^2 = 5` say no
   value.
4. Sets of numbers, where a side is written as one that no bare brackets are: `x < 2`, a union, \mathbb{R} (`sets`).
   Other relations are the same where their members are, in either direction, or two sides differ by a positive factor.
5. Parts within brackets compare part by part, with the same brackets and in order; sets and bare lists in any order,
   each part once; a bare list of spellings of one value is that value. \pm makes two of one, and several make all
   their combinations unless a \mp is with them. Bare braces are no brackets.
6. Quantities: bases, units, per cent and degree signs (`units`), and formulas by their value (`formula`,
   `formula_values`).
7. `math_verify` is asked last, for sums, products, integrals and limits, and for formulas that agree at some values of
   their variables only.
"""

from __future__ import annotations

import logging
import re

from math_verify import LatexExtractionConfig, parse, verify

from s0.tasks.math import units, word_answers
from s0.tasks.math.formula import read
from s0.tasks.math.formula_values import is_rounding, proportion, same_value
from s0.tasks.math.latex import COMMA, EQUALS, OR_OTHER_SEPARATOR, closing, same_letters, split, unwrapped
from s0.tasks.math.named_answers import split_name
from s0.tasks.math.sets import MIRRORED, RELATION, read_set, same_set

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # says that it has no time limit: the caller has one

_FORMULAS = [LatexExtractionConfig()]
_NO_THOUSANDS_COMMA = re.compile(r"(?:(?<!\d),|,(?!\d{3}(?!\d)))" + OR_OTHER_SEPARATOR)
_RATIO = re.compile(":")
_SET = re.compile(r"[<>]|\\(?:le|ge|ne|cup|cap|lor|setminus|in)(?![a-zA-Z])|\\mathbb ?\{R\}|\\emptyset")
_OTHER_RELATION = re.compile(r"\\(?:equiv|notin|subset|subseteq|parallel|perp|sim|cong|pmod|bmod|mod)(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_BOUND = r"(?:\{[\w=+\-\\ .]*\}|\\infty(?![a-zA-Z])|\w)"
_BIG_OPERATOR = re.compile(rf"\\(?:sum|prod|int|lim)(?![a-zA-Z])(?: ?_ ?{_BOUND})?(?: ?\^ ?{_BOUND})?")
_BASED = re.compile(r"(-?[\dA-Za-z]*\d[\dA-Za-z.]*|-?[\dA-Za-z.]+) ?_ ?\{? ?(?:\\text\{ ?)?(\d+|[a-z]+) ?\}?\}?")
_NUMERALS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_MOST_SIGNS = 4
"""How many \\pm of one part are combined, at most."""
_BASES = {word: number for number, word in enumerate(_NUMERALS.split(), start=2)}


def equal(right: str, answer: str) -> bool:
    """Whether `answer` says the same as `right`; both tidy (`latex.tidy`)."""
    right, answer = unwrapped(right), unwrapped(answer)
    if same_letters(right, answer):
        return True
    spoken = word_answers.same(right, answer)
    if spoken is not None:
        return spoken
    (name, ours), (other_name, theirs) = split_name(right), split_name(answer)
    if name and other_name:
        return equal(ours, theirs) if name == other_name else _same_equation(right, answer)
    if name:
        return _same_equation(right, answer) or equal(ours, answer)
    if other_name:
        return _same_equation(right, answer) or equal(right, theirs)
    return _same_unnamed(right, answer)


def _same_unnamed(right: str, answer: str) -> bool:
    if _SET.search(right) or _SET.search(answer):
        ours, theirs = read_set(right), read_set(answer)
        if ours is not None and theirs is not None:
            return same_set(ours, theirs)
    relations = [
        RELATION.search(text) is not None or _OTHER_RELATION.search(text) is not None for text in (right, answer)
    ]
    if any(relations):
        return all(relations) and _same_relations(right, answer)
    if "\\cup" in right and "\\cup" in answer:
        return _in_any_order(split(right, re.compile(r"\\cup")), split(answer, re.compile(r"\\cup")))
    kinds = _brackets(right), _brackets(answer)
    if kinds[0] in ("set", "list") and kinds[1] in ("set", "list"):
        return _in_any_order(_parts(right), _parts(answer))
    if sorted(kinds) == ["", "list"]:
        single, several = (right, answer) if kinds[1] else (answer, right)
        spellings = _parts(several)  # of one value: \boxed{1\frac12}, or \boxed{\frac32}
        return len({*spellings}) == len(spellings) and all(equal(single, spelling) for spelling in spellings)
    if kinds[0] != kinds[1]:
        return False
    if kinds[0]:
        ours_in_order, theirs_in_order = _parts(right), _parts(answer)
        return len(ours_in_order) == len(theirs_in_order) and all(map(equal, ours_in_order, theirs_in_order))
    return _same_quantity(right, answer)


# --- Parts ---


def _brackets(text: str) -> str:
    """The two brackets around parts with commas between; "set" where they are braces; "list" of bare parts; else ""."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set"
    if "\\pm" in text or "\\mp" in text:
        return "list"
    if text[:1] in ("(", "[") and closing(text) == len(text) - 1 and len(_split(text[1:-1])) > 1:
        return text[0] + text[-1]
    return "list" if len(_split(text, bare=True)) > 1 else ""


def _parts(text: str) -> list[str]:
    """What stands within the brackets, part by part; one with a plus-minus sign is two parts."""
    kind = _brackets(text)
    inner = text[2:-2] if kind == "set" else text if kind == "list" else text[1:-1]
    return [sign for part in _split(inner, bare=kind == "list") for sign in _signs(part)]


def _split(text: str, *, bare: bool = False) -> list[str]:
    """The parts between commas. Digits in threes are one number beside commas with spaces, or on their own if bare."""
    threes = ", " in text or (bare and "," not in _THOUSANDS.sub("", text))
    return split(text, _NO_THOUSANDS_COMMA if threes else COMMA)


def _signs(part: str) -> list[str]:
    if "\\pm" not in part and "\\mp" not in part:
        return [part]
    n_signs = part.count("\\pm")
    if "\\mp" in part or n_signs > _MOST_SIGNS:
        return [part.replace("\\pm", upper).replace("\\mp", lower) for upper, lower in ("+-", "-+")]
    return [signed for sign in "+-" for signed in _signs(part.replace("\\pm", sign, 1))]


def _in_any_order(ours: list[str], theirs: list[str]) -> bool:
    if len(ours) != len(theirs):
        return False
    left = list(theirs)
    for part in ours:
        match = next((other for other in left if equal(part, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


# --- Equations and relations ---


def _same_equation(right: str, answer: str) -> bool:
    """Whether both are equations, and left minus right sides are the same up to a factor: 2x = y, y - 2x = 0."""
    ours, theirs = split(right, EQUALS), split(answer, EQUALS)
    if not len(ours) == len(theirs) == 2:
        return False
    sides = [read(text) for text in (*ours, *theirs)]
    if None in sides:
        return False
    try:
        return proportion(sides[0] - sides[1], sides[2] - sides[3])
    except TypeError:  # a matrix and a number
        return False


def _same_relations(right: str, answer: str) -> bool:
    """Whether chains of relations have the same members and signs, read from either side."""
    ours, theirs = _chain(right), _chain(answer)
    if ours is None or theirs is None:
        return False
    if ours[1] == theirs[1] and all(map(equal, ours[0], theirs[0])):
        return True
    if len(ours[1]) != 1 or ours[1] != theirs[1] or ours[1][0] not in MIRRORED:
        return False
    sides = [read(text) for text in (*ours[0], *theirs[0])]
    if None in sides:
        return False
    return proportion(sides[0] - sides[1], sides[2] - sides[3], positive=ours[1][0] != "\\ne")


def _chain(text: str) -> tuple[list[str], list[str]] | None:
    """(members, signs), turned so that the first sign is no greater-than; None where another relation is in it."""
    if _OTHER_RELATION.search(text):
        return None
    pieces = [piece.strip() for piece in RELATION.split(text)]
    members, signs = pieces[::2], pieces[1::2]
    if not signs or any(len(split(member, COMMA)) > 1 or "=" in member for member in members):
        return None
    if signs[0] in (">", "\\ge"):
        return members[::-1], [MIRRORED[sign] for sign in signs[::-1]]
    return members, signs


# --- One quantity ---


def _same_quantity(right: str, answer: str) -> bool:
    if len(split(right, EQUALS)) > 1 or len(split(answer, EQUALS)) > 1:
        return _same_equation(right, answer) or _same_outcome(right, answer)
    if ":" in right and ":" in answer:
        ours, theirs = split(right, _RATIO), split(answer, _RATIO)
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    based, other = _based(right), _based(answer)
    if based or other:
        return _same_digits(right, answer, based, other)
    first, second = units.quantity(right), units.quantity(answer)
    if units.units_differ(first.unit, second.unit):
        return False
    return any(_same_formula(*pair) for pair in units.readings(first, second))


def _same_outcome(right: str, answer: str) -> bool:
    """`2 + 3 = 5` says its last side, since it is true."""
    ours, theirs = _outcome(right), _outcome(answer)
    return ours is not None and theirs is not None and equal(ours, theirs)


def _outcome(text: str) -> str | None:
    *steps, last = split(text, EQUALS)
    return last if last and "=" not in last and all(step and equal(step, last) for step in steps) else None


def _based(answer: str) -> tuple[str, int] | None:
    """(digits, base) of an answer such as 2516_8; None of any other, such as 3a_1, which no base has."""
    match = _BASED.fullmatch(answer)
    if match is None or not re.search(r"\d", match[1]):
        return None
    base = int(match[2]) if match[2].isdigit() else _BASES.get(match[2], 0)
    digits = match[1].upper()
    is_numeral = 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits if digit.isalnum())
    return (digits, base) if is_numeral else None


def _same_digits(right: str, answer: str, based: tuple[str, int] | None, other: tuple[str, int] | None) -> bool:
    """Digits and base. Where the right answer has a base, the problem says it; where it has none, 5_{12} is not 5."""
    return based == other if other or not based else based[0] == answer.upper()


def _same_formula(right: str, answer: str) -> bool:
    same = same_value(read(right), read(answer))
    if same is not None:
        return same or is_rounding(right, answer) or is_rounding(answer, right)
    return _for_library(right) and _for_library(answer) and _verified(right, answer)


def _for_library(text: str) -> bool:
    """Whether nothing but sums, products, integrals and limits, with bounds, keeps a formula from being read here."""
    return read(text) is not None or (
        _BIG_OPERATOR.search(text) is not None and read(_BIG_OPERATOR.sub(" ", text)) is not None
    )


def _verified(right: str, answer: str) -> bool:
    ours, theirs = (parse(f"${text}$", _FORMULAS, parsing_timeout=None) for text in (right, answer))
    return bool(verify(ours, theirs, timeout_seconds=None))
