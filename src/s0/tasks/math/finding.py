r"""Where a reply says its answer.

In this order, each time the last place; what a scorer finds unreadable is passed over for the place before it:

    marked      a line with `#### 18`
    boxed       \boxed{18}, braces balanced
    stated      "the answer is 18", "Answer: 18"

MATH asks for the box, so there the box comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKED = re.compile(r"^.*?####[ \t]*(?P<answer>[^\n]*)", re.MULTILINE)
_BOX = re.compile(r"\\(?:boxed|fbox)\b\s*")
_STATED = re.compile(
    r"\banswers?\b(?:[ \t]+[\w']+){0,6}?[ \t]*"
    r"(?:(?:\bis\b|\bare\b|\bequals\b)[ \t]*[:=]?|[:=])\s*(?=(?P<answer>[^\n]+))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\\)[.!?](?:\s|$)")
_THINKING = re.compile(r"\A.*</think>|<think>.*\Z", re.DOTALL)
_EMPHASIS = re.compile(r"\*\*|__(?=\S)|(?<=\S)__")


def conclusion(completion: str, ends: tuple[str, ...]) -> str:
    """The reply without thinking and bold type, and without a next problem that the model went on to write.

    Args:
        completion: what the model wrote.
        ends: strings before which the reply is over.
    """
    text = _THINKING.sub("", completion)
    for end in ends:
        text = text.partition(end)[0]
    return _EMPHASIS.sub("", text)


def marked(text: str) -> Iterator[str]:
    """What stands after every `####`, the last one first."""
    for match in reversed([*_MARKED.finditer(text)]):
        if answer := match["answer"].strip():
            yield answer


def boxed(text: str) -> Iterator[str]:
    r"""What stands in every \boxed{} whose braces close, the last one first. `\boxed 7` holds one character."""
    for match in reversed([*_BOX.finditer(text)]):
        rest = text[match.end() :]
        content = braced(rest) if rest.startswith("{") else rest[:1]
        if content is not None and content.strip():
            yield content.strip()


def stated(text: str) -> Iterator[str]:
    """What follows "the answer is" or "answer:" within its sentence, the last one first."""
    for match in reversed([*_STATED.finditer(text)]):
        sentence = _SENTENCE_END.split(match["answer"], maxsplit=1)[0].strip()
        if sentence:
            yield sentence


def braced(text: str) -> str | None:
    r"""What stands between the brace that `text` begins with and the one that closes it; None where none does.

    Escaped braces, as in `\{1, 2\}`, open and close nothing.
    """
    depth = 0
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[1:position]
        position += 1
    return None
