"""Running queries: right ones pass, wrong ones fail, hostile ones harm nothing and nobody after them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from s0.errors import DatasetError, SandboxError
from s0.tasks import workers
from s0.tasks.sandbox import Verdict
from s0.tasks.sql import SqlProblem, SqlScorer
from s0.tasks.sql import judge as judging
from s0.tasks.sql.judge import judge
from s0.tasks.sql.worker import Limits
from tests.tasks.databases import SINGERS, made_database, sql_problem

GOLD = "SELECT name, age FROM singer WHERE country = 'Norway'"
SHORT = Limits(cpu_s=0.3, memory_bytes=300 << 20)
PASSED = Verdict(True, "passed")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_database(tmp_path_factory.mktemp("sql") / "made.sqlite")


@pytest.fixture(scope="module")
def problem(database: Path) -> SqlProblem:
    return sql_problem(database, GOLD)


RIGHT = [
    GOLD,
    GOLD + ";",
    GOLD.lower().replace("norway", "Norway"),
    "SELECT age AS years, name FROM singer WHERE country LIKE 'norway' ORDER BY age",
    "WITH n AS (SELECT * FROM singer WHERE country = 'Norway') SELECT name, age * 1.0 FROM n",
    "SELECT name, age FROM singer WHERE singer_id < 3 UNION SELECT name, age FROM singer WHERE name = 'Ada'",
    "SELECT name, max(age) OVER (PARTITION BY name) FROM singer WHERE substr(country, 1, 3) = 'Nor'",
]
WRONG = {
    "SELECT name FROM singer WHERE country = 'Norway'": "wrong answer",
    "SELECT name, age, age FROM singer WHERE country = 'Norway'": "wrong answer",
    "SELECT name, singer_id FROM singer WHERE country = 'Norway'": "wrong answer",
    "SELECT name, CAST(age AS TEXT) FROM singer WHERE country = 'Norway'": "wrong answer",
    "SELECT name, age FROM singer WHERE country = 'Peru'": "wrong answer",
    "SELECT name, age FROM singer": "too many rows",
    "SELECT nome FROM singer": "SQL error: no such column: nome",
    "SELEC name": 'SQL error: near "SELEC": syntax error',
    "": "SQL error: no result",
    "-- nothing": "SQL error: no result",
}


def test_right_and_wrong_answers_in_order(problem: SqlProblem) -> None:
    answers = [*RIGHT, *WRONG]
    verdicts = judge([(problem, query) for query in answers], jobs=2)
    assert verdicts == [*[PASSED] * len(RIGHT), *[Verdict(False, reason) for reason in WRONG.values()]]


def test_the_order_of_rows_counts_where_the_gold_query_sorts(database: Path) -> None:
    sorted_gold = sql_problem(database, "SELECT name FROM singer ORDER BY name DESC")
    within = sql_problem(database, "SELECT name FROM (SELECT name FROM singer ORDER BY name DESC)")
    up, down = "SELECT name FROM singer ORDER BY name", "SELECT name FROM singer ORDER BY name DESC"
    verdicts = judge([(sorted_gold, up), (sorted_gold, down), (within, up), (within, down)])
    assert [verdict.passed for verdict in verdicts] == [False, True, True, True]


def test_an_empty_result_is_not_equal_to_everything_empty(database: Path) -> None:
    nobody = sql_problem(database, "SELECT name FROM singer WHERE age > 90")
    answers = ["SELECT name FROM singer WHERE 0", "SELECT name, age FROM singer WHERE 0", "DROP TABLE singer", ""]
    assert [verdict.passed for verdict in judge([(nobody, query) for query in answers])] == [True, False, False, False]


def test_every_database_must_agree(database: Path, tmp_path: Path) -> None:
    """A test suite: the second database tells apart what the first does not."""
    other = made_database(tmp_path / "other.sqlite", [*SINGERS, (5, "Ole", "Norway", 19, 1.9)])
    lucky = "SELECT name, age FROM singer WHERE singer_id < 3"
    one, both = sql_problem(database, GOLD), sql_problem(database, GOLD, other)
    verdicts = judge([(one, lucky), (both, lucky), (both, GOLD)])
    assert verdicts == [PASSED, Verdict(False, "wrong answer"), PASSED]


def test_text_that_is_no_unicode_keeps_its_bytes(database: Path) -> None:
    odd = sql_problem(database, "SELECT CAST(x'61ff' AS TEXT) FROM singer WHERE singer_id = 1")
    answers = [
        odd.gold,
        odd.gold.replace("ff", "fe"),
        odd.gold.replace("ff", ""),
        odd.gold.replace(" AS TEXT", " AS BLOB"),
    ]
    assert [verdict.passed for verdict in judge([(odd, query) for query in answers])] == [True, False, False, False]


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
REFUSED = [
    "INSERT INTO singer VALUES (9, 'Eve', 'Norway', 1, 1.0)",
    "DELETE FROM singer",
    "UPDATE singer SET age = 0",
    "REPLACE INTO singer (singer_id) VALUES (1)",
    "WITH x AS (SELECT 1) DELETE FROM singer",
    "UPDATE singer SET age = 0 RETURNING name, age",
    "DROP TABLE singer",
    "ALTER TABLE singer ADD COLUMN x",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TABLE x AS SELECT * FROM singer",
    "CREATE VIRTUAL TABLE x USING fts5(a)",
    "ATTACH '{folder}/evil.sqlite' AS evil",
    "DETACH main",
    "VACUUM INTO '{folder}/evil.sqlite'",
    "REINDEX",
    "ANALYZE",
    "BEGIN EXCLUSIVE",
    "SAVEPOINT a",
    "PRAGMA user_version = 7",
    "PRAGMA table_info(singer)",
    "PRAGMA writable_schema = 1",
    "SELECT name, cid FROM pragma_table_info('singer')",
    "SELECT load_extension('{folder}/evil.so'), 1",
    "SELECT LOAD_EXTENSION('{folder}/evil.so', 'main'), 1",
    "SELECT fts3_tokenizer('simple'), 1",
    "SELECT random(), 1",
    "SELECT randomblob(4000000000), 1",
    "SELECT readfile('/etc/passwd'), 1",
    "SELECT name, age FROM singer; DROP TABLE singer",
    "SELECT a FROM (" * 200,
    "SELECT name, age FROM singer WHERE country = ?",
    "SELECT 'a\x00b', 1 FROM singer",
    "SELECT '\ud800', 1 FROM singer",
    "SELECT abs(-9223372036854775808), 1",
    "x" * 1_000_000,
    "(" * 1_000_000,
]
ONE_LONG_STEP = "printf('%.*c', 2000000000, 'x')"  # no handler is called before it ends
BOMBS = {
    f"{NUMBERS} SELECT count(*), 1 FROM n": "timeout",
    f"{NUMBERS} SELECT i, i FROM n": "too many rows",
    f"{NUMBERS} SELECT i, i FROM n WHERE i < 0": "timeout",
    "SELECT count(*), 1 FROM " + ", ".join(f"singer s{number}" for number in range(40)): "timeout",
    f"SELECT {ONE_LONG_STEP}, 1": "timeout",
    "SELECT 1, '" + "a" * 40 + "' LIKE '" + "%a" * 20 + "%b'": "wrong answer",
    "SELECT zeroblob(3000000000), 1": "SQL error: string or blob too big",
    "SELECT hex(zeroblob(600000)), 1": "SQL error: string or blob too big",
    "SELECT replace(hex(zeroblob(500)), '0', hex(zeroblob(5000))), 1": "SQL error: string or blob too big",
    "SELECT printf('%2000000000d', 1), 1": None,
    f"{NUMBERS} SELECT group_concat(hex(zeroblob(1000))), 1 FROM n": None,
    f"{NUMBERS} SELECT json_group_array(i), 1 FROM n": None,
    "SELECT 9223372036854775807 + 1, 99999999999999999999999999999999": "wrong answer",
    "SELECT 9e999, -9e999": "wrong answer",
    "SELECT CAST(x'ff00fe' AS TEXT), x'00'": "wrong answer",
}
"""With the reason; None where it depends on SQLite's version and the machine's speed."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("attack", REFUSED, ids=lambda attack: ascii(attack[:40]))
def test_what_does_more_than_read_is_refused(attack: str, problem: SqlProblem) -> None:
    """One process judges all of it, so the honest query follows the attack in the same process."""
    (path,) = problem.databases
    before = digest(path)
    attack = attack.replace("{folder}", str(path.parent))
    worker = _one_worker()
    verdict = worker.judge(problem, attack)
    assert not verdict.passed
    assert verdict.reason.startswith("SQL error: ")
    assert worker.judge(problem, GOLD) == PASSED
    assert digest(path) == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


