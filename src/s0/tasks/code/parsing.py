"""What of a text Python can read. Lines are the parser's: a line feed alone ends one."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

_EXACT_ATTEMPTS = 24
"""Tries to find the very longest prefix that parses. Text that needs more, a thousand decorators say, is no answer:
it is then cut by a quarter at a time, so that no completion costs more than a moment."""
_TRIES = 1000
_CHARACTERS = 1_000_000
"""That the parser reads, all tries together, before the rest of a reply is left unread."""
_READ_PER_LOOKED_THROUGH = 10
"""What the parser only looks through, behind an error, costs a tenth."""
_STATEMENT_BEGINS = re.compile(
    r"[ \t]*(?:import |from \w|def |class |async |@\w|(?:if|for|while|with|try|match)\b.*:"
    r"|[A-Za-z_][\w.]*(?:\[[^\]]*\])?(?:[ \t]*,[ \t]*[\w.]+)*[ \t]*(?::[^=]+|[-+*/%&|^@<>]*)=[^=]"
    r"|[A-Za-z_][\w.]*\()"
)


@dataclass(frozen=True)
class Stretch:
    """Lines of a text that parse together, moved to the left margin.

    `cut` says that lines indented deeper follow which do not parse: the last statement lacks its end.
    """

    tree: ast.Module
    source: str
    cut: bool


@dataclass
class Budget:
    """How often the parser may still be asked for one reply, and how many characters it may still read."""

    tries: int = _TRIES
    characters: int = _CHARACTERS

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to be tried."""
        return self.tries <= 0 or self.characters <= 0

    def spend(self, n_read: int, n_given: int) -> None:
        """Take away one try that has read so many characters, out of so many."""
        self.tries -= 1
        self.characters -= n_read + n_given // _READ_PER_LOOKED_THROUGH


def parses(source: str) -> bool:
    """Whether Python can read `source`."""
    return parse(source)[0] is not None


def parse(source: str) -> tuple[ast.Module | None, int]:
    """The tree, or None and the first line that cannot be read (a line past the end where Python does not say)."""
    beyond = source.count("\n") + 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is the completion's affair
            return ast.parse(source, "<program>"), beyond
    except SyntaxError as error:
        # inside an f-string Python 3.10 and 3.11 count lines from the string's own beginning
        return None, error.lineno or beyond if error.filename == "<program>" else beyond
    except (ValueError, MemoryError, RecursionError):  # null bytes, surrogates, nesting too deep
        return None, beyond


def longest_prefix(text: str, before: str, budget: Budget) -> tuple[ast.Module, str]:
    """The longest prefix of lines of `text` that parses after `before`, with the tree of both."""
    lines = text.split("\n")
    offset = before.count("\n")
    attempt = 0
    while not budget.is_spent:
        source = "\n".join(lines) + "\n"
        tree, error_line = parse(before + source)
        n_read = max(error_line - offset, 1)
        budget.spend(len(before) + sum(map(len, lines[:n_read])), len(before) + len(source))
        if tree is not None:
            return tree, source
        if not lines:
            break  # `before` alone does not parse: a prompt without a docstring
        # no prefix that holds the line of the error can parse
        dropped = 1 if attempt < _EXACT_ATTEMPTS else len(lines) // 4 + 1
        lines = lines[: max(min(n_read - 1, len(lines) - dropped), 0)]
        attempt += 1
    return ast.Module([], []), ""


def readable(text: str, budget: Budget) -> list[Stretch]:
    """The stretches of code in a text, in order; each begins with the text's first line or one that begins code.

    What cannot be read and what is indented deeper than the beginning of such a stretch belongs to it, and is lost.
    """
    lines = text.split("\n")
    stretches = []
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    while start < len(lines) and not budget.is_spent:
        tree, source = longest_prefix(moved("\n".join(lines[start:]), ""), "", budget)
        end = max(start + source.count("\n"), start + 1)
        is_code = bool(tree.body) or _STATEMENT_BEGINS.match(lines[start]) is not None
        cut = False
        margin = len(_indent(lines[start]))
        while is_code and end < len(lines) and (not lines[end].strip() or len(_indent(lines[end])) > margin):
            cut |= bool(lines[end].strip())
            end += 1
        if tree.body:
            stretches.append(Stretch(tree, source, cut))
        start = next(
            (number for number in range(end, len(lines)) if _STATEMENT_BEGINS.match(lines[number])), len(lines)
        )
    return stretches


def from_first_statement(text: str) -> str:
    """The text from its first line on that begins a statement; empty where there is none."""
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if _STATEMENT_BEGINS.match(line)), len(lines))
    return "\n".join(lines[start:])


def moved(text: str, indent: str) -> str:
    """`text` with the indent of its first line replaced by `indent`, in every line that has it."""
    lines = text.split("\n")
    own = _indent(lines[0])
    return "\n".join(indent + line[len(own) :] if line.startswith(own) and line.strip() else line for line in lines)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
