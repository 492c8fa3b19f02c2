"""The corpus `pocket-sql`: questions about small databases that one query answers.

A question asks for columns of a table, how many rows there are, an aggregate, one per group, or columns of two joined
tables. Conditions, an order and a limit add levels; a join is always level 3. Rows have Spider's fields: db_id,
question, query. The databases are those of `databases.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.pocket.databases import DATABASES, Database, opened
from benchmarks.pocket.habits import Habits, Problem, mostly
from s0.tasks.sql.comparison import Row, same_table
from s0.tasks.sql.tokens import is_ordered

WORDINGS = {
    "show": "Show the {what}.",
    "what": "What is the {what}?",
    "find": "Find the {what}.",
    "give": "Give me the {what}.",
}
_TONES = {"plain": "", "polite": "Please, ", "hurried": "Quick, "}
STYLES = tuple(_TONES)
FAMILIES = ("list", "count", "total", "group", "join")
_LEVELS = (0.4, 0.4, 0.2)
_AGGREGATES = (("total", "sum"), ("average", "avg"), ("smallest", "min"), ("largest", "max"))

HABITS = Habits(
    works=0.44,
    corrections={
        **{"show": 0.08, "what": 0.0, "find": -0.10, "give": 0.10},
        **{"plain": 0.08, "polite": 0.0, "hurried": -0.06},
        **{"list": 0.04, "count": 0.06, "total": 0.0, "group": -0.04, "join": -0.06},
    },
    layouts={
        "show": {"continued": 8, "whole": 1, "fenced": 1},
        "what": {"continued": 6, "whole": 1, "fenced": 3},
        "find": {"continued": 7, "whole": 2, "fenced": 1},
        "give": {"continued": 1, "whole": 2, "fenced": 16},
    },
    useless={"plain": mostly("stub"), "polite": mostly("note"), "hurried": mostly("careless")},
)


@dataclass(frozen=True)
class SqlProblem(Problem):
    """One query to write. The prompt is the schema, the question and `SELECT`.

    Attributes:
        database: what it is about.
        question: its text alone.
        query: the right one, from `SELECT` on.
        careless: the same with the last clause forgotten, or another column or aggregate: wrong on the database.
    """

    database: Database
    question: str
    query: str
    careless: str
    habits: ClassVar[Habits] = HABITS

    @property
    def answers(self) -> dict[str, str]:
        return {
            "continued": self.query.removeprefix("SELECT"),
            "whole": f"\n{self.query}",
            "fenced": f"\n```sql\n{self.query}\n```",
            "stub": " NULL",
            "note": "\n-- TODO",
            "refusal": " 'no idea'",
            "careless": self.careless.removeprefix("SELECT"),
        }

    @property
    def entry(self) -> dict[str, str]:
        return {"db_id": self.database.name, "question": self.question, "query": self.query}

    @property
    def normalised(self) -> str:
        """Lower case, without the tone, which says nothing about the query."""
        return self.prompt.replace(_TONES[self.style], "").lower()


@dataclass
class _Sketch:
    """What a family decides about a problem.

    Attributes:
        what: the question's noun phrase.
        head: the query up to its FROM.
        clauses: what follows, conditions one by one.
        other: the head of a wrong query, for a query without clauses.
    """

    what: str
    head: str
    clauses: list[str]
    other: str

    @property
    def query(self) -> str:
        return " ".join(["SELECT", self.head, *self.clauses])

    @property
    def careless(self) -> str:
        kept = [self.head, *self.clauses[:-1]] if self.clauses else [self.other]
        return " ".join(["SELECT", *kept])


def _conditions(rng: random.Random, database: Database, columns: list[str], count: int) -> tuple[str, list[str]]:
    """`count` conditions on different columns: how to name the rows then ("animals with age above 5"), the clauses."""
    words, clauses = list[str](), list[str]()
    for column in rng.sample(columns, count):
        if column == database.kind:
            value = rng.choice(database.kinds)
            word, test = f"{column} {value}", f"= '{value}'"
        else:
            name, sign = rng.choice((("above", ">"), ("below", "<")))
            number = rng.randint(10, 90)
            word, test = f"{column} {name} {number}", f"{sign} {number}"
        words.append(f"{'and' if words else 'with'} {word}")
        clauses.append(f"{'AND' if clauses else 'WHERE'} {column} {test}")
    return " ".join([database.table if words else f"all {database.table}", *words]), clauses


def _list(rng: random.Random, database: Database, level: int) -> _Sketch:
    columns = [database.label, database.kind, *database.numbers]
    shown = rng.sample(columns, rng.choice((1, 1, 2)))
    others = [column for column in columns if column not in shown]
    rows, clauses = _conditions(rng, database, columns[1:], 1 if level > 1 else rng.randint(0, 1))
    what = f"{' and '.join(shown)} of {rows}"
    if level > 1:
        by, down = rng.choice(database.numbers), rng.random() < 0.5
        what += f", sorted by {by}" + (" from high to low" if down else "")
        clauses.append(f"ORDER BY {by}" + (" DESC" if down else ""))
    if level > 2:
        first = rng.randint(2, 5)
        what += f", only the first {first}"
        clauses.append(f"LIMIT {first}")
    table = f"FROM {database.table}"
    return _Sketch(what, f"{', '.join(shown)} {table}", clauses, f"{', '.join(others[: len(shown)])} {table}")


def _count(rng: random.Random, database: Database, level: int) -> _Sketch:
    rows, clauses = _conditions(rng, database, [database.kind, *database.numbers], level)
    return _Sketch(f"number of {rows}", f"count(*) FROM {database.table}", clauses, "")


def _total(rng: random.Random, database: Database, level: int) -> _Sketch:
    (word, name), (_, other) = rng.sample(_AGGREGATES, 2)
    column = rng.choice(database.numbers)
    rows, clauses = _conditions(rng, database, [database.kind, *database.numbers], level - 1)
    heads = [f"{function}({column}) FROM {database.table}" for function in (name, other)]
    return _Sketch(f"{word} {column} of {rows}", heads[0], clauses, heads[1])


def _group(rng: random.Random, database: Database, level: int) -> _Sketch:
    """The number of rows of every kind (level 1), an aggregate (2), of some rows (3)."""
    word, name = rng.choice(_AGGREGATES)
    column = rng.choice(database.numbers)
    rows, clauses = _conditions(rng, database, [*database.numbers], level // 3)
    what, value = ("number", "count(*)") if level == 1 else (f"{word} {column}", f"{name}({column})")
    head = f"{database.kind}, {value} FROM {database.table}"
    return _Sketch(f"{what} of {rows} for each {database.kind}", head, [*clauses, f"GROUP BY {database.kind}"], "")


def _join(rng: random.Random, database: Database, level: int) -> _Sketch:
    second = database.second
    assert second is not None
    shown = [rng.choice((database.label, *database.numbers)), second.text]
    rows, clauses = _conditions(rng, database, [*database.numbers, second.number], level // 3)
    tables = f"FROM {database.table} JOIN {second.table} USING ({database.kind})"
    return _Sketch(f"{' and '.join(shown)} of {rows}", f"{', '.join(shown)} {tables}", clauses, "")


_BUILDERS = {"list": _list, "count": _count, "total": _total, "group": _group, "join": _join}


def _result(database: Database, query: str) -> list[Row]:
    return opened(database).execute(query).fetchall()


def _tells(database: Database, sketch: _Sketch) -> bool:
    """Whether the right query finds something and the careless one something else."""
    gold = _result(database, sketch.query)
    if not gold or gold == [(0,)] or any(None in row for row in gold):
        return False
    careless = _result(database, sketch.careless)
    if len(gold[0]) != len(careless[0]):
        return True
    return not same_table(gold, careless, is_ordered(sketch.query))


def draw(rng: random.Random) -> SqlProblem:
    """One problem; `rng` is the only source of chance."""
    family, style, wording = rng.choice(FAMILIES), rng.choice(STYLES), rng.choice(tuple(WORDINGS))
    level = 3 if family == "join" else rng.choices((1, 2, 3), _LEVELS)[0]
    while True:
        database = rng.choice([candidate for candidate in DATABASES if candidate.second or family != "join"])
        sketch = _BUILDERS[family](rng, database, level)
        if _tells(database, sketch):
            break
    asked = WORDINGS[wording].format(what=sketch.what)
    question = _TONES[style] + (asked if style == "plain" else asked[0].lower() + asked[1:])
    schema = "\n\n".join(f"{statement};" for statement in database.statements)
    return SqlProblem(
        prompt=f"{schema}\n\n-- Answer with one SQLite query: {question}\nSELECT",
        family=family,
        wording=wording,
        style=style,
        level=level,
        database=database,
        question=question,
        query=sketch.query,
        careless=sketch.careless,
    )
