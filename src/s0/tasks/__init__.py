"""Problems, and verdicts on completions by running or comparing them.

`load("humaneval").verdicts([(problem, completion), ...])`. Files: `problem` and `base` (what a task is), `scoring`
(what a scorer is), `sources` (files and the hub); a file per benchmark; `code`, `math` and `sql` (from a completion to
what is judged, and judging it), `sandbox` (running programs); `workers` (many jobs at a time, and processes for them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s0.errors import ConfigError
from s0.tasks import gsm8k, humaneval, math500, mbpp, own, pocket, spider
from s0.tasks.base import SCORINGS, SPLITS, CodeProblem, MathProblem, Problem, Scorer, Task, Verdict

__all__ = [
    "SCORINGS",
    "SPLITS",
    "TASKS",
    "CodeProblem",
    "Entry",
    "MathProblem",
    "Problem",
    "Scorer",
    "Task",
    "Verdict",
    "load",
    "names",
]


@dataclass(frozen=True)
class Entry:
    """What `load` knows of a task before it reads anything.

    Attributes:
        what: in a few words.
        version: of prompts and judging rules.
        source: where the problems come from without `data`: Hugging Face ids, or what must be passed.
        load: reads it.
    """

    what: str
    version: str
    source: str
    load: Callable[[Path | None], Task]


def _entry(what: str, changes: tuple[str, ...], source: str, loader: Callable[[Path | None], Task]) -> Entry:
    return Entry(what, str(len(changes)), source, loader)


TASKS = {
    "gsm8k": _entry("word problems, answer a number", gsm8k.CHANGES, gsm8k.TEST.id, gsm8k.load_gsm8k),
    "humaneval": _entry("complete a Python function", humaneval.CHANGES, humaneval.HUB.id, humaneval.load_humaneval),
    "humaneval+": _entry(
        "HumanEval with many more tests", humaneval.CHANGES, humaneval.PLUS.id, humaneval.load_humaneval_plus
    ),
    "math500": _entry(
        "competition mathematics, answer in LaTeX",
        math500.CHANGES,
        f"{math500.TEST.id}, {math500.TRAIN[0].id}",
        math500.load_math500,
    ),
    "mbpp": _entry("write a Python function from a sentence", mbpp.CHANGES, mbpp.HUBS[0].id, mbpp.load_mbpp),
    "mbpp+": _entry("MBPP with many more tests", mbpp.CHANGES, mbpp.PLUS.id, mbpp.load_mbpp_plus),
    "own": _entry("your problems, with tests or answers", own.CHANGES, "--data FILE.jsonl", own.load_own),
    **{
        name: _entry(task.what, task.changes, "ships with the package", partial(pocket.load_pocket, name))
        for name, task in pocket.POCKET_TASKS.items()
    },
    "spider": _entry("questions about databases, answer SQL", spider.CHANGES, "--data FOLDER", spider.load_spider),
}
"""By name, sorted."""


def names() -> list[str]:
    """The tasks `load` knows, sorted."""
    return list(TASKS)


def load(name: str, data: str | Path | None = None) -> Task:
    """Read a task's problems.

    Args:
        name: one of `names()`.
        data: a file, or a folder where the task has one, in the task's own format: see its module. None takes the
            task's own source, `TASKS[name].source`.

    Raises:
        ConfigError: there is no task of that name.
        DatasetError: the data cannot be had or used; names file, line and key.
    """
    if name not in TASKS:
        raise ConfigError(f"expected one of the tasks {', '.join(TASKS)}; got {name!r}; correct the name")
    return TASKS[name].load(None if data is None else Path(data))
