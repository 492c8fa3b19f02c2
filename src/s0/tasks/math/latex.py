r"""Answers in LaTeX as text: one spelling for what looks the same.

Nothing here calculates, and nothing is dropped that can change what an answer says. In this order: white space becomes
one space; enclosures such as `$...$`, `\boxed{...}` and bold type go; characters and commands get one name each (`π`
and `\pi`, `\dfrac` and `\frac`, `≤` and `\leq`); sizes of brackets, styles and spaces go; digits in groups of three
get commas; `and` and `or` become `\land` and `\lor`; a number within `\text` comes out.
"""

from __future__ import annotations

import re

FUNCTIONS = (
    r"arcsin|arccos|arctan|arccot|arcsec|arccsc|sinh|cosh|tanh|coth|"  # the longer ones first
    r"sin|cos|tan|cot|sec|csc|exp|ln|lg|log|max|min|gcd|lcm"
)
_GREEK_LETTERS = "αβγδεζηθκλμνξπρστφχψωΔΓΘΛΞΠΣΦΨΩ"
_GREEK_LETTER_NAMES = """
alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega
Delta Gamma Theta Lambda Xi Pi Sigma Phi Psi Omega
"""
_END = r"(?![a-zA-Z])"
_CHARACTERS = {
    **dict.fromkeys("−–—‒﹣－", "-"),
    **dict.fromkeys("×✕⨯", r"\times "),
    **dict.fromkeys("·⋅∙•∗", r"\cdot "),
    **dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f", r"\,"),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
    "÷": "/",
    "⁄": "/",
    "′": "'",
    "’": "'",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∈": r"\in ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "∞": r"\infty ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "°": r"^\circ ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "⟨": "(",
    "⟩": ")",
    "（": "(",
    "）": ")",
    "，": ",",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}",
    "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}",
    **{letter: f"\\{name} " for letter, name in zip(_GREEK_LETTERS, _GREEK_LETTER_NAMES.split(), strict=True)},
}
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "₀₁₂₃₄₅₆₇₈₉"
_SPELLINGS = (
    (rf"\\(?:left|right|[bB]igg?[lrm]?|middle){_END} ?\.?", ""),
    (rf"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits){_END} ?", ""),
    (r"\\\\ ?\[ ?-?[\d.]+ ?(?:pt|ex|em|mm|cm|in)\ ?\]", r"\\\\"),
    (rf"\\[dtc]frac{_END}", r"\\frac"),
    (rf"\\[dt]binom{_END}", r"\\binom"),
    (
        rf"\\(?:mbox|(?:text|math)(?:rm|bf|sf|tt|it)|emph|operatorname\*?){_END} ?(?=\{{)",
        r"\\text",
    ),
    (r"\\text (?=\{)", r"\\text"),
    (rf"\\text\{{ ?({FUNCTIONS}) ?\}}", r"\\\1 "),
    (r"(?<=\d)\{,\}(?=\d{3}(?!\d))", ","),
    (r"(?<=\d)(?:, ?\\! ?|\\,|\\ |~)(?=\d{3}(?!\d| ?/))", ","),
    (r"(?<!\\)\\! ?", ""),
    (rf"(?<!\\)\\[,;:> ]|~|\\q?quad{_END}", " "),
    (r"(?<!\\)\$", ""),
    (r"\\%|\\text\{ ?(?:%|percent|per cent) ?\}|(?<=[\d}]) ?(?:percent|per cent)\b", "%"),
    (rf" ?\^ ?\{{ ?\\circ ?\}}| ?\^ ?\\circ{_END}|\\degrees?{_END}", r"^\\circ "),
    (r" ?\\text\{ ?degrees? ?\}|(?<=[\d})]) ?degrees?\b", r"^\\circ "),
    (rf"\\l?brace{_END}", r"\\{"),
    (rf"\\rbrace{_END}", r"\\}"),
    (rf"\\(?:leq|leqslant|leqq){_END}|<=|=<", r"\\le "),
    (rf"\\(?:geq|geqslant|geqq){_END}|>=", r"\\ge "),
    (rf"\\lt{_END}", "<"),
    (rf"\\gt{_END}", ">"),
    (rf"\\neq{_END}|\\not ?=|(?<= )!=|=/=", r"\\ne "),
    (rf"\\langle{_END}", "("),
    (rf"\\rangle{_END}", ")"),
    (rf"\\[lr]?[vV]ert{_END}|\\mid{_END}", "|"),
    (rf"\\(?:varnothing|empty){_END}|\\\{{ ?\\\}}|\\text\{{ ?no (?:real )?solutions? ?\}}", r"\\emptyset "),
    (rf"\\(?:R|reals){_END}|\\text\{{ ?all real numbers ?\}}", r"\\mathbb{R}"),
    (rf"\\(?:backslash|smallsetminus){_END}", r"\\setminus "),
    (rf"\\ast{_END}|\*(?!\*)(?<!\*\*)", r"\\cdot "),
    (r"\*\*", "^"),
    (rf"\\div{_END}", "/"),
    (rf"\\dots[bcim]?{_END}|\\[lc]dots{_END}|…", "..."),
    (r"√ ?(?=[({])", r"\\sqrt"),
    (r"√ ?(\d+(?:\.\d+)?|[a-zA-Z])", r"\\sqrt{\1}"),
    (r",? ?(?:\\text\{ ?,? ?and ?\}|(?<![a-zA-Z\\])and(?![a-zA-Z])) ?", r" \\land "),
    (r",? ?(?:\\text\{ ?,? ?or ?\}|(?<![a-zA-Z\\])or(?![a-zA-Z])) ?", r" \\lor "),
    (r"\\text\{([^{}a-zA-Z]*)\}", r"\1"),
    (r"\\text\{([a-zA-Z. ]+)\^ ?\{? ?(\d) ?\}? ?\}", r"\\text{\1}^{\2}"),
    (r"\\text\{ ?(-?\d[\d,.]*(?: ?/ ?\d+)?) ([^{}\d]+)\}", r"\1 \\text{\2}"),
    (r" +", " "),
)
EQUALS = re.compile("=")
OR_OTHER_SEPARATOR = r"|;|\\l(?:and|or)(?![a-zA-Z])"
COMMA = re.compile("," + OR_OTHER_SEPARATOR)
"""What parts of a tidy answer stand between, for `split`."""
_SPELLED = [(re.compile(pattern), plain) for pattern, plain in _SPELLINGS]
_SPACE = re.compile(r"(?<![\d,.]) | (?![\d.])|(?<=,) (?!\d{3}(?!\d))")
"""White space that says nothing: it parts no digits."""
_ENCLOSURES = (("$$", "$$"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)"), ("**", "**"), ("`", "`"))
_WRAPPED = re.compile(r"\\(?:boxed|fbox|displaystyle|mathbf|boldsymbol|bm) ?(?=\{)")
_ANSWER = re.compile(
    r"(?P<text>\\text\{ ?)?(?:the )?(?:final )?answer(?: is ?[:=]?| ?[:=]| ?(?=\}))(?P<closed> ?\} ?[:=]?)? ?",
    re.IGNORECASE,
)


def tidy(answer: str) -> str:
    """One spelling for what looks the same, by the rule above; takes time in proportion to the answer's length."""
    text = unwrapped(" ".join(answer.split()))
    text = "".join(_CHARACTERS.get(character, character) for character in _levelled(text))
    for pattern, plain in _SPELLED:
        text = pattern.sub(plain, text)
    return unwrapped(text.strip().rstrip(".,; ")) if not text.rstrip().endswith("...") else text.strip()


def unwrapped(text: str) -> str:
    r"""A text without what encloses all of it: dollar signs, `\boxed{}`, bold type, "Answer:", grouping braces."""
    while True:
        inner = _once_unwrapped(text.strip())
        if inner == text:
            return text
        text = inner


def _once_unwrapped(text: str) -> str:
    if said := _ANSWER.match(text):
        within = said["text"] and not said["closed"]
        return ("\\text{" if within else "") + text[said.end() :]
    ended = text.rstrip(".")
    for begin, end in _ENCLOSURES:
        inner = ended.removeprefix(begin).removesuffix(end)
        if len(ended) - len(inner) == len(begin + end) and begin not in inner and not inner.endswith("\\"):
            return inner
    command = _WRAPPED.match(ended)
    rest = ended[command.end() :] if command else ended
    return rest[1:-1] if rest.startswith("{") and closing(rest) == len(rest) - 1 else text


def closing(text: str) -> int:
    """Where the bracket that a text begins with is closed, counting brackets of every kind; -1 if nowhere."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position
    return -1


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts between separators that stand within no bracket; brackets of every kind open and close."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        depth += (character in "([{") - (character in ")]}")
        match = separator.match(text, position) if depth == 0 else None
        if match:
            parts.append(text[start:position].strip())
            start = match.end()
        position = max(position + 1, match.end() if match else 0)
    return [*parts, text[start:].strip()]


def same_letters(first: str, second: str) -> bool:
    """Whether two tidy answers are the same but for white space that parts no digits (`1 1/2` is not `11/2`)."""
    return _SPACE.sub("", first) == _SPACE.sub("", second)


def _levelled(text: str) -> str:
    """Raised and lowered digits as exponents and subscripts."""
    for digits, mark, plain in ((_RAISED, "^", "0123456789-+n"), (_LOWERED, "_", "0123456789")):
        table = str.maketrans(digits, plain)
        text = re.sub(f"[{digits}]+", lambda match: f"{mark}{{{match[0].translate(table)}}}", text)  # noqa: B023
    return text
