r"""Where a reply says its answer: the one rule for answers that are numbers and for answers in LaTeX.

What a reply comes to is what `s0.tasks.replies.conclusion` leaves, ended before a next problem that the model went on
to write, without the marks of bold type and code. The answer stands in one of these places. Each scorer has its own
order of them; of one kind the last place decides, and one that says nothing readable is passed over for the one before:

    marked      a line with `#### 18`
    boxed       \boxed{18}, \fbox or \framebox, braces balanced, with the minus sign before and the exponent after it;
                boxes that "and", "or" or a comma joins are one answer; "not \boxed{18}" is none
    stated      what the word "answer" announces: "the answer would be 18", "Answer: 18", "The answer is\n$$18$$", or a
                heading such as "**Final Answer**" with the answer below it
    concluded   what the reply ends in: formulas on lines of their own, or in its last paragraph what follows the last
                "Therefore", "so" and the like
    bare        the whole reply, where it is one line or nothing but formulas

Where the reply takes something back ("Wait, no", "that is wrong", "I made a mistake"), only places after that count,
"it should be 4" and "No, 4" among them. If there are none, a mark or a box from before still does, a statement never.

A statement goes to the end of its sentence and says (`said`):

1. What follows its first "is", "are" or "equals", unless it begins with a formula or a number. A reason after it goes
   ("since ...", "(not 5)").
2. Its words, where it holds no formula or begins plainly ("x = 4", "4 and $5$"): at most six of them.
3. Else its first formulas, where at most four words stand before them; several that "and", "or" or a comma joins are
   one answer. `\[`, `$$`, `\(` and `$` enclose an answer and are no part of it.
4. All of it, where the formulas go on: "$4$ or maybe 5" is not 4, nor are "$4$/3" and "$4$ squared".
5. Nothing, where it only denies, bounds or sets out: "not 5", "between 0 and 999", "twice $4$", "we compute $x$".
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from s0.tasks import replies

_LONGEST = 1000
"""Characters of a formula or statement that anybody means."""
_MOST_PLACES = 32
"""Places of one kind that are looked at."""
_MOST_WORDS, _MOST_WORDS_BEFORE = 6, 4
_MOST_BEFORE_BOX = 20
"""Characters before a box that can change what it says."""

_CODE = re.compile(r"^[ \t]*```\w*[ \t]*$|`+", re.MULTILINE)
_EMPHASIS = re.compile(
    r"(?<![\w)\]}*\\])(?P<mark>\*{1,3}|__)(?=[^\s*])(?P<text>[^*\n]{1,300}?)(?P=mark)(?!\*)(?P<glued>(?=\w))?"
)

_MARKED = re.compile(r"####[ \t]*(?P<answer>[^\n]*)")
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*(?:\[[^\]\n]{0,20}\]\s*)?|\bboxed(?=\{)")
_MINUS = re.compile(r"(?:=|\\approx)[ \t]*[-–−][ \t]*\Z|(?:\A|[\s$(\[,])[-–−]\Z")
_EXPONENT = re.compile(r"\s*\^\s*(?:\d|[a-zA-Z]|\{[^{}]*\})")
_NOT = re.compile(r"(?:\b(?:not|never)|n['’]t)(?:\s+(?:be|equal|to))*[\s$:\\(]*\Z", re.IGNORECASE)
_NOT_BLANK = re.compile(r"\S")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"-?\d(?:[\d.,]*\d)?|[^\s{}]")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$]|\\[()\[\],;:! ]|\\q?quad(?![a-zA-Z])|[a-zA-Z](?:_\{?\w\}?)?\s*=)*"
    r"(?P<joined>(?:,|\b(?:and|or)\b|\\text\s*\{\s*,?\s*(?:and|or)\s*\})"
    r"(?:[\s$]|,|\b(?:and|or)\b|\\[()\[\],;:! ]|\\q?quad(?![a-zA-Z])|[a-zA-Z](?:_\{?\w\}?)?\s*=)*)"
)

_FORMULA = (
    rf"(?:\$\$[^$]{{1,{_LONGEST}}}\$\$|\$[^$]{{1,{_LONGEST}}}\$"
    rf"|\\\((?:(?!\\\)).){{1,{_LONGEST}}}\\\)|\\\[(?:(?!\\\]).){{1,{_LONGEST}}}\\\])"
)
_ONE_FORMULA = re.compile(_FORMULA, re.DOTALL)
_JOINED = r"\s*(?:,\s*(?:(?:and|or)\b\s*)?|(?:and|or)\b\s*)"
_FORMULAS = re.compile(rf"{_FORMULA}(?:{_JOINED}{_FORMULA})*", re.DOTALL)
_DISPLAYED = re.compile(rf"[^\S\n]*\n\s*(?=\$\$|\\\[){_FORMULAS.pattern}", re.DOTALL)
_ROWS = re.compile(
    r"\s*\\begin\{((?:align|gather|equation|eqnarray|split|multline)\w*\*?)\}(.*)\\end\{\1\}\s*", re.DOTALL
)

_COPULA = (
    r"(?:is|are|was|equals?|(?:will|would|should|must|can[ \t]only|has[ \t]to|have[ \t]to)[ \t]be"
    r"|(?:comes?|turns?|works?)[ \t]out[ \t](?:to[ \t]be|to|as|at))\b(?:[ \t]equal[ \t]to\b)?"
)
_ANNOUNCED = re.compile(
    r"\b(?:answers?|ans)\b(?:[ \t]+(?:[\w'’-]+|\([^()\n]{0,40}\)|\$[^$\n]{1,40}\$)){0,6}?[ \t]*"
    rf"(?:\b{_COPULA}(?!['’])[ \t]*[:=]?|[.\])]?[:=]|[ \t][–—-](?=[ \t]))"
    r"|^[ \t>]*(?:#{1,6}[ \t]*)?(?:the[ \t]+)?(?:(?:final|correct)[ \t]+)?answers?[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_CORRECTED = re.compile(
    r"\b(?:it|that|this|result|value|total)(?:[ \t]+(?:should|must|has[ \t]+to)[ \t]+be|['’]s|[ \t]+is)\b"
    r"(?=[ \t]*[-–$\\(]*[\d\\])"
    r"|\b(?:no|correction|sorry|actually|rather|oops)\b[,:]?(?=[ \t]*[-–$\\(]*[\d\\])",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"(?:^|(?<=[.!?:;,]\s))[ \t]*(?:therefore|hence|thus|so|consequently|finally|in conclusion"
    r"|we (?:get|find|conclude))\b(?:[ \t]+that\b)?[,:]?",
    re.IGNORECASE | re.MULTILINE,
)
_RETRACTED = re.compile(
    r"\b(?:wait|oops|hmm|sorry)\b[^.\n]{0,30}?\b(?:no|not|wrong|mistake)\b|\bscratch that\b"
    r"|(?:^|(?<=[.!?]\s))[ \t]*(?:no|sorry|actually|correction|oops)(?=[,:.!])"
    r"|\b(?:that|this|it|which|answer)(?:['’]s| is| was)(?: not (?:right|correct)| wrong| incorrect| a mistake)\b"
    r"|\b(?:is|was)n['’]t (?:right|correct)\b|\bI(?: have|['’]ve)? made (?:a mistake|an error)\b",
    re.IGNORECASE | re.MULTILINE,
)

_BULLET = re.compile(r"(?:[-*•+][ \t]+|>[ \t]*)+")
_SENTENCE = re.compile(rf"(?:{_FORMULAS.pattern}|[.!?](?=\S)|\\[.!?\s]|[^\n.!?])*", re.DOTALL)
_BEGINS_FORMALLY = re.compile(r"[-–+$]?[\d(\\$]")
_IS = re.compile(rf"\b{_COPULA}(?=[ \t:])[ \t]*:?[ \t]*", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|cannot|between|than|least|most|if|whether|unless|form|multiple|divisible|within|above"
    r"|below|under|over|range|let|first|note|consider|to find"
    r"|we(?![ \t]+(?:have|get|obtain|find|conclude)))\b|n['’]t\b|[<>≤≥≠]\s*\Z"
    r"|\b(?:minus|negative|plus|times|twice|half|double|triple"
    r"|(?:negative|opposite|reciprocal|inverse|root|square|cube|half|double|triple|third|quarter|factorial|logarithm|log"
    r"|sine|cosine|tangent) of)\s*\Z",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"(?:\s*,)?\s*(?:or|and/or|to|through)\b|(?:\s*,)?\s*and\s+(?:\w+\s+){0,2}?-?[\d$\\]"
    r"|\s*[-–+*/^]\s*[\d$\\(]|\s*\\?%|[\^!]?\w"
    r"|\s+(?:squared|cubed|factorial|percent|plus\s|minus\s|divided\b|multiplied\b|times\s+[\d$\\])",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"(?<=\S),?\s+(?:because|since|which|as|when|where|so|by|given)\b|(?<=\S),\s+(?:not|that is)\b"
    r"|(?<=\S)\s+\((?=[a-z]{2})(?!or\b|and\b)",
    re.IGNORECASE,
)
_FORMAL = re.compile(r"[\d$\\=]")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")


def conclusion(completion: str, ends: tuple[str, ...]) -> str:
    """The reply without thinking, tags, bold type and code marks, and without a next problem.

    Args:
        completion: what the model wrote.
        ends: strings before which the reply is over.
    """
    text = replies.conclusion(completion)
    for end in ends:
        text = text.partition(end)[0]
    return _EMPHASIS.sub(lambda match: match["text"] + " " * (match["glued"] is not None), _CODE.sub(" ", text))


def places(text: str, kinds: Mapping[str, Callable[[str], Iterator[str]]]) -> Iterator[tuple[str, str]]:
    """(kind, what stands there) for every place of a conclusion that may say the answer, the best first.

    Args:
        text: see `conclusion`.
        kinds: how to find the places of each kind; the first kind goes before the next.
    """
    since = since_retracted(text)
    for kind, look in kinds.items():
        if kind == "bare" and since != text:
            continue
        yield from ((kind, place) for place in islice(look(since), _MOST_PLACES))
        if kind == "stated" and since != text:
            yield from ((kind, place) for place in islice(_corrected(since), _MOST_PLACES))
    if since != text:
        for kind in (kind for kind in kinds if kind in ("marked", "boxed")):
            yield from ((kind, place) for place in islice(kinds[kind](text), _MOST_PLACES))


def since_retracted(text: str) -> str:
    """What follows the last place at which a conclusion takes something back; all of it where it does so nowhere."""
    retracted = deque(_RETRACTED.finditer(text), maxlen=1)
    return text[retracted[0].start() :] if retracted else text


def marked(text: str) -> Iterator[str]:
    """What stands after every `####`, the last one first."""
    for match in reversed([*_MARKED.finditer(text)]):
        if answer := match["answer"].rpartition("####")[2].strip():
            yield answer


def boxed(text: str) -> Iterator[str]:
    r"""What stands in every \boxed{} whose braces close, the last one first; joined boxes with commas between.

    `\boxed 7` holds one number or character.
    """
    boxes = [*_boxes(text)]
    while boxes:
        joined = [boxes.pop()]
        while boxes and (between := _BETWEEN_BOXES.fullmatch(text, boxes[-1].end, joined[-1].start)):
            if not between["joined"]:
                break
            joined.append(boxes.pop())
        yield ", ".join(dict.fromkeys(_said_in(text, box) for box in reversed(joined)))


def stated(text: str) -> Iterator[str]:
    """What follows "the answer is", "answer:" or a heading, to the end of its sentence, the last one first."""
    return _statements(text, _ANNOUNCED)


def concluded(text: str) -> Iterator[str]:
    """The formulas that a conclusion ends in, else the last sentence of its last paragraph that draws a conclusion."""
    text = text.rstrip().rstrip(".!")[-4 * _LONGEST :]
    formulas = deque(_FORMULAS.finditer(text), maxlen=1)
    if formulas and not text[formulas[0].end() :].strip("\n \t.,*"):
        before, line_break, line = text[: formulas[0].start()].rpartition("\n")
        if line_break and before.strip() and not line.strip() and not _DENIES.search(before.rpartition("\n")[2]):
            yield formulas[0][0]
            return
    sentences = _statements(text.rpartition("\n\n")[2], _CONCLUDES)
    yield from islice((sentence for sentence in sentences if _FORMAL.search(sentence) or _IS.search(sentence)), 1)


def bare(text: str) -> Iterator[str]:
    """A conclusion that is one line, or nothing but formulas."""
    text = text.strip()
    if text and ("\n" not in text or _FORMULAS.fullmatch(text)):
        yield text


def said(statement: str) -> str | None:
    """The answer that a statement says, by the rule above; None where it says none."""
    statement = without_reason(after_copula(statement))
    formulas = _FORMULAS.search(statement)
    before = statement[: formulas.start()].strip() if formulas else ""
    begins_plainly = bool(before) and (_BEGINS_FORMALLY.match(before) or not has_words(before))
    if formulas is None or begins_plainly:
        return _said_plainly(statement)
    if denies(before) or len(_WORD.findall(before)) > _MOST_WORDS_BEFORE:
        return None
    if _ANOTHER.match(statement, formulas.end()):
        return statement
    return ", ".join(_without_enclosure(match[0]) for match in _ONE_FORMULA.finditer(formulas[0]))


def after_copula(statement: str) -> str:
    """What follows the first "is", "are" or "equals"; all of a statement that begins with a formula or a number."""
    copula = None if _BEGINS_FORMALLY.match(statement) else _IS.search(statement)
    return statement[copula.end() :] if copula else statement


def without_reason(statement: str) -> str:
    """What stands before "because ...", "(not 5)" and the like."""
    return _REASON.split(statement, maxsplit=1)[0].strip()


def denies(words: str) -> bool:
    """Whether the formula or number after these words is not said to be the answer."""
    return _DENIES.search(words) is not None


def has_words(text: str) -> bool:
    """Whether there are any, names of one letter and commands of LaTeX aside."""
    return _WORD.search(text) is not None


def braced(text: str) -> str | None:
    r"""What stands between the brace that `text` begins with and the one that closes it; None where none does.

    Escaped braces, as in `\{1, 2\}`, open and close nothing.
    """
    closing = _closing_braces(text).get(0)
    return None if closing is None else text[1:closing]


@dataclass(frozen=True)
class _Box:
    """Where a box and what it holds begin and end; the contents of boxes within boxes would fill the memory."""

    start: int
    begin: int
    close: int
    end: int


def _boxes(text: str) -> Iterator[_Box]:
    """Every box that holds something."""
    closing = _closing_braces(text)
    for match in _BOX.finditer(text):
        begin = match.end()
        if text[begin : begin + 1] == "{":
            close = closing.get(begin, begin)
            box = _Box(match.start(), begin + 1, close, close + 1)
        else:
            unbraced = _UNBRACED.match(text, begin)
            close = unbraced.end() if unbraced else begin
            box = _Box(match.start(), begin, close, close)
        if _NOT_BLANK.search(text, box.begin, box.close) and not _NOT.search(_before(text, box)):
            yield box


def _said_in(text: str, box: _Box) -> str:
    content = text[box.begin : box.close].strip()
    return _signed(content, _MINUS.search(_before(text, box)), _EXPONENT.match(text, box.end))


def _before(text: str, box: _Box) -> str:
    return text[max(0, box.start - _MOST_BEFORE_BOX) : box.start]


def _signed(content: str, minus: re.Match[str] | None, exponent: re.Match[str] | None) -> str:
    """A box's content with the minus sign before and the exponent after the box."""
    if exponent:
        content = f"{content if content.isalnum() else f'({content})'}{exponent[0]}"
    if minus:
        content = f"-({content})" if re.search("[-+]", content) else f"-{content}"
    return content


