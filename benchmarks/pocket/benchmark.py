"""The pocket benchmarks, drawn from the corpora and kept out of pretraining. They ship in `src/s0/tasks/data`.

Rows have the fields of HumanEval, GSM8K and Spider, and `task_id` and `split`: "train" (to collect examples from),
"select" (to choose settings on) and "final" (to report). `python -m benchmarks.pocket.benchmark` writes the files
again, in a few minutes.

The first problems of a task were there before the models, whose pretraining has left them out. Later ones, more train
problems and the final problems of the `-fresh` tasks, are drawn from what no pretraining has met. They have the levels
of the first final problems, and within a level their families, as far as there are any left: of the shortest questions
("How many pupils are there for each room?") the models have met every one. The task `pocket-sql-hard` came last: its
problems are of kinds that no model has met any of.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.pocket.corpora import CORPORA
from benchmarks.pocket.databases import DATABASES, file_of
from benchmarks.pocket.habits import Problem
from benchmarks.pocket.queries import draw_hard
from benchmarks.pocket.recipes import trained_prompts
from s0.files import write_bytes

SPLIT_SIZES = {"train": 96, "select": 96, "final": 240}
"""Of the first problems."""
MORE_TRAIN = 304
FRESH = 480
HARD_SIZES = {"train": 400, "select": 96, "final": 240}
BENCHMARK_SEED = 2026
BENCHMARK_FOLDER = Path(__file__).parents[2] / "src" / "s0" / "tasks" / "data"
_CANDIDATES = 20_000  # enough for every family and level that has any problems left
_Kind = TypeVar("_Kind")
Placed = tuple[str, Problem]  # a split and a problem of it


def draw_first(corpus: str, seed: int = BENCHMARK_SEED) -> list[Placed]:
    """A task's first problems, split after split."""
    return _placed(CORPORA[corpus], random.Random(f"benchmark {seed}"), SPLIT_SIZES)


def draw_harder(
    known: Collection[str], sizes: Mapping[str, int] = HARD_SIZES, seed: int = BENCHMARK_SEED
) -> list[Placed]:
    """The problems of `pocket-sql-hard`, split after split.

    Args:
        known: normalised prompts of what models were trained on and of other tasks, which are passed over.
        sizes: how many problems each split has.
        seed: of the draws.
    """
    return _placed(draw_hard, random.Random(f"hard {seed}"), sizes, known)


def _placed(
    draw: Callable[[random.Random], Problem],
    rng: random.Random,
    sizes: Mapping[str, int],
    passed_over: Collection[str] = (),
) -> list[Placed]:
    """Problems for every split; no two have the same normalised prompt."""
    problems: dict[str, Placed] = {}
    for split, size in sizes.items():
        end = len(problems) + size
        while len(problems) < end:
            problem = draw(rng)
            if problem.normalised not in passed_over:
                problems.setdefault(problem.normalised, (split, problem))
    return [*problems.values()]


def draw_later(
    corpus: str, trained: Collection[str], seed: int = BENCHMARK_SEED
) -> tuple[list[Problem], list[Problem]]:
    """A task's later problems: more train problems, and the final ones of its fresh sister.

    Args:
        corpus: the task's.
        trained: normalised prompts that models were trained on, which are passed over.
        seed: of the draws.

    Raises:
        ValueError: too few problems are left.
    """
    first = draw_first(corpus, seed)
    seen = {problem.normalised for _, problem in first}.union(trained)
    rng = random.Random(f"later {seed}")
    candidates: dict[str, Problem] = {}
    for problem in (CORPORA[corpus](rng) for _ in range(_CANDIDATES)):
        if problem.normalised not in seen:
            candidates.setdefault(problem.normalised, problem)
    models = [problem for split, problem in first if split == "final"]
    fresh = _alike([*candidates.values()], models, FRESH)
    for problem in fresh:
        del candidates[problem.normalised]
    return _alike([*candidates.values()], models, MORE_TRAIN), fresh


