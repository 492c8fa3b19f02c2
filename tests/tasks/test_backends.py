"""Choosing a backend, what it grants, and each of the two inner walls by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from s0.errors import ConfigError, SandboxError
from s0.tasks.sandbox import BACKENDS, UNSAFE, Sandbox, backends
from s0.tasks.sandbox.cell import Cell
from s0.tasks.sandbox.guest import landlock, limits, seccomp
from s0.tasks.sandbox.launch import Limits, read_paths


def test_the_strongest_backend_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in range(len(BACKENDS)):
        monkeypatch.setattr(backends, "trouble_with", lambda name: "no" if name in BACKENDS[:broken] else None)  # noqa: B023
        assert backends.strongest() == BACKENDS[broken]


def test_without_a_backend_it_refuses_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "trouble_with", lambda name: None if name == UNSAFE else f"{name} is missing")
    with pytest.raises(SandboxError, match=r"landlock is missing.*Install bubblewrap.*does not keep programs from"):
        Sandbox()
    assert Sandbox(UNSAFE).backend == UNSAFE


def test_a_backend_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    backends.trouble_with.cache_clear()
    try:
        trouble = backends.trouble_with("bubblewrap")
    finally:
        backends.trouble_with.cache_clear()
    assert trouble == "bwrap is not installed"


def test_the_self_test_finds_a_leak() -> None:
    cell = Cell(UNSAFE, Limits())
    try:
        assert "could read, write" in (backends._leak_of(cell) or "")
    finally:
        cell.close()


def test_a_backend_of_another_name_is_a_setting_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="expected one of bubblewrap"):
        Sandbox("docker")


def test_the_interpreter_is_granted_and_not_the_folder_around_it() -> None:
    granted = [Path(path) for path in read_paths()]
    assert Path(sys.base_prefix).resolve() not in granted
    assert Path.home() not in granted
    assert not any(one in two.parents for one in granted for two in granted)


def _in_a_child(attempt: str, *, with_landlock: bool, with_seccomp: bool) -> str:
    """Lock a forked child down with one wall only; the name of the exception `attempt` ends with."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        limits.drop_privileges()
        if with_landlock:
            landlock.restrict(landlock.ruleset(read_paths()))
        if with_seccomp:
            seccomp.install()
        try:
            exec(attempt)
            os.write(writer, b"done")
        except BaseException as error:
            os.write(writer, type(error).__name__.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        os.waitpid(child, 0)
        return answer.read()


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_landlock_alone_keeps_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for attempt in (f"open({str(tmp_path / 'secret')!r})", f"open({str(tmp_path / 'new')!r}, 'w')"):
        assert _in_a_child(attempt, with_landlock=False, with_seccomp=False) == "done"
        assert _in_a_child(attempt, with_landlock=True, with_seccomp=False) == "PermissionError"
    assert _in_a_child(f"open({os.__file__!r})", with_landlock=True, with_seccomp=False) == "done"


@pytest.mark.skipif(not seccomp.supported(), reason="this machine has no seccomp, or its numbers are not known")
def test_seccomp_alone_keeps_network_and_processes() -> None:
    for attempt in ("import socket; socket.socket()", "os.fork() or os._exit(0)", "os.kill(os.getppid(), 0)"):
        assert _in_a_child(attempt, with_landlock=False, with_seccomp=False) == "done"
        assert _in_a_child(attempt, with_landlock=False, with_seccomp=True) == "PermissionError"
    assert _in_a_child("os.getpid()", with_landlock=False, with_seccomp=True) == "done"
