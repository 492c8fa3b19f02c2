"""Questions and queries: databases that never change, and verdicts as the benchmark's format promises."""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.pocket.benchmark import BENCHMARK_FOLDER, draw_first, draw_harder
from benchmarks.pocket.databases import DATABASES, Database, file_of, opened
from benchmarks.pocket.habits import USELESS
from benchmarks.pocket.queries import draw
from s0 import tasks
from s0.tasks import Problem
from s0.tasks.sql import SqlProblem

KNOWN = {
    "name of all animals": "SELECT name FROM animals",
    "number of cities with size above 40": "SELECT count(*) FROM cities WHERE size > 40",
    "largest price of all items": "SELECT max(price) FROM items",
    "average pages of books with genre art": "SELECT avg(pages) FROM books WHERE genre = 'art'",
    "number of all pupils for each room": "SELECT room, count(*) FROM pupils GROUP BY room",
    "number of all cities for each country": "SELECT country, count(*) FROM cities GROUP BY country",
    "smallest weight of all animals for each kind": "SELECT kind, min(weight) FROM animals GROUP BY kind",
    "total goals of all players": "SELECT sum(goals) FROM players",
    "name and coach of players with wins above 40": (
        "SELECT name, coach FROM players JOIN teams USING (team) WHERE wins > 40"
    ),
    "name of animals with age below 50, sorted by weight from high to low, only the first 2": (
        "SELECT name FROM animals WHERE age < 50 ORDER BY weight DESC LIMIT 2"
    ),
}


@pytest.mark.parametrize("database", DATABASES, ids=lambda database: database.name)
def test_a_database_is_small_and_the_same_every_time(database: Database, tmp_path: Path) -> None:
    content = file_of(database)
    assert content == file_of(database)
    assert len(content) <= 2048
    path = tmp_path / "one.sqlite"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert [*connection.iterdump()] == [*opened(database).iterdump()]


@pytest.mark.parametrize("database", DATABASES, ids=lambda database: database.name)
def test_sorting_leaves_nothing_open(database: Database) -> None:
    columns = {table: opened(database).execute(f"SELECT * FROM {table}").description for table in database.tables}
    for column in database.numbers:
        values = [value for (value,) in opened(database).execute(f"SELECT {column} FROM {database.table}")]
        assert len(set(values)) == len(values) == 12
    names = [name for table in columns.values() for name, *_ in table]
    assert [name for name, count in Counter(names).items() if count > 1] == ([database.kind] if database.second else [])


def test_the_words_say_what_the_query_asks() -> None:
    """The builders' reading of a few questions, worked out by hand, whatever number or name stands in them."""

    def shape(text: str) -> str:
        return "".join("#" if character.isdigit() else character for character in text).replace("##", "#")

    shapes = {shape(words): shape(query) for words, query in KNOWN.items()}
    met, rng = set(), random.Random(1)
    for _ in range(2500):
        problem = draw(rng)
        words = problem.question.partition(" the ")[2].rstrip("?.")
        if shape(words) in shapes:
            assert shape(problem.query) == shapes[shape(words)]
            met.add(shape(words))
    assert len(met) >= 5


def test_verdicts_are_as_promised() -> None:
    """Standard: every working habit right, every useless one wrong. Paper: a fence is wrong too."""
    drawn = [problem for _, problem in draw_first("pocket-sql")]
    task = tasks.load("pocket-sql")
    assert [problem.prompt for problem in task.problems[: len(drawn)]] == [problem.prompt for problem in drawn]
    assert not task.left_out
    for habit in drawn[0].answers:
        # Queries are what takes time: all of them as the plain and as the careless answer, some in the other habits.
        asked = [*zip(task.problems, drawn, strict=False)][:: 1 if habit in ("continued", "careless") else 12]
        replies = [(problem, made.answers[habit]) for problem, made in asked]
        assert {verdict.passed for verdict in task.verdicts(replies)} == {habit not in USELESS}, habit
        works = habit in ("continued", "whole")
        assert {verdict.passed for verdict in task.verdicts(replies[::12], "paper")} == {works}, habit