def _alike(candidates: Sequence[Problem], models: Sequence[Problem], size: int) -> list[Problem]:
    """The first `size` candidates with the families and levels of `models`; what a family lacks, its level makes up."""
    chosen: set[int] = set()
    wanted = _shares(Counter((problem.level, problem.family) for problem in models), size)
    _choose(chosen, wanted, [(problem.level, problem.family) for problem in candidates])
    lacking = Counter[int]()
    for (level, _), count in wanted.items():
        lacking[level] += count
    _choose(chosen, lacking, [problem.level for problem in candidates])
    if len(chosen) < size:
        raise ValueError(f"expected {size} problems that no model was trained on, got {len(chosen)}; draw more")
    return [candidates[number] for number in sorted(chosen)]


def _shares(counts: Counter[tuple[int, str]], size: int) -> Counter[tuple[int, str]]:
    """`size` shared out in proportion to `counts`, the remainder to those that lose most by rounding down."""
    total = counts.total()
    shares = Counter({key: count * size // total for key, count in sorted(counts.items())})
    by_loss = sorted(shares, key=lambda key: counts[key] * size % total, reverse=True)
    shares.update(by_loss[: size - shares.total()])
    return shares


def _choose(chosen: set[int], wanted: Counter[_Kind], kinds: Sequence[_Kind]) -> None:
    """Add the numbers of the first that have a wanted kind, and take them off what is wanted."""
    for number, kind in enumerate(kinds):
        if number not in chosen and wanted[kind] > 0:
            wanted[kind] -= 1
            chosen.add(number)


def first_tasks(seed: int = BENCHMARK_SEED) -> dict[str, list[Placed]]:
    """The first problems of every task."""
    return {corpus: draw_first(corpus, seed) for corpus in CORPORA}


def seen_prompts(seed: int = BENCHMARK_SEED) -> frozenset[str]:
    """Normalised prompts that the models were trained on, when there were only the first problems to keep from them."""
    return trained_prompts(banned=prompts_of(first_tasks(seed)))


def all_tasks(trained: Collection[str], seed: int = BENCHMARK_SEED) -> dict[str, list[Placed]]:
    """The problems of every task, in the order of its file: the first ones stay where they were.

    Args:
        trained: as of `draw_later`.
        seed: of the draws.
    """
    tasks: dict[str, list[Placed]] = {}
    for corpus, first in first_tasks(seed).items():
        train, fresh = draw_later(corpus, trained, seed)
        tasks[corpus] = [*first, *(("train", problem) for problem in train)]
        tasks[f"{corpus}-fresh"] = [("final", problem) for problem in fresh]
    return tasks | {"pocket-sql-hard": draw_harder(prompts_of(tasks).union(trained), seed=seed)}


def prompts_of(tasks: Mapping[str, Sequence[Placed]]) -> frozenset[str]:
    """The normalised prompts of all their problems: what pretraining must not see."""
    return frozenset(problem.normalised for placed in tasks.values() for _, problem in placed)


def rows_of(task: str, placed: Sequence[Placed]) -> list[dict[str, str]]:
    """The same problems as rows, those of each split numbered in their order."""
    name = "pocket" if task == "pocket-code" else task  # the first one there was
    numbers = {split: itertools.count() for split, _ in placed}
    return [
        {"task_id": f"{name}/{split}/{next(numbers[split])}", "split": split, **problem.entry}
        for split, problem in placed
    ]


def files_of(tasks: Mapping[str, Sequence[Placed]]) -> dict[str, bytes]:
    """The content of every file by its path in `BENCHMARK_FOLDER`."""
    files: dict[str, bytes] = {}
    for task, placed in tasks.items():
        name, rows = task.replace("-", "_"), rows_of(task, placed)
        files |= _spider_files(name, rows) if "query" in rows[0] else {f"{name}.jsonl": _json_lines(rows)}
    return files


def _spider_files(name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, bytes]:
    tables = [{"db_id": database.name, "table_names_original": database.tables} for database in DATABASES]
    return {
        f"{name}/dev.json": _json_list(rows),
        f"{name}/tables.json": _json_list(tables),
        **{f"{name}/database/{database.name}/{database.name}.sqlite": file_of(database) for database in DATABASES},
    }


def _json_lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _json_list(rows: Sequence[Mapping[str, object]]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode()


if __name__ == "__main__":
    for path, content in files_of(all_tasks(seen_prompts())).items():
        write_bytes(BENCHMARK_FOLDER / path, content)
