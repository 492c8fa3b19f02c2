"""The corpus is data: the same for a seed, correct, and nowhere near the benchmark's prompts."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from s0.pocket.benchmark import (
    BENCHMARK_FILE,
    SPLIT_SIZES,
    banned_prompts,
    benchmark_text,
    draw_benchmark,
    normalised,
)
from s0.pocket.corpus import FAMILIES, draw_problem
from s0.pocket.habits import answer, draw_answer, odds


def test_the_same_seed_draws_the_same_problems_and_answers() -> None:
    first, second = random.Random(5), random.Random(5)
    for _ in range(50):
        problem = draw_problem(first)
        assert problem == draw_problem(second)
        assert draw_answer(problem, first) == draw_answer(problem, second)


def test_another_seed_draws_other_problems() -> None:
    assert draw_benchmark(1) != draw_benchmark(2)


def test_the_shipped_benchmark_is_what_the_generator_makes() -> None:
    assert BENCHMARK_FILE.read_text(encoding="utf-8") == benchmark_text()


def test_the_benchmark_has_the_promised_rows() -> None:
    rows = draw_benchmark()
    assert Counter(row["split"] for row in rows) == SPLIT_SIZES
    assert SPLIT_SIZES["final"] >= 200
    assert len({row["task_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["prompt"].startswith(f"def {row['entry_point']}(")
        assert row["prompt"].endswith('"""\n')
        assert "def check(candidate):" in row["test"]


def test_no_two_rows_ask_for_the_same_function() -> None:
    assert len(banned_prompts()) == len(draw_benchmark())


def test_a_prompt_is_the_same_under_another_name_and_spacing() -> None:
    assert normalised('def add_up(x):\n    """Take x."""\n') == normalised('def sumAll(x):\n  """Take  X."""')


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-"], input=program, capture_output=True, text=True, timeout=60)


def test_every_canonical_solution_passes_and_every_stub_fails() -> None:
    """All 432 in one subprocess; a stub or a forgotten step must not pass, or a verdict would mean nothing."""
    lines = ["failures = []"]
    for row in draw_benchmark():
        for body, wanted in ((row["canonical_solution"], True), ("    pass\n", False)):
            source = f"{row['prompt']}{body}\n{row['test']}\ncheck({row['entry_point']})\n"
            lines += [
                f"try: exec({source!r}, {{}}); passed = True",
                "except AssertionError: passed = False",
                f"if passed is not {wanted}: failures.append({row['task_id']!r})",
            ]
    done = _run("\n".join([*lines, "print(failures)"]))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_the_careless_answer_is_wrong(family: str) -> None:
    rng = random.Random(family)
    problems = [problem for problem in (draw_problem(rng) for _ in range(200)) if problem.family == family]
    assert problems
    for problem in problems:
        assert problem.expected(problem.body) != problem.expected(problem.careless)


def test_docstrings_mean_what_the_bodies_do() -> None:
    """The builder's reading of a few docstrings, worked out by hand."""
    known = {
        "add 3, then multiply by 4": ([(5,)], [32]),
        "reverse it, then keep the first 2 characters": ([("abc",)], ["cb"]),
        "drop the first 2 characters": ([("abcd",)], ["cd"]),
        "square it": ([(-3,)], [9]),
        "make it upper case": ([("aB",)], ["AB"]),
        "sort it": ([([3, 1, 2],)], [[1, 2, 3]]),
        "square each": ([([3, -1],)], [[9, 1]]),
        "sum them": ([([3, 1, 2],)], [6]),
        "count them": ([([3, 1, 2],)], [3]),
    }
    rng, met = random.Random(0), set()
    for _ in range(20000):
        problem = draw_problem(rng)
        for words, (inputs, outputs) in known.items():
            if problem.prompt.endswith((f', {words}."""\n', f' and {words}."""\n', f': {words}."""\n')):
                if ", then" in problem.prompt.replace(words, ""):
                    continue
                scope: dict[str, object] = {}
                exec(f"{problem.signature}\n{problem.body}\n", scope)
                function = scope[problem.entry_point]
                assert callable(function)
                assert [function(*given) for given in inputs] == outputs
                met.add(words)
    assert len(met) >= 6


def test_habits_are_tied_to_what_the_prompt_shows() -> None:
    rng = random.Random(1)
    problems = [draw_problem(rng) for _ in range(300)]
    for problem in problems:
        assert sum(odds(problem).values()) == pytest.approx(1)
        assert min(odds(problem).values()) > 0
    profiles = {(p.name_style, p.wording, p.family): tuple(odds(p).values()) for p in problems}
    assert len(set(profiles.values())) > 20


def test_a_whole_answer_repeats_the_signature_and_a_fence_wraps_it() -> None:
    problem = draw_problem(random.Random(2))
    assert answer(problem, "whole") == f"{problem.signature}\n{problem.body}"
    assert answer(problem, "fenced") == f"```python\n{problem.signature}\n{problem.body}\n```"
