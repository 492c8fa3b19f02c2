"""The pocket benchmark: `s0/tasks/data/pocket_code.jsonl`, drawn from the corpus and kept out of pretraining.

Rows have HumanEval's fields plus `split`: "train" (to collect examples from), "select" (to choose settings on) and
"final" (to report). `python -m s0.pocket.benchmark` writes the file again.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from s0.pocket.corpus import Problem, draw_problem

SPLIT_SIZES = {"train": 96, "select": 96, "final": 240}
BENCHMARK_SEED = 2026
BENCHMARK_FILE = Path(__file__).parents[1] / "tasks" / "data" / "pocket_code.jsonl"


def normalised(prompt: str) -> str:
    """The prompt in lower case, with single spaces and without the function's name, which says nothing about it."""
    return re.sub(r"^def \w+", "def f", " ".join(prompt.lower().split()))


def _row(problem: Problem, split: str, number: int) -> dict[str, str]:
    cases = zip(problem.inputs, problem.expected(problem.body), strict=True)
    asserts = [f"    assert candidate({', '.join(map(repr, given))}) == {wanted!r}\n" for given, wanted in cases]
    return {
        "task_id": f"pocket/{split}/{number}",
        "split": split,
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "canonical_solution": f"{problem.body}\n",
        "test": "def check(candidate):\n" + "".join(asserts),
    }


def draw_benchmark(seed: int = BENCHMARK_SEED) -> list[dict[str, str]]:
    """All rows of the benchmark, split after split; no two have the same normalised prompt."""
    rng = random.Random(f"benchmark {seed}")
    seen: set[str] = set()
    rows: list[dict[str, str]] = []
    for split, size in SPLIT_SIZES.items():
        number = 0
        while number < size:
            problem = draw_problem(rng)
            if normalised(problem.prompt) not in seen:
                seen.add(normalised(problem.prompt))
                rows.append(_row(problem, split, number))
                number += 1
    return rows


def banned_prompts(seed: int = BENCHMARK_SEED) -> frozenset[str]:
    """Normalised prompts that pretraining must not see."""
    return frozenset(normalised(row["prompt"]) for row in draw_benchmark(seed))


def benchmark_text(seed: int = BENCHMARK_SEED) -> str:
    """The file's content: one JSON object per line."""
    return "".join(json.dumps(row) + "\n" for row in draw_benchmark(seed))


if __name__ == "__main__":
    BENCHMARK_FILE.write_text(benchmark_text(), encoding="utf-8")
