"""SQLite's SQL as tokens: as much of the language as it takes to see where a query begins, ends and sorts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<gap>    (?: \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )+ )
    | (?P<quoted> '[^']*(?:''[^']*)*(?:'|\Z) | "[^"]*(?:""[^"]*)*(?:"|\Z) | `[^`]*(?:``[^`]*)*(?:`|\Z)
                | \[[^\]]*(?:\]|\Z) )
    | (?P<word>   [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<symbol> . )
    """,
    re.VERBOSE | re.DOTALL,
)
"""Every text has exactly one reading and it is found in linear time: what is never closed reaches to the end."""


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        kind: "word" (a keyword or a plain name), "quoted" (a string or a quoted name), "number" or "symbol".
        text: as written.
        start: index of its first character.
        gap: the white space and comments before it.
        depth: how many parentheses it stands in; a parenthesis stands in itself. Below zero after one that was
            never opened.
    """

    kind: str
    text: str
    start: int
    gap: str
    depth: int

    @property
    def end(self) -> int:
        """Index after its last character."""
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """A word in upper case; nothing for other kinds."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def closed(self) -> bool:
        """False for a string or quoted name that is missing its end."""
        if self.kind != "quoted":
            return True
        return self.text.endswith("]") if self.text[0] == "[" else self.text.count(self.text[0]) % 2 == 0


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The tokens from `start` on."""
    gap, depth = "", 0
    for match in _TOKEN.finditer(text, start):
        kind, written = str(match.lastgroup), match.group()
        if kind == "gap":
            gap = written
            continue
        depth += written == "("
        yield Token(kind, written, match.start(), gap, depth - (written == ")" and depth < 1))
        depth -= written == ")"
        gap = ""


def is_ordered(query: str) -> bool:
    """Whether a query sorts its result: ORDER BY outside all parentheses, strings and comments.

    Subqueries, window definitions and sorted aggregates sort within parentheses, which fixes no order of the result.
    """
    before = ""
    for token in tokens(query):
        if token.text == ";":
            break
        if token.depth == 0:
            if before == "ORDER" and token.word == "BY":
                return True
            before = token.word
    return False
