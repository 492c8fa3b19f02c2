r"""Mutations of one step: every kind gives all answers that one such step makes of a right one.

They work on the text alone, with braces around every argument (`explicit`). Whether a step changes the value, `meaning`
says afterwards: 1.5 without its point is another number, 0.5 with a zero behind it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.tasks.mutations.meaning import UNITS

Mutation = Callable[[str], Iterator[str]]

_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?|(?<![\d.])\.\d+")
_NO_LETTERS = r"(?![a-zA-Z])"
_GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_TEXT = re.compile(r"\\(?:text|mbox|begin|end)\s*\{[^{}]*\}")
_OPENING, _CLOSING = "([{", ")]}"


def explicit(text: str) -> str:
    """The same answer with braces around every argument, commas for "and", no dollars and no sizes of brackets."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])\.?", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r",?\\!\s*(?=\d{3})|\{,\}|(?<!\\)\\[!,; ]|\\?\$", "", text)
    text = re.sub(r"\s*,?\s*\\text\{\s*(?:and|or)\s*\}\s*", ", ", text)
    text = re.sub(r"\\sqrt\s*(\d|[a-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac\s*(\d|\\pi)", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\{(?:[^{}]|\{[^{}]*\})*\})\s*(\d)", r"\1{\2}", text)
    return re.sub(r"([\^_])\s*(\d+(?!\d)|[a-zA-Z])", r"\1{\2}", text).strip()


def _each(pattern: str, *plain: str | Callable[[re.Match[str]], str]) -> Mutation:
    """Every match by itself, outside of text, replaced by each of `plain`."""
    compiled = re.compile(pattern)

    def mutation(gold: str) -> Iterator[str]:
        for match in _outside_text(compiled, gold):
            for new in plain:
                replacement = match.expand(new) if isinstance(new, str) else new(match)
                yield gold[: match.start()] + replacement + gold[match.end() :]

    return mutation


def _all_of(*mutations: Mutation) -> Mutation:
    return lambda gold: (answer for mutation in mutations for answer in mutation(gold))


def _outside_text(pattern: re.Pattern[str], gold: str) -> Iterator[re.Match[str]]:
    texts = [match.span() for match in _TEXT.finditer(gold)]
    for match in pattern.finditer(gold):
        if not any(start < match.end() and match.start() < end for start, end in texts):
            yield match


def _is_words(gold: str) -> bool:
    return re.fullmatch(r"(?:\s*\\(?:text|mbox)\s*\{[^{}]*\}\s*)+", gold) is not None


def _braced(gold: str, start: int) -> int:
    """The place behind the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(gold)):
        depth += (gold[position] in _OPENING) - (gold[position] in _CLOSING)
        if depth == 0:
            return position + 1
    return len(gold)


def _commas(gold: str, start: int = 0, end: int | None = None) -> list[int]:
    """The places of the commas that no bracket within `start` to `end` surrounds."""
    depth, places = 0, []
    for position in range(start, len(gold) if end is None else end):
        depth += (gold[position] in _OPENING) - (gold[position] in _CLOSING)
        if depth == 0 and gold[position] == ",":
            places.append(position)
    return places


def _lists(gold: str) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, parts) of everything that is parts with commas between: the whole, and what brackets hold."""
    spans = [(0, len(gold))]
    spans += [(match.end(), _braced(gold, match.start()) - 1) for match in re.finditer(r"[(\[]", gold)]
    spans += [(match.end(), _braced(gold, match.end() - 1) - 2) for match in re.finditer(r"\\\{", gold)]
    for start, end in spans:
        commas = _commas(gold, start, end)
        if commas and not _is_words(gold) and not re.fullmatch(r"-?\d{1,3}(,\d{3})+", gold):
            cuts = [start - 1, *commas, end]
            yield start, end, [gold[low + 1 : high].strip() for low, high in pairwise(cuts)]


