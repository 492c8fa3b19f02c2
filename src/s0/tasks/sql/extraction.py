"""Finding the query in a completion.

The prompt ends in `SELECT`, so a reply may go on from there or hold a query of its own. The rule, in order; the first
step that yields a query decides:

1. What the reply comes to (`s0.tasks.replies.conclusion`: no thinking, tags or end tokens). Nothing left: "empty".
2. The text before the first ``` fence begins with a query: "statement".
3. It goes on from the prompt's `SELECT`: "continuation".
4. The fenced blocks, the last one first, since who writes several corrects the earlier ones; one that is never closed
   after all others. A block holds the query it begins with, one that goes on from the prompt, or else the first one
   within: "fenced".
5. A query somewhere in the text around the blocks: "prose". One that begins a line or is written in capitals goes
   before all others.
6. "unparsable".

A query begins with SELECT, or with WITH and what makes it a table expression. It ends before a semicolon, a tag, a
parenthesis that was never opened, the next query, or text that cannot belong to it: a blank line that no clause
follows, a line that makes three plain names in a row, which SQL never has. It is taken if it reads a table, all its
quotes are closed, no three names stand in a row, and no `:`, `?`, `!` or trailing comma shows it to be prose. Other
statements are never taken, nor a query that is part of one. One between quotes or backticks ends with them, and what
is escaped within double quotes (as in JSON) is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s0.tasks.replies import conclusion
from s0.tasks.sql.tokens import Token, tokens

_LONGEST = 8000
"""Characters of a reply that are read, thinking aside; the longest answer to Spider has 422."""
_MOST_TRIED = 16
"""Places in one text at which a query is looked for."""

_LANGUAGE = re.compile(r"\A[ \t]*(?!SELECT|WITH)(?:sql(?:ite3?)?\b|\w+[ \t]*(?=\r?\n))", re.IGNORECASE)
_ENDS = {";", "}", "”"}
"""Symbols that no query has: where one stands, the query is over."""
_MARK = re.compile(r"\*\*|</|##|\$\$|\.[ \t]*(?:\n|\Z)")
"""Bold type, a tag, a heading, the end of a formula and of a sentence: no query has them either."""
_FENCE = re.compile(r"```|~~~")
_QUOTE = re.compile(r"""(?:(\"{3}|'{3})\s*|(?<!")("|`|'))\Z""")
_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t"}
_BEGINS = re.compile(r"\b(?:SELECT|WITH)\b", re.IGNORECASE)
_PART_OF_OTHER = re.compile(
    r"\b(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+)?INTO\b|\bCREATE\s+(?:TEMP\w*\s+)?(?:TABLE|VIEW|TRIGGER)\b"
    r"|\bEXPLAIN\s+(?:QUERY\s+PLAN\s*)?\Z",
    re.IGNORECASE,
)
_SET_OPERATORS = {"UNION", "INTERSECT", "EXCEPT"}
_CLAUSE_WORDS = """
FROM WHERE GROUP HAVING WINDOW ORDER LIMIT OFFSET UNION INTERSECT EXCEPT JOIN INNER LEFT RIGHT FULL CROSS NATURAL ON
USING AND OR SELECT
"""
_OTHER_WORDS = """
ALL AS ASC BETWEEN BY CASE CAST COLLATE CURRENT DESC DISTINCT ELSE END ESCAPE EXCLUDE EXISTS FILTER FIRST FOLLOWING
GLOB GROUPS IN INDEXED IS ISNULL LAST LIKE MATCH MATERIALIZED NOT NOTNULL NULL NULLS OTHERS OUTER OVER PARTITION
PRECEDING RANGE RECURSIVE REGEXP ROW ROWS THEN TIES UNBOUNDED VALUES WHEN WITH
"""
_CLAUSES = frozenset(_CLAUSE_WORDS.split())
_KEYWORDS = _CLAUSES | frozenset(_OTHER_WORDS.split())
_LAST_WORDS = {"ASC", "DESC", "END", "FIRST", "ISNULL", "LAST", "NOTNULL", "NULL"}
"""Keywords that a query can end with."""


@dataclass(frozen=True)
class Extraction:
    """`query` is None exactly where `format` is "unparsable" or "empty"."""

    query: str | None
    format: str


def extract(completion: str) -> Extraction:
    """Apply the rule above."""
    text = conclusion(completion)
    if not text.strip():
        return Extraction(None, "empty")
    outside, blocks = _split_at_fences(text[:_LONGEST])
    for form, query in (("statement", _statement(outside[0])), ("continuation", _continuation(outside[0]))):
        if query is not None:
            return Extraction(query, form)
    for block in blocks:
        fenced = _statement(block) or _continuation(block) or _within(block)
        if fenced is not None:
            return Extraction(fenced, "fenced")
    for part in outside:
        query = _within(part)
        if query is not None:
            return Extraction(query, "prose")
    return Extraction(None, "unparsable")


def _split_at_fences(text: str) -> tuple[list[str], list[str]]:
    """The text outside the blocks; and the blocks in the order they count, without the name of their language."""
    parts = _FENCE.split(text)
    blocks = [_LANGUAGE.sub("", block) for block in parts[1::2]]
    n_closed = (len(parts) - 1) // 2
    return parts[::2], [*reversed(blocks[:n_closed]), *blocks[n_closed:]]


def _statement(text: str) -> str | None:
    """The query that `text` begins with."""
    first = next(tokens(text), None)
    return _query(text, first.start) if first is not None and first.word in ("SELECT", "WITH") else None


def _continuation(text: str) -> str | None:
    """The query that `text` completes after the prompt's SELECT; a query in parentheses is not one."""
    kept = _kept(text, 0, selected=True)
    goes_on = _reads_as_sql(kept) and kept[0].word != "WITH" and any(token.depth == 0 for token in kept)
    return f"SELECT {text[kept[0].start : kept[-1].end]}" if goes_on else None


def _within(text: str) -> str | None:
    """The first query in `text`; those that begin a line or are written in capitals go before all others."""
    begins = [match for match in _BEGINS.finditer(text) if not _part_of_other(text[: match.start()])]
    likely = [match for match in begins if match[0].isupper() or not text[: match.start()].rpartition("\n")[2].strip()]
    for match in [*likely, *(match for match in begins if match not in likely)][:_MOST_TRIED]:
        query = _query(text, match.start())
        if query is not None:
            return query
    return None


def _part_of_other(before: str) -> bool:
    """Whether a query after this text would be part of a statement such as `INSERT INTO t SELECT ...`."""
    return _PART_OF_OTHER.search(before.rpartition(";")[2]) is not None


def _query(text: str, start: int) -> str | None:
    """The query that begins at `start`."""
    quote = _QUOTE.search(text[max(0, start - 8) : start])
    if quote is not None:  # `SELECT ...` in the midst of a sentence, or {"sql": "SELECT ..."}
        text, start = _quoted(text[start:], quote[1] or quote[2]), 0
    kept = _kept(text, start, selected=False)
    if not _reads_as_sql(kept) or (kept[0].word == "WITH" and not _defines_table(kept)):
        return None
    return text[start : kept[-1].end]


def _quoted(text: str, quote: str) -> str:
    """What stands before the closing quote, as it was before it was escaped."""
    if quote != '"':
        return text.partition(quote)[0]
    string = _STRING.match(text)
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), string[0] if string else text)


