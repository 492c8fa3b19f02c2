r"""The name that an answer gives to what it says: `x = 5`, `f(x) = 2x`, `(x, y) = (3, 2)`, `\text{Area} = 12`.

A name is what can stand for a value and is none: a letter with subscripts, primes or an accent; a function of letters;
one called f, g, h, P or Q of anything short; sin, cos and the like of one name; two or more capital letters (a line, a
triangle), with bars or after \angle; words that deny nothing; several names in brackets. `2x`, `x^2` or `a + b` are no
names: with those on its left side an answer is an equation.
"""

from __future__ import annotations

import re

from s0.tasks.math.latex import COMMA, EQUALS, split
from s0.tasks.math.sets import RELATION

_GREEK = (
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|"
    r"chi|psi|omega|Delta|Gamma|Theta|Lambda|Sigma|Phi|Psi|Omega|ell)(?![a-zA-Z])"
)
_SUBSCRIPT = r"(?: ?_ ?(?:\w|\{[\w ,+-]{1,8}\}|\\text\{[\w ]+\}|\{\\text\{[\w ]+\}\}))?"
_ACCENTED = (
    r"\\(?:vec|hat|bar|tilde|overline|overrightarrow|mathcal|mathbf|boldsymbol) ?\{ ?[a-zA-Z]{1,3} ?\}"
    r"|\\text ?\{ ?[a-zA-Z] ?\}"
)
_LETTER = rf"(?:[a-zA-Z]|{_GREEK}|{_ACCENTED}){_SUBSCRIPT} ?'*"
_OF_LETTERS = rf"{_LETTER} ?(?:\^ ?\{{ ?-1 ?\}} ?|\^ ?-1)?\( ?{_LETTER}(?: ?, ?{_LETTER})* ?\)"
_OF_SOMETHING = r"[fghPQ](?: ?_ ?\w)? ?'*(?: ?\^ ?\{ ?-1 ?\})? ?\([\w +\-/|,.\\]{1,20}\)"
_TRIGONOMETRIC = rf"\\(?:sin|cos|tan|cot|sec|csc) ?(?:\(? ?{_LETTER} ?\)?|\\angle ?[A-Z]{{1,3}})"
_FIGURE = r"(?:m ?)?(?:\\(?:m?angle|triangle|overline|overrightarrow|widehat|measuredangle) ?)?"
_POINTS = rf"{_FIGURE}(?:[A-Z](?: ?[A-Z])+'?|\{{ ?[A-Z](?: ?[A-Z])* ?\}})"
_MEASURED = rf"\| ?{_POINTS} ?\||\[ ?[A-Z]{{3,}} ?\]|(?:m ?)?\\(?:m?angle|triangle) ?[A-Z]"
_RUN = r"[a-zA-Z]+(?![a-zA-Z])"
_WORDY = re.compile(rf" ?(?:(?:\\text\{{[a-zA-Z ,.'()-]*\}}|{_RUN}) ?)+")
_NEGATING = re.compile(
    r"\b(?:not|no|non|wrong|incorrect|false|minus|negative|never|except|unless|than|without|opposite)\b"
)
_ONE = rf"(?:{_LETTER}|{_OF_LETTERS}|{_OF_SOMETHING}|{_TRIGONOMETRIC}|{_POINTS}|{_MEASURED})"
_SEVERAL = rf"[(\{{\[]? ?{_LETTER}(?: ?, ?{_LETTER})+ ?[)\}}\]]?|\\\{{ ?{_LETTER}(?: ?, ?{_LETTER})+ ?\\\}}"
_NAME = re.compile(rf"(?:{_ONE}|{_SEVERAL})")
_SAYS = re.compile(r"=|:(?!\d)|\\in(?![a-zA-Z])|\\approx(?![a-zA-Z])")


def split_name(answer: str) -> tuple[str, str]:
    """(name, what it is) of a tidy answer; no name is "".

    Of several named parts the names are put in order: `y = 2, x = 3` says that (x,y) is (3,2), `x = 1, x = 2` that x
    is 1,2.
    """
    parts = [_one_name(part) for part in split(answer, COMMA)]
    names = [name for name, _ in parts]
    if len(parts) == 1:
        return parts[0]
    if not all(names):
        of_all = len(split(answer, EQUALS)) == 2 and not RELATION.search(answer)  # `(x, y) = (1, 2), (3, 4)`
        return _one_name(answer) if of_all else ("", answer)
    if len(set(names)) == 1:
        return names[0], ",".join(value for _, value in parts)
    if len(set(names)) < len(names) or any(len(split(value, COMMA)) > 1 for _, value in parts):
        return "", answer
    ordered = sorted(parts)
    return f"({','.join(name for name, _ in ordered)})", f"({','.join(value for _, value in ordered)})"


def _one_name(text: str) -> tuple[str, str]:
    left, *rest = split(text, _SAYS)
    if not rest or not (value := text[len(left) :].strip()) or not rest[0]:
        return "", text
    value = _SAYS.sub("", value, count=1).strip()
    if not (_NAME.fullmatch(left) or _is_wordy(left)):
        return "", text
    return re.sub(r"[\s{}]|\\text|\\mathbf", "", left), value


def _is_wordy(left: str) -> bool:
    r"""Words, in `\text` or bare ones of three letters or more (`of` too), and points between them; nothing negated."""
    if not _WORDY.fullmatch(left) or _NEGATING.search(left.lower()):
        return False
    bare = re.sub(r"\\text\{[^{}]*\}", " ", left).split()
    return ("\\text" in left or bool(bare)) and all(len(run) > 2 or run == "of" or run.isupper() for run in bare)
