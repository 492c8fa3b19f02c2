"""The databases of the corpus `pocket-sql`: one or two tables, a dozen rows each, always the same.

In a column of numbers no number comes twice, so sorting by it leaves nothing open.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# fmt: off
_LABELS = (
    "Ada", "Bo", "Cleo", "Dan", "Elsa", "Finn", "Gil", "Hana", "Ivo", "June",
    "Kai", "Lina", "Milo", "Nora", "Otto", "Pia",
)
# fmt: on
_ROWS = 12


@dataclass(frozen=True)
class Second:
    """A table that tells more about the first one's kinds, a row for each.

    Attributes:
        table: its name.
        text, number: its columns beside the kind.
    """

    table: str
    text: str
    number: str


@dataclass(frozen=True)
class Database:
    """Names in a database.

    Attributes:
        name: of the database.
        table: of the first table.
        label: its column that tells the rows apart.
        kind: its column that groups them.
        numbers: its columns of numbers.
        kinds: what the column `kind` holds.
        second: the other table; it shares the column `kind`.
    """

    name: str
    table: str
    label: str
    kind: str
    numbers: tuple[str, ...]
    kinds: tuple[str, ...]
    second: Second | None = None

    @property
    def statements(self) -> list[str]:
        """What makes the tables."""
        numbers = "".join(f", {column} INT" for column in self.numbers)
        made = [f"CREATE TABLE {self.table} ({self.label} TEXT, {self.kind} TEXT{numbers})"]
        if self.second:
            columns = f"{self.kind} TEXT, {self.second.text} TEXT, {self.second.number} INT"
            made.append(f"CREATE TABLE {self.second.table} ({columns})")
        return made

    @property
    def tables(self) -> list[str]:
        """Their names."""
        return [self.table] + ([self.second.table] if self.second else [])

    def fill(self, connection: sqlite3.Connection) -> None:
        """Make the tables and put the rows in."""
        for statement in self.statements:
            connection.execute(statement)
        rng = random.Random(f"database {self.name}")
        labels = rng.sample(_LABELS, len(_LABELS))
        kinds = [*self.kinds, *rng.choices(self.kinds, k=_ROWS - len(self.kinds))]
        rng.shuffle(kinds)
        numbers = [rng.sample(range(2, 100), _ROWS) for _ in self.numbers]
        _insert(connection, self.table, [*zip(labels, kinds, *numbers, strict=False)])
        if self.second:
            rest = (labels[_ROWS:], rng.sample(range(2, 100), len(self.kinds)))
            _insert(connection, self.second.table, [*zip(self.kinds, *rest, strict=True)])


DATABASES = (
    Database("zoo", "animals", "name", "kind", ("age", "weight"), ("bear", "bird", "cat", "fish")),
    Database("library", "books", "title", "genre", ("pages", "price"), ("art", "crime", "poems", "travel")),
    Database("market", "items", "name", "color", ("price", "stock"), ("blue", "green", "red", "white")),
    Database("map", "cities", "city", "country", ("size", "parks"), ("Chile", "Ghana", "Japan", "Norway")),
    Database(
        "league", "players", "name", "team", ("age", "goals"), ("bees", "lions", "stars", "waves"),
        Second("teams", "coach", "wins"),
    ),
    Database(
        "school", "pupils", "name", "room", ("age", "score"), ("attic", "hall", "north", "south"),
        Second("rooms", "teacher", "seats"),
    ),
)  # fmt: skip


def _insert(connection: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> None:
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


@cache
def opened(database: Database) -> sqlite3.Connection:
    """The database in memory, the same one every time; for reading only."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    database.fill(connection)
    return connection


def file_of(database: Database) -> bytes:
    """The database as the file that ships: small pages, and the same bytes whatever SQLite writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.sqlite")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA page_size = 512")
            database.fill(connection)
            connection.commit()
        content = bytearray(path.read_bytes())
    content[96:100] = bytes(4)  # the version of the SQLite that wrote it, which no reader looks at
    return bytes(content)
