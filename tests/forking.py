"""Processes that start at once: forked from one that has imported torch, transformers and PEFT, and nothing of ours.

Importing these takes seconds of processor time, and dozens of tests want a process of its own: to interrupt it, to give
it a terminal, to see what importing s0 does. The process that forks computes nothing itself: threads that a library
has started do not survive a fork. What is forked has its own streams, folder and environment, as a started one has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

PRELOADED = ("torch", "transformers", "peft")
COMMAND = "from s0_cli import main; main()"
_MOST_BYTES = 1 << 20
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """A process at its end."""

    returncode: int
    stdout: str
    stderr: str


class Process:
    """A forked process; the methods are those of `subprocess.Popen`."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.pid: int = self._told()
        self.returncode: int | None = None

    def _told(self) -> int:
        line = self._link.recv(32)
        assert line, "the process that forks has ended"
        return int(line)

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        return self._status(0)

    def wait(self, timeout: float = 120) -> int:
        """Its status, when it has ended."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return status

    def _status(self, timeout: float) -> int | None:
        if self.returncode is None:
            self._link.settimeout(timeout or 1e-6)
            with suppress(TimeoutError):
                self.returncode = self._told()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def begun(code: str, *arguments: object, stdout: Any = None, stderr: Any = None) -> Process:
    """Run code with these arguments in a process of its own, in this folder and environment, without input.

    Args:
        code: of Python.
        arguments: `sys.argv` behind its first.
        stdout, stderr: files, or their numbers; None for /dev/null.
    """
    asked = {"code": code, "arguments": [*map(str, arguments)], "cwd": str(Path.cwd()), "env": dict(os.environ)}
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(_forker())
    with Path(os.devnull).open("r+b") as nothing:
        files = [
            file if isinstance(file, int) else file.fileno() for file in (nothing, stdout or nothing, stderr or nothing)
        ]
        socket.send_fds(link, [json.dumps(asked).encode()], files)
        return Process(link)


def run(code: str, *arguments: object) -> Done:
    """The same to its end, with what it has put out."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        status = begun(code, *arguments, stdout=stdout, stderr=stderr).wait(300)
        return Done(status, *(_text(file) for file in (stdout, stderr)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@cache
def _forker() -> str:
    """The address of the one forker of this test run, which ends with it."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    owner = os.getppid() if is_worker else os.getpid()
    folder = Path(f"/tmp/s0-forker-{os.environ.get('PYTEST_XDIST_TESTRUNUID', owner)}")  # a socket's path is short
    address = str(folder / "socket")
    with suppress(FileExistsError):  # another worker has started it
        folder.mkdir(mode=0o700)
        imports = "".join(f"import {name}; " for name in PRELOADED)
        code = f"{imports}from tests.forking import serve; serve({address!r}, {owner})"
        subprocess.Popen([sys.executable, "-c", code], cwd=_ROOT)
    deadline = time.monotonic() + 300
    while not Path(address).exists():
        assert time.monotonic() < deadline, "the process that forks has not started"
        time.sleep(0.02)
    return address


def serve(address: str, owner: int) -> None:
    """Fork whenever somebody asks for it, until the process that the tests run for is gone."""
    sys.path[0] = str(_ROOT)  # in place of the folder that each finds itself in
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(f"{address}.new")
    server.listen()
    server.settimeout(1.0)
    Path(f"{address}.new").rename(address)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while Path(f"/proc/{owner}").exists():
        with suppress(TimeoutError):
            link, _ = server.accept()
            _in_a_fork(lambda link=link: _watch(link), server)  # type: ignore[misc]
            link.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    shutil.rmtree(Path(address).parent)


def _watch(link: socket.socket) -> None:
    """Between the process that asks and the one that does the work: tells the pid of this, and how it has ended."""
    message, files, *_ = socket.recv_fds(link, _MOST_BYTES, 3)
    pid = _in_a_fork(lambda: _work(json.loads(message), files), link)
    for file in files:
        os.close(file)  # so that who reads them sees the end of the work
    link.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    link.send(str(os.waitstatus_to_exitcode(status)).encode())


def _work(asked: Mapping[str, Any], files: Sequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    tempfile.tempdir = None  # which goes by the environment
    sys.argv = ["s0", *asked["arguments"]]
    exec(compile(asked["code"], "<forked>", "exec"), {"__name__": "__main__"})


def _in_a_fork(work: Callable[[], None], *closed: socket.socket) -> int:
    """Do something in a forked process, which ends as an interpreter would; the pid of it."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for link in closed:
            link.close()
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
