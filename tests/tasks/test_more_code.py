"""MBPP, HumanEval+ and a user's own problems: rows in every published format, and what passes and fails on them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from s0.errors import DatasetError
from s0.tasks import TASKS, CodeProblem, MathProblem, Task, load, own
from s0.tasks.sandbox import Sandbox

CODE = "import math\r\ndef helper(x):\r\n  return x\r\ndef shared(a, b):\r\n  return tuple(sorted(set(a) & set(b)))"
FULL: dict[str, Any] = {
    "task_id": 11,
    "text": "Write a function to find what two lists share.",
    "code": CODE,
    "test_list": ["assert shared((3, 4, 5), (5, 4)) == (4, 5)", "assert set(shared([1], [1])) == set([1])"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
SANITIZED: dict[str, Any] = {
    "source_file": "x.ipynb",
    "task_id": 511,
    "prompt": "Write a function for the root of a number. A \\ may stand here.",
    "code": "def my_root(x):\n    return x ** 0.5\n",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(my_root(16), 4)"],
}
PLUS = {
    **SANITIZED,
    "task_id": "601",
    "prompt": "Write a function to add up.",
    "code": "def total(xs):\n    return sum(xs)\n",
    "test_list": ["assert total([1.0, 2.0]) == 3.0"],
    "test_imports": [],
    "test": (
        "import numpy as np\nfrom math import inf\n\n"
        "def is_floats(x):\n    return isinstance(x, float) or isinstance(x, np.ndarray)\n\n"
        "def assertion(out, exp, atol):\n    if atol == 0 and is_floats(exp):\n        atol = 1e-6\n"
        "    if out != exp and atol != 0:\n        assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n"
        "    else:\n        assert out == exp\n\n"
        "inputs = [[[1.0, 2.0]], [[5]], [[]]]\nresults = [3.0, 5, 0]\n"
        "for inp, exp in zip(inputs, results):\n    assertion(total(*inp), exp, 0)\n"
    ),
}
OBJECTS = {
    **FULL,
    "task_id": 601,
    "text": "Write a function to count pairs.",
    "code": "class Pair:\n    pass\ndef count(pairs):\n    return len(pairs)\n",
    "test_list": ["assert count([Pair(), Pair()]) == 2"],
}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reasons(task: Task, completions: list[str], sandbox: Sandbox, number: int = 0) -> list[str]:
    problem = task.problems[number]
    return [one.reason for one in task.judged_in(sandbox).verdicts([(problem, text) for text in completions])]


def test_rows_of_mbpp_become_problems(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("mbpp", written(tmp_path / "rows.jsonl", FULL, SANITIZED, OBJECTS))
    first, second = task.problems
    assert isinstance(first, CodeProblem) and isinstance(second, CodeProblem)
    assert (first.id, first.split, first.entry_point) == ("11", "final", "shared")
    assert (second.id, second.split, second.entry_point) == ("511", "select", "my_root")
    assert first.prompt.startswith('"""\nWrite a function to find') and first.prompt.endswith('set([1])\n"""\n')
    assert "A \\ may" in second.prompt and compile(second.prompt, "", "exec", 0x400, dont_inherit=True)
    assert task.left_out == ("601: its tests use Pair, which the program itself must define",)
    assert "def shared" not in first.prompt + first.test
    right = "def shared(a, b):\n    return tuple(sorted(set(a) & set(b)))\n"
    texts = [right, f"Sure:\n```python\n{right}```\n", f"import re\n{right}\nprint(1)", first.canonical_solution]
    assert reasons(task, texts, any_sandbox) == ["passed"] * 4
    texts = [
        "def shared(a, b):\n    return ()\n",
        "    return 1\n",
        "",
        "def other():\n    pass\n",
        right + "shared = 3",
    ]
    assert reasons(task, texts, any_sandbox)[:4] == ["wrong answer", "unparsable", "empty", "other name"]
    assert reasons(task, [second.canonical_solution, "def my_root(x):\n    return x\n"], any_sandbox, 1) == [
        "passed",
        "wrong answer",
    ]
    assert task.prompt(first, chat=True)[0]["content"].count("shared") == 2  # type: ignore[index]
    assert {one.reason for one in task.judged_in(any_sandbox).verdicts([(first, right)], "paper")} == {"passed"}


def test_what_asserts_of_mbpp_may_rely_on(tmp_path: Path, any_sandbox: Sandbox) -> None:
    rows = [
        {
            "code": "def check(n):\n    return n % 2 == 0\n",
            "test_list": ["assert check(4) == True", "assert not check(3)"],
        },
        {
            "code": "import sys\ndef size(t):\n    return sys.getsizeof(t)\n",
            "test_list": ["assert size((1, 2)) == sys.getsizeof((1, 2))"],
        },
        {
            "code": "from math import *\ndef root(x):\n    return sqrt(x)\n",
            "test_list": ["assert floor(root(17)) == 4"],
        },
        {"code": "import numpy\ndef one():\n    return 1\n", "test_list": ["assert one() == 1"]},
        {"code": "def line():\n    return 'a\\n    b'\n", "test_list": ['assert line() == """a\n    b"""']},
        {
            "code": "def drop(xs, t):\n    return [x for x in xs if not isinstance(x, t)]\n",
            "test_list": ["assert drop([1, 'a'], int) == ['a']"],
        },
        {
            "code": "import re\ndef vowel(s):\n    return re.search('^[aeiou]', s)\n",
            "test_list": ["assert vowel('ann')", "assert not vowel('bob')"],
        },
    ]
    texts = [f"Task {number}" for number in range(len(rows))]
    numbered = [{"task_id": n, "text": text, **row} for n, (text, row) in enumerate(zip(texts, rows, strict=True), 11)]
    task = load("mbpp", written(tmp_path / "rows.jsonl", *numbered))
    assert task.left_out == ()
    right = [(problem, problem.canonical_solution) for problem in task.problems if isinstance(problem, CodeProblem)]
    right[3] = (right[3][0], "def one():\n    return 1\n")
    assert {verdict.reason for verdict in task.judged_in(any_sandbox).verdicts(right)} == {"passed"}


def test_mbpp_leaves_out_what_only_the_program_could_define(tmp_path: Path) -> None:
    constant = {**FULL, "code": "RATE = 3\ndef f(x):\n    return RATE * x\n", "test_list": ["assert f(2) == 2 * RATE"]}
    task = load("mbpp", written(tmp_path / "rows.jsonl", constant))
    assert task.left_out == ("11: its tests use RATE, which the program itself must define",)


def test_a_json_array_is_read_as_its_lines_are(tmp_path: Path) -> None:
    lines = load("mbpp", written(tmp_path / "rows.jsonl", FULL, SANITIZED))
    (tmp_path / "rows.json").write_text(json.dumps([FULL, SANITIZED], indent=1))
    assert load("mbpp", tmp_path / "rows.json").problems == lines.problems
    (tmp_path / "rows.json").write_text(json.dumps([FULL])[:-1])
    with pytest.raises(DatasetError, match=r"rows.json: expected one JSON array; got"):
        load("mbpp", tmp_path / "rows.json")


def test_other_ids_are_cut_and_named_splits_kept(tmp_path: Path) -> None:
    rows = [{**FULL, "task_id": 2000 + n, "text": f"Task {n}"} for n in range(41)]
    task = load("mbpp", written(tmp_path / "rows.jsonl", *rows))
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [16, 4, 21]
    task = load("mbpp", written(tmp_path / "rows.jsonl", {**FULL, "split": "train"}))
    assert task.problems[0].split == "train"


def test_the_tests_of_mbpp_plus_run_without_numpy(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("mbpp+", written(tmp_path / "rows.jsonl", PLUS))
    assert task.problems[0].split == "train"
    texts = ["def total(xs):\n    return sum(xs) + 1e-9\n", "def total(xs):\n    return 3.0\n"]
    assert reasons(task, [PLUS["code"], *texts], any_sandbox) == ["passed", "wrong answer", "wrong answer"]


def test_the_row_whose_answer_is_too_large_to_cross_is_left_out(tmp_path: Path) -> None:
    reference = "from itertools import combinations_with_replacement\ndef ref_func(l, n):\n    return 0\n"
    row = {**PLUS, "task_id": 255, "test": f"{reference}assert total([]) == 0\n"}
    task = load("mbpp+", written(tmp_path / "rows.jsonl", row))
    assert task.left_out == ("255: a right answer to one of its inputs holds 128 million values, too many to cross",)
    assert load("mbpp+", written(tmp_path / "rows.jsonl", {**row, "test": PLUS["test"]})).left_out == ()


def test_a_test_of_mbpp_plus_that_forgets_to_assert_does(tmp_path: Path, any_sandbox: Sandbox) -> None:
    test = (
        "import numpy as np\n\ndef assertion(out, exp, atol):\n    if isinstance(out, bool):\n"
        "        exact_match = out == exp\n    else:\n        exact_match = exp == (out is not None)\n\n\n"
        "for inp, exp in zip([['ann'], ['bob']], [True, False]):\n    assertion(vowel(*inp), exp, 0)\n"
    )
    code = "import re\ndef vowel(s):\n    return re.search('^[aeiou]', s)\n"
    row = {**PLUS, "code": code, "test_list": ["assert vowel('ann')"], "test": test}
    task = load("mbpp+", written(tmp_path / "rows.jsonl", row))
    texts = [code, "def vowel(s):\n    return s[0] in 'aeiou'\n", "def vowel(s):\n    return True\n"]
    texts += ["def vowel(s):\n    pass\n", "def vowel(s):\n    return s\n"]
    assert reasons(task, texts, any_sandbox) == ["passed"] * 2 + ["wrong answer"] * 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**FULL, "code": "def f(:"}, r"line 1: expected 'code' that Python can read"),
        ({**FULL, "test_list": ["assert other(1)"]}, r"line 1: expected a 'test_list' that calls a function of 'code'"),
        ({**FULL, "test_list": "assert shared"}, r"line 1: expected 'test_list' to be a list; got str"),
        ({**FULL, "test_list": []}, r"line 1: expected 'test_list' that Python can read"),
        ({"task_id": 1, "text": "x"}, r"line 1: expected the key 'code'; got task_id, text; convert .* MBPP's format"),
        ({**FULL, "base_input": [[1]]}, r"line 1: .*got EvalPlus's own file, which writes tuples as lists"),
    ],
)
def test_a_row_of_mbpp_that_cannot_be_used_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load("mbpp", written(tmp_path / "rows.jsonl", row))


# --- HumanEval+ ---

EVALPLUS: dict[str, Any] = {
    "task_id": "HumanEval/0",
    "prompt": 'def halves(xs, n=1):\n    """ Half of every number, without changing xs. """\n',
    "contract": '    assert isinstance(xs, list), "invalid"\n',
    "canonical_solution": "    for i in range(len(xs)):\n        xs[i] = xs[i] / 2\n    return xs\n",
    "entry_point": "halves",
    "base_input": [[[1, 2, 3]]],
    "plus_input": [[[]], [[0.1, 1e300]], [[5], 2]],
    "atol": 0,
}
FIND_ZERO = {
    **EVALPLUS,
    "task_id": "HumanEval/32",
    "prompt": (
        "def poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\n"
        'def find_zero(xs):\n    """ A zero of the polynomial. """\n'
    ),
    "canonical_solution": "    return 1.0\n",
    "entry_point": "find_zero",
    "base_input": [[[-1, 0, 1]]],
    "plus_input": [],
    "atol": 1e-4,
}


def test_evalplus_tables_compare_with_the_reference(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("humaneval+", written(tmp_path / "rows.jsonl", EVALPLUS, FIND_ZERO))
    texts = [
        EVALPLUS["canonical_solution"],
        "    return [x / 2 for x in xs]\n",
        "    return [x / 2 + 1e-9 for x in xs]\n",
        "    return [x / 2 + 1e-3 for x in xs]\n",
        "    return tuple(x / 2 for x in xs)\n",
        "    return [0.5, 1.0, 1.5]\n",
        "    return [x / 2 for x in xs] + [0]\n",
        "    return xs\n",
        "    return [None for x in xs]\n",
        "    raise KeyError\n",
    ]
    assert reasons(task, texts, any_sandbox) == ["passed"] * 3 + ["wrong answer"] * 6 + ["exception: KeyError"]
    assert reasons(task, ["    return 1.0", "    return -1.0", "    return 0.5"], any_sandbox, 1) == [
        "passed", "passed", "wrong answer",
    ]  # fmt: skip


def test_the_hubs_format_of_humaneval_plus_runs_without_numpy(tmp_path: Path, any_sandbox: Sandbox) -> None:
    test = str(PLUS["test"]).partition("inputs =")[0] + (
        "def check(candidate):\n    for inp, exp in zip([[[1.0]], [[2]]], [[0.5], [1.0]]):\n"
        "        assertion(candidate(*inp)[0], exp[0], 0)\n"
    )
    row = {key: value for key, value in EVALPLUS.items() if not key.endswith("input")} | {"test": test}
    task = load("humaneval+", written(tmp_path / "rows.jsonl", row))
    texts = [
        "    return [x / 2 for x in xs]\n",
        "    return [x / 2 + 1e-9 for x in xs]",
        "    return [x for x in xs]\n",
    ]
    assert reasons(task, texts, any_sandbox) == ["passed", "passed", "wrong answer"]


def test_the_row_that_unpacks_a_number_is_left_out(tmp_path: Path, any_sandbox: Sandbox) -> None:
    test = (
        "def _poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\n"
        "def check(candidate):\n    for inp in [[[-1, 0, 1]]]:\n"
    )
    row = {key: value for key, value in FIND_ZERO.items() if not key.endswith("input")}
    of_the_hub = {**row, "test": f"{test}        assert _poly(*candidate(*inp), inp) <= 0.0001\n"}
    task = load("humaneval+", written(tmp_path / "rows.jsonl", of_the_hub))
    assert task.problems == []
    assert task.left_out == ("HumanEval/32: its test unpacks the number that a right answer returns",)
    mended = {**row, "test": f"{test}        assert abs(_poly(*inp, candidate(*inp))) <= 0.0001\n"}
    task = load("humaneval+", written(tmp_path / "rows.jsonl", mended))
    assert task.left_out == () and reasons(task, ["    return 1.0\n"], any_sandbox) == ["passed"]


def test_a_table_without_arguments_is_refused(tmp_path: Path) -> None:
    for inputs in ([], [3]):
        row = {**EVALPLUS, "base_input": inputs, "plus_input": []}
        with pytest.raises(DatasetError, match=r"line 1: expected base_input to hold lists of arguments"):
            load("humaneval+", written(tmp_path / "rows.jsonl", row))


# --- Own problems ---

TESTED = {
    "prompt": 'def area(w, h):\n    """The area of a rectangle."""\n',
    "entry_point": "area",
    "test": "def check(candidate):\n    assert candidate(2, 3) == 6\n",
}
ANSWERED = {"prompt": "What is a third of 12?\nAnswer:", "answer": "4"}


def test_own_problems_with_tests(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("own", written(tmp_path / "rows.jsonl", TESTED))
    assert reasons(task, ["    return w * h\n", "    return w + h\n"], any_sandbox) == ["passed", "wrong answer"]
    assert task.problems[0].id == "0"


def test_own_problems_with_answers(tmp_path: Path) -> None:
    rows = [{**ANSWERED, "split": "train", "id": "a", "question": "A third of 12?"}]
    task = load("own", written(tmp_path / "rows.jsonl", *rows))
    (problem,) = task.problems
    assert problem == MathProblem("a", ANSWERED["prompt"], "train", "A third of 12?", "4")
    texts = ["4", "12/3", "The answer is 4.", "\\boxed{5}", "#### 4"]
    verdicts = task.verdicts([(problem, text) for text in texts], jobs=1)
    assert [one.passed for one in verdicts] == [True, True, True, False, True]
    assert task.prompt(problem, chat=True)[0]["content"].startswith("A third of 12?")  # type: ignore[index]


@pytest.mark.parametrize(
    ("written_as", "answer"),
    [("4", "4"), ("4.0", "4.0"), ("0.5", "0.5"), ("-3", "-3"), ("1e3", "1000.0"), ("1e-7", "0.0000001"), ("0", "0")],
)
def test_an_answer_may_be_a_json_number(tmp_path: Path, written_as: str, answer: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"prompt": "How many?", "answer": {written_as}}}\n')
    task = load("own", path)
    (problem,) = task.problems
    assert isinstance(problem, MathProblem) and problem.answer == answer
    verdicts = task.verdicts([(problem, f"\\boxed{{{reply}}}") for reply in (answer, "7")], jobs=1)
    assert [verdict.passed for verdict in verdicts] == [True, False]


def test_a_null_is_as_good_as_no_key(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("id", "split", "question", "canonical_solution"))
    for number, row in enumerate((TESTED, ANSWERED)):
        other = {**row, "prompt": row["prompt"].replace("T", "Now, t").replace("What", "Now, what")}
        bare = load("own", written(tmp_path / f"{number}.jsonl", row, other))
        missing = "test" if "answer" in row else "answer"
        filled = written(tmp_path / f"{number}n.jsonl", *[{**nulls, missing: None, **one} for one in (row, other)])
        assert load("own", filled).problems == bare.problems
        assert [problem.id for problem in bare.problems] == ["0", "1"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ANSWERED, TESTED], r"line 1 and a test in .*line 2; make a file of each kind"),
        ([TESTED, ANSWERED], r"line 2 and a test in .*line 1; make a file of each kind"),
        ([{**ANSWERED, "answer": True}], r"line 1: expected 'answer' to be a string; got bool"),
        ([{**ANSWERED, "answer": [4]}], r"line 1: expected 'answer' to be a string; got list"),
        ([{**ANSWERED, "answer": math.nan}], r"line 1: expected 'answer' to be a finite number; got nan; correct"),
        ([{**ANSWERED, "answer": -math.inf}], r"line 1: expected 'answer' to be a finite number; got -inf"),
        ([ANSWERED, {**ANSWERED, "answer": None}], r"line 2: expected the key 'answer'; got prompt; convert"),
        (
            [ANSWERED, {**ANSWERED, "prompt": "A third of 15?", "id": 0}],
            r"every 'id' once; got the same in .*line 1 and .*line 2",
        ),
        ([{**ANSWERED, "answer": " "}], r"line 1: expected an 'answer'; got an empty one"),
        (
            [ANSWERED, {**ANSWERED, "prompt": "What is a third  of 12?\nAnswer: "}],
            r"'prompt' once; .*line 1 and .*line 2",
        ),
        (
            [{**TESTED, "test": "def chek(candidate):\n    pass\n"}],
            r"line 1: expected a test that defines check\(candidate\)",
        ),
        ([{**TESTED, "test": "assert area(2, 3) == 6\n"}], r"line 1: expected a test that defines check\(candidate\)"),
        ([{**TESTED, "entry_point": "size"}], r"line 1: expected a prompt that ends with the signature of 'size'"),
    ],
)
def test_own_rows_that_cannot_be_used_are_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load("own", written(tmp_path / "rows.jsonl", *rows))


MISSPELT = "def check(candidate):\n    assert candidat(2, 3) == 6\n"
FURTHER_ON = TESTED["test"] + "    assert candidate(1, 1) == one\n"
RIGHT, WRONG = "    return w * h\n", "    return w + h\n"


@pytest.mark.parametrize(
    "row",
    [
        TESTED,
        {**TESTED, "canonical_solution": RIGHT},
        {**TESTED, "canonical_solution": RIGHT.strip()},
        {**TESTED, "canonical_solution": TESTED["prompt"] + RIGHT},
        {**TESTED, "canonical_solution": " \n"},
        {**TESTED, "test": "def check(candidate):\n    assert len(str(candidate(2, 3))) == 1\n"},
        ANSWERED,
    ],
)
def test_problems_that_can_be_judged_are_runnable(tmp_path: Path, any_sandbox: Sandbox, row: dict[str, str]) -> None:
    task = load("own", written(tmp_path / "rows.jsonl", row))
    task.judged_in(any_sandbox).require_runnable(task.problems)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"test": MISSPELT}, "a test that can run; got NameError from its own code; correct the test"),
        (
            {"test": "def check(candidate):\n    import scipy\n"},
            "got ModuleNotFoundError .* numpy alone",
        ),
        ({"test": "import scipy\ndef check(candidate):\n    pass\n"}, "No module named 'scipy'; .* numpy alone"),
        (
            {"test": "import io\ndef check(candidate):\n    candidate(io, 2)\n"},
            "a test of 'area' that runs on plain data",
        ),
        ({"test": FURTHER_ON, "canonical_solution": RIGHT}, "got NameError from its own code"),
        ({"canonical_solution": WRONG}, "a canonical_solution that passes its own test; got 'wrong answer'; correct"),
        ({"canonical_solution": "    return v\n"}, "passes its own test; got 'exception: NameError'"),
        ({"canonical_solution": "It is easy."}, "a canonical_solution that is 'area' or its body; got neither"),
        ({"canonical_solution": "def size(w, h):\n    return w * h\n"}, "that is 'area' or its body; got neither"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_refused_by_its_id(
    tmp_path: Path, any_sandbox: Sandbox, row: dict[str, str], message: str
) -> None:
    good = {**TESTED, "prompt": TESTED["prompt"].replace("The", "Tell the")}
    task = load("own", written(tmp_path / "rows.jsonl", good, {**TESTED, "id": "bad", **row}))
    task.judged_in(any_sandbox).require_runnable(task.problems[:1])
    with pytest.raises(DatasetError, match=f"^problem 'bad': expected .*{message}"):
        task.judged_in(any_sandbox).require_runnable(task.problems)


def test_a_misspelt_test_fails_every_answer_and_ends_no_judging(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("own", written(tmp_path / "rows.jsonl", {**TESTED, "test": MISSPELT}))
    assert reasons(task, [RIGHT, WRONG], any_sandbox) == ["test: NameError"] * 2


def test_own_problems_must_be_named() -> None:
    with pytest.raises(DatasetError, match=r"expected `data=PATH` to a .jsonl file of your own problems"):
        load("own")


def test_the_example_in_the_docstring_works(tmp_path: Path) -> None:
    objects = re.findall(r"^    (\{.*?\})$", own.__doc__ or "", re.MULTILINE | re.DOTALL)
    assert len(objects) == 2
    for text in objects:
        load("own", written(tmp_path / "rows.jsonl", json.loads(text)))


def test_every_task_says_what_it_is() -> None:
    assert list(TASKS) == sorted(TASKS)
    for name, entry in TASKS.items():
        assert entry.what and entry.source and int(entry.version) >= 1, name
