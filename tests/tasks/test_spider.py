"""Reading Spider's folder: what is accepted, left out and refused; and the real files, where they are at hand."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.spider import load_spider
from s0.tasks.sql import SqlProblem
from tests.tasks.databases import made_database, made_folder, question, tables_row

NAMES = ["a", "b", "c"]
ROWS = [question(name, f"Question {number} of {name}?") for name in NAMES for number in range(4)]


def test_problems_and_prompts(tmp_path: Path) -> None:
    rows = [question("a", "How many\n singers?"), question("a", "Who?", "SELECT name FROM singer ORDER BY age")]
    task = load_spider(made_folder(tmp_path, rows, ["a"]))
    first, second = task.problems
    assert isinstance(first, SqlProblem)
    assert isinstance(second, SqlProblem)
    assert (first.id, second.id) == ("a/0", "a/1")
    assert first.prompt.startswith("CREATE TABLE singer (\n    singer_id INTEGER PRIMARY KEY,")
    assert first.prompt.endswith(
        "REFERENCES singer (singer_id));\n\n-- Answer with one SQLite query: How many singers?\nSELECT"
    )
    assert (first.ordered, second.ordered) == (False, True)
    assert first.databases == (tmp_path / "database" / "a" / "a.sqlite",)
    asked = task.scorer.request(first)
    assert asked.endswith("How many singers?\n```")
    assert "CREATE TABLE concert" in asked
    assert [
        verdict.passed for verdict in task.verdicts([(first, " count(*) FROM singer"), (second, "name FROM singer")])
    ] == [
        True,
        False,
    ]


def test_a_test_suite_beside_the_database(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, [question("a", "Who?", "SELECT name FROM singer WHERE age = 40")], ["a"])
    more = made_database(folder / "database" / "a" / "a_2.sqlite", [(1, "Eve", "Peru", 40, 1.0)])
    task = load_spider(folder)
    (problem,) = task.problems
    assert isinstance(problem, SqlProblem)
    assert problem.databases == (folder / "database" / "a" / "a.sqlite", more)
    verdicts = task.verdicts([(problem, "SELECT name FROM singer WHERE name = 'Ida'"), (problem, problem.gold)])
    assert [verdict.passed for verdict in verdicts] == [False, True]


CHANGES: dict[str, Callable[[Path], object]] = {
    "a question": lambda folder: (folder / "dev.json").write_text(json.dumps([question("a", "Where?")])),
    "a row": lambda folder: insert(folder / "database" / "a" / "a.sqlite"),
    "a row in the test suite": lambda folder: insert(folder / "database" / "a" / "a_2.sqlite"),
    "a database more": lambda folder: made_database(folder / "database" / "a" / "a_3.sqlite"),
    "a database less": lambda folder: (folder / "database" / "a" / "a_2.sqlite").unlink(),
    "another name": lambda folder: (folder / "database" / "a" / "a_2.sqlite").rename(
        folder / "database" / "a" / "a_9.sqlite"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_data_are_others_where_verdicts_may_be(change: Callable[[Path], object], tmp_path: Path) -> None:
    folder = tmp_path / "before"
    folder.mkdir()
    made_folder(folder, [question("a", "Who?")], ["a", "b"])
    made_database(folder / "database" / "a" / "a_2.sqlite")
    moved = shutil.copytree(folder, tmp_path / "moved")
    before = load_spider(folder).data_sha256
    insert(moved / "database" / "b" / "b.sqlite")  # of no question
    assert load_spider(moved).data_sha256 == before
    change(folder)
    assert load_spider(folder).data_sha256 != before


def insert(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO singer (singer_id, name) VALUES (77, 'Uma')")
        connection.commit()


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, [question("a", "Who?", "SELECT name FROM singer")], ["a"])
    problems = load_spider(folder).problems
    for name in ("dev.json", "tables.json"):
        (folder / name).write_text((folder / name).read_text(), encoding="utf-8-sig")
    assert load_spider(folder).problems == problems


def test_splits_are_cut_between_databases(tmp_path: Path) -> None:
    task = load_spider(made_folder(tmp_path, ROWS, NAMES))
    assert {problem.id[0]: problem.split for problem in task.problems} == {"a": "train", "b": "train", "c": "final"}
    apart = [question(name, f"{number}?") for number, name in enumerate("aaabbcdd")]
    (tmp_path / "two").mkdir()
    task = load_spider(made_folder(tmp_path / "two", apart, [*"abcd"]))
    splits = {problem.id[0]: problem.split for problem in task.problems}
    assert splits == {"a": "train", "b": "train", "c": "final", "d": "final"}


def test_rows_may_name_their_split(tmp_path: Path) -> None:
    rows = [question("a", f"{number}?", split=split) for number, split in enumerate(["final", "train", "select"])]
    task = load_spider(made_folder(tmp_path, rows, ["a"]))
    assert [problem.split for problem in task.problems] == ["final", "train", "select"]


def test_a_missing_database_is_named_and_moves_no_other(tmp_path: Path) -> None:
    task = load_spider(made_folder(tmp_path, ROWS, ["b", "c"]))
    assert task.left_out == tuple(f"a/{number}: no database/a/a.sqlite" for number in range(4))
    assert {problem.id[0]: problem.split for problem in task.problems} == {"b": "train", "c": "final"}
    assert [problem.id for problem in task.problems] == [f"b/{number}" for number in range(4, 8)] + [
        f"c/{number}" for number in range(8, 12)
    ]


def test_a_repeated_row_is_left_out(tmp_path: Path) -> None:
    rows = [question("a", "Who?"), question("b", "Who else?"), question("a", " Who?\n", "SELECT  count(*) FROM singer")]
    task = load_spider(made_folder(tmp_path, rows, ["a", "b"]))
    assert [problem.id for problem in task.problems] == ["a/0", "b/1"]
    assert task.left_out == ("a/2: the same as a/0",)


REFUSED: dict[str, tuple[list[Any], list[Any] | None, str]] = {
    "no rows": ([], [tables_row("a")], "expected a list of rows in .*dev.json; got an empty list"),
    "not a list": ({}, [tables_row("a")], "dev.json; got dict"),  # type: ignore[dict-item]
    "a row that is none": ([[]], [tables_row("a")], "dev.json, row 0: expected a JSON object; got list"),
    "a missing key": ([question("a", "?", query=None)], None, "row 0: expected the key 'query'; got db_id, question"),
    "a wrong type": ([question("a", 7)], None, "row 0: expected 'question' to be a string; got int"),  # type: ignore[arg-type]
    "a split and none": (
        [question("a", "Who?", split="train"), question("a", "Where?")],
        None,
        "row 1: expected 'split' to be one of train, select, final in every row, or in none; got None",
    ),
    "two databases alike": ([question("a", "Who?"), question("b", "Who?")], None, "row 0 and .*row 1"),
    "two answers": (
        [question("a", "Who?"), question("a", "Who?", "SELECT 1")],
        None,
        "expected every 'question' once; got the same in .*row 0 and .*row 1",
    ),
    "no such tables": (
        [question("a", "?")],
        [tables_row("b")],
        "a.sqlite as in tables.json; got .*no such database there",
    ),
    "other tables": (
        [question("a", "?")],
        [tables_row("a", table_names_original=["singer"])],
        r"got \['concert', 'singer'\], and \['singer'\] there; use files of one release",
    ),
    "tables without names": ([question("a", "?")], [tables_row("a", db_id=None)], "tables.json, row 0.*'db_id'"),
    "no database at all": ([question("z", "?")], None, "expected databases in .*database; got none"),
}


@pytest.mark.parametrize(("rows", "tables", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, rows: list[Any], tables: list[Any] | None, message: str) -> None:
    folder = made_folder(tmp_path, rows, ["a", "b"], tables)
    with pytest.raises(DatasetError, match=message):
        load_spider(folder)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected `data=FOLDER` with dev.json"):
        load_spider(None)
    with pytest.raises(DatasetError, match=r"expected .*dev.json; got No such file"):
        load_spider(tmp_path)
    made_folder(tmp_path, [question("a", "?")], ["a"])
    (tmp_path / "database" / "a" / "a.sqlite").write_text("text" * 500)
    with pytest.raises(DatasetError, match=r"expected a SQLite database in .*a.sqlite; got file is not a database"):
        load_spider(tmp_path)
    (tmp_path / "dev.json").write_bytes(b'["\xff"]')
    with pytest.raises(DatasetError, match=r"expected JSON in .*dev.json"):
        load_spider(tmp_path)


@pytest.fixture(scope="module")
def spider_folder() -> Path:
    folder = os.environ.get("S0_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(folder, "spider")
    if not (path / "dev.json").exists():
        pytest.skip(f"Spider is not at {path}; S0_DATA_DIR names the folder that holds spider/")
    return path


def continuation(gold: str) -> str:
    return re.sub(r"\A\s*SELECT", "", gold, flags=re.IGNORECASE)


def in_lower_case(gold: str) -> str:
    """What stands in no quotes in lower case; names are found in any case."""
    parts = re.split(r"""("[^"]*"|'[^']*')""", gold)
    return "".join(part if number % 2 else part.lower() for number, part in enumerate(parts))


