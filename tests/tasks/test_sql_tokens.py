"""The lexer, and what it is for: where a query sorts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks.sql.tokens import is_ordered, tokens

PIECES = st.sampled_from(["'", '"', "`", "[", "]", "(", ")", "--", "\n", "/*", "*/", " ", "a", "é", "1.5", ";", "\x00"])


@given(st.lists(PIECES).map("".join))
def test_nothing_is_lost(text: str) -> None:
    found = list(tokens(text))
    assert "".join(token.gap + token.text for token in found) == text[: len(text)].removesuffix(_tail(text))
    assert all(text[token.start :].startswith(token.text) for token in found)


def _tail(text: str) -> str:
    """White space and comments that nothing follows."""
    found = list(tokens(text))
    return text[found[-1].start + len(found[-1].text) :] if found else text


def test_what_is_never_closed_takes_linear_time() -> None:
    for piece in ("'", '"', "`", "[", "/* ", "--", "[`"):
        assert len(list(tokens(piece * 300_000 + "("))) <= 2


def test_kinds_and_depths() -> None:
    found = [(token.kind, token.text, token.depth) for token in tokens("f(a, 'it''s (') -- ) '\n) b[c d]1.5")]
    assert found == [
        ("word", "f", 0),
        ("symbol", "(", 1),
        ("word", "a", 1),
        ("symbol", ",", 1),
        ("quoted", "'it''s ('", 1),
        ("symbol", ")", 1),
        ("symbol", ")", -1),
        ("word", "b", -1),
        ("quoted", "[c d]", -1),
        ("number", "1.5", -1),
    ]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM t ORDER BY a",
        "select a from t order\n  by a desc limit 1;",
        "SELECT a FROM t ORDER /* in */ BY a",
        "SELECT a FROM (SELECT a FROM t) ORDER BY a",
        "SELECT a FROM t UNION SELECT a FROM u ORDER BY 1",
        "WITH x AS (SELECT a FROM t) SELECT a FROM x ORDER BY a",
    ],
)
def test_ordered(query: str) -> None:
    assert is_ordered(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM t",
        "SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)",
        "SELECT a FROM t WHERE b = (SELECT b FROM t ORDER BY b DESC LIMIT 1)",
        "SELECT rank() OVER (ORDER BY a) FROM t",
        "SELECT group_concat(a ORDER BY a) FROM t",
        "SELECT a FROM t WHERE b = 'order by'",
        'SELECT "order" FROM t AS "by"',
        "SELECT `order` by FROM t",
        "SELECT a FROM t -- ORDER BY a",
        "SELECT a FROM t /* ORDER BY a",
        "SELECT a FROM t; SELECT a FROM t ORDER BY a",
        "SELECT a FROM [order by]",
    ],
)
def test_not_ordered(query: str) -> None:
    assert not is_ordered(query)
