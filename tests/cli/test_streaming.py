"""`s0 generate` at a terminal: a single text appears as it is written."""

from __future__ import annotations

import os
import pty
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.cli.calls import s0
from tests.forking import COMMAND, Process, begun, run

PROMPT = 'def add_two(x):\n    """Return x plus 2."""\n'
WAITING = """
import pathlib, time
from s0.decode import Batcher
step, steps = Batcher.step, []
def patient(self):
    steps.append(1)
    while len(steps) > 1 and not pathlib.Path({!r}).exists():
        time.sleep(0.01)
    return step(self)
Batcher.step = patient
"""
"""The model takes one step, in which a text's first tokens come, and no other before a file is there."""

running: list[tuple[Process, int]] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Whatever comes of a test, its processes and terminals end with it."""
    yield
    while running:
        process, ours = running.pop()
        process.kill()
        process.wait()
        os.close(ours)


def at_a_terminal(
    *arguments: str, waiting_for: Path | None = None, stderr: IO[bytes] | None = None
) -> tuple[Process, int]:
    """The command with a terminal for stdout, and the terminal's other end."""
    ours, theirs = pty.openpty()
    code = COMMAND if waiting_for is None else WAITING.format(str(waiting_for)) + COMMAND
    process = begun(code, "generate", *arguments, stdout=theirs, stderr=stderr)
    os.close(theirs)
    running.append((process, ours))
    return process, ours


def beginning(ours: int) -> bytes:
    """What comes first."""
    assert select.select([ours], [], [], 120)[0], "nothing came"
    return os.read(ours, 4096)


def rest(ours: int) -> bytes:
    """What comes until the other end is closed."""
    parts = []
    while True:
        try:
            parts.append(os.read(ours, 4096))
        except OSError:  # Linux's way to say that nobody is there any more
            parts.append(b"")
        if not parts[-1]:
            return b"".join(parts)


def lines(said: bytes) -> str:
    """What a terminal was told, with the line ends that the command wrote."""
    return said.replace(b"\r\n", b"\n").decode()


def test_a_text_comes_to_a_terminal_as_it_is_written(tmp_path: Path) -> None:
    go = tmp_path / "go"
    process, ours = at_a_terminal(PROMPT, "--max-new-tokens", "24", waiting_for=go)
    first = beginning(ours)
    assert process.poll() is None  # the model waits
    go.touch()
    said = lines(first + rest(ours))
    assert process.wait(60) == 0
    assert said == s0("generate", PROMPT, "--max-new-tokens", 24).stdout


@pytest.mark.parametrize("more", [["def one():\n"], ["--temperature", "1", "-n", "2"], ["--json"]])
def test_what_is_more_than_a_text_comes_whole(more: list[str]) -> None:
    process, ours = at_a_terminal(PROMPT, "--max-new-tokens", "6", *more)
    said = lines(rest(ours))
    assert process.wait(60) == 0
    assert said == s0("generate", PROMPT, "--max-new-tokens", 6, *more).stdout


def test_ctrl_c_ends_a_text_that_is_coming(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+b") as stderr:
        process, ours = at_a_terminal(PROMPT, "--max-new-tokens", "24", waiting_for=tmp_path / "never", stderr=stderr)
    first = beginning(ours)
    process.send_signal(signal.SIGINT)
    said, status, errors = lines(first + rest(ours)), process.wait(60), (tmp_path / "stderr").read_text()
    assert first and said.endswith("\n"), said  # "interrupted" has a line of its own
    assert status == 130, (said, errors)
    last = errors.splitlines()[-1]
    assert last.startswith("interrupted; start again with: s0 generate ")


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [("stdin", 2, "error: expected a prompt, got an empty one"), ("stdout", 0, ""), ("stderr", 0, "")],
)
def test_a_closed_stream_is_like_dev_null(
    closed: str, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    number = ("stdin", "stdout", "stderr").index(closed)
    as_python_finds_it = f"import os, sys; os.close({number}); sys.{closed} = None"
    opened = "import os; file = os.open(os.devnull, os.O_RDONLY); print(file > 2, file=open('apart', 'w'))"
    code = f"{as_python_finds_it}\ntry:\n    {COMMAND}\nfinally:\n    {opened}"
    done = run(code, "generate", "-" if closed == "stdin" else "x", "--max-new-tokens", 2)
    assert done.returncode == status and done.stderr.startswith(said) and "Traceback" not in done.stderr
    assert bool(done.stdout) == (closed == "stderr")
    assert (tmp_path / "apart").read_text() == "True\n"  # what is printed does not get into files