def _relisted(change: Callable[[list[str]], Iterator[list[str]]], *, intervals: bool = False) -> Mutation:
    """Lists changed one by one; intervals, which have two ends and no elements, only where asked."""

    def mutation(gold: str) -> Iterator[str]:
        for start, end, parts in _lists(gold):
            squared = gold[start - 1 : start] == "[" or gold[end : end + 1] == "]"
            is_interval = squared or "\\infty" in gold[start:end]
            for changed in change(parts) if intervals or not is_interval else ():
                yield gold[:start] + ", ".join(changed) + gold[end:]

    return mutation


def _sign_of_the_whole(gold: str) -> Iterator[str]:
    name = re.match(r"[a-zA-Z]\s*=\s*", gold)
    head, body = (name[0], gold[name.end() :]) if name else ("", gold)
    if _is_words(gold) or re.search(r"[=<>,]|\\(?:le|ge|cup|in|ne|begin|pm)" + _NO_LETTERS, body):
        return
    if body.startswith("-"):
        yield head + body[1:]
    if re.search(r"(?<=[^({,])[-+]", body):
        yield f"{head}-({body})"
    elif not body.startswith("-"):
        yield head + "-" + body


def _sign_of_a_term(gold: str) -> Iterator[str]:
    if _is_words(gold):
        return
    for match in _outside_text(re.compile(r"[-+]"), gold):
        before = gold[: match.start()].rstrip()
        leads = not before or before[-1] in "({[,=<>&" or before.endswith(("\\\\", "\\le", "\\ge", "}{"))
        other = ("" if leads else "+") if match[0] == "-" else "-"
        yield gold[: match.start()] + other + gold[match.end() :]
    for match in _outside_text(re.compile(r"(?:(?<=[(\[,{=&])|(?<=\\\\)|(?<=^))\s*(?=[\w.]|\\(?:frac|sqrt|pi))"), gold):
        if not re.search(r"[_\w]\{$", gold[: match.start()]):  # no index, base or name of an environment
            yield gold[: match.end()] + "-" + gold[match.end() :]


def _digits(change: Callable[[str], Iterator[str]]) -> Mutation:
    """Every number changed by itself, those in words too."""

    def mutation(gold: str) -> Iterator[str]:
        for match in _NUMBER.finditer(gold):
            for changed in change(match[0]):
                yield gold[: match.start()] + changed + gold[match.end() :]

    return mutation


def _one_digit_changed(digits: str) -> Iterator[str]:
    for place, digit in enumerate(digits):
        if digit.isdigit():
            yield digits[:place] + str((int(digit) + 1) % 10) + digits[place + 1 :]


def _digit_dropped(digits: str) -> Iterator[str]:
    for place, digit in enumerate(digits):
        if digit.isdigit() and sum(map(str.isdigit, digits)) > 1:
            yield digits[:place] + digits[place + 1 :]


def _digit_added(digits: str) -> Iterator[str]:
    yield digits + "1"
    yield digits + "0"
    yield "1" + digits


def _point_moved(digits: str) -> Iterator[str]:
    whole, point, rest = digits.partition(".")
    if point and rest:
        yield f"{whole}{rest[0]}.{rest[1:]}".rstrip(".")
    if len(whole) > 1:
        yield f"{whole[:-1]}.{whole[-1]}{rest}"


def _point_dropped(digits: str) -> Iterator[str]:
    if "." in digits:
        yield digits.replace(".", "")


def _swapped(parts: list[str]) -> Iterator[list[str]]:
    for place in range(len(parts) - 1):
        yield [*parts[:place], parts[place + 1], parts[place], *parts[place + 2 :]]


def _element_dropped(parts: list[str]) -> Iterator[list[str]]:
    for place in range(len(parts)):
        yield parts[:place] + parts[place + 1 :]


def _element_added(parts: list[str]) -> Iterator[list[str]]:
    yield [*parts, "97"]
    yield ["97", *parts]


def _element_changed(parts: list[str]) -> Iterator[list[str]]:
    for place, part in enumerate(parts):
        if not re.search(r"\\infty", part):
            yield [*parts[:place], f"{part} + 1", *parts[place + 1 :]]


