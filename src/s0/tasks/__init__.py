"""Problems, and verdicts on completions by running them in a sandbox.

`load("humaneval").verdicts([(problem, completion), ...])`. Files: `problem` and `base` (what a task is), `humaneval`
(reading rows in that format), `scoring` and `extraction` (from a completion to a program), `sandbox` (running it).
"""

from __future__ import annotations

from pathlib import Path

from s0.errors import ConfigError
from s0.tasks.base import SPLITS, Problem, Task, Verdict
from s0.tasks.humaneval import load_humaneval, load_pocket_code

__all__ = ["SPLITS", "Problem", "Task", "Verdict", "load", "names"]

_LOADERS = {"humaneval": load_humaneval, "pocket-code": load_pocket_code}


def names() -> list[str]:
    """The tasks `load` knows, sorted."""
    return sorted(_LOADERS)


def load(name: str, data: str | Path | None = None) -> Task:
    """Read a task's problems.

    Args:
        name: one of `names()`.
        data: a `.jsonl` or `.jsonl.gz` file in HumanEval's format. None takes the task's own source: the Hugging
            Face hub for "humaneval", the file that ships with the package for "pocket-code".

    Raises:
        ConfigError: there is no task of that name.
        DatasetError: the data cannot be had or used; names file, line and key.
    """
    if name not in _LOADERS:
        raise ConfigError(f"expected one of the tasks {', '.join(names())}; got {name!r}; correct the name")
    return _LOADERS[name](None if data is None else Path(data))
