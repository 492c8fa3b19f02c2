"""Answers one step from the right one: the judge refuses every one that is shown to mean something else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from s0.tasks import MathProblem
from s0.tasks.gsm8k import SCORER
from s0.tasks.math import latex
from s0.tasks.math.comparers import Comparers
from s0.tasks.math.scoring import decide
from tests.tasks.mutations.golds import GOLDS, gsm8k_golds, math_golds
from tests.tasks.mutations.kinds import KINDS
from tests.tasks.mutations.meaning import differ
from tests.tasks.mutations.trial import Judge, Pair, Tally, mutations, share_dropped, trial
from tests.tasks.real_data import data_path

MOST_DROPPED = 0.1
SAMPLE, SEED = 300, 14
REPLIES = ("So.\n#### {}", "It is \\boxed{{{}}}.", "The answer is {}.")
"""Where a reply may say a number."""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    comparers = Comparers()

    def judged(pairs: Sequence[Pair]) -> list[bool]:
        decided = [decide(latex.tidy(right), latex.tidy(answer)) for right, answer in pairs]
        compared = iter(comparers.judge([verdict for verdict in decided if not isinstance(verdict, bool)]))
        return [verdict if isinstance(verdict, bool) else next(compared).passed for verdict in decided]

    yield judged
    comparers.close()


def judged_as_numbers(pairs: Sequence[Pair]) -> list[bool]:
    """Whether an answer passes in any of the replies."""
    asked = [
        (MathProblem("p/0", "", "final", "", right), reply.format(answer))
        for right, answer in pairs
        for reply in REPLIES
    ]
    verdicts = [verdict.passed for verdict in SCORER.verdicts(asked, "standard", None, None)]
    return [any(verdicts[start : start + len(REPLIES)]) for start in range(0, len(verdicts), len(REPLIES))]


def wrong_passes(tallies: dict[str, Tally]) -> list[tuple[str, Pair]]:
    return [(kind, pair) for kind, tally in tallies.items() for pair in tally.passes]


# --- What the mutations and the proof are worth ---


SAME = r"""
0.5 | \frac{1}{2}
1,234 | 1{,}234
(x+1)^2 | x^2 + 2x + 1
2 \cdot 3 | 6
1\frac12 | \frac32
\frac12x | \frac{x}{2}
\sin 30^\circ | \frac{1}{2}
\sin^2 x + \cos^2 x | 1
\log_2 8 | 3
\binom{5}{2} | 10
0.1\overline{6} | \frac{1}{6}
3, 5 | \{5, 3\}
1 \pm \sqrt2 | 1 - \sqrt{2}, 1 + \sqrt{2}
12\text{ and }13 | 13, 12
x > 3 | (3, \infty)
-2 \le x \le 7 | x \in [-2, 7]
(1, 2) \cup (0, 1) | (0, 1) \cup (1, 2)
[0, 2] \cap [1, 3] | [1, 2]
x = 5 | 5
2x = y | y - 2x = 0
44\% | 44
44\% | 0.44
90^\circ | \frac{\pi}{2}
5\text{ cm} | 5
5\text{ m} | 5\text{ meters}
2516_8 | 2516_{8}
\text{(C)} | \text{C}
\text{A, C} | \text{C and A}
"""
NOT_SHOWN = ("1/2x", "x^12", "2 3", "1/0", "x + ", "\\spadesuit", "(1, 2", "x = y = 2")


def test_the_proof_takes_no_spelling_of_one_value_for_two() -> None:
    pairs = [line.split(" | ") for line in SAME.strip().splitlines()]
    assert [pair for pair in pairs if differ(*pair) is not False or differ(*reversed(pair)) is not False] == []


@pytest.mark.parametrize("text", NOT_SHOWN)
def test_what_has_no_reading_or_two_is_not_shown(text: str) -> None:
    assert differ("1", text) is None and differ(text, "1") is None


def test_every_hand_written_answer_has_mutations_of_its_kind() -> None:
    assert [*GOLDS] == [*KINDS] and len(KINDS) >= 20
    for kind, golds in GOLDS.items():
        assert len(golds) == 10
        tallies = [mutations([gold], [kind])[kind] for gold in golds]
        assert [gold for gold, tally in zip(golds, tallies, strict=True) if not tally.wrong] == [], kind


def test_a_mutation_of_the_same_value_is_none() -> None:
    tally = mutations(["0.5"], ["digit added"])["digit added"]
    assert tally.same == 1 and [answer for _, answer in tally.wrong] == ["0.51", "10.5"]


# --- The judge ---


@pytest.mark.parametrize("kind", KINDS)
def test_hand_written_answers_changed_in_one_step_fail(kind: str, judge: Judge) -> None:
    tallies = trial(GOLDS[kind], judge, [kind])
    assert wrong_passes(tallies) == []
    assert share_dropped(tallies) <= MOST_DROPPED


def test_right_answers_pass_so_that_refusing_means_something(judge: Judge) -> None:
    pairs = [(gold, f"\\, {gold} .") for golds in GOLDS.values() for gold in golds]
    assert [pair for pair, passes in zip(pairs, judge(pairs), strict=True) if not passes] == []


NUMBER_KINDS = [kind for kind in KINDS if kind not in ("factorial added", "letter added")]
"""In prose `18!` ends a sentence and `18 x` has a unit."""
NUMBERS = ("18", "7", "540", "1200", "57,500", "2.5", "0.75", "3/4", "10", "100000")


def test_numbers_changed_in_one_step_fail() -> None:
    assert all(judged_as_numbers([(number, number) for number in NUMBERS]))
    tallies = trial(NUMBERS, judged_as_numbers, NUMBER_KINDS)
    assert wrong_passes(tallies) == []
    assert share_dropped(tallies) <= MOST_DROPPED


# --- The real files ---


@pytest.mark.slow
def test_a_sample_of_right_answers_of_math_changed_in_one_step_fails(judge: Judge) -> None:
    golds = math_golds(data_path("math/test.jsonl"))
    tallies = trial(random.Random(SEED).sample(golds, SAMPLE), judge)
    assert wrong_passes(tallies) == []
    assert share_dropped(tallies) <= MOST_DROPPED


@pytest.mark.slow
def test_a_sample_of_right_answers_of_gsm8k_changed_in_one_step_fails() -> None:
    golds = gsm8k_golds(data_path("gsm8k/test.jsonl"))
    tallies = trial(random.Random(SEED).sample(golds, SAMPLE), judged_as_numbers, NUMBER_KINDS)
    assert wrong_passes(tallies) == []
    assert share_dropped(tallies) <= MOST_DROPPED
