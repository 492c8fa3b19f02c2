"""From a reply to the query it holds: every form a model writes, and what must not be taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from s0.tasks.spider import SCORER
from s0.tasks.sql import SqlScorer
from s0.tasks.sql.extraction import extract
from tests.tasks.databases import made_database, sql_problem
from tests.tasks.spellings import sql

Q = "SELECT name FROM singer WHERE age > 30"
TWO = "WITH old AS (SELECT * FROM singer WHERE age > 30)\n\nSELECT name FROM old"

FOUND: list[tuple[str, str, str]] = [
    # a query as the whole reply
    (Q, "statement", Q),
    (f"  \n{Q};", "statement", Q),
    (f"{Q};\n\nThis lists the names.", "statement", Q),
    (f"{Q};SELECT 1 FROM t", "statement", Q),
    (f"{Q}\n\nThis lists the names of the singers.", "statement", Q),
    (f"{Q}\n\nExplanation: it is right.", "statement", Q),
    (f"{Q}\nThis query lists the names.", "statement", Q),
    (f"{Q}\n\n{Q}", "statement", Q),
    (f"{Q}\n-- Another question\n{Q}", "statement", Q),
    (f"{Q}\n\nWITH x AS (SELECT a FROM t) SELECT a FROM x", "statement", Q),
    (f"{Q} -- the names", "statement", Q),
    (f"{Q} ORDER BY age DESC\n\nHere you are!", "statement", f"{Q} ORDER BY age DESC"),
    (f"{Q} ORDER BY age DESC\nThis query lists the names.", "statement", f"{Q} ORDER BY age DESC"),
    (f"{Q}\n\nORDER BY age", "statement", f"{Q}\n\nORDER BY age"),
    (f"{Q}\nUNION\nSELECT title FROM concert", "statement", f"{Q}\nUNION\nSELECT title FROM concert"),
    (f"{Q}\nUNION ALL\nSELECT title FROM concert", "statement", f"{Q}\nUNION ALL\nSELECT title FROM concert"),
    (Q.lower(), "statement", Q.lower()),
    (f"-- the names\n{Q}", "statement", Q),
    (TWO, "statement", TWO),
    (
        "SELECT a FROM t WHERE b = 'x;y' AND c != 'it''s'",
        "statement",
        "SELECT a FROM t WHERE b = 'x;y' AND c != 'it''s'",
    ),
    ("SELECT CAST(a AS UNSIGNED BIG INT) FROM t", "statement", "SELECT CAST(a AS UNSIGNED BIG INT) FROM t"),
    ("SELECT a FROM t ORDER BY b DESC NULLS LAST", "statement", "SELECT a FROM t ORDER BY b DESC NULLS LAST"),
    (f"{Q}\n```", "statement", Q),
    (f"{Q};\r\nDone", "statement", Q),
    # going on after the prompt's SELECT
    (" count(*) FROM singer", "continuation", "SELECT count(*) FROM singer"),
    ("name FROM singer;", "continuation", "SELECT name FROM singer"),
    (" DISTINCT name FROM singer\n\n-- Another question\nSELECT 1", "continuation", "SELECT DISTINCT name FROM singer"),
    (" a FROM t WHERE b IN (SELECT c FROM u)", "continuation", "SELECT a FROM t WHERE b IN (SELECT c FROM u)"),
    (" a FROM t UNION SELECT b FROM u", "continuation", "SELECT a FROM t UNION SELECT b FROM u"),
    (
        " (SELECT count(*) FROM a) - (SELECT count(*) FROM b)",
        "continuation",
        "SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b)",
    ),
    (f" name FROM singer;\n```\n\nOr:\n```sql\n{Q}\n```", "continuation", "SELECT name FROM singer"),
    # fences
    (f"```sql\n{Q}\n```", "fenced", Q),
    (f"```\n{Q};\n```", "fenced", Q),
    (f"```SQL\n{Q}", "fenced", Q),
    (f"```sqlite\n{Q}\n```", "fenced", Q),
    (f"```sql {Q}; ```", "fenced", Q),
    (f"```text\r\n{Q}\r\n```", "fenced", Q),
    ("```SELECT\n  name\nFROM singer\n```", "fenced", "SELECT\n  name\nFROM singer"),
    ("```sql\n count(*) FROM singer\n```", "fenced", "SELECT count(*) FROM singer"),
    (f"```sql\n{TWO};\n```", "fenced", TWO),
    (f"Here's the query that answers it, from the table:\n\n```sql\n{Q};\n```\nIt's right.", "fenced", Q),
    (f"Select the names from the table:\n```sql\n{Q}\n```", "fenced", Q),
    (f"Select the plain old names from the singer table\n```sql\n{Q}\n```", "fenced", Q),
    (f"Select them all! From the rest\n```sql\n{Q}\n```", "fenced", Q),
    (f"Select this: names from singer\n```sql\n{Q}\n```", "fenced", Q),
    (f"With care, from the table\n```sql\n{Q}\n```", "fenced", Q),
    (f"First look:\n```\nname | age\n```\nthen\n```sql\n{Q}\n```", "fenced", Q),
    (f"```sql\nPRAGMA foreign_keys = ON; {Q};\n```", "fenced", Q),
    (f"```sql\nCREATE TABLE x (a INT);\n{Q};\n```", "fenced", Q),
    # prose
    (f"The answer is: {Q}", "prose", Q),
    (f"Sure! Here's it:\n{Q}\n", "prose", Q),
    (f"You can use {Q};", "prose", Q),
    (f"Use `{Q}` for that.", "prose", Q),
    (f"Use `{Q}", "prose", Q),
    (f"You select names from singer\n{Q}", "prose", Q),
    (f"the answer: {Q.lower()}", "prose", Q.lower()),
    (f"I'll select the names from singer. {Q}", "prose", Q),
    (f"The data comes from the singer table.\n\n{Q}", "prose", Q),
    (f"Select names, with care.\n{Q}", "prose", Q),
    (f"With this query, you see them: {TWO}", "prose", TWO),
    (f"({Q})", "prose", Q),
    (f"**SQL:** {Q}", "prose", Q),
    (f"CREATE TABLE x (a INT);\n\n{Q}", "prose", Q),
    # thinking
    (f"<think>SELECT 1 FROM t</think>\n{Q}", "statement", Q),
    (f"SELECT 1 FROM t</think>{Q}", "statement", Q),
    (f"{Q};\n<think>or rather", "statement", Q),
]

LATER = "SELECT title FROM concert"
FOUND += [
    # several blocks: the last complete one
    (f"```sql\n{LATER}\n```\nNo:\n```sql\n{Q}\n```", "fenced", Q),
    (f"```sql\n{Q}\n```\nOr:\n```sql\n{LATER}", "fenced", Q),
    (f"```sql\n{Q}\n```\nIt gives:\n```\nname\n```", "fenced", Q),
    # tags, tokens, quotes
    (f"<answer>\n{Q}\n</answer>", "statement", Q),
    (f"<sql>{Q}</sql>", "statement", Q),
    (f"{Q}</s>", "statement", Q),
    (f"{Q}<|im_end|>", "statement", Q),
    (f"<pre><code>{Q}</code></pre>", "prose", Q),
    (f"[SQL] {Q} [/SQL]", "prose", Q),
    (f'The query "{Q}" is right.', "prose", Q),
    ('{"sql": "SELECT \\"name\\"\\nFROM singer"}', "prose", 'SELECT "name"\nFROM singer'),
]

NOT_FOUND: list[tuple[str, str]] = [
    ("", "empty"),
    (" \n\t", "empty"),
    ("<think>SELECT a FROM t", "empty"),
    ("<think>SELECT a FROM t</think>\n", "empty"),
    (";", "unparsable"),
    ("I cannot answer that.", "unparsable"),
    ("I can't tell that from the schema!", "unparsable"),
    ("Select the names from the table of singers.", "unparsable"),
    ("SELECT name FROM singer WHERE age >", "unparsable"),
    ("SELECT name FROM singer WHERE name = 'Ad", "unparsable"),
    ("SELECT", "unparsable"),
    ("SELECT name", "unparsable"),
    ("SELECT a FROM t WHERE b = ?", "unparsable"),
    ("INSERT INTO singer SELECT * FROM old", "unparsable"),
    ("INSERT OR REPLACE INTO singer (name) SELECT name FROM old", "unparsable"),
    ("CREATE TABLE x AS SELECT * FROM singer", "unparsable"),
    ("create temp view x as\nselect * from singer", "unparsable"),
    ("EXPLAIN QUERY PLAN SELECT * FROM singer", "unparsable"),
    ("EXPLAIN SELECT * FROM singer", "unparsable"),
    ("DROP TABLE singer;", "unparsable"),
    ("PRAGMA table_info(singer)", "unparsable"),
    ("```sql\nUPDATE singer SET age = 1;\n```", "unparsable"),
    ("```\n```", "unparsable"),
    ("``````", "unparsable"),
]


@pytest.mark.parametrize(("reply", "form", "query"), FOUND, ids=[f"{form}-{reply[:30]!r}" for reply, form, _ in FOUND])
def test_found(reply: str, form: str, query: str) -> None:
    found = extract(reply)
    assert (found.format, found.query) == (form, query)


@pytest.mark.parametrize(("reply", "form"), NOT_FOUND, ids=[repr(reply[:30]) for reply, _ in NOT_FOUND])
def test_not_found(reply: str, form: str) -> None:
    found = extract(reply)
    assert (found.format, found.query) == (form, None)


def test_a_right_query_passes_in_every_reply_and_no_other_does(tmp_path: Path) -> None:
    problem = sql_problem(made_database(tmp_path / "a.sqlite"), sql.GOLD)
    for replies, passes in ((sql.ACCEPTED, True), (sql.REFUSED, False)):
        verdicts = SCORER.verdicts([(problem, reply) for reply in replies], "standard", None, None)
        assert [reply for reply, verdict in zip(replies, verdicts, strict=True) if verdict.passed != passes] == []


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "```",
        "select ",
        "select (",
        "with a as (",
        "'",
        "[",
        "\n\n",
        "a ",
        "/*",
        "select from '",
        'select "',
        "</answer>",
    ],
)
def test_a_megabyte_of_anything_is_read_in_a_moment(piece: str) -> None:
    assert extract(piece * (1_000_000 // len(piece))).format in SqlScorer.formats
