"""Writing: all or nothing whatever fails, by every writer of the package; and holding a place."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from s0 import Example, files
from s0.adapter import card, state_files
from s0.bench.collection import Sample, _Journal
from s0.examples import write_examples
from s0.export import published
from s0.files import _scratch, locked, remove_leftovers, write_bytes, write_files, write_text
from s0.record import parsed, write_record
from s0.report.page import write_report
from s0.train.checkpoint import Checkpoint
from s0_cli.exits import os_error_line
from tests.report.records import demo_record

STATE = {"model.layers.0.linear_attn": torch.ones(1, 2, 2)}
STORED = state_files.StoredState({"0": torch.ones(1, 2, 2)}, 1.0, False, None, "gated_delta_net")

WRITERS: dict[str, Callable[[Path, int], object]] = {
    "text": lambda folder, n: write_text(folder / "a.txt", f"text {n}"),
    "bytes": lambda folder, n: write_bytes(folder / "a.bin", b"%d" % n),
    "several files": lambda folder, n: write_files(folder, {"a": b"%d" % n, "sub/b": b"%d" % n}),
    "examples": lambda folder, n: write_examples(folder / "a.jsonl", [Example("a", f"b{n}")]),
    "state": lambda folder, n: state_files.write(folder / "state", STATE, {"alpha": n}, {card.CARD_FILE: "card"}),
    "published state": lambda folder, n: published.write(folder / "state", STORED, {"0": n}),
    "adapter": lambda folder, n: state_files.write_contents(
        folder / "lora", {"a.safetensors": STATE, "b.json": {"n": n}}
    ),
    "card": lambda folder, n: card.write_card(folder / "state", {"alpha": n}),
    "checkpoint": lambda folder, n: Checkpoint(folder / "run").write({}, {"n": n}, STATE),
    "record": lambda folder, n: write_record(folder / "record.json", {"n": n}),
    "report": lambda folder, n: write_report(parsed({**demo_record(), "seconds": {"train s0": n}}), folder / "report"),
}
"""Each writes one result, into the folder it is given; the number makes two of them differ."""

MOMENTS = ("open", "write", "fsync", "rename")
FAILURES = [(moment, errno.ENOSPC) for moment in MOMENTS]
FAILURES += [(moment, code) for code in (errno.EROFS, errno.ENOENT) for moment in ("open", "rename")]

ALONE = f"import os, signal, sys, runpy, time; from pathlib import Path; files = runpy.run_path({files.__file__!r})\n"
"""How a process of its own begins that needs nothing else of the package, whose import takes seconds."""


@contextmanager
def failing(moment: str, code: int, within: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """In `within`, one of the steps of writing a file fails; the list tells what has failed."""
    failed: list[str] = []
    renamed: list[str] = []

    def fail(path: object) -> None:
        if str(path).startswith(str(within)):
            failed.append(str(path))
            raise OSError(code, os.strerror(code))  # a full disk does not say which file it has no room for

    usual_open, usual_fsync, usual_replace = io.open, os.fsync, os.replace

    def open_file(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if moment == "open" and "r" not in mode:
            fail(path)
        file = usual_open(path, mode, *args, **kwargs)
        return Full(file, path, fail) if moment == "write" and "r" not in mode else file

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if moment == "fsync" and path.is_file():
            fail(path)
        usual_fsync(descriptor)

    def replace(source: Any, target: Any) -> None:
        is_put_back = ".old" in str(source)
        if moment == "rename" and not is_put_back:
            fail(target)
        if moment == "second rename" and not is_put_back and str(target).startswith(str(within)):
            renamed.append(str(target))
            if len(renamed) == 2:
                fail(target)
        usual_replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", open_file)
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replace)
        patch.setattr(os, "rename", replace)
        yield failed


class Full:
    """A file that takes nothing."""

    def __init__(self, file: Any, path: object, fail: Callable[[object], None]) -> None:
        self.file, self.path, self.fail = file, path, fail

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        self.fail(self.path)
        return int(self.file.write(data))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("moment", "code"), FAILURES, ids=lambda value: errno.errorcode.get(value, value))
@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_fails_says_so_in_a_line_and_leaves_what_was_there(
    writer: str, moment: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, folder = WRITERS[writer], tmp_path / "folder"
    monkeypatch.setattr("s0.report.page.draw", lambda record: {})  # plots take long and are written as the page is
    monkeypatch.setattr("s0.report.page._template", Page)
    with failing(moment, code, tmp_path, monkeypatch) as failed, pytest.raises(OSError) as first:
        write(folder, 1)
    assert failed and list(tmp_path.iterdir()) == []
    write(folder, 2)
    before = contents(folder)
    assert before
    with failing(moment, code, tmp_path, monkeypatch), pytest.raises(OSError) as second:
        write(folder, 3)
    assert contents(folder) == before
    for error in (first.value, second.value):
        line = os_error_line(error)
        assert os.strerror(code) in line and str(tmp_path) in line and "\n" not in line


def test_what_was_replaced_before_a_failure_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("several files", "state", "published state", "adapter", "report"):
        write, folder = WRITERS[name], tmp_path / name
        monkeypatch.setattr("s0.report.page.draw", lambda record: {"a": Plot()})
        monkeypatch.setattr("s0.report.page._template", Page)
        write(folder, 2)
        before = contents(folder)
        with failing("second rename", errno.EIO, tmp_path, monkeypatch) as failed, pytest.raises(OSError):
            write(folder, 3)
        assert failed and contents(folder) == before


class Plot:
    """A picture without a picture."""

    png = light = dark = b"picture"


def test_what_a_killed_writer_of_this_number_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": b"1", "b": b"1"})
    for name in ("a", "b"):
        for scratch in (_scratch(tmp_path / name), _scratch(tmp_path / name, "old")):
            scratch.write_bytes(b"half")
    write_files(tmp_path, {"a": b"2", "b": b"2"})
    assert contents(tmp_path) == {"a": b"2", "b": b"2"}


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    def write_often(n: int) -> None:
        for _ in range(50):
            write_bytes(tmp_path / "a", b"%d" % n * 1000)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_often, range(4)))
    assert contents(tmp_path)["a"] in [b"%d" % n * 1000 for n in range(4)]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


class Page:
    """A report's page without its words."""

    def render(self, view: Any, plots: Any) -> str:
        return repr(view["provenance"])