def _grouping(gold: str) -> Iterator[str]:
    """Round brackets dropped, and put around a factor with the sum behind it."""
    for match in _outside_text(re.compile(r"\("), gold):
        end = _braced(gold, match.start())
        inner = gold[match.end() : end - 1]
        if end <= len(gold) and not _commas(inner) and "," not in inner and gold[end - 1] == ")":
            yield gold[: match.start()] + inner + gold[end:]
    for match in re.finditer(r"(?<![\w}{^.])(\d+)([a-z]\s*[-+]\s*[\da-z]+)(?![\w^{(!\\])", gold):
        yield f"{gold[: match.start()]}{match[1]}({match[2]}){gold[match.end() :]}"


def _interval_end(gold: str) -> Iterator[str]:
    """A round bracket for a square one and the other way round, at either end of two parts."""
    for match in re.finditer(r"[(\[]", gold):
        end = _braced(gold, match.start())
        if len(_commas(gold, match.end(), end - 1)) != 1 or gold[end - 1] not in ")]":
            continue
        opening, closing = ("[" if match[0] == "(" else "("), (")" if gold[end - 1] == "]" else "]")
        inner = gold[match.end() : end - 1]
        parts = inner.split(",")
        if "\\infty" not in parts[0]:
            yield gold[: match.start()] + opening + gold[match.end() :]
        if "\\infty" not in parts[-1]:
            yield gold[: end - 1] + closing + gold[end:]


def _kind_of_brackets(gold: str) -> Iterator[str]:
    r"""What is in order as a set, a set as what is in order, and without brackets."""
    inner, parts = None, []
    if gold.startswith("\\{") and gold.endswith("\\}"):
        inner = gold[2:-2]
    elif gold.startswith("(") and _braced(gold, 0) == len(gold) and gold.endswith(")"):
        inner = gold[1:-1]
        parts = ["\\{%s\\}"]
    if inner is not None and _commas(inner) and "\\infty" not in inner and "\\pm" not in inner:
        for form in [*parts, "%s" if parts else "(%s)"]:
            yield form % inner


_EXPONENT = re.compile(r"\^\s*\{([^{}]*)\}")


def _exponent_changed(gold: str) -> Iterator[str]:
    for match in _EXPONENT.finditer(gold):
        if "circ" not in match[1]:
            changed = str(int(match[1]) + 1) if re.fullmatch(r"-?\d+", match[1]) else f"{match[1]} + 1"
            yield f"{gold[: match.start()]}^{{{changed}}}{gold[match.end() :]}"


def _exponent_dropped(gold: str) -> Iterator[str]:
    for match in _EXPONENT.finditer(gold):
        if "circ" not in match[1]:
            yield gold[: match.start()] + gold[match.end() :]


_LAST_FACTOR = re.compile(r"(?:\d|(?<![a-zA-Z\\])[a-zA-Z]|\\pi|\\sqrt\{[^{}]*\}|\))$")


def _behind(*ends: str) -> Mutation:
    """Something behind the last factor of a formula."""

    def mutation(gold: str) -> Iterator[str]:
        if not _is_words(gold) and _LAST_FACTOR.search(gold) and not _lists_at_end(gold) and "_" not in gold:
            for end in ends:
                yield gold + end

    return mutation


def _lists_at_end(gold: str) -> bool:
    return gold.endswith(")") and "," in gold


_UNIT_SPELLINGS = {
    "inch": "inches", "foot": "feet", "am": "a.m.", "pm": "p.m.", "cm": "cm", "m": "m", "km": "km", "mm": "mm",
    "kg": "kg", "mg": "mg",
}  # fmt: skip
_UNIT_READINGS = {
    **{spelling.rstrip("s"): name for name, spelling in _UNIT_SPELLINGS.items()},
    **{name: name for names in UNITS for name in names},
    **{"inches": "inch", "ft": "foot", "feet": "foot", "a.m.": "am", "p.m.": "pm", "gm": "gram", "meter": "m"},
}


