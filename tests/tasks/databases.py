"""A small database made by hand, and a folder in Spider's format around it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from s0.tasks.sql import SqlProblem
from s0.tasks.sql.tokens import is_ordered

SCHEMA = """
CREATE TABLE singer (
    singer_id INTEGER PRIMARY KEY,
    name TEXT,
    country TEXT,
    age INT,
    height REAL
);
CREATE TABLE concert (concert_id INTEGER PRIMARY KEY, title TEXT, singer_id INT REFERENCES singer (singer_id));
"""
SINGERS = [
    (1, "Ada", "Norway", 31, 1.7),
    (2, "Ben", "Norway", 25, 1.8),
    (3, "Cleo", "Chile", 31, None),
    (4, "Ida", "Chile", 40, 1.65),
]
CONCERTS = [(1, "Spring", 1), (2, "Autumn", 1), (3, "Winter", 3)]


def made_database(path: Path, singers: list[tuple[Any, ...]] = SINGERS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO singer VALUES (?, ?, ?, ?, ?)", singers)
        connection.executemany("INSERT INTO concert VALUES (?, ?, ?)", CONCERTS)
        connection.commit()
    return path


def sql_problem(database: Path, gold: str, *more: Path) -> SqlProblem:
    return SqlProblem("made/0", "-- ?\nSELECT", "final", (database, *more), gold, is_ordered(gold))


def tables_row(name: str, **changes: Any) -> dict[str, Any]:
    row = {"db_id": name, "table_names_original": ["Singer", "concert"], **changes}
    return {key: value for key, value in row.items() if value is not None}


def made_folder(folder: Path, rows: list[Any], names: list[str], tables: list[Any] | None = None) -> Path:
    """A folder in Spider's format: `rows` as dev.json, and a database for each of `names`."""
    named = dict.fromkeys(row["db_id"] for row in rows if isinstance(row, dict) and "db_id" in row)
    (folder / "dev.json").write_text(json.dumps(rows))
    (folder / "tables.json").write_text(json.dumps([tables_row(name) for name in named] if tables is None else tables))
    for name in names:
        made_database(folder / "database" / name / f"{name}.sqlite")
    return folder


def question(name: str, text: str, query: str = "SELECT count(*) FROM singer", **changes: Any) -> dict[str, Any]:
    row = {"db_id": name, "question": text, "query": query, **changes}
    return {key: value for key, value in row.items() if value is not None}
