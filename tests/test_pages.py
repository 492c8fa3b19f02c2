"""The pages of docs/ for who adds something run as they stand, and what they put into the tree passes its checks."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s0 import Example, tasks
from s0.core import families
from s0.examples import write_examples
from s0.record import read_record
from s0.train import METHODS, baseline_files
from tests.cli.calls import s0

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("add-a-task", "add-a-method", "add-a-family")
CHECKS = (
    "ruff check src",
    "ruff format --check src",
    "mypy --package s0",
    "lint-imports",
    "python benchmarks/measures.py --check",
)
"""Those of `make check` that hold for code."""


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
    monkeypatch.setitem(METHODS, "hra", None)
    monkeypatch.setitem(baseline_files.KINDS, "HRA", None)
    run_blocks("add-a-method")
    before, after = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert after < before
    write_examples(Path("train.jsonl"), [Example("def f(n):\n", "    return n\n")])
    trained, inspected = (s0(*shlex.split(line)[1:]) for line in blocks("add-a-method", "sh")[0].splitlines())
    assert trained.returncode == 0 == inspected.returncode, trained.stderr + inspected.stderr
    assert "method: hra" in inspected.stderr


def tree_with(folder: Path, *pages: str) -> Path:
    """A copy of the tree in a folder, with the pages' files in it, and their rows."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for file in ("pyproject.toml", "benchmarks/measures.py"):
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    for page in pages:
        (path,) = re.findall(r"one file, `(src/.*?\.py)`", (DOCS / f"{page}.md").read_text(encoding="utf-8"))
        (folder / path).write_text(blocks(page, "python")[0], encoding="utf-8")
        for changes in blocks(page, "diff"):
            change(folder, changes)
    if "add-a-method" in pages:
        reader = blocks("add-a-method", "python")[1].partition("\n\n\n")[2]
        replace_once(folder / "src/s0/train/baseline_files.py", "\n\n\nKINDS:", f"\n\n\n{reader}\n\nKINDS:")
    return folder


def change(folder: Path, changes: str) -> None:
    """Change a file in a folder as a block of a page shows it: its name, then places with what is around them."""
    name, _, places = changes.removeprefix("+++ ").partition("\n")
    for place in places.split("@@\n"):
        lines = place.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        replace_once(folder / name, before, after)


def replace_once(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, after), encoding="utf-8")


def run_in(tree: Path, program: str, *arguments: str) -> str:
    """Run a program of this environment's, which sees the tree's package."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [Path(sys.executable).parent / program, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_pages_add_has_its_place_in_the_tree(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, *PAGES)
    names = run_in(tree, "python", "-c", "from s0 import tasks; print(*tasks.names())").split()
    assert "patterns" in names and names == sorted(names)
    rows = "from s0.train import METHODS; from s0.core.families import FAMILIES; print(*METHODS, *FAMILIES)"
    assert {"hra", "toy_retention"} < set(run_in(tree, "python", "-c", rows).split())


@pytest.mark.slow
def test_what_the_pages_add_passes_the_checks(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, *PAGES)
    for check in CHECKS:
        run_in(tree, *check.split())