def _unit_changed(gold: str) -> Iterator[str]:
    for match in re.finditer(r"(\\(?:text|mbox)\s*\{\s*(?:square |cubic )?)([a-zA-Z.]+?)(s?\s*\.?\})", gold):
        name = _UNIT_READINGS.get(match[2].lower()) or _UNIT_READINGS.get(f"{match[2]}.".lower())
        kind = next((names for names in UNITS if name in names), ())
        for other in [unit for unit in kind if unit != name][:2]:
            spelling = _UNIT_SPELLINGS.get(other, f"{other}s")
            yield f"{gold[: match.start()]}{match[1]}{spelling}}}{gold[match.end() :]}"


def _fraction_inverted(gold: str) -> Iterator[str]:
    for match in re.finditer(r"\\frac\{", gold):
        middle = _braced(gold, match.end() - 1)
        if gold[middle : middle + 1] == "{":
            end = _braced(gold, middle)
            yield f"{gold[: match.end() - 1]}{gold[middle:end]}{gold[match.end() - 1 : middle]}{gold[end:]}"
    yield from _each(r"(\d+)([/:])(\d+)", r"\3\2\1")(gold)


def _fraction_as_product(gold: str) -> Iterator[str]:
    yield from _each(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"(\1) \\cdot (\2)")(gold)


_FUNCTIONS = {"sin": "cos", "cos": "sin", "tan": "cot", "cot": "tan", "sec": "csc", "ln": "exp"}
_RELATIONS = {
    "\\le": ("<", "\\ge "), "\\leq": ("<", "\\ge "), "\\ge": (">", "\\le "), "\\geq": (">", "\\le "),
    "<": (">", "\\le "), ">": ("<", "\\ge "),
}  # fmt: skip


def _side_changed(gold: str) -> Iterator[str]:
    """A relation turned round, or its equality dropped or added; the other side of an unbounded interval."""
    for match in _outside_text(re.compile(r"\\(?:leq?|geq?)(?![a-zA-Z])|[<>]"), gold):
        for other in _RELATIONS[match[0]]:
            yield gold[: match.start()] + other + gold[match.end() :]
    yield from _each(r"[(\[]([^(),\[\]]+),\s*\\infty\s*\)", r"(-\\infty, \1)")(gold)
    yield from _each(r"\(\s*-\s*\\infty\s*,([^(),\[\]]+)[)\]]", r"(\1, \\infty)")(gold)


def _variable_changed(gold: str) -> Iterator[str]:
    if _is_words(gold):
        return
    for match in _outside_text(re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z{])"), gold):
        if not re.search(r"\\[a-zA-Z]+$", gold[: match.start()]) and match[0] not in "ei":
            other = "y" if match[0] == "x" else "x" if match[0].islower() else "B" if match[0] == "A" else "A"
            yield gold[: match.start()] + other + gold[match.end() :]


def _matrix_changed(gold: str) -> Iterator[str]:
    """Transposed, and two neighbours of a row or a column swapped."""
    match = re.fullmatch(r"\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}", gold, re.DOTALL)
    if match is None:
        return
    rows = [[entry.strip() for entry in row.split("&")] for row in re.split(r"\\\\", match[2]) if row.strip()]
    changed = [[list(column) for column in zip(*rows, strict=True)]]
    if len(rows) > 1:
        changed.append([rows[1], rows[0], *rows[2:]])
    if len(rows[0]) > 1:
        changed.append([[rows[0][1], rows[0][0], *rows[0][2:]], *rows[1:]])
    for rows in changed:
        entries = " \\\\ ".join(" & ".join(row) for row in rows)
        yield f"\\begin{{{match[1]}}}{entries}\\end{{{match[1]}}}"


def _word_changed(gold: str) -> Iterator[str]:
    """One letter of a word, and two neighbouring letters, where the answer is words."""
    if not _is_words(gold):
        return
    for match in re.finditer(r"(?<=[{ (,])([a-zA-Z]+)(?=[}) ,.])", gold):
        word = match[1]
        for place in {0, len(word) - 1}:
            letter = "b" if word[place].lower() == "a" else "a"
            other = letter.upper() if word[place].isupper() else letter
            yield gold[: match.start()] + word[:place] + other + word[place + 1 :] + gold[match.end() :]
        if len(word) > 2:
            yield gold[: match.start()] + word[1] + word[0] + word[2:] + gold[match.end() :]
            yield gold[: match.start()] + word[:-1] + gold[match.end() :]
            yield f"{gold[: match.start()]}not {word}{gold[match.end() :]}"


