"""Choosing a backend, what it grants, and each of the two inner walls by itself."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s0.errors import ConfigError, SandboxError
from s0.tasks.sandbox import BACKENDS, UNSAFE, Sandbox, backends, launch, seatbelt
from s0.tasks.sandbox.cell import Cell
from s0.tasks.sandbox.guest import landlock, limits, seccomp
from s0.tasks.sandbox.launch import Limits, readable
from s0.tasks.sandbox.readable_paths import Granted
from tests.breadth import mostly_slow
from tests.tasks.programs import HONEST, WRONG, adding, descendants


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
    granted = [Path(path) for path in readable().paths]
    assert Path(sys.base_prefix).resolve() not in granted
    assert Path.home() not in granted
    assert not {parent for path in granted for parent in path.parents} & set(granted)


def _in_a_child(attempt: str, *, with_landlock: bool, with_seccomp: bool, write_path: str | None = None) -> str:
    """Lock a forked child down with one wall only; the name of the exception `attempt` ends with."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        limits.drop_privileges()
        limits.keep_capabilities(0)
        if with_landlock:
            landlock.restrict(
                landlock.ruleset(readable().paths, readable().folders, [write_path] if write_path else [])
            )
        if with_seccomp:
            seccomp.install(writing=write_path is not None)
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


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_landlock_lets_files_be_made_where_it_is_told_to(tmp_path: Path) -> None:
    inside, outside = tmp_path / "tmp", tmp_path / "victim"
    inside.mkdir()
    outside.touch()
    work = f"os.mkdir('{inside}/a'); open('{inside}/a/b', 'w'); os.rename('{inside}/a/b', '{inside}/b')"
    assert _in_a_child(work, with_landlock=True, with_seccomp=False, write_path=str(inside)) == "done"
    for attempt in (f"open('{outside}', 'w')", f"os.mkfifo('{inside}/pipe')", f"os.rename('{outside}', '{inside}/x')"):
        assert _in_a_child(attempt, with_landlock=True, with_seccomp=False, write_path=str(inside)) != "done"


@pytest.mark.skipif(not seccomp.supported(), reason="this machine has no seccomp, or its numbers are not known")
def test_seccomp_alone_refuses_to_change_files_where_there_is_no_tmp(tmp_path: Path) -> None:
    (tmp_path / "victim").touch()
    victim = str(tmp_path / "victim")
    truncate_while_reading = f"os.open({victim!r}, os.O_RDONLY | os.O_TRUNC)"  # Landlock allows it before version 3
    for attempt in (truncate_while_reading, f"open({victim!r}, 'w')", f"os.truncate({victim!r}, 0)"):
        assert _in_a_child(attempt, with_landlock=False, with_seccomp=True) == "PermissionError"
        assert _in_a_child(attempt, with_landlock=False, with_seccomp=True, write_path="any") == "done"
    assert _in_a_child(f"open({victim!r})", with_landlock=False, with_seccomp=True) == "done"


def _answer_of(code: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would make of a call: classic BPF, one instruction after the other."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = [struct.unpack_from("<HBBI", code, start) for start in range(0, len(code), 8)]
    position = word = 0
    while True:
        kind, if_true, if_false, value = instructions[position]
        position += 1
        if kind == 0x06:
            return value
        if kind == 0x20:
            word = struct.unpack_from("<I", data, value)[0]
        else:
            holds = {0x15: word == value, 0x35: word >= value, 0x45: word & value != 0}[kind]
            position += if_true if holds else if_false


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_the_calls_of_its_table_and_no_other(machine: str, writing: bool) -> None:
    architecture, column = seccomp._ARCHITECTURES[machine]
    code = seccomp._filter(machine, writing)
    table = seccomp._ALLOWED | seccomp._WRITING if writing else seccomp._ALLOWED
    allowed = {numbers[column] for numbers in table.values()}
    opening = {numbers[column]: position for numbers, position in seccomp._OPENING.values()}
    deciding = seccomp._ALLOWED_WITH | seccomp._WRITING_WITH if writing else seccomp._ALLOWED_WITH
    bounded = {numbers[column]: (position, values) for numbers, position, values in deciding.values()}
    tried = (*range(400), 1 << 31, (1 << 32) - 6)
    for number in [*range(700), 0x40000000, 0xFFFFFFFF]:
        if number == seccomp._FUTEX[column]:
            answers = {value: _answer_of(code, architecture, number, (0, value)) for value in tried}
            expected = {value: value & 128 != 0 for value in tried}
        elif number in bounded:
            position, values = bounded[number]
            answers = {value: _answer_of(code, architecture, number, (0,) * position + (value,)) for value in tried}
            expected = {value: value in values for value in tried}
        elif number in opening:
            answers = {
                flags: _answer_of(code, architecture, number, (0,) * opening[number] + (flags,))
                for flags in (0, os.O_CLOEXEC, os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TRUNC | 1 << 31)
            }
            expected = {flags: writing or not flags & 0o1103 for flags in answers}
        else:
            answers = {0: _answer_of(code, architecture, number)}
            expected = {0: number in allowed}
        assert answers == {value: 0x7FFF0000 if yes else 0x00050001 for value, yes in expected.items()}, number
    assert _answer_of(code, architecture ^ 1, 0) == 0x80000000


def test_root_starts_servers_as_users_that_nobody_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    first, second = launch._users("landlock"), launch._users("landlock")
    assert first[1:] == second[1:] == [65534, None]
    assert first[0] != second[0] and min(first[0] or 0, second[0] or 0) >= 1 << 30
    assert launch._users(UNSAFE) == [None]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert launch._users("landlock") == [None]


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs root and /usr/bin/python3"
)
@pytest.mark.parametrize("backend", launch.LINUX_BACKENDS)
def test_a_server_of_root_runs_as_that_user(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(launch, "_executable", lambda: os.path.realpath("/usr/bin/python3"))  # ours may be in /root
    try:
        cell = Cell(backend, Limits())
    except SandboxError as error:
        pytest.skip(f"{backend} does not work on this machine: {error}")
    try:
        assert (cell.user() or 0) >= 1 << 30
        assert [cell.judge(program).passed for program in (HONEST, WRONG)] == [True, False]
    finally:
        cell.close()


@pytest.mark.parametrize("backend", mostly_slow(["bubblewrap", "namespaces"], ["bubblewrap"]))
def test_an_interpreter_in_tmp_is_no_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str) -> None:
    if backends.trouble_with(backend) is not None or Path("/tmp") not in tmp_path.parents:
        pytest.skip(f"{backend} does not work on this machine, or its tests do not run in /tmp")
    granted = replace(readable(), paths=(*readable().paths, str(tmp_path)))
    monkeypatch.setattr(launch, "readable", lambda: granted)
    cell = Cell(backend, Limits())
    try:
        assert [cell.judge(program).passed for program in (HONEST, WRONG)] == [True, False]
    finally:
        cell.close()


