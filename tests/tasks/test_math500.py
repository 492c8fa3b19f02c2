"""MATH-500: finding the answer, comparing it, the processes that do; every right answer in every form it can have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s0.errors import DatasetError, SandboxError
from s0.tasks import MathProblem, Task, load, workers
from s0.tasks.math import comparing, latex, named_answers
from s0.tasks.math.comparers import Comparers
from s0.tasks.math.finding import boxed
from s0.tasks.math.scoring import decide
from s0.tasks.math.worker import Limits
from s0.tasks.math500 import SCORER
from tests.tasks.real_data import data_path
from tests.tasks.spellings.math import SPELLINGS

HALF = MathProblem("p/0", "Problem:\nHow much?\n\nSolution:", "final", "How much?", "\\frac{1}{2}")


@pytest.fixture(scope="module")
def comparers() -> Iterator[Comparers]:
    opened = Comparers()
    yield opened
    opened.close()


def same(comparers: Comparers, pairs: list[tuple[str, str]]) -> list[bool]:
    """Whether two answers mean the same, for many at once."""
    decided = [decide(latex.tidy(right), latex.tidy(answer)) for right, answer in pairs]
    compared = iter(comparers.judge([one for one in decided if not isinstance(one, bool)], 1))
    return [one if isinstance(one, bool) else next(compared).passed for one in decided]


def accepted() -> list[tuple[str, str]]:
    return [pair for pairs, _ in SPELLINGS.values() for pair in pairs]


def test_what_means_the_same_passes(comparers: Comparers) -> None:
    pairs = accepted()
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if not equal] == []


def test_what_means_something_else_fails(comparers: Comparers) -> None:
    pairs = [pair for _, pairs in SPELLINGS.values() for pair in pairs]
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if equal] == []


def test_every_kind_has_many_spellings() -> None:
    assert all(len({*pairs}) == len(pairs) >= 30 for kind in SPELLINGS.values() for pairs in kind)
    assert not {*accepted()} & {pair for _, pairs in SPELLINGS.values() for pair in pairs}


def test_every_answer_means_what_it_says(comparers: Comparers) -> None:
    pairs = [(right, right) for right in {right for right, _ in accepted()}]
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if not equal] == []


def test_either_of_two_equal_answers_may_be_the_right_one(comparers: Comparers) -> None:
    one_way = re.compile(
        r"\\text|_\d"
    )  # bare letters are words beside words; digits have a base where it was asked for
    pairs = [(answer, right) for right, answer in accepted() if not one_way.search(right)]
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if not equal] == []


NUMBERS = st.one_of(st.integers(-(10**6), 10**6).map(Fraction), st.fractions(-100, 100, max_denominator=50))


def latex_of(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    top, bottom = abs(number.numerator), number.denominator
    return f"{sign}{top}" if bottom == 1 else f"{sign}\\frac{{{top}}}{{{bottom}}}"


def spelled(number: Fraction) -> Iterator[str]:
    yield f"{number}"
    yield latex_of(number)
    yield f"x = {latex_of(number)}"
    yield f"${latex_of(number).replace('frac', 'dfrac')}$."
    yield f"{latex_of(number)} \\text{{ units}}"
    yield f"{number.numerator * 3}/{number.denominator * 3}"
    if number.denominator == 1:
        yield f"{number.numerator:,}"
        yield f"{number}.0"
        yield f"{number.numerator:,}".replace(",", "\\,")
    elif number > 1:
        yield f"{number.numerator // number.denominator} {latex_of(number % 1)}"
        yield f"{number.numerator // number.denominator} {number % 1}"


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_every_spelling_of_a_number_is_that_number(number: Fraction) -> None:
    for text in spelled(number):
        assert comparing.equal(latex.tidy(latex_of(number)), latex.tidy(text)), text
        assert comparing.equal(latex.tidy(text), latex.tidy(latex_of(number))), text


@settings(max_examples=60, deadline=None)
@given(NUMBERS, NUMBERS)
def test_different_numbers_differ_however_they_are_spelled(one: Fraction, other: Fraction) -> None:
    for first, second in product(spelled(one), spelled(other)) if one != other else ():
        assert not comparing.equal(latex.tidy(first), latex.tidy(second)), (first, second)


PIECES = (
    r"x y 2 13 1,000 0.5 ( ) [ ] { } \{ \} , ; = < \le > | ' ! ^ _ + - \pm / \cdot \frac \sqrt \text{ \circ % \$ cm "
)
PIECES += (
    r"\cup \infty \pi \sin f( \log_ \begin{pmatrix} \end{pmatrix} & \\ \in \mathbb{R} \emptyset and or \overline{ ..."
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES.split()), max_size=12), st.booleans())
def test_no_answer_breaks_the_comparison(pieces: list[str], spaced: bool) -> None:
    answer = latex.tidy((" " if spaced else "").join(pieces))
    assert comparing.equal(answer, answer)
    for right in ("2", "(2, 13)", "x^2", "(2, \\infty)"):
        comparing.equal(right, answer)


@pytest.mark.parametrize(
    "answer",
    ["\\boxed{a" + " " * 980 + "!}", "\\text{a} " * 120 + "!", "AB " * 330 + "= 5", "a" * 999 + "!", "{" * 999],
)
def test_long_answers_take_no_longer(answer: str) -> None:
    """Patterns that try every way to part a text would take minutes here, and years for some."""
    assert decide("5", latex.tidy(answer)) == ("5", latex.tidy(answer))
    assert set(named_answers.split_name(latex.tidy(answer))[0]) <= {*"AB"}


def test_words_are_decided_without_a_process() -> None:
    assert decide("\\text{Evelyn}", "Evan") is False
    assert decide("\\text{Evelyn}", "EVELYN") is True
    assert decide("C", "\\text{D}") == ("C", "\\text{D}")  # a letter may be a formula


# --- Finding the answer ---


FOUND = {
    "So \\boxed{\\frac{1}{2}}.": "boxed",
    "\\boxed{1} and then \\boxed{\\frac{1}{2}}": "boxed",
    "$\\fbox{\\frac{1}{2}}$": "boxed",
    "\\boxed{x = \\frac{1}{2}} #### 7": "boxed",
    "\\boxed{ \\boxed{\\frac{1}{2}} }": "boxed",
    "\\boxed{\\frac{1}{2}} \\boxed{never closed": "boxed",
    "So.\n#### \\frac{1}{2}": "marked",
    "The answer is $\\frac{1}{2}$. For 3 more": "stated",
    "Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.": "stated",
    "**Answer:** \\(\\frac{1}{2}\\), since $x=3$": "stated",
    "It is so.\nThe answer is 1/2": "stated",
    "$\\frac{1}{2}$": "bare",
    "1/2": "bare",
    "<think>\\boxed{3}\n</think>\\boxed{\\frac{1}{2}}": "boxed",
    "\\boxed{\\frac{1}{2}}\nProblem: next\n\\boxed{3}": "boxed",
}


@pytest.mark.parametrize("completion", FOUND)
def test_the_answer_is_found(completion: str) -> None:
    assert SCORER.format_of(HALF, completion) == FOUND[completion]
    found = SCORER._read(completion)[1]
    assert found is not None and latex.tidy(found).removeprefix("x = ") in (
        "\\frac{1}{2}",
        "1/2",
        "\\boxed{\\frac{1}{2}}",
    )


@pytest.mark.parametrize(
    ("completion", "form"),
    [("", "empty"), (" \n", "empty"), ("<think>\\boxed{1}", "empty"), ("We see.\nSo it ends.", "unparsable")],
)
def test_no_answer_is_no_answer(completion: str, form: str) -> None:
    assert SCORER.format_of(HALF, completion) == form
    assert SCORER.verdicts([(HALF, completion)], "standard", None, None)[0].reason == form


def test_escaped_braces_open_and_close_nothing() -> None:
    for content in ("\\left\\{1, 2\\right.", "\\{1, 2\\}", "\\frac{1}{2}", "a \\\\ {b}"):
        assert next(boxed(f"{{x}} \\boxed{{{content}}} {{y}}")) == content
    assert list(boxed("\\boxed{ {1} ")) == list(boxed("\\boxed{}")) == []


def test_several_formulas_are_one_answer() -> None:
    assert SCORER._read("The answers are $1$, $2$, and $3$ here.")[1] == "1, 2, 3"


def test_a_thin_space_ends_no_sentence() -> None:
    assert SCORER._read("The answer is $11,\\! 111$. It is.")[1] == "11,\\! 111"


PAPER = {
    "\\boxed{\\frac{1}{2}}": "passed",
    "\\boxed{\\dfrac12}": "passed",
    "\\boxed{0.5}": "passed",
    "\\boxed{x=\\frac12}": "passed",
    "\\boxed{ 1/2 }": "passed",
    "\\boxed 0.5$": "passed",
    "\\fbox{\\frac{1}{2}}": "passed",
    "\\boxed{\\frac{1}{2}\\text{ apples}}": "passed",
    "\\boxed{1} \\boxed{\\frac12}": "passed",
    "\\boxed{\\frac{2}{4}}": "wrong answer",
    "\\boxed{.50}": "wrong answer",
    "\\boxed{\\frac12} \\boxed{1": "unparsable",
    "The answer is $\\frac{1}{2}$": "unparsable",
    "": "empty",
}


@pytest.mark.parametrize("completion", PAPER)
def test_the_published_rule_is_kept_with_its_faults(completion: str) -> None:
    assert SCORER.verdicts([(HALF, completion)], "paper", None, None)[0].reason == PAPER[completion]


@given(st.text("\\boxed{}frac123 ,.$()[]=+-%^_#answer is\n", max_size=60))
def test_any_text_has_a_format_and_ends(completion: str) -> None:
    assert SCORER.format_of(HALF, completion) in SCORER.formats
    SCORER.verdicts([(HALF, completion)], "paper", None, None)
    assert isinstance(decide(latex.tidy(HALF.answer), latex.tidy(completion)), (bool, tuple))


# --- Processes ---


def test_what_takes_for_ever_is_killed_and_the_others_are_judged() -> None:
    endless = ("1", "9^{9^{9^{9}}}")
    comparers = Comparers(Limits(cpu_s=0.5))
    try:
        verdicts = comparers.judge([("2", "1+1"), endless, ("2", "1+2"), endless], 1)
        assert [verdict.reason for verdict in verdicts] == ["passed", "timeout", "wrong answer", "timeout"]
    finally:
        comparers.close()


def test_a_process_that_sleeps_is_killed_too() -> None:
    comparers = Comparers()
    try:
        comparers.judge([("2", "1+1")], 1)
        (comparer,) = comparers._idle
        comparer._link.settimeout(0.05)
        comparer.process.send_signal(19)  # SIGSTOP
        assert comparers.judge([("2", "1+1")], 1)[0].reason == "timeout"
        assert comparer.process.returncode is not None and comparers._idle == []
    finally:
        comparers.close()


def test_a_process_that_dies_fails_its_job_only(monkeypatch: pytest.MonkeyPatch) -> None:
    comparers = Comparers()
    try:
        comparers.judge([("2", "1+1")], 1)
        comparers._idle[0].process.kill()
        comparers._idle[0].process.wait()
        verdicts = comparers.judge([("2", "1+1"), ("2", "2")], 1)
        assert [verdict.reason for verdict in verdicts] == ["passed", "passed"]  # it died while it waited for a job
        deep = ("1", "(" * 400 + "1" + ")" * 400)
        assert comparers.judge([deep], 1)[0].passed is False
        assert comparers.judge([("2", "1+1")], 1)[0].passed
    finally:
        comparers.close()
    assert comparers._idle == []


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    comparers = Comparers(Limits(memory_bytes=400 << 20, cpu_s=20.0))
    try:
        assert comparers.judge([("1", "2^{10000000000}")], 1)[0].reason == "scorer failed"
        assert comparers.judge([("2", "1+1")], 1)[0].passed
    finally:
        comparers.close()


def test_without_the_library_the_error_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_BOOTSTRAP", "import math_verify_that_is_not_there")
    with pytest.raises(SandboxError, match=r"compares formulas; got, .*No module named .*; install"):
        Comparers().judge([("2", "1+1")])


def test_verdicts_follow_their_completions() -> None:
    third = MathProblem("p/1", "", "final", "", "\\frac13")
    completions = [(HALF, "\\boxed{2/4}"), (third, "\\boxed{2/4}"), (HALF, ""), (third, "\\boxed{2/6}"), (HALF, "1/3")]
    reasons = [verdict.reason for verdict in SCORER.verdicts(completions, "standard", 1, None)]
    assert reasons == ["passed", "wrong answer", "empty", "passed", "wrong answer"]
    assert SCORER.verdicts([(HALF, "\\boxed{" + "1+" * 600 + "1}")], "standard", 1, None)[0].reason == "wrong answer"


# --- Reading ---


def written(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_training_problems_are_never_test_problems(tmp_path: Path) -> None:
    tests = [{"problem": f"What is {n}?", "answer": f"{n}", "unique_id": f"test/{n}.json"} for n in range(3)]
    learned = [{"problem": f"What  is {n}? ", "solution": f"It is $\\boxed{{{n}}}$."} for n in range(300)]
    written(tmp_path / "train.jsonl", *learned)
    written(tmp_path / "test.jsonl", *tests)
    task = load("math500", tmp_path)
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [200, 50, 3]
    texts = [{" ".join(one.prompt.split()) for one in task.split(name)} for name in ("train", "select", "final")]
    assert not texts[0] & texts[1] and not texts[2] & (texts[0] | texts[1])
    final = task.split("final")[0]
    assert final == MathProblem("test/0.json", "Problem:\nWhat is 0?\n\nSolution:", "final", "What is 0?", "0")
    assert task.prompt(final, chat=True)[0]["content"].endswith("\\boxed{}.")  # type: ignore[index]


def test_one_file_is_final_unless_it_says_otherwise(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {n}?", "answer": f"{n}"} for n in range(5)]
    task = load("math500", written(tmp_path / "rows.jsonl", *rows))
    assert {problem.split for problem in task.problems} == {"final"}
    task = load("math500", written(tmp_path / "named.jsonl", *({**row, "split": "train"} for row in rows)))
    assert {problem.split for problem in task.problems} == {"train"}


def test_a_row_without_an_answer_is_refused(tmp_path: Path) -> None:
    for row, message in (
        ({"problem": "How?"}, "line 1: expected the key 'solution'; got problem; convert the file to MATH's format"),
        ({"problem": "How?", "solution": "So \\boxed{1"}, "line 1: expected an 'answer', or a solution with"),
        ({"problem": "How?", "answer": 1}, "line 1: expected 'answer' to be a string; got int"),
    ):
        with pytest.raises(DatasetError, match=message):
            load("math500", written(tmp_path / "rows.jsonl", row))


# --- The real files ---

_WHOLE = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")
_NUMBER = re.compile(r"-?\d+|-?\\frac\{\d+\}\{\d+\}|\d+\.\d+")


def _if(pattern: str | re.Pattern[str], vary: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda answer: vary(answer) if re.fullmatch(pattern, answer) else None


def _replaced(pattern: str, plain: str) -> Callable[[str], str | None]:
    return lambda answer: changed if (changed := re.sub(pattern, plain, answer)) != answer else None


def _twice(answer: str) -> str:
    return _FRACTION.sub(lambda match: f"{match[1]}\\frac{{{2 * int(match[2])}}}{{{2 * int(match[3])}}}", answer)


def _mixed(answer: str) -> str | None:
    match = _FRACTION.fullmatch(answer)
    if match is None or match[1] or int(match[2]) < int(match[3]):
        return None
    whole, rest = divmod(int(match[2]), int(match[3]))
    return f"{whole}\\frac{{{rest}}}{{{match[3]}}}"


FORMS: dict[str, Callable[[str], str | None]] = {
    "as it is": lambda answer: answer,
    "full stop": lambda answer: f"{answer}.",
    "dollar signs": lambda answer: None if "$" in answer else f"${answer}$",
    "thin spaces": lambda answer: f"\\, {answer} \\;",
    "dfrac": _replaced(r"\\frac", r"\\dfrac"),
    "large brackets": lambda answer: (
        answer.replace("(", "\\left(").replace(")", "\\right)")
        if "(" in answer and not re.search(r"\\left|\\text|[\[\]]", answer)
        else None
    ),
    "spaces": _replaced(r"(?<!\\)(?<=[\w)}])([+\-=])", r" \1 "),
    "units": _if(_NUMBER, lambda answer: f"{answer} \\text{{ units}}"),
    "square units": _if(_NUMBER, lambda answer: f"{answer}\\mbox{{ cm}}^2"),
    "per cent": _if(_NUMBER, lambda answer: f"{answer}\\%"),
    "no degrees": _replaced(r"\^\\circ", ""),
    "name": lambda answer: None if "=" in answer else f"x = {answer}",
    "another name": lambda answer: None if re.search(r"=|\\in\b", answer) else f"N={answer}.",
    "named by words": lambda answer: f"\\text{{Answer: }}{answer}",
    "parentheses": lambda answer: None if "$" in answer else f"\\({answer}\\)",
    "displayed": lambda answer: f"\\displaystyle {answer}",
    "bold": lambda answer: f"**{answer}**",
    "bold letters": lambda answer: f"\\mathbf{{{answer}}}",
    "boxed twice": lambda answer: f"\\boxed{{{answer}}}",
    "decimals": _if(_WHOLE, lambda answer: f"{answer}.00"),
    "thousands": _if(r"-?\d{4,}", lambda answer: f"{int(answer):,}"),
    "thin thousands": _if(r"-?\d{4,}", lambda answer: f"{int(answer):,}".replace(",", "{,}")),
    "sum": _if(_NUMBER, lambda answer: f"{answer} + 7 - 7"),
    "another fraction": _if(_FRACTION, _twice),
    "slash": _if(_FRACTION, lambda answer: _FRACTION.sub(r"\1\2/\3", answer)),
    "mixed number": _mixed,
    "words": _if(r"\\text\{.*\}", lambda answer: answer[6:-1].strip("()").upper()),
    "other order": _if(
        r"(?!\d+,\d{3}$)[^()\[\]{}]+,[^()\[\]{}!]+", lambda answer: ",".join(reversed(answer.split(",")))
    ),
    "base in braces": _replaced(r"_\{?(\d+)\}?", r"_{\1}"),
}
REPLIES: dict[str, Callable[[str], str | None]] = {
    "boxed": lambda answer: f"First $\\boxed{{1234567}}$, no. So it is\n\\[\\boxed{{{answer}}}.\\]\nThat is it.",
    "stated": lambda answer: None if "$" in answer else f"We add 7.\nFinal answer: The answer is ${answer}$. Done.",
    "marked": lambda answer: f"We add 7.\n#### {answer}",
    "next problem": lambda answer: f"\\boxed{{{answer}}}\n\nProblem:\nAnd now?\n\nSolution: \\boxed{{1234567}}",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("math")
    (folder / "test.jsonl").symlink_to(data_path("math500/test.jsonl"))
    (folder / "train.jsonl").symlink_to(data_path("math/test.jsonl"))
    return load("math500", folder)


def forms(problem: MathProblem) -> Iterator[tuple[str, str]]:
    """(name, reply) for every way to give the right answer that this answer can be given in."""
    for name, spell in FORMS.items():
        if (text := spell(problem.answer)) is not None:
            yield name, f"So it is \\boxed{{{text}}}."
    for name, reply in REPLIES.items():
        if (text := reply(problem.answer)) is not None:
            yield name, text


def check_every_form(task: Task, problems: list[MathProblem]) -> dict[str, int]:
    cases = [(problem, name, text) for problem in problems for name, text in forms(problem)]
    verdicts = task.verdicts([(problem, text) for problem, _, text in cases])
    failed = [
        (case[0].answer, *case[1:], one.reason) for case, one in zip(cases, verdicts, strict=True) if not one.passed
    ]
    assert failed == []
    return {name: sum(case[1] == name for case in cases) for name in (*FORMS, *REPLIES)}


def check_neighbours(task: Task, problems: list[MathProblem]) -> int:
    others = [*problems[1:], problems[0]]
    pairs = [(one, other) for one, other in zip(problems, others, strict=True) if plain(one) != plain(other)]
    cases = [(one, text) for one, other in pairs for _, text in forms(other)]
    verdicts = task.verdicts(cases)
    assert [(one.answer, text) for (one, text), verdict in zip(cases, verdicts, strict=True) if verdict.passed] == []
    return len(cases)


def plain(problem: MathProblem) -> str:
    return re.sub(r"[\s$]|^x ?=|\^\\circ|\\[!,]", "", problem.answer)


def final(task: Task) -> list[MathProblem]:
    return [problem for problem in task.split("final") if isinstance(problem, MathProblem)]


def test_the_real_files_give_disjoint_splits(task: Task) -> None:
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [200, 50, 500]
    assert len({" ".join(problem.prompt.split()) for problem in task.problems}) == 750
    assert all(isinstance(problem, MathProblem) and problem.answer for problem in task.problems)


def test_every_right_answer_passes_under_both_scorings(task: Task) -> None:
    completions = [(problem, f"So \\boxed{{{problem.answer}}}.") for problem in final(task)]
    for scoring in ("standard", "paper"):
        assert {verdict.reason for verdict in task.verdicts(completions, scoring)} == {"passed"}


def test_every_right_answer_means_itself_in_every_form(task: Task) -> None:
    learned = [problem.answer for problem in task.problems if isinstance(problem, MathProblem)]
    answers = {*(problem.answer for problem in final(task)), *learned}
    spelled_pairs = [
        (right, text) for right in answers for spell in FORMS.values() if (text := spell(right)) is not None
    ]
    tidied = {(latex.tidy(right), latex.tidy(text)) for right, text in spelled_pairs}
    assert [pair for pair in tidied if not comparing.equal(*pair)] == []


def test_a_sample_of_right_answers_passes_in_every_form(task: Task) -> None:
    unusual = [problem for problem in final(task) if not _NUMBER.fullmatch(problem.answer)]
    check_every_form(task, [*unusual[::5], *final(task)[::25]])


def test_a_sample_of_neighbours_answers_fails(task: Task) -> None:
    check_neighbours(task, [problem for problem in final(task) if not re.fullmatch(r"-?\d+", problem.answer)][::9])


@pytest.mark.slow
def test_every_right_answer_passes_in_every_form(task: Task) -> None:
    print(check_every_form(task, final(task)))


@pytest.mark.slow
def test_every_neighbours_answer_fails_in_every_form(task: Task) -> None:
    print(check_neighbours(task, final(task)))