KINDS: dict[str, Mutation] = {
    "sign of the whole": _sign_of_the_whole,
    "sign of a term": _sign_of_a_term,
    "digit changed": _digits(_one_digit_changed),
    "digit dropped": _digits(_digit_dropped),
    "digit added": _digits(_digit_added),
    "point moved": _digits(_point_moved),
    "point dropped": _digits(_point_dropped),
    "repetition dropped": _each(r"\\overline\{(\d+)\}", r"\1"),
    "parts in another order": _relisted(_swapped, intervals=True),
    "grouping": _grouping,
    "bracket of an interval": _interval_end,
    "kind of brackets": _kind_of_brackets,
    "bars dropped": _each(r"\|([^|]+)\|", r"\1"),
    "exponent changed": _exponent_changed,
    "exponent dropped": _exponent_dropped,
    "exponent added": _behind("^{2}"),
    "unit changed": _unit_changed,
    "operator changed": _all_of(
        _each(r"(?<=[\w)}])\s*[-+]\s*(?=[\w(\\])", r" \\cdot "),
        _each(r"\s*(?:\\cdot|\\times)(?![a-zA-Z])\s*", " + "),
        _each(r"/", r" \\cdot "),
        _fraction_as_product,
    ),
    "fraction inverted": _fraction_inverted,
    "side changed": _side_changed,
    "union or intersection": _each(r"\\cup(?![a-zA-Z])", r"\\cap"),
    "element dropped": _relisted(_element_dropped),
    "element added": _relisted(_element_added),
    "element changed": _relisted(_element_changed),
    "base changed": _each(
        r"(?<=[\dA-Z])\s*_\s*\{?(\d+)\}?(?=$)", lambda match: f"_{{{int(match[1]) + 1}}}", lambda match: "_{16}"
    ),
    "variable changed": _variable_changed,
    "root changed": _all_of(
        _each(rf"\\sqrt{_GROUP}", r"(\1)", r"\\sqrt[3]{\1}"),
        _each(r"\\sqrt\[[^\]]*\](?=\{)", r"\\sqrt"),
        _each(r"\\sqrt\{([^{}]+)([-+])([^{}]+)\}", r"\\sqrt{\1}\2\3"),
    ),
    "function changed": _each(rf"\\({'|'.join(_FUNCTIONS)}){_NO_LETTERS}", lambda match: "\\" + _FUNCTIONS[match[1]]),
    "function dropped": _each(rf"\\(?:{'|'.join(_FUNCTIONS)}){_NO_LETTERS}", ""),
    "matrix changed": _matrix_changed,
    "prime or subscript dropped": _each(r"(?<=[a-zA-Z])(?:'+|_\{?\w+\}?)", ""),
    "degree dropped": _each(r"\s*\^\s*\{?\s*\\circ\s*\}?", ""),
    "one sign of two": _each(r"\\pm", "+", "-"),
    "mixed number as a product": _each(
        r"(?<![\d.}])(\d+)\s*(\\frac\{\d+\}\{\d+\})|(?<![\d.])(\d+)\s+(\d+/\d+)",
        lambda match: f"{match[1] or match[3]} \\cdot {match[2] or match[4]}",
    ),
    "factorial dropped": _each(r"(?<=[\da-z)])!", ""),
    "factorial added": _behind("!"),
    "constant dropped": _each(r"(?<=[\da-z)}])\s*(?:\\pi(?![a-zA-Z])|(?<![a-zA-Z\\])[ei](?![a-zA-Z]))", ""),
    "pi added": _behind("\\pi"),
    "letter added": _behind(" i", " e", " x"),
    "operation added": _behind(" + 5", " - 5", " \\cdot 5", "/5"),
    "multiplier added": _behind("\\text{ thousand}", "\\text{ million}"),
    "word changed": _word_changed,
}
"""Every kind by name."""
