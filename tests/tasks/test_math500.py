"""MATH-500: finding the answer, comparing it, the processes that do; every right answer in every form it can have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.errors import DatasetError, SandboxError
from s0.tasks import MathProblem, Task, load, workers
from s0.tasks.math import latex
from s0.tasks.math.finding import boxed
from s0.tasks.math.processes import Comparers
from s0.tasks.math.scoring import decide
from s0.tasks.math.worker import Limits
from s0.tasks.math500 import SCORER
from tests.tasks.real_data import data_path

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


EQUAL = r"""
18 | 18.0
18 | 18.00
-18 | $-18$
10,\!080 | 10080
10,\!080 | 10{,}080
11,\! 111,\! 111,\! 100 | 11111111100
1,234,567 | 1234567
\$32,\!348 | 32348
\$18.90 | 18.9
.0000672 | 6.72 \times 10^{-5}
.35625 | \frac{57}{160}
1.25 | 1\frac14
137 \frac{1}{2} | \frac{275}{2}
33 \frac{1}{3} | 100/3
\frac43 | \dfrac{4}{3}
\frac 59 | \tfrac59
\frac{2}{4} | \frac12
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt3}
\frac{3}{56} | 3/56
\frac{1}{3} | 0.333333
0.\overline{3} | \frac13
0.1\overline{6} | 1/6
\sqrt{2} | 1.414213562
\frac{20000}{\pi} | 6366.197724
11\sqrt2 | 11 \cdot \sqrt{2}
2^{2004} | 4^{1002}
10! | 3628800
\binom{17}{5} | 6188
\log_2 3 | \frac{\ln 3}{\ln 2}
6 - 5i | -5i + 6
e^{i\pi} | -1
90^\circ | 90
90^\circ | 90\text{ degrees}
90^\circ | 90^{\circ}
\frac{270}7\text{ degrees} | \frac{270}{7}^\circ
-\tan 67^\circ | -\cot 23^\circ
864 \mbox{ inches}^2 | 864
864 \mbox{ inches}^2 | 864 \text{ square inches}
5.4 \text{ cents} | 5.4
5.4 \text{ cents} | 5.4 cents
0.25\,\text{ cm} | 0.25\text{ centimeters}
9\text{ a.m.} | 9 \text{ am}
44\% | 44
44\% | 0.44
44\% | 44\text{ percent}
0.44 | 44\%
2516_8 | 2516_{8}
2516_8 | 2516
2516_8 | 2516_{\text{eight}}
152A_{11} | 152a_{11}
x=5 | 5
5 | x = 5
5 | 2 + 3 = 5
y = 2x + 3 | y=3+2x
y = 2x + 3 | 2x+3
y = 2x + 3 | 2x-y+3=0
5x - 7y + 11z + 4 = 0 | 7y - 5x - 11z = 4
\frac{x^2}{16}-\frac{y^2}{9}=1 | 9x^2-16y^2=144
x^5 - x^4 + x^3 - x^2 + x - 1 | (x-1)(x^4+x^2+1)
(a+5)(b+2) | ab+2a+5b+10
\frac{11+9a}{20} | \frac{9a}{20} + \frac{11}{20}
\cot x | \frac{\cos x}{\sin x}
2\sin x\cos x | \sin 2x
\sqrt{x^2} | |x|
1,-2 | -2, 1
1,-2 | x = -2 \text{ or } x = 1
3, 5, 7 | \{7, 5, 3\}
19 \text{ and }43 | 43, 19
1 \pm \sqrt{19} | 1-\sqrt{19}, 1+\sqrt{19}
\{1\pm\sqrt{5},-2\} | -2, 1+\sqrt5, 1-\sqrt5
\left( 3, \frac{\pi}{2} \right) | (3, \pi/2)
(1,-16,-4,43) | \left(1, -16, -4, 43\right)
(3,4] | \left(3, 4\right]
(-\infty, 2) \cup (3, \infty) | (3,\infty)\cup(-\infty,2)
(-\infty,5)\cup(5,\infty) | x \ne 5
x \in [-2,7] | [-2,7]
x \in [-2,7] | -2 \le x \le 7
x \ge 5 | 5 \le x
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix} | \begin{bmatrix} -\frac13 \\ \frac23 \\ \frac53 \end{bmatrix}
\text{Evelyn} | Evelyn
\text{Evelyn} | \textbf{evelyn}.
\text{(C)} | C
\text{(C)} | (C)
\text{June 20} | June 20
C | \text{(C)}
B, C | C, B
\text{13} | 13
f(2) < f(1) < f(4) | f(2)<f(1)<f(4)
\infty | \infty
"""
DIFFERENT = r"""
\frac{1}{2004!} | \frac{1}{2006!}
1/2004! | 1/2006!
1-\frac1e | 1+\frac1e
1-1/e | 1+1/e
10^{-20} | 10^{-21}
2^{-100} | 2^{-101}
2^{100} | 2^{100}+1
0.0000001 | 0.0000002
.0000672 | .0000671
\frac{e^{-50}}{2} | e^{-50}
2x + 3 | 2x + 3 + 10^{-30}
x + 10^{-20} | x
\cos(10^{-10}) | 1
0 | 10^{-60}
100! | 100! + 1
12346 | 12345.99
12346 | 12345
0.123456 | 0.1234561
x^2 + y^2 = 13 | 13
9901 | 9901.0000001
18 | 18.0001
\frac{1}{3} | 0.333
\frac{1}{3} | 0.333334
0.\overline{3} | 0.3
3\pi | 9.42
\sqrt{2} | -\sqrt{2}
\sqrt{2} | \pm\sqrt{2}
\pm 2 | 2
(1,2) | (2,1)
(1,2) | 2,1
(1,2) | 1,2
(1,2) | \{1,2\}
(1,2) | [1,2]
(2,1) | 1,2
(100,200) | (100200)
(3,4] | (3,4)
[1,2] | (1,2]
1,-2 | 1
1,-2 | 1,-2,3
1,1,2 | 1,2
\{1\pm\sqrt{5},-2\} | \{-2,1+\sqrt5\}
(-\infty, 2) \cup (3, \infty) | (-\infty,2)\cup(4,\infty)
(-\infty,1)\cup(2,\infty) | (-\infty,1]\cup(2,\infty)
x > 3 | [3,\infty)
x \le 5 | x < 5
x<5 | x<6
x<10^{-9} | x<10^{-10}
x^2+1=0 | x^2+2=0
x^2<-1 | x^2<-2
f(2) < f(1) < f(4) | f(1) < f(2) < f(4)
y = -2x | y = 2x
y=2x+3 | y-2x-3=1
x=5 | y=5
5x - 7y + 11z + 4 = 0 | 5x - 7y + 11z + 4
x | y
x_1 | x_2
p - q | q - p
\frac{a}{b} | \frac{b}{a}
|x| | x
\cot x | \tan x
6 - 5i | 6 + 5i
\sin 1 | \sin 1^\circ
\tan 100^\circ | \tan 100
30^\circ | \frac{\pi}{7}
5\text{ cm} | 5\text{ m}
2\text{ hours} | 2\text{ minutes}
9\text{ a.m.} | 9\text{ p.m.}
44\% | 4.4
44 | 0.44
2516_8 | 2516_9
2516_8 | 2517_8
2516_8 | 2156
1\frac12 | \frac12
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\3\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&2\\4&3\end{pmatrix}
\begin{pmatrix} x & 2 \end{pmatrix} | \begin{pmatrix} y & 2 \end{pmatrix}
\text{Evelyn} | Evan
\text{east} | \text{seat}
\text{even} | odd
\text{(C)} | (D)
\text{June 20} | June 21
\text{June 20} | 20
\text{ellipse} | x
\infty | -\infty
\overline{AB} | \overline{CD}
1/(1-1) | 2/(1-1)
5 |
5 | \text{I cannot say}
5 | }{
"""


def listed(text: str) -> list[tuple[str, str]]:
    return [(right, answer) for right, _, answer in (line.partition(" | ") for line in text.strip().splitlines())]


def test_what_means_the_same_passes(comparers: Comparers) -> None:
    pairs = listed(EQUAL)
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if not equal] == []


def test_what_means_something_else_fails(comparers: Comparers) -> None:
    pairs = [(right.removesuffix(" |"), answer) for right, answer in listed(DIFFERENT)]
    assert [pair for pair, equal in zip(pairs, same(comparers, pairs), strict=True) if equal] == []


def test_words_are_decided_without_a_process() -> None:
    assert decide("\\text{Evelyn}", "Evan") is False
    assert decide("\\text{Evelyn}", "EVELYN") is True
    assert decide("C", "\\text{D}") == (("C", "\\text{D}"),)  # a letter may be a formula


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
    assert SCORER._read("The answers are $1$, $2$, and $3$ here.")[1] == "$1$, $2$, and $3$"


def test_a_thin_space_ends_no_sentence() -> None:
    assert SCORER._read("The answer is $11,\\! 111$. It is.")[1] == "$11,\\! 111$"


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
    endless = (("1", "9^{9^{9^{9}}}"),)
    comparers = Comparers(Limits(cpu_s=0.5))
    try:
        verdicts = comparers.judge([(("2", "1+1"),), endless, (("2", "1+2"),), endless], 1)
        assert [verdict.reason for verdict in verdicts] == ["passed", "timeout", "wrong answer", "timeout"]
    finally:
        comparers.close()


def test_a_process_that_sleeps_is_killed_too() -> None:
    comparers = Comparers()
    try:
        comparers.judge([(("2", "1+1"),)], 1)
        (comparer,) = comparers._idle
        comparer._link.settimeout(0.05)
        comparer.process.send_signal(19)  # SIGSTOP
        assert comparers.judge([(("2", "1+1"),)], 1)[0].reason == "timeout"
        assert comparer.process.returncode is not None and comparers._idle == []
    finally:
        comparers.close()


def test_a_process_that_dies_fails_its_job_only(monkeypatch: pytest.MonkeyPatch) -> None:
    comparers = Comparers()
    try:
        comparers.judge([(("2", "1+1"),)], 1)
        comparers._idle[0].process.kill()
        comparers._idle[0].process.wait()
        verdicts = comparers.judge([(("2", "1+1"),), (("2", "2"),)], 1)
        assert [verdict.reason for verdict in verdicts] == ["scorer failed", "passed"]
        deep = (("1", "(" * 400 + "1" + ")" * 400),)
        assert comparers.judge([deep], 1)[0].passed is False
        assert comparers.judge([(("2", "1+1"),)], 1)[0].passed
    finally:
        comparers.close()
    assert comparers._idle == []


def test_memory_is_bounded() -> None:
    comparers = Comparers(Limits(memory_bytes=400 << 20, cpu_s=20.0))
    try:
        assert comparers.judge([(("1", "2^{10000000000}"),)], 1)[0].reason == "scorer failed"
        assert comparers.judge([(("2", "1+1"),)], 1)[0].passed
    finally:
        comparers.close()


def test_without_the_library_the_error_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_BOOTSTRAP", "import math_verify_that_is_not_there")
    with pytest.raises(SandboxError, match=r"compares formulas; got, .*No module named .*; install"):
        Comparers().judge([(("2", "1+1"),)])


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


SPELLINGS: dict[str, Callable[[str], str | None]] = {
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
    "name": _if(_NUMBER, lambda answer: f"x = {answer}"),
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
    for name, spell in SPELLINGS.items():
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
    return {name: sum(case[1] == name for case in cases) for name in (*SPELLINGS, *REPLIES)}


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