_WORKER: list[judging._Worker] = []


def _one_worker() -> judging._Worker:
    if not _WORKER:
        _WORKER.append(judging._Worker(SHORT))
    return _WORKER[0]


@pytest.fixture(scope="module", autouse=True)
def ended_worker():  # type: ignore[no-untyped-def]
    yield
    while _WORKER:
        _WORKER.pop().close()


@pytest.mark.parametrize(("bomb", "reason"), BOMBS.items(), ids=[ascii(bomb[:90]) for bomb in BOMBS])
def test_bombs_are_defused_and_the_next_query_is_judged_rightly(
    bomb: str, reason: str | None, problem: SqlProblem
) -> None:
    (path,) = problem.databases
    before = digest(path)
    verdict, after = judge([(problem, bomb), (problem, GOLD)], 1, SHORT)
    assert (verdict.passed, verdict.reason) == (False, reason or verdict.reason)
    assert after == PASSED
    assert digest(path) == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_time_ends_the_query_and_not_the_process(problem: SqlProblem) -> None:
    endless = f"{NUMBERS} SELECT count(*), 1 FROM n"
    assert _one_worker().judge(problem, endless) == Verdict(False, "timeout")
    assert _one_worker().judge(problem, GOLD) == PASSED


def test_no_file_appears_beside_a_database_with_a_log(tmp_path: Path) -> None:
    path = made_database(tmp_path / "made.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    before = digest(path)
    assert _one_worker().judge(sql_problem(path, GOLD), GOLD) == PASSED
    assert digest(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_memory_is_bounded_and_sorting_writes_no_file(problem: SqlProblem) -> None:
    much = f"{NUMBERS} SELECT i, h FROM (SELECT i, zeroblob(900000) AS h FROM n LIMIT 200) ORDER BY h, i"
    verdicts = judge([(problem, much), (problem, GOLD)], 1, Limits(memory_bytes=120 << 20))
    assert verdicts == [Verdict(False, "memory"), PASSED]


@pytest.mark.slow
def test_a_process_that_says_nothing_is_killed_from_outside(tmp_path: Path) -> None:
    """Opening this file waits for somebody to write it, which takes no processor time."""
    os.mkfifo(tmp_path / "made.sqlite")
    with pytest.raises(DatasetError, match="got timeout"):
        judge([(sql_problem(tmp_path / "made.sqlite", GOLD), GOLD)], 1, Limits(wall_s=4.0))


@pytest.mark.parametrize(
    ("gold", "got"),
    [
        ("SELECT nome FROM singer", "SQL error: no such column: nome"),
        (f"{NUMBERS} SELECT count(*) FROM n", "timeout"),
        (f"{NUMBERS} SELECT i FROM n", "too many rows"),
        (f"SELECT {ONE_LONG_STEP}", "timeout"),
        ("DROP TABLE singer", "SQL error: not authorized"),
    ],
)
def test_a_gold_query_that_fails_is_an_error_and_no_verdict(gold: str, got: str, database: Path) -> None:
    with pytest.raises(DatasetError, match=rf"made/0: expected the gold query.*made.sqlite; got {got}"):
        judge([(sql_problem(database, gold), GOLD)], 1, Limits(cpu_s=0.3, rows=1000))


def test_a_database_that_is_gone_or_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database" * 200)
    for name, got in (("gone.sqlite", "unable to open"), ("text.sqlite", "file is not a database")):
        with pytest.raises(DatasetError, match=got):
            judge([(sql_problem(tmp_path / name, GOLD), GOLD)])
    assert not (tmp_path / "gone.sqlite").exists()


def test_a_process_that_dies_of_itself_is_an_error(problem: SqlProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_BOOTSTRAP", "raise SystemExit('no interpreter')")
    with pytest.raises(SandboxError, match=r"a process that runs SQL queries; got, .*: no interpreter"):
        judge([(problem, GOLD)], limits=Limits())
    monkeypatch.setattr(workers, "_BOOTSTRAP", "print(1); import socket; socket.socket(fileno=0).send(b'{}\\n'); 1 / 0")
    with pytest.raises(SandboxError, match="ZeroDivisionError"):
        judge([(problem, GOLD)], limits=Limits())


def test_a_killed_process_costs_one_verdict(problem: SqlProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the system when it runs out of memory."""
    spoken = judging._Worker._hear

    def hear(worker: judging._Worker) -> object:
        message = spoken(worker)
        if message and message.get("running") == "answer" and not killed:
            killed.append(worker.process.pid)
            worker.process.kill()
            worker.process.wait()
            while spoken(worker) is not None:
                pass
        return message

    killed: list[int] = []
    monkeypatch.setattr(judging._Worker, "_hear", hear)
    assert judge([(problem, GOLD), (problem, GOLD + ";")], 1) == [Verdict(False, "killed"), PASSED]


def test_equal_answers_are_run_once_and_with_limits_no_process_stays(
    problem: SqlProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    workers: list[judging._Worker] = []
    judge_one = judging._Worker.judge

    def counted(worker: judging._Worker, problem: SqlProblem, query: str) -> Verdict:
        asked.append(query)
        workers.append(worker)
        return judge_one(worker, problem, query)

    monkeypatch.setattr(judging._Worker, "judge", counted)
    wrong = "SELECT 1"
    verdicts = judge([(problem, GOLD), (problem, wrong), (problem, GOLD), (problem, wrong)], 3, Limits())
    assert [verdict.passed for verdict in verdicts] == [True, False, True, False]
    assert sorted(asked) == sorted([GOLD, wrong])
    assert all(worker.process.poll() is not None for worker in workers)
    assert judge([]) == []


def test_queries_never_run_in_the_calling_process(problem: SqlProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a connection in the calling process")

    monkeypatch.setattr("sqlite3.connect", connect)
    assert judge([(problem, GOLD)]) == [PASSED]


def test_paths_with_odd_characters(tmp_path: Path) -> None:
    path = made_database(tmp_path / "a?mode=rwc&x#%41 'b'" / "é.sqlite")
    assert judge([(sql_problem(path, GOLD), GOLD)]) == [PASSED]


def test_a_relative_path_is_taken_from_here(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    assert judge([(sql_problem(Path(database.name), GOLD), GOLD)]) == [PASSED]
    assert not os.path.isabs(database.name)  # noqa: PTH117


SCORER = SqlScorer("Ask:\n{prompt}")
REPLIES = {
    GOLD: (True, True),
    GOLD.removeprefix("SELECT"): (True, True),
    GOLD.lower().replace("norway", "Norway") + ";\nDone": (True, True),
    f"```sql\n{GOLD}\n```": (True, False),
    f"Sure: {GOLD}": (True, False),
    f"<think>hm</think>{GOLD}": (True, False),
    "WITH s AS (SELECT * FROM singer) SELECT name, age FROM s WHERE country = 'Norway'": (True, False),
    "SELECT name, age FROM singer": (False, False),
    "no": (False, False),
    "": (False, False),
    "DROP TABLE singer": (False, False),
}


def test_both_scorings(problem: SqlProblem) -> None:
    asked = [(problem, reply) for reply in REPLIES]
    standard, paper = (SCORER.verdicts(asked, scoring, 2, None) for scoring in ("standard", "paper"))
    assert {
        reply: (one.passed, two.passed) for reply, one, two in zip(REPLIES, standard, paper, strict=True)
    } == REPLIES
    assert [verdict.reason for verdict in standard[-3:]] == ["unparsable", "empty", "unparsable"]


def test_formats_are_among_those_named(problem: SqlProblem) -> None:
    assert {SCORER.format_of(problem, reply) for reply in REPLIES} == set(SCORER.formats)
    assert SCORER.request(problem) == "Ask:\n-- ?\n"
