"""What help promises: options in groups, and an example of every command that does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from s0.tasks import Task
from s0.verify import CHECKS
from s0_cli.app import app
from s0_cli.work import verify
from tests.cli.calls import result, s0

GOLDEN = Path(__file__).parents[1] / "golden"
COMMANDS = (
    "demo",
    "collect",
    "train",
    "improve",
    "eval",
    "generate",
    "inspect",
    "verify",
    "export",
    "report",
    "serve",
    "env",
)
IN_ORDER = ("collect", "train", "improve", "eval", "generate", "inspect", "export", "report", "env")
"""Each takes what those before it have left."""


def example(*command: str) -> list[str]:
    """The words after `s0` of the example in a command's help."""
    text = " ".join(s0(*command, "--help").stdout.split())
    found = re.search(r"Example: s0 (.*?)(?: (?:Arguments|Model|Output|Options|Task):)", text)
    assert found, f"no example in the help of {command}"
    return shlex.split(found[1])


def test_no_command_is_left_out_here() -> None:
    listed = {name for name in typer.main.get_command(app).commands if name not in ("sandbox", "study")}  # type: ignore[attr-defined]
    assert listed == {*COMMANDS}


@pytest.mark.slow
def test_the_examples_in_help_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    split = Task.split
    monkeypatch.setattr(Task, "split", lambda self, name: split(self, name)[:16])
    for command in IN_ORDER:
        words = example(command)
        assert words[0] == command and result(*words)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("demo",), ("verify",), ("sandbox", "check")])
def test_the_longer_examples_run_too(command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "CHECKS", CHECKS[:6])
    of_few_problems = ("--data", GOLDEN / "problems.jsonl") if command == ("demo",) else ()
    assert result(*example(*command), *of_few_problems)


@pytest.mark.parametrize("command", [*COMMANDS, "study run", "study list", "study report"])
def test_options_stand_in_groups_each_once(command: str) -> None:
    _, _, text = s0(*command.split(), "--help").stdout.partition("Example:")
    groups = re.findall(r"^(\S[^:\n]*):$", text, re.MULTILINE)
    assert len(groups) == len({*groups}) and groups[-1] == "Options"
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    assert len(options) == len({*options})
    assert options[-1] == "--help"


def test_groups_are_those_of_the_options() -> None:
    text = s0("train", "--help").stdout
    order = ["Model:", "Training:", "Choosing on select examples:", "Baselines:", "Judging:", "Output:", "Options:"]
    places = [text.index(f"\n{group}\n") for group in order]
    assert places == sorted(places)
    assert text.index("\nTraining:\n") < text.index("  --n-steps") < text.index("\nChoosing")
