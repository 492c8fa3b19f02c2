"""Word problems and their worked answers: right step by step, and judged as the benchmark's format promises."""

from __future__ import annotations

import random
import re

import pytest

from benchmarks.pocket.benchmark import draw_first
from benchmarks.pocket.habits import USELESS
from benchmarks.pocket.sums import MathProblem, draw
from s0 import tasks

KNOWN = {
    "Ana has 7 apples, buys 5 more, then gives away 3.": ("7+5=12", "12-3=9"),
    "Tom has 4 bags of 6 eggs.": ("4*6=24",),
    "A baker scores 9 points, then doubles the score.": ("9*2=18",),
    "Mr Hill has 8 dollars, then spends half.": ("8/2=4",),
    "Ida has 5 coins, then gets twice as many from a friend.": ("5*2=10", "5+10=15"),
    "Ida has 5 coins, then gets as many again from a friend.": ("5+5=10",),
}
SIGNS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


@pytest.fixture(scope="module")
def problems() -> list[MathProblem]:
    rng = random.Random(0)
    return [draw(rng) for _ in range(3000)]


def test_every_line_is_right_and_goes_on_from_the_one_before(problems: list[MathProblem]) -> None:
    for problem in problems:
        known = {problem.start}
        assert len(problem.lines) == problem.level
        for line in problem.lines:
            left, sign, right, result = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", line).groups()  # type: ignore[union-attr]
            assert SIGNS[sign](int(left), int(right)) == int(result)
            assert sign != "/" or int(left) % int(right) == 0
            assert int(left) in known
            assert 0 < int(result) < 100
            known.add(int(result))
        assert int(problem.lines[-1].rpartition("=")[2]) == problem.answer


def test_the_words_say_what_the_lines_compute(problems: list[MathProblem]) -> None:
    """Worked out by hand for six stories; every number of a story is in its lines."""
    names = r"Ana|Tom|A baker|Mr Hill|Ida"
    stories = {re.sub(r"\d+", "#", re.sub(f"^({names})", "X", story)): lines for story, lines in KNOWN.items()}
    met = set()
    for problem in problems:
        told = problem.question.partition(".")[0] + "."
        assert set(re.findall(r"\d+", told)) <= set(re.findall(r"\d+", " ".join(problem.lines)))
        story = re.sub(r"apples|eggs|coins|books|cards|shells|stamps|cups", "THINGS", told.replace(problem.person, "X"))
        for known, lines in stories.items():
            if re.sub(r"\d+", "#", story) == re.sub(r"apples|eggs|coins", "THINGS", known):
                assert [re.sub(r"\d+", "", line) for line in problem.lines] == [re.sub(r"\d+", "", x) for x in lines]
                met.add(known)
    assert len(met) >= 5


def test_verdicts_are_as_promised() -> None:
    """Standard: every working habit right, every useless one wrong. Paper: only `#### n` is right."""
    drawn = [problem for _, problem in draw_first("pocket-math")]
    task = tasks.load("pocket-math")
    assert [problem.prompt for problem in task.problems[: len(drawn)]] == [problem.prompt for problem in drawn]
    for habit in drawn[0].answers:
        replies = [(problem, made.answers[habit]) for problem, made in zip(task.problems, drawn, strict=False)]
        assert {verdict.passed for verdict in task.verdicts(replies)} == {habit not in USELESS}, habit
        assert {verdict.passed for verdict in task.verdicts(replies, "paper")} == {habit == "marked"}, habit