AGGREGATES = {"total": "sum", "average": "avg", "smallest": "min", "largest": "max"}
HARD_WORDS = re.compile(
    r"(?P<shown>.+) of (?P<table>\w+) with (?P<rows>[^,]+)"
    r"(, sorted by (?P<by>\w+)(?P<down> from high to low)?)?(, only the first (?P<first>\d))?"
)


def _as_query(words: str, database: Database) -> str:
    """What the words of a harder question ask for, read by themselves."""
    read = HARD_WORDS.fullmatch(words)
    assert read
    shown, second = read["shown"].replace(" and ", ", "), database.second
    aggregate, _, column = shown.partition(" ")
    query = f"SELECT {AGGREGATES[aggregate]}({column})" if aggregate in AGGREGATES else f"SELECT {shown}"
    query += f" FROM {read['table']}"
    if second and second.text in shown:
        query += f" JOIN {second.table} USING ({database.kind})"
    tests = [
        re.sub(f"^{database.kind} (.+)", rf"{database.kind} = '\1'", test.replace("above", ">").replace("below", "<"))
        for test in read["rows"].split(" and ")
    ]
    query += f" WHERE {' AND '.join(tests)}"
    if read["by"]:
        query += f" ORDER BY {read['by']}{' DESC' if read['down'] else ''}"
    return query + (f" LIMIT {read['first']}" if read["first"] else "")


def test_the_words_of_the_harder_ones_say_what_the_query_asks() -> None:
    databases = {database.name: database for database in DATABASES}
    for problem in tasks.load("pocket-sql-hard").problems:
        assert isinstance(problem, SqlProblem)
        words = problem.prompt.rpartition("query: ")[2].partition(" the ")[2].partition("\n")[0].rstrip("?.")
        assert _as_query(words, databases[problem.id.partition("/")[0]]) == problem.gold


def _wrong(query: str) -> Iterator[str]:
    """The query without one of its clauses, or with a sign or the order turned round."""
    head, *clauses = re.split(r" (?=WHERE|AND|ORDER|LIMIT)", query)
    for clause in clauses:
        kept = " ".join(each for each in clauses if each != clause)
        yield f"{head} {kept if 'WHERE' in kept else kept.replace('AND', 'WHERE', 1)}"
    for sign, other in ("<>", "><"):
        if sign in query:
            yield query.replace(sign, other, 1)
    if "ORDER" in query:
        yield query.replace(" DESC", "") if "DESC" in query else re.sub("(ORDER BY [a-z]+)", r"\1 DESC", query)


def test_no_harder_query_with_one_thing_wrong_passes() -> None:
    task = tasks.load("pocket-sql-hard")
    right: list[tuple[Problem, str]] = []
    wrong: list[tuple[Problem, str]] = []
    for number, problem in enumerate(task.problems):
        assert isinstance(problem, SqlProblem)
        right.append((problem, problem.gold.removeprefix("SELECT")))
        wrong += [(problem, query.removeprefix("SELECT")) for query in _wrong(problem.gold) if number % 6 == 0]
    assert all(verdict.passed for verdict in task.verdicts(right))
    assert len(wrong) > 500 and not any(verdict.passed for verdict in task.verdicts(wrong))


def test_the_harder_ones_are_drawn_the_same_every_time() -> None:
    first = draw_harder(known=(), sizes={"train": 40})
    shipped = tasks.load("pocket-sql-hard").problems
    assert [problem.prompt for _, problem in first] == [problem.prompt for problem in shipped[:40]]
    other = draw_harder(known={problem.normalised for _, problem in first[:20]}, sizes={"train": 20})
    assert other == first[20:]


@pytest.mark.parametrize("name", ["pocket-sql", "pocket-sql-fresh", "pocket-sql-hard"])
def test_the_databases_are_those_that_ship(name: str) -> None:
    folder = BENCHMARK_FOLDER / name.replace("-", "_") / "database"
    for problem in tasks.load(name).problems:
        assert isinstance(problem, SqlProblem)
        database = problem.id.partition("/")[0]
        assert problem.databases == (folder / database / f"{database}.sqlite",)
    for database in DATABASES:
        assert (folder / database.name / f"{database.name}.sqlite").read_bytes() == file_of(database)
