"""The problems that ship: the first ones as they were, later ones beside them, no two alike and none trained on."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.pocket import queries, sums
from benchmarks.pocket.benchmark import BENCHMARK_FOLDER, all_tasks, files_of, seen_prompts
from s0 import tasks
from s0.tasks import SPLITS, CodeProblem, MathProblem, Problem
from s0.tasks.pocket import POCKET_TASKS
from s0.tasks.sql import SqlProblem

FIRST = {"train": 96, "select": 96, "final": 240}
# Of the files that held nothing but the first problems, as the models' training_log.json names them.
FIRST_SHA256 = {
    "pocket_code.jsonl": "455941b6606bd6ce54cee348210f3ce42cee88afdb0fbb0498cd422c90f259cc",
    "pocket_math.jsonl": "cf9504a62931cf77bd4c71e277b2a8921df08ed7bd986d8cb862ffb223d04edd",
    "pocket_sql/dev.json": "7e13d0d31fa1c0e85eb4afbabce890b0bc1717471081682674a794eb975f09e5",
}
SISTERS = ("pocket-code", "pocket-math", "pocket-sql")
HARD = "pocket-sql-hard"
HARD_SHA256 = "a22f33673383133cf546e86ecebcf810799482c25fd76f7763b501449fb2b66d"
"""Of the rows of the first version."""


def _asked_for(problem: Problem) -> str:
    """The prompt in lower case without what says nothing about the answer: a name of a function or person, a tone."""
    people = "|".join(person for style in sums.STYLES for person in sums._PEOPLE[style])
    tones = "|".join(tone for tone in queries._TONES.values() if tone)
    idle = {"code": r"(?<=^def )\w+", "math": f"(?<=^Question: )({people})", "sql": f"(?<=query: )({tones})"}
    kind = "code" if isinstance(problem, CodeProblem) else "math" if isinstance(problem, MathProblem) else "sql"
    return re.sub(idle[kind], "", " ".join(problem.prompt.split())).lower()


def _first_lines(path: Path) -> bytes:
    """What the file was before later problems came after the first ones."""
    lines = path.read_bytes().splitlines(keepends=True)
    if path.suffix == ".jsonl":
        return b"".join(lines[: sum(FIRST.values())])
    opening, *rows = lines[: 1 + sum(FIRST.values())]
    return b"".join([opening, *rows[:-1], rows[-1].replace(b"},\n", b"}\n"), b"]\n"])


@pytest.mark.parametrize("name", SISTERS)
def test_a_task_has_the_promised_problems(name: str) -> None:
    task, fresh = tasks.load(name), tasks.load(f"{name}-fresh")
    assert [len(task.split(split)) for split in SPLITS] == [400, 96, 240]
    assert [len(fresh.split(split)) for split in SPLITS] == [0, 0, 480]
    assert not task.left_out and not fresh.left_out
    for each in (task, fresh):
        assert each.version == str(len(each.changes)) == tasks.TASKS[each.name].version
        assert each.scorer is task.scorer and each.max_new_tokens == task.max_new_tokens
    assert {*task.changes} - {*fresh.changes} == {change for change in task.changes if "400 train" in change} != set()


def test_the_harder_queries_are_judged_as_all_others() -> None:
    hard, sql = tasks.load(HARD), tasks.load("pocket-sql")
    assert [len(hard.split(split)) for split in SPLITS] == [400, 96, 240] and not hard.left_out
    assert hard.version == tasks.TASKS[HARD].version == str(len(hard.changes)) == "1"
    assert (hard.scorer, hard.stop, hard.max_new_tokens) == (sql.scorer, sql.stop, sql.max_new_tokens)
    assert tasks.load(HARD, BENCHMARK_FOLDER / POCKET_TASKS[HARD].file).version == tasks.TASKS["spider"].version


def test_the_harder_queries_are_as_they_were() -> None:
    rows = (BENCHMARK_FOLDER / POCKET_TASKS[HARD].file / "dev.json").read_bytes()
    assert hashlib.sha256(rows).hexdigest() == HARD_SHA256


@pytest.mark.parametrize("name", SISTERS)
def test_problems_of_a_users_own_stay_in_the_version_of_their_judging(name: str) -> None:
    file = BENCHMARK_FOLDER / POCKET_TASKS[name].file
    own, fresh = tasks.load(name, file), tasks.load(f"{name}-fresh")
    assert own.data_sha256 == tasks.load(name).data_sha256 and own.name == name
    assert (own.version, own.changes) == (fresh.version, fresh.changes) and int(own.version) == len(own.changes)


@pytest.mark.parametrize("path", FIRST_SHA256)
def test_the_first_problems_are_as_they_were(path: str) -> None:
    assert hashlib.sha256(_first_lines(BENCHMARK_FOLDER / path)).hexdigest() == FIRST_SHA256[path]
    task = tasks.load(path.partition("/")[0].removesuffix(".jsonl").replace("_", "-"))
    assert [problem for split, n in FIRST.items() for problem in task.split(split)[:n]] == task.problems[:432]
    assert {problem.split for problem in task.problems[432:]} == {"train"}


@pytest.mark.parametrize("name", SISTERS)
def test_no_two_problems_ask_for_the_same(name: str) -> None:
    problems = tasks.load(name).problems + tasks.load(f"{name}-fresh").problems
    counts = Counter(_asked_for(problem) for problem in problems)
    assert len(problems) == 736 + 480 and counts.most_common(1)[0][1] == 1
    assert len({problem.prompt for problem in problems}) == len(problems)


def test_no_harder_query_is_asked_for_elsewhere() -> None:
    hard, others = (
        tasks.load(HARD).problems,
        tasks.load("pocket-sql").problems + tasks.load("pocket-sql-fresh").problems,
    )
    assert len({_asked_for(problem) for problem in hard}) == len({problem.prompt for problem in hard}) == 736
    assert not {_asked_for(problem) for problem in hard} & {_asked_for(problem) for problem in others}
    assert not {_kind(problem) for problem in hard} & {_kind(problem) for problem in others}


def _kind(problem: Problem) -> tuple[str, ...]:
    """What a query is made of, whatever stands in it."""
    return tuple(re.findall(r"count|\b(?:sum|avg|min|max)\b|[A-Z]{2,}", re.sub("'.*?'", "", _gold(problem))))


@pytest.mark.parametrize("name", ["pocket-math", "pocket-sql"])
def test_the_later_answers_are_right(name: str) -> None:
    """Those of the functions are run in test_corpus.py."""
    task, fresh = tasks.load(name), tasks.load(f"{name}-fresh")
    for each, problems in ((task, task.problems[432::4]), (fresh, fresh.problems[::4])):
        verdicts = each.verdicts([(problem, _reference(problem)) for problem in problems])
        assert all(verdict.passed for verdict in verdicts)


def _reference(problem: Problem) -> str:
    if isinstance(problem, MathProblem):
        return f"#### {problem.answer}"
    return _gold(problem).removeprefix("SELECT")


def _gold(problem: Problem) -> str:
    assert isinstance(problem, SqlProblem)
    return problem.gold


def test_all_of_them_are_small() -> None:
    assert sum(path.stat().st_size for path in BENCHMARK_FOLDER.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.slow
@pytest.mark.skipif("S0_EVERY_ROW" not in os.environ, reason="draws all that pretraining has seen: S0_EVERY_ROW=1")
def test_the_shipped_files_are_what_the_generator_makes_of_what_no_model_was_trained_on() -> None:
    seen = seen_prompts()
    assert len(seen) > 100_000
    drawn = all_tasks(seen)
    for path, content in files_of(drawn).items():
        assert (BENCHMARK_FOLDER / path).read_bytes() == content, path
    assert {*files_of(drawn)} == {
        path.relative_to(BENCHMARK_FOLDER).as_posix() for path in BENCHMARK_FOLDER.rglob("*") if path.is_file()
    }
    for name, placed in drawn.items():
        assert len(placed) == len(tasks.load(name).problems)
        assert not seen & {problem.normalised for _, problem in placed}, name
    for name in SISTERS:
        final = Counter(problem.level for split, problem in drawn[name] if split == "final")
        fresh = Counter(problem.level for _, problem in drawn[f"{name}-fresh"])
        assert fresh == {level: 2 * count for level, count in final.items()}
