"""Cutting a reply at its fences."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE_ON_LINE = re.compile(r"^(?P<before>.*?)(?<![`~])(?P<marks>`{3,}|~{3,})(?P<after>[^`~\n]*)$", re.MULTILINE)
_LANGUAGE = re.compile(r"[ \t]*[\w+#.-]+[ \t]*\Z")
_CODE_BEGINS = re.compile(r"[ \t]*(?:import \w|from \w+ import |def \w|class \w+\W|async def |@\w|return )")
_STRINGS = re.compile(
    r"#[^\n]*"
    r'|(?P<long>"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\')'
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'(?:[^'\\\n]|\\.)*'"
    r"|\\.",  # else each of many escaped quotes would be tried as the beginning of a string
    re.DOTALL,
)


@dataclass(frozen=True)
class Piece:
    """A part of a reply between two fences. `closed` is False for a fenced block that no fence ends."""

    text: str
    fenced: bool
    closed: bool


def pieces(reply: str, *, in_strings: bool) -> list[Piece]:
    """The reply's fenced blocks and the text around them, in order.

    A fence is three or more of ` or ~ at the beginning of a line; behind the last line of code, where it closes;
    or behind prose with a language, where it opens. One with anything behind it opens a block, within a block too.

    Args:
        in_strings: whether marks inside a triple-quoted string are fences as well.
    """
    hidden = [] if in_strings else [match.span() for match in _STRINGS.finditer(reply) if match["long"]]
    hidden.reverse()
    parts: list[Piece] = []
    start, first, fenced = 0, "", False
    for fence in _FENCE_ON_LINE.finditer(reply):
        while hidden and hidden[-1][1] <= fence.start("marks"):
            hidden.pop()
        if hidden and hidden[-1][0] < fence.start("marks"):
            continue
        before, after = fence["before"], fence["after"]
        opens = bool(after.strip())
        if before.strip() and not _stands_behind(before, after, fenced):
            continue
        parts.append(Piece(first + reply[start : fence.start("marks")], fenced, True))
        start = fence.end()
        first = after if _CODE_BEGINS.match(after) else ""
        fenced = opens or (not fenced and not before.strip())
    parts.append(Piece(first + reply[start:], fenced, not fenced))
    return [piece for piece in parts if piece.text.strip()]


def _stands_behind(before: str, after: str, fenced: bool) -> bool:
    """Whether marks behind text are a fence: not a pair of them, as `code` within a sentence has."""
    if "```" in before or "~~~" in before:
        return False
    return not after.strip() or (not fenced and _LANGUAGE.match(after) is not None)
