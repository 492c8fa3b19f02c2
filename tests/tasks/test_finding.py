"""Where a reply says its answer, in LaTeX: the table of replies, and texts made to be hard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks import MathProblem
from s0.tasks.gsm8k import SCORER as NUMBERS
from s0.tasks.math.finding import boxed, conclusion
from s0.tasks.math500 import SCORER
from tests.tasks.spellings import replies


def passed(rows: list[tuple[str, str]]) -> list[bool]:
    asked = [(MathProblem("p/0", "", "final", "?", right), reply) for right, reply in rows]
    return [verdict.passed for verdict in SCORER.verdicts(asked, "standard", None, None)]


def test_a_right_answer_passes_wherever_it_stands() -> None:
    verdicts = passed(replies.ACCEPTED)
    assert [row for row, verdict in zip(replies.ACCEPTED, verdicts, strict=True) if not verdict] == []


def test_nothing_else_passes() -> None:
    verdicts = passed(replies.REFUSED)
    assert [row for row, verdict in zip(replies.REFUSED, verdicts, strict=True) if verdict] == []


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("\\boxed{1} and \\boxed{2}", ["1, 2"]),
        ("\\boxed{1} so \\boxed{2}, \\boxed{3}", ["2, 3", "1"]),
        ("\\boxed{1}\n\\boxed{2}", ["2", "1"]),
        ("\\boxed{1} or rather \\boxed{2}", ["2", "1"]),
        ("\\boxed{4}, \\boxed{4}", ["4"]),
        ("\\boxed{ \\boxed{4} }", ["4", "\\boxed{4}"]),
        ("\\framebox[2in]{4} \\fbox 12", ["12", "4"]),
    ],
)
def test_boxes_that_a_word_joins_are_one_answer(text: str, boxes: list[str]) -> None:
    assert [*boxed(text)] == boxes


@pytest.mark.parametrize(
    ("reply", "plain"),
    [
        ("**Answer:** **4**", "Answer: 4"),
        ("__4__ and *5*", "4 and 5"),
        ("2**3 and 2 * 3 * 4", "2**3 and 2 * 3 * 4"),
        ("**4**2", "4 2"),
        ("$x_1 __ y$", "$x_1 __ y$"),
    ],
)
def test_marks_of_bold_type_go_and_powers_stay(reply: str, plain: str) -> None:
    assert conclusion(reply, ()) == plain


_PIECES = r"""
\boxed{ \boxed{1}and $ $$ \[ \( ** **a #### 1,234, 1/ 2^ 1. 1e - ( { } \frac \frac{1} \text{ -$ a_
"""
PIECES = _PIECES.split()
PIECES += [
    "answer is ",
    "answer: ",
    "answer is\n",
    "answer ($",
    "x0 = x1\n",
    "therefore ",
    "wait no. ",
    "12 000 ",
    "4 or ",
    "1 1/",
]


@pytest.mark.parametrize("piece", PIECES)
def test_long_texts_are_read_in_a_moment(piece: str) -> None:
    reply = piece * (20_000 // len(piece))
    for scorer in (SCORER, NUMBERS):
        assert scorer.format_of(MathProblem("p/0", "", "final", "?", "4"), reply) in scorer.formats


@given(
    st.lists(
        st.sampled_from(
            [
                "\\boxed{",
                "}",
                "$",
                "$$",
                "\\[",
                "\\]",
                "####",
                "The answer is ",
                "**",
                "wait, no",
                "so ",
                "or ",
                "4",
                "-",
                "\n",
                " ",
            ]
        ),
        max_size=30,
    ).map("".join)
)
def test_any_reply_has_a_form(reply: str) -> None:
    for scorer in (SCORER, NUMBERS):
        assert scorer.format_of(MathProblem("p/0", "", "final", "?", "4"), reply) in scorer.formats