@pytest.mark.parametrize("moment", ["open", "write"])
def test_samples_that_cannot_be_kept_leave_those_before(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, origin = tmp_path / "a.samples.jsonl", {"task": "t", "base": "b"}
    journal = _Journal(path, origin)
    journal.add([Sample("p", 0, "text", 1, True, "passed")])
    with failing(moment, errno.ENOSPC, tmp_path, monkeypatch), pytest.raises(OSError, match="No space"):
        journal.add([Sample("p", 1, "text", 1, True, "passed")])
    assert {*_Journal(path, origin).samples["p"]} == {0}


def test_a_record_that_cannot_be_written_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spare"))
    folder = tmp_path / "full"
    with failing("open", errno.ENOSPC, folder, monkeypatch), pytest.raises(OSError, match="is kept in") as error:
        write_record(folder / "record.json", {"answers": [1]})
    (kept,) = (tmp_path / "spare").rglob("record.json")
    assert str(kept) in str(error.value) and json.loads(kept.read_text()) == {"answers": [1]}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")
def test_on_a_full_disk_the_old_files_stay(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system takes root")
    try:
        write_files(disk, {"a": b"old", "b": b"old"})
        with pytest.raises(OSError, match="No space left"):
            write_files(disk, {"a": b"new", "b": bytes(100_000)})
        assert contents(disk) == {"a": b"old", "b": b"old"}
        with pytest.raises(OSError, match="No space left"):
            write_bytes(disk / "new" / "c", bytes(100_000))
        assert sorted(path.name for path in disk.iterdir()) == ["a", "b"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_what_is_held_is_refused_to_others_by_the_holders_number(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    code = ALONE + "with files['locked'](Path(sys.argv[1])): print('mine')"
    ask = [sys.executable, "-c", code, str(path)]
    with locked(path):
        refused = subprocess.run(ask, capture_output=True, text=True)
    assert refused.returncode == 1 and f"got process {os.getpid()} doing so" in refused.stderr
    assert subprocess.run(ask, capture_output=True, text=True).stdout == "mine\n"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = ALONE + "with files['locked'](Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"mine\n"
        holder.kill()
    with locked(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_want_a_place_one_has_it_at_a_time(tmp_path: Path) -> None:
    counting, inside = threading.Lock(), 0

    def take_often(_: int) -> tuple[int, int]:
        nonlocal inside
        most = refused = 0
        for _ in range(50):
            try:
                with locked(tmp_path / "out"):
                    with counting:
                        inside += 1
                        most = max(most, inside)
                    time.sleep(0.001)
                    with counting:
                        inside -= 1
            except BlockingIOError:
                refused += 1
        return most, refused

    with ThreadPoolExecutor(4) as threads:
        most, refused = zip(*threads.map(take_often, range(4)), strict=True)
    assert max(most) == 1 and sum(refused) > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "pipe", "notes"])
def test_what_is_no_lock_of_ours_is_left_alone(kind: str, tmp_path: Path) -> None:
    lock, mine = tmp_path / ".out.s0-lock", tmp_path / "mine"
    mine.write_text("mine")
    make = {
        "link": lambda: lock.symlink_to(mine),
        "hard link": lambda: os.link(mine, lock),
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "notes": lambda: lock.write_text("notes"),
    }
    make[kind]()
    with (
        pytest.raises(FileExistsError, match="to be a lock of this program, got something else"),
        locked(tmp_path / "out"),
    ):
        pass
    assert mine.read_text() == "mine" and os.path.lexists(lock)


def test_hidden_files_of_others_are_no_leftovers(tmp_path: Path) -> None:
    theirs = [".out.2024", ".out.7", ".out.mine.s0-scratch", "out/.a.7.s0-scratch", "out/sub/.s0-scratch", "out/a.7-7"]
    theirs += [".other.7-7.s0-scratch", "out/sub/deeper/.a.7-7.s0-scratch"]  # of another writer
    for name in theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path / "out")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {*theirs}


def test_what_killed_writers_left_in_a_folder_is_removed_with_what_they_left_of_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    for target in (out, out / "record.json", out / "state", out / "state" / "config.json"):
        _scratch(target).write_text("half")
        _scratch(target, "old").write_text("old")
    _scratch(out / "lora").mkdir()
    (_scratch(out / "lora") / "config.json").write_text("half")
    remove_leftovers(out)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/state"]


def test_a_place_is_locked_under_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    code = ALONE + "with files['locked'](Path(sys.argv[1])): pass"
    with locked(tmp_path / "link"):
        refused = subprocess.run([sys.executable, "-c", code, str(tmp_path / "real")], capture_output=True, text=True)
    assert refused.returncode == 1 and str(os.getpid()) in refused.stderr


def test_a_writer_killed_at_any_moment_leaves_a_whole_folder_or_none(tmp_path: Path) -> None:
    """Killed before its first, second ... system call of a kind that changes a name or reaches the disk."""
    code = (
        ALONE + "left = int(sys.argv[2])\n"
        "def dying(usual):\n"
        "    def call(*args, **kwargs):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return usual(*args, **kwargs)\n"
        "    return call\n"
        "os.fsync, os.rename, os.replace, os.mkdir = map(dying, (os.fsync, os.rename, os.replace, os.mkdir))\n"
        "files['write_files'](sys.argv[1], {'a': b'1', 'sub/b': b'2', 'c': b'3'})\n"
    )
    found = []
    for moment in range(12):
        out = tmp_path / f"out{moment}"
        done = subprocess.run([sys.executable, "-c", code, str(out), str(moment)], capture_output=True)
        found.append(contents(out) if out.exists() else None)
        remove_leftovers(out)
        assert not list(tmp_path.glob(".*"))
        if done.returncode == 0:
            break
    whole = {"a": b"1", "sub/b": b"2", "c": b"3"}
    assert found[0] is None and found[-1] == whole and all(one in (None, whole) for one in found)
