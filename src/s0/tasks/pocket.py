"""The small problems that ship with the package, for pocket models, in the formats of HumanEval, GSM8K and Spider.

Everything but names and lengths is that of the benchmark whose format they have. Rows carry their split. No pocket
model was trained on any of them: `benchmarks/pocket` draws the problems, and pretrains the models without.

The `-fresh` tasks have final problems alone, of the levels of their sister's. Choose everything on the sister, and ask
these once, for a claim about a method that is new: its sister's final problems have been looked at many times.

`pocket-sql-hard` asks for queries of kinds that the pocket models have not met: what they rarely get right untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from s0.tasks import gsm8k, humaneval, spider
from s0.tasks.base import Task

_SHIPPED = Path(__file__).parent / "data"
_MORE_TRAIN = "400 train problems, of which the first 96 are those there were; all others stay, and so does the judging"


@dataclass(frozen=True)
class PocketTask:
    """A task whose problems ship with the package.

    Attributes:
        what: in a few words.
        changes: what came with each version of the task, to its judging or to the problems that ship.
        file: its problems, in the folder of those that ship.
        format: reads them, or a user's own in the same format.
        max_new_tokens: enough for every problem.
    """

    what: str
    changes: tuple[str, ...]
    file: str
    format: Callable[[Path | None], Task]
    max_new_tokens: int


def _with_more_train(changes: tuple[str, ...], before: int) -> tuple[str, ...]:
    """What came with each version, where the first `before` versions were those of the judging alone."""
    return (*changes[:before], _MORE_TRAIN, *changes[before:])


def _from_version(changes: tuple[str, ...], first: int) -> tuple[str, ...]:
    """What came with each version of a task that was there first when its judging was in version `first`."""
    return (f"judged by version {first} of the rules: {'; '.join(changes[:first])}", *changes[first:])


_CODE = PocketTask(
    "small functions, for pocket models",
    _with_more_train(humaneval.CHANGES, before=3),
    "pocket_code.jsonl",
    humaneval.load_humaneval,
    max_new_tokens=128,
)
_MATH = PocketTask(
    "small word problems, for pocket models",
    _with_more_train(gsm8k.CHANGES, before=2),
    "pocket_math.jsonl",
    gsm8k.load_gsm8k,
    max_new_tokens=64,
)
_SQL = PocketTask(
    "small databases, for pocket models",
    _with_more_train(spider.CHANGES, before=2),
    "pocket_sql",
    spider.load_spider,
    max_new_tokens=96,
)
_FRESH = "more of them, to be asked once: for claims about new methods"
POCKET_TASKS = {
    "pocket-code": _CODE,
    "pocket-code-fresh": replace(_CODE, what=_FRESH, changes=humaneval.CHANGES, file="pocket_code_fresh.jsonl"),
    "pocket-math": _MATH,
    "pocket-math-fresh": replace(_MATH, what=_FRESH, changes=gsm8k.CHANGES, file="pocket_math_fresh.jsonl"),
    "pocket-sql": _SQL,
    "pocket-sql-fresh": replace(_SQL, what=_FRESH, changes=spider.CHANGES, file="pocket_sql_fresh"),
    "pocket-sql-hard": replace(
        _SQL,
        what="queries one step harder than any that pocket models have met",
        changes=_from_version(spider.CHANGES, 2),
        file="pocket_sql_hard",
    ),
}
"""By name, sorted."""


def load_pocket(name: str, data: Path | None) -> Task:
    """A task of `POCKET_TASKS`, from the package or from a file or folder of the same format.

    A user's own problems are in the version of their judging: that others ship now changes nothing of them.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    if data:
        return _read(name, data)
    task = _shipped(name)
    return replace(task, problems=[*task.problems], stop=[*task.stop])


@cache
def _shipped(name: str) -> Task:
    """What ships is read and checked once per process."""
    task = POCKET_TASKS[name]
    return replace(_read(name, _SHIPPED / task.file), version=str(len(task.changes)), changes=task.changes)


def _read(name: str, data: Path) -> Task:
    task = POCKET_TASKS[name]
    return replace(task.format(data), name=name, max_new_tokens=task.max_new_tokens)
