"""Loading: what is accepted, what is refused and in which words; and the path from completion to verdict."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from s0.errors import ConfigError, DatasetError, SandboxError
from s0.tasks import SCORINGS, TASKS, Verdict, load, names
from s0.tasks.sandbox import Sandbox


def row(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "task_id": f"made/{number}",
        "prompt": f'def add{number}(a, b):\n    """ The sum. """\n',
        "entry_point": f"add{number}",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path


def test_a_compressed_file_is_the_same_file(tmp_path: Path) -> None:
    plain = written(tmp_path, row(0), "", row(1))
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load("humaneval", plain) == load("humaneval", str(packed))
    assert load("humaneval", plain).data_sha256 == hashlib.sha256(plain.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["lines", "lines after a blank one", "array"])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, form: str, ending: str) -> None:
    rows = [row(0), row(1)]
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    text = {"lines": lines, "lines after a blank one": "\n" + lines, "array": json.dumps(rows)}[form]
    marked = text.encode("utf-8-sig")
    path = tmp_path / f"marked{ending}"
    path.write_bytes(gzip.compress(marked) if ending == ".jsonl.gz" else marked)
    task = load("humaneval", path)
    assert task.problems == load("humaneval", written(tmp_path, *rows)).problems
    assert task.data_sha256 == hashlib.sha256(marked).hexdigest()


def test_rows_may_name_their_split(tmp_path: Path) -> None:
    splits = ["final", "train", "select", "train"]
    task = load("humaneval", written(tmp_path, *[row(number, split=split) for number, split in enumerate(splits)]))
    assert [problem.split for problem in task.problems] == splits
    assert [problem.id for problem in task.split("train")] == ["made/1", "made/3"]


def test_other_lengths_are_cut_in_the_same_proportions(tmp_path: Path) -> None:
    task = load("humaneval", written(tmp_path, *map(row, range(41))))
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [16, 4, 21]


NO_ROWS: list[Any] = []
REFUSED: dict[str, tuple[list[Any], str]] = {
    "no rows": (NO_ROWS, "expected at least one problem; got an empty file"),
    "not JSON": ([row(0), "{"], r"rows.jsonl, line 2: expected one JSON object; got .*correct the line"),
    "a list": ([row(0), "[]"], r"line 2: expected a JSON object; got list"),
    "a missing key": ([row(0, test=None)], r"line 1: expected the key 'test'; got task_id, prompt"),
    "a wrong type": ([row(0, prompt=3)], r"line 1: expected 'prompt' to be a string; got int"),
    "a wrong type of split": ([row(0, split=3)], r"line 1: expected 'split' to be a string; got int"),
    "an unknown split": ([row(0, split="test")], r"line 1: expected 'split' to be one of train, select, final.*'test'"),
    "a split in some rows": ([row(0, split="final"), "", row(1)], r"line 3: expected 'split' .* got None"),
    "an id twice": ([row(0), row(1), row(2, task_id="made/0")], r"'task_id' once; .*line 1 and .*line 3; remove one"),
    "a prompt twice": (
        [row(0), row(1, prompt='def add0(a,  b):\n\n    """ The sum.\n """', entry_point="add0")],
        r"'prompt' once; .*line 1 and .*line 2",
    ),
    "a prompt that does not parse": ([row(0, prompt="def add0(a, b:\n")], r"line 1: expected a prompt that ends with"),
    "another function": ([row(0, entry_point="sub")], r"signature of 'sub' .*correct the prompt or the entry point"),
    "a test that does not parse": ([row(0, test="def check(c)\n")], r"line 1: expected a test that Python can read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    rows, message = REFUSED[name]
    with pytest.raises(DatasetError, match=message):
        load("humaneval", written(tmp_path, *rows))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"got no file at .*correct the path"):
        load("humaneval", tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DatasetError, match=r"expected a readable file; got .*fetch the file again"):
        load("humaneval", tmp_path / "broken.jsonl.gz")
    (tmp_path / "latin.jsonl").write_bytes(b'{"task_id": "\xe9"}\n')
    with pytest.raises(DatasetError, match="line 1"):
        load("humaneval", tmp_path / "latin.jsonl")


def test_without_network_the_hub_is_a_clear_error() -> None:
    with pytest.raises(DatasetError, match=r"pass `data=PATH` to a .jsonl file of openai/openai_humaneval"):
        load("humaneval")


def test_without_the_package_the_hub_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"package `datasets` .*pip install '\.\[data\]' .*pass `data=PATH"):
        load("humaneval")
    assert '\ndata = ["datasets' in (Path(__file__).parents[2] / "pyproject.toml").read_text()


def test_unknown_names_are_refused() -> None:
    assert names() == [*TASKS] and len(names()) >= 11
    with pytest.raises(
        ConfigError, match=r"expected one of the tasks gsm8k, humaneval, humaneval\+, .*, spider; got 'mbpp2'"
    ):
        load("mbpp2")
    with pytest.raises(ConfigError, match="expected one of the splits train, select, final; got 'test'"):
        load("pocket-code").split("test")
    with pytest.raises(ConfigError, match="expected one of the scorings standard, paper; got 'strict'"):
        load("pocket-code").verdicts([], "strict")


def test_a_chat_asks_for_the_whole_function(tmp_path: Path) -> None:
    task = load("humaneval", written(tmp_path, row(0, split="train")))
    (problem,) = task.problems
    assert task.prompt(problem, chat=False) == problem.prompt
    assert task.prompt(problem, chat=True) == [
        {
            "role": "user",
            "content": "Complete this Python function. Answer with the whole function in one ```python block.\n\n"
            f"```python\n{problem.prompt}```",
        }
    ]


def test_a_version_has_a_change_note_each() -> None:
    task = load("pocket-code")
    assert task.version == str(len(task.changes)) == TASKS["pocket-code"].version
    assert {*task.scorer.notes} == {*SCORINGS} and task.scorer.formats[-2:] == ("unparsable", "empty")


def test_the_hub_must_have_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, str]]:
        assert (name, config, split) == ("openai/openai_humaneval", None, "test")
        return [row(number) for number in range(kept)]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    kept = 164
    task = load("humaneval")
    lines = "".join(json.dumps(row(number), sort_keys=True) + "\n" for number in range(164))
    assert len(task.problems) == 164 and task.data_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    kept = 163
    with pytest.raises(DatasetError, match=r"expected 164 rows in openai/openai_humaneval, test; got 163; .*data=PATH"):
        load("humaneval")


def test_verdicts_follow_their_completions(tmp_path: Path, any_sandbox: Sandbox) -> None:
    task = load("humaneval", written(tmp_path, row(0), row(1)))
    first, second = task.problems
    completions = [
        (first, "    return a + b\n"),
        (second, "    return a + b\n"),
        (first, ""),
        (first, "I cannot."),
        (second, "return a * b"),
        (second, "return a.b"),
        (first, first.prompt + "    return a + b\n"),
        (first, "def plus(a, b):\n    return a + b\n"),
    ]
    reasons = ["passed", "passed", "empty", "unparsable", "wrong answer", "exception: AttributeError", "passed"]
    verdicts = task.judged_in(any_sandbox).verdicts(completions)
    assert verdicts == [Verdict(reason == "passed", reason) for reason in [*reasons, "other name"]]
    paper = [verdict.reason for verdict in task.judged_in(any_sandbox).verdicts(completions, scoring="paper")]
    reasons = ["unparsable", "unparsable", "wrong answer", "unparsable", "unparsable", "unparsable", "passed"]
    assert paper == [*reasons, "wrong answer"]
    assert task.judged_in(any_sandbox).verdicts([]) == []


@pytest.mark.slow
def test_the_shipped_problems_are_sound(any_sandbox: Sandbox) -> None:
    task = load("pocket-code").judged_in(any_sandbox)
    some = task.problems[::2]
    assert {problem.split for problem in some} == {"train", "select", "final"}
    verdicts = task.verdicts([(problem, problem.canonical_solution) for problem in some])
    assert {verdict.reason for verdict in verdicts} == {"passed"}
    idle = task.verdicts([(problem, "    return None\n") for problem in some])
    assert not any(verdict.passed for verdict in idle)
    task.require_runnable(some)


def test_only_problems_with_tests_need_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_works() -> Sandbox:
        raise SandboxError("none works")

    monkeypatch.setattr("s0.tasks.base.shared", none_works)
    for name in ("pocket-math", "pocket-sql"):
        load(name).require_runnable(load(name).problems)
    published = load("humaneval", written(tmp_path, row(0)))
    published.require_runnable(published.problems)
    task = load("own", written(tmp_path, row(0)))
    task.require_runnable([])
    with pytest.raises(SandboxError, match="none works"):
        task.require_runnable(task.problems)


def test_a_published_row_that_cannot_be_judged_costs_its_own_verdicts_alone(
    tmp_path: Path, any_sandbox: Sandbox
) -> None:
    unjudged = {
        "needs what no jail holds": "import scipy\ndef check(candidate):\n    pass\n",
        "has no check": "def chek(candidate):\n    pass\n",
        "raises while it is read": "x = 1 / 0\ndef check(candidate):\n    pass\n",
        "passes what is no data": "import io\ndef check(candidate):\n    candidate(io, 3)\n",
        "is longer than can be sent": f"TEXT = {'x' * (33 << 20)!r}\ndef check(candidate):\n    pass\n",
    }
    tests = [*unjudged.values(), "def check(candidate):\n    assert candidat(2, 3) == 5\n"]
    rows = [row(0), *(row(number, test=test) for number, test in enumerate(tests, start=1)), row(len(tests) + 1)]
    task = load("humaneval", written(tmp_path, *rows))
    task.judged_in(any_sandbox).require_runnable(task.problems)
    verdicts = task.judged_in(any_sandbox).verdicts([(problem, "    return a + b\n") for problem in task.problems])
    assert [verdict.reason for verdict in (verdicts[0], *verdicts[-2:])] == ["passed", "test: NameError", "passed"]
    assert not any(verdict.judged or verdict.passed for verdict in verdicts[1 : 1 + len(unjudged)])
    with pytest.raises(DatasetError, match=r"problem 'made/1': .* got ModuleNotFoundError: No module named 'scipy'"):
        own = load("own", written(tmp_path, *({**each, "id": each["task_id"]} for each in rows[:2])))
        own.judged_in(any_sandbox).require_runnable(own.problems)


def test_half_a_character_in_a_row_is_refused_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"id": "\\ud800x", "prompt": "a", "answer": "4"}\n')
    with pytest.raises(DatasetError, match="line 1: expected whole characters"):
        load("own", tmp_path / "own.jsonl")
