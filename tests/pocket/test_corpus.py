"""The corpora are data: the same for a seed, correct, tied to what prompts show, and nowhere near the benchmarks."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from benchmarks.pocket import code, queries, sums
from benchmarks.pocket.benchmark import (
    BENCHMARK_FOLDER,
    SPLIT_SIZES,
    draw_first,
    first_tasks,
    prompts_of,
    rows_of,
)
from benchmarks.pocket.corpora import CORPORA
from benchmarks.pocket.habits import USELESS, Problem

FILES = {"pocket-code": code, "pocket-math": sums, "pocket-sql": queries}


@cache
def benchmark(corpus: str) -> list[Problem]:
    return [problem for _, problem in draw_first(corpus)]


@cache
def first_rows(corpus: str) -> list[dict[str, str]]:
    return rows_of(corpus, draw_first(corpus))


@cache
def drawn(corpus: str) -> list[Problem]:
    rng = random.Random(f"test {corpus}")
    return [CORPORA[corpus](rng) for _ in range(1200)]


@pytest.fixture(params=CORPORA)
def corpus(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_same_seed_draws_the_same_problems_and_answers(corpus: str) -> None:
    first, second = random.Random(5), random.Random(5)
    for _ in range(50):
        problem = CORPORA[corpus](first)
        assert problem == CORPORA[corpus](second)
        assert problem.draw_answer(first) == problem.draw_answer(second)


def test_another_seed_draws_other_problems(corpus: str) -> None:
    assert draw_first(corpus, 1) != draw_first(corpus)


def test_the_benchmark_has_the_promised_rows(corpus: str) -> None:
    rows = first_rows(corpus)
    assert Counter(row["split"] for row in rows) == SPLIT_SIZES
    assert SPLIT_SIZES["final"] >= 200
    assert len({row["task_id"] for row in rows}) == len(rows)


def test_no_two_rows_ask_for_the_same(corpus: str) -> None:
    prompts = {problem.normalised for problem in benchmark(corpus)}
    assert len(prompts) == len(first_rows(corpus))
    assert prompts <= prompts_of(first_tasks())


def test_every_feature_is_about_as_frequent(corpus: str) -> None:
    """A benchmark in which one kind of prompt is rare would say nothing about it."""
    file = FILES[corpus]
    for problems, tolerance in ((drawn(corpus), 0.2), (benchmark(corpus), 0.3)):
        for names, found in (
            (file.FAMILIES, Counter(problem.family for problem in problems)),
            (tuple(file.WORDINGS), Counter(problem.wording for problem in problems)),
            (file.STYLES, Counter(problem.style for problem in problems)),
        ):
            assert set(found) == set(names)
            for number in found.values():
                assert number == pytest.approx(len(problems) / len(names), rel=tolerance)
        levels = Counter(problem.level for problem in problems)
        assert min(levels[level] for level in (1, 2, 3)) > 0.15 * len(problems)


def test_a_benchmark_row_is_not_most_of_what_there_is(corpus: str) -> None:
    """Else banning the benchmark would leave little to learn from."""
    banned = prompts_of(first_tasks())
    met = [problem.normalised in banned for problem in drawn(corpus)]
    assert sum(met) < 0.25 * len(met)


def test_habits_are_tied_to_what_the_prompt_shows(corpus: str) -> None:
    for problem in drawn(corpus)[:300]:
        odds = problem.odds
        assert sum(odds.values()) == pytest.approx(1)
        assert min(odds.values()) > 0
        assert set(odds) == set(problem.answers)
        assert next(iter(problem.answers)) not in USELESS
        assert set(USELESS) < set(odds)
        works = sum(share for habit, share in odds.items() if habit not in USELESS)
        assert 0.15 < works < 0.8
    profiles = {(p.style, p.wording, p.family): tuple(p.odds.values()) for p in drawn(corpus)}
    assert len(set(profiles.values())) > 20


def test_answers_are_drawn_by_the_odds(corpus: str) -> None:
    problem, rng = drawn(corpus)[0], random.Random(0)
    found = Counter(problem.draw_answer(rng) for _ in range(4000))
    for habit, share in problem.odds.items():
        assert found[problem.answers[habit]] == pytest.approx(4000 * share, abs=150)


def test_rows_have_the_fields_of_their_benchmark() -> None:
    for row in first_rows("pocket-code"):
        assert row["prompt"].startswith(f"def {row['entry_point']}(")
        assert row["prompt"].endswith('"""\n')
        assert "def check(candidate):" in row["test"]
    assert {tuple(row) for row in first_rows("pocket-math")} == {("task_id", "split", "question", "answer")}
    assert {tuple(row) for row in first_rows("pocket-sql")} == {("task_id", "split", "db_id", "question", "query")}


def test_a_prompt_is_the_same_under_another_name() -> None:
    """Names and tone say nothing about the answer; numbers do."""
    for corpus, change, other in (
        ("pocket-code", {"prompt": 'def addUp(x):\n    """Take x."""\n'}, {"prompt": 'def g(x):\n  """Take  X."""'}),
        (
            "pocket-math",
            {"person": "Ana", "prompt": "Question: Ana has 3 cups."},
            {"person": "A baker", "prompt": "Question: A baker has 3 cups."},
        ),
        (
            "pocket-sql",
            {"style": "plain", "prompt": "-- Show the name."},
            {"style": "hurried", "prompt": "-- Quick, show the name."},
        ),
    ):
        problem = drawn(corpus)[0]
        assert _changed(problem, change).normalised == _changed(problem, other).normalised
        assert _changed(problem, {**change, "prompt": "3"}).normalised != _changed(problem, change).normalised


def _changed(problem: Problem, fields: dict[str, str]) -> Problem:
    return replace(problem, **fields)  # type: ignore[arg-type]


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-"], input=program, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("file", ["pocket_code.jsonl", "pocket_code_fresh.jsonl"])
def test_every_canonical_solution_passes_and_every_stub_fails(file: str) -> None:
    """All in one subprocess; a stub or a forgotten step must not pass, or a verdict would mean nothing."""
    lines = ["failures = []"]
    for row in map(json.loads, (BENCHMARK_FOLDER / file).read_text(encoding="utf-8").splitlines()):
        for body, wanted in ((row["canonical_solution"], True), ("    pass\n", False)):
            source = f"{row['prompt']}{body}\n{row['test']}\ncheck({row['entry_point']})\n"
            lines += [
                f"try: exec({source!r}, {{}}); passed = True",
                "except AssertionError: passed = False",
                f"if passed is not {wanted}: failures.append({row['task_id']!r})",
            ]
    done = _run("\n".join([*lines, "print(failures)"]))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("family", code.FAMILIES)
def test_the_careless_function_is_wrong(family: str) -> None:
    rng = random.Random(family)
    problems = [problem for problem in (code.draw(rng) for _ in range(200)) if problem.family == family]
    assert problems
    for problem in problems:
        assert problem.expected(problem.body) != problem.expected(problem.careless)


@pytest.mark.slow
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
    for _ in range(10000):
        problem = code.draw(rng)
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


def test_a_whole_answer_repeats_the_signature_and_a_fence_wraps_it() -> None:
    problem = code.draw(random.Random(2))
    assert problem.answers["whole"] == f"{problem.signature}\n{problem.body}"
    assert problem.answers["fenced"] == f"```python\n{problem.signature}\n{problem.body}\n```"
