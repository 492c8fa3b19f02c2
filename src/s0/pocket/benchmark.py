"""The pocket benchmarks, drawn from the corpora and kept out of pretraining. They ship in `s0/tasks/data`.

Rows have the fields of HumanEval, GSM8K and Spider, and `task_id` and `split`: "train" (to collect examples from),
"select" (to choose settings on) and "final" (to report). `python -m s0.pocket.benchmark` writes the files again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from s0.files import write_bytes
from s0.pocket.corpora import CORPORA
from s0.pocket.databases import DATABASES, file_of
from s0.pocket.habits import Problem

SPLIT_SIZES = {"train": 96, "select": 96, "final": 240}
BENCHMARK_SEED = 2026
BENCHMARK_FOLDER = Path(__file__).parents[1] / "tasks" / "data"


def draw_problems(corpus: str, seed: int = BENCHMARK_SEED) -> dict[str, list[Problem]]:
    """A benchmark's problems by split; no two have the same normalised prompt."""
    rng = random.Random(f"benchmark {seed}")
    seen: set[str] = set()
    problems: dict[str, list[Problem]] = {split: [] for split in SPLIT_SIZES}
    for split, size in SPLIT_SIZES.items():
        while len(problems[split]) < size:
            problem = CORPORA[corpus](rng)
            if problem.normalised not in seen:
                seen.add(problem.normalised)
                problems[split].append(problem)
    return problems


def draw_rows(corpus: str, seed: int = BENCHMARK_SEED) -> list[dict[str, str]]:
    """The same problems as rows, split after split."""
    name = "pocket" if corpus == "pocket-code" else corpus  # the first one there was
    return [
        {"task_id": f"{name}/{split}/{number}", "split": split, **problem.entry}
        for split, problems in draw_problems(corpus, seed).items()
        for number, problem in enumerate(problems)
    ]


def banned_prompts(seed: int = BENCHMARK_SEED) -> frozenset[str]:
    """Normalised prompts of all benchmarks, which pretraining must not see."""
    return frozenset(
        problem.normalised
        for corpus in CORPORA
        for problems in draw_problems(corpus, seed).values()
        for problem in problems
    )


def benchmark_files(seed: int = BENCHMARK_SEED) -> dict[str, bytes]:
    """The content of every file by its path in `BENCHMARK_FOLDER`."""
    tables = [{"db_id": database.name, "table_names_original": database.tables} for database in DATABASES]
    return {
        "pocket_code.jsonl": _json_lines(draw_rows("pocket-code", seed)),
        "pocket_math.jsonl": _json_lines(draw_rows("pocket-math", seed)),
        "pocket_sql/dev.json": _json_list(draw_rows("pocket-sql", seed)),
        "pocket_sql/tables.json": _json_list(tables),
        **{f"pocket_sql/database/{one.name}/{one.name}.sqlite": file_of(one) for one in DATABASES},
    }


def _json_lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _json_list(rows: Sequence[Mapping[str, object]]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode()


if __name__ == "__main__":
    for name, content in benchmark_files().items():
        write_bytes(BENCHMARK_FOLDER / name, content)