def _kept(text: str, start: int, selected: bool) -> list[Token]:
    """The tokens from `start` on that are of one query; `selected` says that its SELECT came before."""
    kept: list[Token] = []
    names_in_row: list[Token] = []
    for token in tokens(text, start):
        if token.text in _ENDS or token.text.startswith("[/") or token.depth < 0:
            break
        if _MARK.match(text, token.start) or (kept and _ends_at_blank_line(kept[-1], token)):
            break
        if token.text == ":" and kept and "\n" in kept[-1].gap:  # a line such as "Result: 3"
            return kept[:-1]
        if token.depth == 0:
            if token.word == "SELECT" and selected:
                break
            selected = (selected or token.word == "SELECT") and token.word not in _SET_OPERATORS
        names_in_row = [*names_in_row, token] if _is_name(token) else []
        if len(names_in_row) == 3:
            for position in (2, 1, 0):
                if "\n" in names_in_row[position].gap:
                    return kept[: len(kept) - 2 + position]
        kept.append(token)
    return kept


def _ends_at_blank_line(last: Token, token: Token) -> bool:
    """Whether a blank line before `token` ends the query: `last` needs nothing more, and `token` is no clause's."""
    complete = last.word in _LAST_WORDS or (last.word not in _KEYWORDS and (last.kind != "symbol" or last.text in ")*"))
    return token.gap.count("\n") > 1 and token.depth == (token.text == "(") and complete and token.word not in _CLAUSES


def _reads_as_sql(kept: list[Token]) -> bool:
    if not kept or (kept[-1].kind == "symbol" and kept[-1].text not in ")*"):
        return False
    names = 0
    for token, after in zip(kept, [*kept[1:], None], strict=True):
        names = names + 1 if _is_name(token) else 0
        exclaims = token.text == "!" and (after is None or after.text != "=")
        if names == 3 or exclaims or token.text in (":", "?") or not token.closed:
            return False
    return any(token.word == "FROM" for token in kept)


def _is_name(token: Token) -> bool:
    """A plain name outside parentheses; within them stand types of several words."""
    return token.kind == "word" and token.depth == 0 and token.word not in _KEYWORDS


def _defines_table(kept: list[Token]) -> bool:
    """WITH [RECURSIVE] name [(columns)] AS ...: the word alone is English."""
    outside = [token for token in kept[1:5] if token.word != "RECURSIVE"]
    return len(outside) > 1 and (outside[1].word == "AS" or outside[1].text == "(")
