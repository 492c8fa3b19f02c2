"""GSM8K: reading rows, and the number of a reply; on the real file every answer in every form, and its neighbour's."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.errors import DatasetError
from s0.tasks import CodeProblem, MathProblem, Problem, Task, load
from s0.tasks.gsm8k import SCORER
from s0.tasks.math.numbers import NumberScorer, first_number
from tests.tasks.real_data import data_path
from tests.tasks.spellings import numbers

EIGHTEEN = MathProblem("p/0", "Question: How many?\nAnswer:", "final", "How many?", "18")


def judged(completion: str, scoring: str = "standard", problem: MathProblem = EIGHTEEN) -> str:
    return SCORER.verdicts([(problem, completion)], scoring, None, None)[0].reason


RIGHT = {
    "#### 18": "marked",
    "16 + 2 = <<16+2=18>>18\n#### 18": "marked",
    "####18": "marked",
    "#### $18": "marked",
    "#### $ 18.00": "marked",
    "#### 18.": "marked",
    "#### 18,": "marked",
    "#### 18 dollars, so yes": "marked",
    "#### 18%": "marked",
    "#### **18**": "marked",
    "#### \\boxed{18}": "marked",
    "#### $18$": "marked",
    "#### 20 - 2 = 18 eggs": "marked",
    "#### x = 18": "marked",
    "#### The answer: 18": "marked",
    "#### 36/2": "marked",
    "#### 17 2/2": "marked",
    "#### 17\nNo, wait.\n#### 18": "marked",
    "#### 18\n\nQuestion: How many more?\nAnswer: 5\n#### 5": "marked",
    "So it is \\boxed{18}.": "boxed",
    "\\boxed{17} or rather \\boxed{18}": "boxed",
    "\\boxed{\\$18\\text{ dollars}}": "boxed",
    "\\boxed{\\frac{36}{2}}": "boxed",
    "\\boxed{\\text{18}}": "boxed",
    "\\boxed 9 \\boxed{x = 18}": "boxed",
    "The answer is 18. She had 3 before.": "stated",
    "**Answer:** 18 (of 20)": "stated",
    "The final answer is: $18.00!": "stated",
    "The answer to the question is therefore 18 eggs.": "stated",
    "Answer: 20 - 2 = 18\nCheck: 18 + 2 = 20": "stated",
    "#### Step 3: add 2\nThe answer is 18": "stated",
    "#### 3. Adding up\nThe answer is 18": "stated",
    "She makes 9 * 2 = $18": "last_number",
    "18": "last_number",
    "It is 20-2, that is 1, 2, 18": "last_number",
    "#### 2. The total\nis 18": "last_number",
    "#### eighteen, 18": "last_number",
    "<think>Perhaps \\boxed{3}?</think>It is 18": "last_number",
    "no tag first</think>It is 18": "last_number",
    "It is 18.\n<think>or 20? #### 20": "last_number",
}
WRONG = [
    "#### 18\nNo, wait.\n#### 17",
    "#### -18",
    "#### \N{MINUS SIGN}18",
    "#### 1,8",
    "#### 180",
    "#### 1.8",
    "#### 18.01",
    "#### 1/18",
    "#### 18/0.5",
    "\\boxed{18} is wrong, it is \\boxed{17}",
    "\\boxed{-18}",
    "The answer is 17, which is below 18",
    "It is 18 less than 20",
    "18 18/18",
]


@pytest.mark.parametrize("completion", RIGHT)
def test_the_number_is_found_in_every_form(completion: str) -> None:
    assert judged(completion) == "passed"
    assert SCORER.format_of(EIGHTEEN, completion) == RIGHT[completion]


@pytest.mark.parametrize("completion", WRONG)
def test_another_number_is_wrong(completion: str) -> None:
    assert judged(completion) == "wrong answer"


@pytest.mark.parametrize(
    ("completion", "form"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<think>18", "empty"),
        ("None at all.", "unparsable"),
        ("#### x1", "unparsable"),
    ],
)
def test_no_number_is_no_answer(completion: str, form: str) -> None:
    assert judged(completion) == SCORER.format_of(EIGHTEEN, completion) == form


@pytest.mark.parametrize(("right", "reply"), numbers.ACCEPTED)
def test_a_right_number_passes_however_it_is_written(right: str, reply: str) -> None:
    assert judged(reply, problem=MathProblem("p/0", "", "final", "", right)) == "passed"


@pytest.mark.parametrize(("right", "reply"), numbers.REFUSED)
def test_no_other_number_passes(right: str, reply: str) -> None:
    assert judged(reply, problem=MathProblem("p/0", "", "final", "", right)) != "passed"


STRICT = {
    "#### 18": "passed",
    "#### 18.": "passed",
    "#### 18, so yes": "passed",
    "#### 1,8": "passed",
    "#### 18\n#### 17": "passed",
    "#### 17\n#### 18": "wrong answer",
    "#### 18.0": "wrong answer",
    "#### -18": "wrong answer",
    "####18": "unparsable",
    "#### $18": "unparsable",
    "The answer is 18": "unparsable",
    "": "empty",
}


@pytest.mark.parametrize("completion", STRICT)
def test_the_published_rule_is_kept_with_its_faults(completion: str) -> None:
    assert judged(completion, "paper") == STRICT[completion]


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("1,450,000", "1450000"),
        ("-3", "- so -3"),
        ("-10", "$-10"),
        ("-10", "-$10"),
        ("2125", "2,125.00"),
        (".5", "1/2"),
    ],
)
def test_numbers_compare_as_numbers(answer: str, reply: str) -> None:
    problem = MathProblem("p/0", "", "final", "", answer)
    assert judged(f"The answer is {reply}.", problem=problem) == "passed"
    assert judged(f"The answer is 1{reply}.", problem=problem) == "wrong answer"


@given(st.text() | st.text("# 0123456789,.-$/\\boxed{}answer is:=\n", max_size=60))
def test_any_text_has_a_verdict(completion: str) -> None:
    form = SCORER.format_of(EIGHTEEN, completion)
    assert form in SCORER.formats
    assert (judged(completion) in ("passed", "wrong answer")) == (form not in ("unparsable", "empty"))
    judged(completion, "paper")


@given(st.integers(-(10**9), 10**9), st.booleans())
def test_a_number_is_read_as_it_was_written(number: int, grouped: bool) -> None:
    assert first_number(f"it is {number:,} so" if grouped else f"it is {number} so") == number


WRITTEN: dict[str, Callable[[int], str]] = {
    "digits": str,
    "commas": "{:,}".format,
    "braces": lambda number: f"{number:,}".replace(",", "{,}"),
    "thin spaces": lambda number: f"{number:,}".replace(",", ",\\!"),
    "spaces": lambda number: f"{number:,}".replace(",", " "),
    "narrow spaces": lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
    "minus sign": lambda number: f"{number}".replace("-", "\N{MINUS SIGN}"),
    "dash": lambda number: f"{number}".replace("-", "–"),
    "decimals": "{}.00".format,
    "dollars": lambda number: f"{number}".replace("-", "-$") if number < 0 else f"${number}",
    "text": "\\text{{{}}}".format,
    "per cent": "{}\\%".format,
    "power": lambda number: f"{number}e0",
    "fraction": lambda number: f"\\frac{{{2 * number}}}{{2}}",
    "full width": lambda number: "".join(chr(ord(character) + 0xFEE0) for character in str(number)),
}


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from([*WRITTEN]))
def test_a_number_is_itself_and_no_other_in_every_spelling(number: int, other: int, name: str) -> None:
    for place in ("We count.\n#### {}", "So it is $\\boxed{{{}}}$.", "The answer is {}."):
        reply = place.format(WRITTEN[name](number))
        assert judged(reply, problem=MathProblem("p/0", "", "final", "", str(number))) == "passed"
        assert (judged(reply, problem=MathProblem("p/0", "", "final", "", f"{other:,}")) == "passed") == (
            number == other
        )


def test_digits_without_end_are_no_number() -> None:
    assert first_number("9" * 100_000) is None
    assert judged("#### " + "9" * 100_000) == "unparsable"


def test_a_problem_of_another_kind_is_refused() -> None:
    with pytest.raises(DatasetError, match="p/1: expected a problem with an answer; got CodeProblem"):
        SCORER.verdicts([(CodeProblem("p/1", "", "final", "f", "", ""), "")], "standard", None, None)


# --- Reading ---


def rows(count: int, of: str) -> list[dict[str, str]]:
    return [{"question": f"{of} {number}?", "answer": f"So.\n#### {number:,}"} for number in range(count)]


def written(path: Path, lines: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_folder_gives_training_and_test_problems(tmp_path: Path) -> None:
    train, test = (
        written(tmp_path / "train.jsonl", rows(300, "train")),
        written(tmp_path / "test.jsonl", rows(3, "test")),
    )
    task = load("gsm8k", tmp_path)
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [200, 50, 3]
    assert [problem.id for problem in task.split("final")] == ["test/0", "test/1", "test/2"]
    assert task.data_sha256 == hashlib.sha256(train.read_bytes() + test.read_bytes()).hexdigest()
    assert len({problem.id for problem in task.problems}) == len({problem.prompt for problem in task.problems}) == 253
    first = task.split("train")[0]
    number = first.id.partition("/")[2]
    assert first == MathProblem(
        f"train/{number}", f"Question: train {number}?\nAnswer:", "train", f"train {number}?", f"{int(number):,}"
    )
    assert task.prompt(first, chat=False) == first.prompt
    request = task.prompt(first, chat=True)[0]["content"]  # type: ignore[index]
    assert request.startswith(f"train {number}?") and "####" in request


def test_the_training_part_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    written(tmp_path / "test.jsonl", rows(3, "test"))
    lines = rows(300, "train")
    chosen = []
    for seed in (None, 0):
        if seed is not None:
            random.Random(seed).shuffle(lines)
        written(tmp_path / "train.jsonl", lines)
        task = load("gsm8k", tmp_path)
        chosen.append([[problem.prompt for problem in task.split(name)] for name in ("train", "select")])
    assert chosen[0] == chosen[1]
    assert chosen[0][0] != [f"Question: train {number}?\nAnswer:" for number in range(200)]  # not the first 200


def test_one_file_is_cut_or_names_its_splits(tmp_path: Path) -> None:
    task = load("gsm8k", written(tmp_path / "all.jsonl", rows(41, "all")))
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [16, 4, 21]
    named = [{**row, "split": split} for row, split in zip(rows(3, "all"), ("final", "train", "final"), strict=True)]
    task = load("gsm8k", written(tmp_path / "named.jsonl", named))
    assert [problem.split for problem in task.problems] == ["final", "train", "final"]


def test_a_problem_in_both_files_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", rows(3, "same"))
    written(tmp_path / "test.jsonl", [{"question": " same  1?\n", "answer": "#### 1"}])
    with pytest.raises(
        DatasetError, match=r"'question' once; .*train.jsonl, line 2 and .*test.jsonl, line 1; remove one"
    ):
        load("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "How?"}, r"line 1: expected the key 'answer'; got question; convert the file to GSM8K's format"),
        ({"question": 3, "answer": "#### 3"}, r"line 1: expected 'question' to be a string; got int"),
        (
            {"question": "How?", "answer": "3"},
            r"line 1: expected an 'answer' that ends with #### and a number; got '3'",
        ),
        ({"question": "How?", "answer": "#### x"}, r"line 1: .*####.*got ' x'"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load("gsm8k", written(tmp_path / "rows.jsonl", [row]))


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"got no file at .*train.jsonl; correct the path"):
        load("gsm8k", tmp_path)


# --- The real file ---

VARIANTS: dict[str, Callable[[str], str | None]] = {
    "as published": lambda answer: f"She sells 16 - 3 = <<16-3=13>>13 of 20.\n#### {answer}",
    "boxed": lambda answer: f"3 + 4 = 7, so the answer is 1, no: $\\boxed{{{answer}}}$.",
    "prose around": lambda answer: f"Of 20 there are 3 left. The answer is {answer}. That is more than 7.",
    "no comma": lambda answer: f"#### {answer.replace(',', '')}",
    "commas": lambda answer: f"#### {int(answer.replace(',', '')):,}",
    "dollars": lambda answer: None if answer.startswith("-") else f"#### ${answer}",
    "dollars in LaTeX": lambda answer: f"\\boxed{{\\${answer}}}",
    "units": lambda answer: f"#### {answer} eggs a day, for 7 days",
    "full stop": lambda answer: f"#### {answer}.",
    "decimals": lambda answer: f"The answer is: {answer}.00",
    "per cent": lambda answer: f"#### {answer}\\%",
    "bold": lambda answer: f"**Answer:** **{answer}**",
    "last number": lambda answer: f"Of 3 and 4 it makes {answer}",
    "fraction": lambda answer: f"#### {2 * int(answer.replace(',', ''))}/2",
    "corrected": lambda answer: f"#### {answer}1\nThat is wrong.\n#### {answer}",
    "next question": lambda answer: f"#### {answer}\n\nQuestion: And now?\nAnswer: 123456\n#### 123456",
}
PUBLISHED_PASSES = {"as published", "no comma", "commas", "units", "full stop", "per cent", "next question"}


@pytest.fixture(scope="module")
def task() -> Task:
    return load("gsm8k", data_path("gsm8k"))


def test_the_real_files_give_disjoint_splits(task: Task) -> None:
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [200, 50, 1319]
    assert len({" ".join(problem.prompt.split()) for problem in task.problems}) == 1569
    assert task.data_sha256 == "27507843b4ffea6791bad55e393cd2757ca698e0cf3e9908cea6c12813d9642b"


def test_every_right_answer_passes_in_every_form(task: Task) -> None:
    for name, vary in VARIANTS.items():
        completions = [(one, text) for one in answers(task) if (text := vary(one.answer)) is not None]
        assert len(completions) >= 180, name
        for scoring, passes in (("standard", True), ("paper", name in PUBLISHED_PASSES)):
            passed = {verdict.passed for verdict in task.verdicts(completions, scoring)}
            assert passed == {passes}, (name, scoring)


def test_every_neighbours_answer_fails_in_every_form(task: Task) -> None:
    problems = answers(task)
    differing = [(one, other) for one, other in pairwise(problems) if value(one.answer) != value(other.answer)]
    for name, vary in VARIANTS.items():
        completions: list[tuple[Problem, str]] = [
            (one, text) for one, other in differing if (text := vary(other.answer)) is not None
        ]
        for scoring in ("standard", "paper") if name in PUBLISHED_PASSES else ("standard",):
            assert not any(verdict.passed for verdict in task.verdicts(completions, scoring)), (name, scoring)


def test_every_published_answer_is_itself_in_every_spelling_and_nothing_else() -> None:
    """All rows of both files: the next number, the other sign, a digit more and a digit less never pass."""
    published = [
        json.loads(line)["answer"].rpartition("####")[2].strip()
        for name in ("train", "test")
        for line in (data_path("gsm8k") / f"{name}.jsonl").read_text().splitlines()
    ]
    assert len(published) == 8792
    for number, answer in enumerate(dict.fromkeys(published)):
        right = value(answer)
        assert first_number(answer) == right and right.denominator == 1
        problem = MathProblem("p/0", "", "final", "", answer)
        wrong = [right + 1, -right, right * 10, right / 10]
        names = [*WRITTEN][number % 3 :: 3]
        replies = [f"We count.\n#### {WRITTEN[name](int(right))}" for name in names]
        others = [
            f"We count.\n#### {WRITTEN[name](int(other))}"
            for name, other in zip([*names, *names], wrong, strict=False)
            if other != right and other.denominator == 1
        ]
        verdicts = SCORER.verdicts([(problem, reply) for reply in [*replies, *others]], "standard", None, None)
        assert [verdict.passed for verdict in verdicts] == [True] * len(replies) + [False] * len(others), answer


def answers(task: Task) -> list[MathProblem]:
    """One problem for every answer there is."""
    problems = [problem for problem in task.split("final") if isinstance(problem, MathProblem)]
    return [*{problem.answer: problem for problem in problems}.values()]


def value(answer: str) -> Fraction:
    return Fraction(answer.replace(",", ""))


def test_no_stop_string_cuts_a_right_answer(task: Task) -> None:
    assert isinstance(task.scorer, NumberScorer) and task.stop == ["\nQuestion:"]
    solutions = [json.loads(line)["answer"] for line in (data_path("gsm8k") / "test.jsonl").read_text().splitlines()]
    assert not any(stop in solution for stop in task.stop for solution in solutions)
