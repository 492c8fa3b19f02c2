"""The corpus `pocket-sql`: questions about small databases that one query answers.

A question asks for columns of a table, how many rows there are, an aggregate, one per group, or columns of two joined
tables. Conditions, an order and a limit add levels; a join is always level 3. Rows have Spider's fields: db_id,
question, query. The databases are those of `databases.py`.

`draw_hard` draws for the task `pocket-sql-hard`, whose kinds of query no model was trained on: one condition more, or
an order where there was none. They are level 4.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    return _joined(rng, database, level // 3)


def _joined(rng: random.Random, database: Database, conditions: int) -> _Sketch:
    second = database.second
    assert second is not None
    shown = [rng.choice((database.label, *database.numbers)), second.text]
    rows, clauses = _conditions(rng, database, [*database.numbers, second.number], conditions)
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
    return _posed(database, sketch, family, level, (wording, style))


def _posed(database: Database, sketch: _Sketch, family: str, level: int, manner: tuple[str, str]) -> SqlProblem:
    """The problem in words; `manner` is its wording and style."""
    wording, style = manner
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


# --- The harder ones ---


def _hard_list(rng: random.Random, database: Database) -> _Sketch:
    shown = rng.sample([database.label, database.kind, *database.numbers], rng.choice((1, 2)))
    rows, clauses = _conditions(rng, database, [database.kind, *database.numbers], 2)
    head = f"{', '.join(shown)} FROM {database.table}"
    return _sorted(rng, database, _Sketch(f"{' and '.join(shown)} of {rows}", head, clauses, ""))


def _sorted(rng: random.Random, database: Database, sketch: _Sketch) -> _Sketch:
    by, order, words = rng.choice(database.numbers), *rng.choice((("", ""), (" DESC", " from high to low")))
    clauses = [*sketch.clauses, f"ORDER BY {by}{order}"]
    return replace(sketch, what=f"{sketch.what}, sorted by {by}{words}", clauses=clauses)


def _limited(rng: random.Random, sketch: _Sketch) -> _Sketch:
    first = rng.randint(2, 5)
    return replace(sketch, what=f"{sketch.what}, only the first {first}", clauses=[*sketch.clauses, f"LIMIT {first}"])


def _sorted_join(rng: random.Random, database: Database) -> _Sketch:
    return _sorted(rng, database, _joined(rng, database, 1))


_HARD_BUILDERS: tuple[tuple[str, Callable[[random.Random, Database], _Sketch]], ...] = (
    ("total", lambda rng, database: _total(rng, database, 4)),  # three conditions
    ("list", _hard_list),
    ("join", lambda rng, database: _joined(rng, database, 2)),
    ("join", _sorted_join),
    ("join", lambda rng, database: _limited(rng, _sorted_join(rng, database))),
)
"""Equally usual kinds of query: the family whose habits they have, and what makes them."""


def _near_misses(database: Database, sketch: _Sketch) -> Iterator[str]:
    """Wrong queries: a clause forgotten; another column of numbers, comparison, direction or aggregate in one."""
    for number, clause in enumerate(sketch.clauses):
        before, after = sketch.clauses[:number], sketch.clauses[number + 1 :]
        rest = " ".join(after)
        yield " ".join(["SELECT", sketch.head, *before, rest if before else rest.replace("AND", "WHERE", 1)])
        for changed in _changed(database, sketch, clause):
            yield " ".join(["SELECT", sketch.head, *before, changed, rest])
    for _, name in _AGGREGATES:
        other = re.sub(r"^\w+(?=\()", name, sketch.head)
        if other != sketch.head:
            yield " ".join(["SELECT", other, *sketch.clauses])


def _changed(database: Database, sketch: _Sketch, clause: str) -> Iterator[str]:
    """The clause with one thing changed."""
    second = [database.second.number] if database.second and "JOIN" in sketch.head else []
    numbers = [*database.numbers, *second]
    for column in numbers:
        for other in numbers:
            if column in clause.split() and other != column:
                yield clause.replace(column, other)
    if "<" in clause or ">" in clause:
        yield clause.translate(str.maketrans("<>", "><"))
    if clause.startswith("ORDER"):
        yield clause.removesuffix(" DESC") if clause.endswith(" DESC") else f"{clause} DESC"


def _tells_apart(database: Database, sketch: _Sketch) -> bool:
    """Whether the right query finds something and every near miss something else."""
    gold = _result(database, sketch.query)
    if not gold or any(None in row for row in gold):
        return False
    is_sorted = is_ordered(sketch.query)
    return not any(same_table(gold, _result(database, wrong), is_sorted) for wrong in _near_misses(database, sketch))


def draw_hard(rng: random.Random) -> SqlProblem:
    """One of the harder problems; `rng` is the only source of chance."""
    (family, build), style, wording = rng.choice(_HARD_BUILDERS), rng.choice(STYLES), rng.choice(tuple(WORDINGS))
    while True:
        database = rng.choice([candidate for candidate in DATABASES if candidate.second or family != "join"])
        sketch = build(rng, database)
        if _tells_apart(database, sketch):
            return _posed(database, sketch, family, 4, (wording, style))
