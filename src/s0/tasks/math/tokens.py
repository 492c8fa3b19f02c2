"""The tokens of a formula, in LaTeX or as plain text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s0.tasks.math.latex import FUNCTIONS

_TOKEN = re.compile(
    r"(?P<space>\s*)(?:"
    r"(?P<number>[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<command>\\(?:begin|end) ?\{[a-z]+\*?\}(?: ?\{[clr| ]*\})?|\\[a-zA-Z]+|\\.)"
    r"|(?P<letters>[a-zA-Z]+)"
    r"|(?P<sign>.))"
)
_PLAIN_NAMES = rf"{FUNCTIONS}|sqrt|cbrt|infinity|infty|theta|alpha|beta|gamma|lambda|omega|sigma|phi|pi|abs|binom"
_PLAIN = re.compile(rf"({_PLAIN_NAMES})|([a-zA-Z])")
_COMMAND_OF = {"infinity": "infty"}
"""Where a plain name is not the command's own."""
_LETTERS_IN_A_ROW = 3


class UnreadableError(ValueError):
    """No formula, or one with two readings."""


@dataclass(frozen=True)
class Token:
    """A number, a command, a letter or another sign, and whether space stands before it."""

    kind: str
    text: str
    spaced: bool


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text, in order.

    Raises:
        UnreadableError: so many letters stand in a row that they are a word.
    """
    tokens = []
    for match in _TOKEN.finditer(text.strip()):
        spaced = bool(match["space"])
        if match["letters"]:
            tokens += _letters(match["letters"], spaced)
        else:
            kind = "number" if match["number"] else "command" if match["command"] else "sign"
            tokens.append(Token(kind, match[0].strip(), spaced))
    return tokens


def _letters(run: str, spaced: bool) -> list[Token]:
    """Names of functions and Greek letters within a run of letters, and single letters, few enough to be no word."""
    tokens = [
        Token("command", f"\\{_COMMAND_OF.get(match[1], match[1])}", False)
        if match[1]
        else Token("letter", match[2], False)
        for match in _PLAIN.finditer(run)
    ]
    if sum(token.kind == "letter" for token in tokens) > _LETTERS_IN_A_ROW:
        raise UnreadableError(run)
    return [Token(tokens[0].kind, tokens[0].text, spaced), *tokens[1:]]