FORMS: dict[str, tuple[Callable[[str], str], str]] = {
    "plain": (lambda gold: gold, "statement"),
    "gone on": (continuation, "continuation"),
    "gone on and explained": (lambda gold: f"{continuation(gold)}\n\nThis query answers it.", "continuation"),
    "semicolon": (lambda gold: f"{gold.rstrip(' ;')}; It's done.", "statement"),
    "fenced": (lambda gold: f"```sql\n{gold}\n```", "fenced"),
    "prose and fence": (lambda gold: f"Here's the query from the table:\n\n```\n{gold}\n```\nIt's right.", "fenced"),
    "prose": (lambda gold: f"The query that you're after is: {gold}", "prose"),
    "lower case": (in_lower_case, "statement"),
}


def test_real_rows(spider_folder: Path) -> None:
    task = load_spider(spider_folder)
    assert len(task.problems) + len(task.left_out) == 1034
    assert len(task.problems) >= 972
    assert all(line.startswith("wta_1/") for line in task.left_out)
    databases = {
        name: {problem.id.split("/")[0] for problem in task.split(name)} for name in ("train", "select", "final")
    }
    assert sum(map(len, databases.values())) == len(set.union(*databases.values()))
    assert {name: len(task.split(name)) for name in databases}["final"] == 527
    assert not any(stop in problem.gold.rstrip("; ") for problem in task.problems for stop in task.stop)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_real_gold_query_passes_in_every_form(spider_folder: Path) -> None:
    task = load_spider(spider_folder)
    replies = {name: [(problem, form(gold)) for problem, gold in with_gold(task)] for name, (form, _) in FORMS.items()}
    formats = {name: Counter(task.format_of(*reply) for reply in replies[name]) for name in FORMS}
    assert formats == {name: {form: len(task.problems)} for name, (_, form) in FORMS.items()}
    verdicts = task.verdicts(list(itertools.chain.from_iterable(replies.values())))
    assert Counter(verdict.reason for verdict in verdicts) == {"passed": len(FORMS) * len(task.problems)}


