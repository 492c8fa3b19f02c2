"""How commands end: one line, the right status, nothing lost when they are interrupted."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import pkgutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import s0
from s0 import errors
from s0.bench.answers import AnswerJournal, StoredAnswer
from s0.errors import ConfigError, DatasetError, S0Error
from s0_cli.exits import in_options, os_error_line, put
from s0_cli.work import inspect
from tests import forking
from tests.cli.calls import s0 as call
from tests.pocket_rows import write_rows

OPTIONS = {name: "--" + name.replace("_", "-") for name in ("data", "select", "alpha", "max_length", "lr", "patience")}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("expected `data=PATH` to a file", "expected --data PATH to a file"),
        ("pass `select=...`, or `alpha=auto`", "pass --select, or --alpha auto"),
        ("expected `patience=None`: it chooses", "expected no --patience: it chooses"),
        (
            "at most `max_length=2048` tokens; raise `max_length`",
            "at most --max-length 2048 tokens; raise --max-length",
        ),
        ("train with a lower `lr`", "train with a lower --lr"),
        ("pass `trust_remote_code=True`", "pass `trust_remote_code=True`"),
        ("in runs/lr=0.01/max_length/x, alpha=3", "in runs/lr=0.01/max_length/x, alpha=3"),
    ],
)
def test_arguments_that_messages_mark_become_options(said: str, shown: str) -> None:
    assert in_options(said, OPTIONS) == shown


def test_paths_in_messages_stay_as_they_were_typed(tmp_path: Path) -> None:
    path = tmp_path / "lr=0.01,  max_length" / "alpha=3.jsonl"
    done = call("train", "--model", "pocket:gdn", "--examples", path, "--out", "x")
    assert done.returncode == 1 and str(path) in done.stderr


def test_every_error_of_the_package_stands_in_the_tree() -> None:
    """The command line, and whoever catches S0Error, finds all of them in one place."""
    for module in pkgutil.walk_packages(s0.__path__, "s0."):
        if ".guest." not in module.name:  # run by themselves, in the sandbox
            importlib.import_module(module.name)
    open_classes, found = [S0Error], set()
    while open_classes:
        found.add(kind := open_classes.pop())
        open_classes += kind.__subclasses__()
    assert {kind.__module__ for kind in found} == {"s0.errors"}
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in found)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EDQUOT])
def test_what_the_machine_says_comes_with_a_remedy(code: int) -> None:
    line = os_error_line(OSError(code, os.strerror(code), "/a/file"))
    assert line.startswith(f"{os.strerror(code)}: /a/file; ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a\nb"), 2),
        (DatasetError("a\nb"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
    ],
)
def test_a_command_ends_with_a_line_and_a_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(inspect, "inspect", fail)
    done = call("inspect", "pocket:gdn")
    assert done.returncode == status and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("interrupted" if status > 2 else "error: ")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "inspect", lambda target: [][0])
    with pytest.raises(IndexError):
        call("inspect", "pocket:gdn")


def test_help_and_readme_tell_the_statuses() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for text in (" ".join(call("--help").stdout.split()), " ".join(readme.split())):
        for status in ("0 done", "1 failed", "2 wrong usage or settings", "130 Ctrl-C", "143 SIGTERM"):
            assert status in text


def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "stderr").open("w+b") as stderr:
        process = forking.begun(forking.COMMAND, "eval", "--list", "--json", stdout=writing, stderr=stderr)
    os.close(writing)
    assert process.wait() in (0, 1) and "Traceback" not in (tmp_path / "stderr").read_text()


# --- Interrupted ---


@dataclass
class Interrupted:
    """The command as a process of its own."""

    process: forking.Process
    stderr: Path


def begun(*arguments: object, until: Path) -> Interrupted:
    """The command as a process of its own, when it has begun to write `until`."""
    said = Path(tempfile.mkdtemp(), "stderr")
    with said.open("w+b") as stderr:
        process = forking.begun(forking.COMMAND, *arguments, stderr=stderr)
    deadline = time.monotonic() + 120
    while not (until.exists() and until.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return Interrupted(process, said)


def ended(interrupted: Interrupted, number: int) -> tuple[int, str]:
    interrupted.process.send_signal(number)
    status = interrupted.process.wait(60)
    said = interrupted.stderr.read_text()
    assert "Traceback" not in said, said
    return status, said.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("interrupted")
    write_rows(made / "rows.jsonl", train=6, select=4, final=4)
    rows = [{"prompt": f"def f{i}(x):\n", "completion": f"    return x + {i}\n"} for i in range(6)]
    (made / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_an_interrupted_training_says_what_is_kept_and_goes_on(number: int, status: int, folder: Path) -> None:
    out = folder / f"state-{status}"
    asked = ["train", "--model", "pocket:gdn", "--examples", folder / "examples.jsonl", "--out", out, "--lr", "0.01"]
    process = begun(*asked, "--n-steps", "4000", until=out.with_name(f"{out.name}.checkpoint"))
    code, line = ended(process, number)
    assert code == status
    assert line.startswith(f"interrupted: what was learned so far is kept in {out}.checkpoint; go on with: s0 train ")
    assert str(out) in line.partition("go on with: ")[2] and not out.exists()


@pytest.mark.slow
def test_an_interrupted_choice_of_a_scale_keeps_the_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, add = folder / "by-verdicts", AnswerJournal.add
    checkpoint, answers = (out.with_name(f"by-verdicts.{what}") for what in ("checkpoint", "scale.jsonl"))
    asked = ["train", "--model", "pocket:gdn", "--examples", folder / "examples.jsonl", "--out", out, "--n-steps", 2]
    asked += ["--alpha-by", "pass-rate", "--task", "humaneval", "--data", folder / "rows.jsonl"]

    def interrupt(self: AnswerJournal, rows: Sequence[StoredAnswer]) -> None:
        add(self, rows)
        raise KeyboardInterrupt

    answers.write_text("mine")
    refused = call(*asked)
    assert refused.returncode == 2 and f"expected {answers}, where answers are kept, to be free" in refused.stderr
    assert answers.read_text() == "mine" and not checkpoint.exists()
    answers.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(AnswerJournal, "add", interrupt)
        done = call(*asked)
    n_kept = answers.read_text().count("\n") - 1
    kept = f"what was learned so far is kept in {checkpoint}, and {n_kept} answers in {answers}; go on with: s0 train"
    assert done.returncode == 130 and kept in done.stderr.splitlines()[-1] and n_kept > 0
    assert not out.exists() and checkpoint.is_file()
    again = call(*asked, "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["alpha"] == told["scale"]["chosen"] and "final_loss" not in told
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(caution in card for caution in told["cautions"])
    assert "as deployed;" not in card  # what was said of the scale before
    assert not checkpoint.exists() and not answers.exists()


@pytest.mark.slow
def test_an_interrupted_collection_says_how_many_samples_are_kept(folder: Path) -> None:
    out = folder / "collected.jsonl"
    asked = ["collect", "--model", "pocket:gdn", "--task", "humaneval", "--data", folder / "rows.jsonl", "--out", out]
    process = begun(*asked, "--samples", "4000", "--keep", "all", until=out.with_suffix(".samples.jsonl"))
    time.sleep(3)
    code, line = ended(process, signal.SIGTERM)
    kept = out.with_suffix(".samples.jsonl").read_text().count("\n") - 1
    assert code == 143 and line.startswith(f"interrupted: {kept} samples are kept in {out.with_suffix('')}.samples")


@pytest.mark.slow
def test_an_interrupted_evaluation_says_how_many_answers_are_kept(folder: Path) -> None:
    answers = folder / "results" / "record.answers.jsonl"
    asked = ["eval", "--model", "pocket:gdn", "--task", "pocket-code", "--samples", "500", "--out", folder / "results"]
    process = begun(*asked, until=answers)
    time.sleep(3)
    code, line = ended(process, signal.SIGINT)
    n_kept = answers.read_text().count("\n") - 1
    assert code == 130 and line.startswith(f"interrupted: {n_kept} answers are kept in {answers}; go on with: s0 eval ")
    assert [path.name for path in (folder / "results").iterdir() if path.suffix] == ["record.answers.jsonl"]


def test_without_a_place_no_answer_is_kept_and_that_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", final=1)
    monkeypatch.chdir(tmp_path)
    done = call("eval", "--model", "pocket:gdn", "--task", "pocket-code", "--data", rows)
    assert done.returncode == 0 and [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert done.stderr.startswith("no --out: answers are not kept; interrupted, all are asked again\n")


@pytest.mark.slow
def test_an_interrupted_demo_goes_on_in_its_folder(folder: Path) -> None:
    out = folder / "demo"
    code, line = ended(begun("demo", "--out", out, until=out / "train.samples.jsonl"), signal.SIGINT)
    assert code == 130 and f"kept in {out}; go on with: s0 demo --out {out}" in line


def test_a_second_process_is_told_of_the_first(folder: Path) -> None:
    out = folder / "twice.jsonl"
    asked = ["collect", "--model", "pocket:gdn", "--task", "humaneval", "--data", folder / "rows.jsonl", "--out", out]
    first = begun(*asked, "--samples", "4000", "--keep", "all", until=out.with_suffix(".samples.jsonl"))
    second = call(*asked)
    assert second.returncode == 1 and f"got process {first.process.pid} doing so" in second.stderr
    ended(first, signal.SIGTERM)
    lines = out.with_suffix(".samples.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_model_writes_steers_no_terminal(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.StringIO()
    monkeypatch.setattr(stdout, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stdout", stdout)
    text = "a\x1b[2Jb\tc\r\nd\x9b1m\x07é"
    put(text)
    assert stdout.getvalue() == ("a\\x1b[2Jb\tc\\r\nd\\x9b1m\\x07é" if is_terminal else text) + "\n"
