"""The pages of docs/ for who adds something run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from s0 import Example, tasks
from s0.core import families
from s0.examples import write_examples
from s0.record import read_record
from s0.train import METHODS, baseline_files
from tests.cli.calls import s0

DOCS = Path(__file__).parents[1] / "docs"


def run_blocks(page: str) -> None:
    """Run a page's Python, block after block in one namespace."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, f"{page}.md", "exec", dont_inherit=True), names)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def restored_families(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(families, "RECURRENCES", families.RECURRENCES)
    monkeypatch.setattr(families, "FAMILIES", {**families.FAMILIES})
    return


@pytest.mark.usefixtures("restored_families")
def test_a_recurrence_that_is_new_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks("add-a-family")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 8 and all(": holds" in line for line in told), told
    assert "toy_retention" in families.FAMILIES


def test_a_task_is_judged_in_the_sandbox_and_asked_by_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(tasks.TASKS, "patterns", None)  # put back as it was, which is: not there
    (rows,) = blocks("add-a-task", "jsonl")
    Path("patterns.jsonl").write_text(rows, encoding="utf-8")
    run_blocks("add-a-task")
    told = [line.rpartition("' ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told == ["passed", "passed", "wrong answer", "exception: error", "wrong answer"]
    (command,) = blocks("add-a-task", "sh")
    program, *arguments = shlex.split(command)
    done = s0(*arguments)
    assert program == "s0" and done.returncode == 0, done.stderr
    record = read_record("record.json")
    assert record.task.name == "patterns" and record.variants.keys() == {"base"}


def test_a_method_is_trained_saved_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METHODS, "ia3", None)
    monkeypatch.setitem(baseline_files.KINDS, "IA3", None)
    run_blocks("add-a-method")
    before, after = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert after < before
    write_examples(Path("train.jsonl"), [Example("def f(n):\n", "    return n\n")])
    trained, inspected = (s0(*shlex.split(line)[1:]) for line in blocks("add-a-method", "sh")[0].splitlines())
    assert trained.returncode == 0 == inspected.returncode, trained.stderr + inspected.stderr
    assert "method: ia3" in inspected.stderr