def test_another_real_query_passes_only_with_the_same_result(spider_folder: Path) -> None:
    """Every gold query answered with the next one on its database, against a comparison that tries every order."""
    task = load_spider(spider_folder)
    problems = [problem for problem in task.problems if isinstance(problem, SqlProblem)]
    results = [result(problem) for problem in problems]
    replies: list[tuple[SqlProblem, str]] = []
    expected: list[bool] = []
    for number, problem in enumerate(problems):
        for other in range(number + 1, len(problems)):
            if problems[other].databases == problem.databases and problems[other].gold != problem.gold:
                replies.append((problem, problems[other].gold))
                expected.append(alike(results[number], results[other], problem.ordered))
                break
    assert len(replies) > 900
    assert expected.count(False) > 800
    assert [verdict.passed for verdict in task.verdicts(replies)] == expected


def with_gold(task: Task) -> list[tuple[SqlProblem, str]]:
    return [(problem, problem.gold) for problem in task.problems if isinstance(problem, SqlProblem)]


def result(problem: SqlProblem) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{problem.databases[0].as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(problem.gold).fetchall()


def alike(expected: list[tuple[Any, ...]], got: list[tuple[Any, ...]], ordered: bool) -> bool:
    if len(expected) != len(got) or len(expected[:1]) != len(got[:1]):
        return False
    if not expected:
        return True
    return len(expected[0]) == len(got[0]) and any(
        moved == expected if ordered else Counter(moved) == Counter(expected)
        for columns in itertools.permutations(range(len(got[0])))
        for moved in [[tuple(row[column] for column in columns) for row in got]]
    )