def _closing_braces(text: str) -> dict[int, int]:
    """Index of the closing brace for that of every opening one that has one, in one pass."""
    opened: list[int] = []
    closing = {}
    for match in _BRACES.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def _statements(text: str, announced: re.Pattern[str]) -> Iterator[str]:
    for match in reversed([*announced.finditer(text)]):
        if statement := _statement(text[match.end() : match.end() + 2 * _LONGEST]):
            yield statement


def _corrected(text: str) -> Iterator[str]:
    return _statements(text, _CORRECTED)


def _statement(text: str) -> str:
    """The sentence that a text begins with, with the formula below where the sentence itself holds none."""
    on_next_line = text.lstrip(" \t").startswith("\n")
    text = text.lstrip()
    if on_next_line and (bullet := _BULLET.match(text)):
        text = text[bullet.end() :]
    sentence = _SENTENCE.match(text)
    end = sentence.end() if sentence else 0
    if not _FORMAL.search(text[:end]) and (displayed := _DISPLAYED.match(text, end)):
        end = displayed.end()
    return text[:end].strip().strip("*").strip()


def _said_plainly(statement: str) -> str | None:
    is_denied = any(character.isdigit() for character in statement) and denies(statement)
    return None if is_denied or len(_WORD.findall(statement)) > _MOST_WORDS else statement or None


def _without_enclosure(formula: str) -> str:
    r"""`\[ 4 \]` is 4; of an `align` in it the last row counts."""
    content = formula.strip("$") if formula.startswith("$") else formula[2:-2]
    if rows := _ROWS.fullmatch(content):
        last_row = [row for row in rows[2].split("\\\\") if row.strip(" \n&")][-1:]
        content = "".join(last_row).replace("&", "").strip().removeprefix("=")
    return content.strip()
