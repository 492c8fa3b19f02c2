"""Spider: questions about databases, answered by one SQL query. Source: Yu et al. 2018.

The data is a folder as it is published: `dev.json` (rows with db_id, question, query), `tables.json` (the tables of
every database) and `database/<db_id>/<db_id>.sqlite`. Further `*.sqlite` files beside that one make a test suite
(Zhong et al. 2020): an answer must be right on all of them.

Rows that cannot be judged are left out by name: those whose database is missing, and those that repeat an earlier
row. Rows may name their split ("train", "select" or "final", all or none). The published file has none for training,
so it is cut where a new database begins: databases whose first row lies in the first 64/164 of the file are for
training, in the next 16/164 for selection, the others final. No database is in two splits, so neither a question nor
another wording of it is; and a missing database moves no other one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.sources import Table, field, folded, mapping, refuse_duplicates, sha256_of, splits_of
from s0.tasks.sql import SqlProblem, SqlScorer
from s0.tasks.sql.tokens import is_ordered

CHANGES = (
    "multisets of rows, in order where the gold query sorts, columns in any order",
    "a query is found between tags, within JSON and before end tokens; of several fenced blocks the last decides",
)
SCORER = SqlScorer(
    "Answer the question about this database with one SQLite query. "
    "Write the query alone, in one ```sql block.\n\n```sql\n{prompt}```"
)
STOP = (";", "\n\n--", "\nCREATE TABLE ")
"""No query goes on after one of these, but for one with a semicolon in a string; no gold query has any."""

_TRAIN_END, _SELECT_END = 64 / 164, 80 / 164
_FORMAT = "Spider"
_PART_BYTES = 1 << 20


def load_spider(data: Path | None) -> Task:
    """Spider's development set from a local folder.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    if data is None:
        raise DatasetError(
            "expected `data=FOLDER` with dev.json, tables.json and database/; got none; Spider has its databases in an "
            "archive of its own: fetch it from https://yale-lily.github.io/spider and unpack it"
        )
    rows, tables = _read(data / "dev.json"), _read(data / "tables.json")
    named = _tables_by_database(tables)
    checked = [(place, _checked(place, value)) for place, value in rows.rows]
    splits = _splits(checked)
    schemas: dict[str, str | None] = {}
    problems: dict[tuple[str, str, str], SqlProblem] = {}
    places: list[str] = []
    left_out: list[str] = []
    for number, ((place, row), split) in enumerate(zip(checked, splits, strict=True)):
        name = row["db_id"]
        folder = data / "database" / name
        if name not in schemas:
            schemas[name] = _schema(place, folder / f"{name}.sqlite", named)
        schema = schemas[name]
        problem_id = f"{name}/{number}"
        content = (name, folded(row["question"]), folded(row["query"]))
        if schema is None:
            left_out.append(f"{problem_id}: no database/{name}/{name}.sqlite")
        elif content in problems:
            left_out.append(f"{problem_id}: the same as {problems[content].id}")
        else:
            prompt = f"{schema}\n\n-- Answer with one SQLite query: {folded(row['question'])}\nSELECT"
            databases = tuple(sorted(folder.glob("*.sqlite")))
            problems[content] = SqlProblem(problem_id, prompt, split, databases, row["query"], is_ordered(row["query"]))
            places.append(place)
    if not problems:
        raise DatasetError(
            f"expected databases in {data / 'database'}; got none that {data / 'dev.json'} names; add them"
        )
    refuse_duplicates([*problems.values()], places, "number", "question")
    return Task(
        name="spider",
        version=str(len(CHANGES)),
        problems=[*problems.values()],
        data_sha256=_sha256_of(data, sha256_of(rows, tables), [*problems.values()]),
        stop=list(STOP),
        max_new_tokens=256,
        scorer=SCORER,
        changes=CHANGES,
        left_out=tuple(left_out),
    )


def _read(path: Path) -> Table:
    """A JSON list, with the place of every element."""
    try:
        content = path.read_bytes()
        values = json.loads(content)
    except OSError as error:
        raise DatasetError(
            f"expected {path}; got {error.strerror}; correct the path or unpack the data again"
        ) from None
    except (ValueError, RecursionError) as error:  # bad UTF-8 as well
        raise DatasetError(f"expected JSON in {path}; got {error}; unpack the data again") from None
    if not isinstance(values, list) or not values:
        got = "an empty list" if values == [] else type(values).__name__
        raise DatasetError(f"expected a list of rows in {path}; got {got}; unpack the data again")
    return Table(content, [(f"{path}, row {number}", value) for number, value in enumerate(values)])


def _sha256_of(data: Path, tables_sha256: str, problems: list[SqlProblem]) -> str:
    """SHA-256 of the tables and of all databases, by name, that verdicts come from: one more row can change one."""
    databases = sorted({database for problem in problems for database in problem.databases})
    digests = [(database.relative_to(data).as_posix(), _file_sha256(database)) for database in databases]
    return hashlib.sha256(json.dumps([tables_sha256, digests]).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    """SHA-256 of a file, which may be larger than memory."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                digest.update(part)
    except OSError as error:
        raise DatasetError(
            f"expected a SQLite database in {path}; got {error.strerror}; unpack the data again"
        ) from None
    return digest.hexdigest()


def _checked(place: str, value: object) -> dict[str, Any]:
    row = mapping(place, value)
    for key in ("db_id", "question", "query"):
        field(place, row, key, str, _FORMAT)
    return row


def _tables_by_database(tables: Table) -> dict[str, set[str]]:
    """Names of databases and of their tables, those in lower case and without SQLite's own."""
    named = {}
    for place, value in tables.rows:
        row = mapping(place, value)
        names = field(place, row, "table_names_original", list, _FORMAT)
        named[field(place, row, "db_id", str, _FORMAT)] = {
            str(name).lower() for name in names if not str(name).startswith("sqlite_")
        }
    return named


def _splits(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The split of every row: what it says, else from where its database's first row lies."""
    if any("split" in row for _, row in rows):
        return splits_of(rows)
    names = [row["db_id"] for _, row in rows]
    first = {name: number / len(names) for number, name in reversed(list(enumerate(names)))}
    return [
        "train" if first[name] < _TRAIN_END else "select" if first[name] < _SELECT_END else "final" for name in names
    ]


def _schema(place: str, database: Path, named: dict[str, set[str]]) -> str | None:
    """The statements that made the tables, from the database itself; None where there is no such file."""
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            made = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
            ).fetchall()
    except sqlite3.Error as error:
        raise DatasetError(f"expected a SQLite database in {database}; got {error}; unpack the data again") from None
    tables = {name.lower() for name, _ in made}
    wanted = named.get(database.stem)
    if tables != wanted:
        got = "no such database there" if wanted is None else f"{sorted(wanted)} there"
        raise DatasetError(
            f"{place}: expected the tables of {database} as in tables.json; got {sorted(tables)}, and {got}; "
            "use files of one release"
        )
    return "\n\n".join(f"{sql.strip()};" for _, sql in made)