def test_where_no_user_of_its_own_works_a_server_runs_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    original = launch._start_as

    def refusing(
        user: int | None, role: str, backend: str, limits: Limits
    ) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if user is not None:
            raise SandboxError("the interpreter cannot be read")
        return original(user, role, backend, limits)

    monkeypatch.setattr(launch, "_start_as", refusing)
    monkeypatch.setattr(launch, "_users", lambda backend: [1 << 30, None])
    cell = Cell(UNSAFE, Limits())
    try:
        assert cell.user() == os.geteuid()
    finally:
        cell.close()


def test_the_profile_for_macos_grants_what_is_named_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = seatbelt.profile(
        Granted(("/opt/python/lib/os.py", '/odd "name"'), ("/opt/python/lib",), {}), ["/opt/python/bin/python3"]
    ).splitlines()
    assert lines[:2] == ["(version 1)", "(deny default)"]
    assert {line for line in lines if line.startswith("(allow")} == {
        "(allow process-fork)",
        "(allow signal (target self))",
        "(allow signal (target children))",
        '(allow process-exec (literal "/opt/python/bin/python3"))',
        '(allow file-read* (subpath "/opt/python/lib/os.py"))',
        '(allow file-read* (literal "/opt/python/lib"))',
        '(allow file-read* (subpath "/odd \\"name\\""))',
        '(allow file-read-metadata (literal "/"))',
        '(allow file-read-metadata (literal "/opt"))',
        '(allow file-read-metadata (literal "/opt/python"))',
        '(allow file-read-metadata (literal "/opt/python/lib"))',
    }
    assert all(line.count("(") == line.count(")") for line in lines)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert launch._wrapper("sandbox-exec")[:2] == ["/usr/bin/sandbox-exec", "-p"]
    for backend in launch.LINUX_BACKENDS:
        with pytest.raises(SandboxError, match="it needs linux"):
            launch._wrapper(backend)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SandboxError, match="it needs darwin"):
        launch._wrapper("sandbox-exec")


def test_without_seccomp_what_a_program_leaves_running_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if backends.trouble_with("namespaces") is not None:
        pytest.skip("namespaces do not work on this machine")
    original = launch._source
    unfiltered = {
        "seccomp": ("return known and", "return False and"),
        "limits": ('"RLIMIT_NPROC": 1', '"RLIMIT_NICE": 0'),
    }
    monkeypatch.setattr(launch, "_source", lambda name: original(name).replace(*unfiltered.get(name, ("", ""))))
    source = "import ctypes, os, time\ndef add(a, b):\n    if os.fork() == 0:\n        os.setsid()\n"
    source += "        if os.fork() == 0:\n            time.sleep(600)\n        time.sleep(600)\n"
    source += "    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
    source += "    assert ctypes.CDLL(None).capget(header, sets) == 0 and not any(sets)\n    return a + b\n"
    cell = Cell("namespaces", Limits())
    try:
        idle = descendants(os.getpid())
        assert cell.judge(adding(source)).passed  # it may start processes here
        assert descendants(os.getpid()) == idle
        assert cell.judge(HONEST).passed
    finally:
        cell.close()
