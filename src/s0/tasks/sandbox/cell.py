"""Two fork servers, each in a jail of its own: one forks checkers, the other candidates."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from s0.errors import DatasetError, SandboxError
from s0.tasks.sandbox import launch
from s0.tasks.sandbox.guest import codec
from s0.tasks.sandbox.guest.zygote import NOT_LOCKED_DOWN
from s0.tasks.sandbox.programs import Program, Verdict

_END_LIMIT_S = 10.0
_VERDICT_BYTES = 4096


class ServerLost(Exception):
    """A fork server or a checker ended on its own; who is to blame is not known yet."""


class _ForkServer:
    def __init__(self, backend: str, limits: launch.Limits) -> None:
        self._process, self._control = launch.start(backend, limits)

    def fork(self, role: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [role], descriptors)
        except OSError as error:
            raise ServerLost(str(error)) from None

    def end(self, *, patient: bool = False) -> int:
        """End the child that was forked last and return its wait status."""
        try:
            self._control.settimeout(_END_LIMIT_S)
            self._control.sendall(b"E" if patient else b"K")
            status = self._control.recv(4)
        except OSError as error:
            raise ServerLost(str(error)) from None
        if len(status) != 4:
            raise ServerLost("the fork server has ended")
        number: int = struct.unpack("<i", status)[0]
        return number

    def user(self) -> int | None:
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        return int(status.partition("Uid:")[2].split()[1])  # the effective one

    def close(self) -> None:
        self._control.close()  # the server ends its child and then itself
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """Forget the server in a forked copy of this process: it still belongs to the original."""
        self._control.close()
        self._process.returncode = 0  # not our child: keeps `Popen` from waiting for it


class Cell:
    """Judges one program at a time."""

    def __init__(self, backend: str, limits: launch.Limits) -> None:
        self._timeout_s = limits.timeout_s
        self._candidates = _ForkServer(backend, limits)
        try:
            self._checkers = _ForkServer(backend, limits)
        except SandboxError:
            self._candidates.close()
            raise

    def judge(self, program: Program) -> Verdict:
        """Run `program` against its test.

        Raises:
            DatasetError: the test itself cannot be run.
            ServerLost: the sandbox did not survive this program; the cell must be closed.
        """
        ours, theirs = socket.socketpair()
        calls = socket.socketpair()
        deadline_s = time.monotonic() + self._timeout_s
        with ours:
            with theirs, calls[0], calls[1]:
                self._candidates.fork(b"C", [calls[0].fileno()])
                self._checkers.fork(b"J", [theirs.fileno(), calls[1].fileno()])
            answer = self._converse(ours, program, deadline_s)
        died = answer == ("failed", "died")
        status = self._candidates.end(patient=died)
        self._checkers.end()
        if answer is None:
            raise ServerLost("the checker ended without a verdict")
        if died and os.WIFEXITED(status) and os.WEXITSTATUS(status) == NOT_LOCKED_DOWN:
            raise ServerLost("the candidate's process could not be locked down")
        kind, reason = answer
        if kind == "unusable":
            raise DatasetError(
                f"expected a test of {program.entry_point!r} that runs on plain data; got {reason}; correct the test"
            )
        return Verdict(kind == "passed", _cause_of_death(status) if died else reason)

    def user(self) -> int | None:
        """The numeric user that candidates are on this machine, whatever they see; None where there is no /proc."""
        return self._candidates.user()

    def close(self) -> None:
        """End both servers and what they run."""
        self._candidates.close()
        self._checkers.close()

    def abandon(self) -> None:
        """See `_ForkServer.abandon`."""
        self._candidates.abandon()
        self._checkers.abandon()

    def _converse(self, verdict: socket.socket, program: Program, deadline_s: float) -> tuple[str, str] | None:
        """Send the job and wait for the answer; None where the checker ends without one."""
        job = codec.encode((program.source, program.prompt, program.test, program.entry_point))
        try:
            verdict.settimeout(max(deadline_s - time.monotonic(), 0.001))
            verdict.sendall(struct.pack("<I", len(job)) + job)
            size = struct.unpack("<I", _exactly(verdict, 4, deadline_s))[0]
            if size > _VERDICT_BYTES:
                return None
            answer = codec.decode(_exactly(verdict, size, deadline_s))
        except TimeoutError:
            return "failed", "timeout"
        except (OSError, codec.CodecError):
            return None
        match answer:
            case (("passed" | "failed" | "unusable") as kind, str() as reason):
                return kind, reason
        return None


def _exactly(connection: socket.socket, size: int, deadline_s: float) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(max(deadline_s - time.monotonic(), 0.001))
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def _cause_of_death(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return "exit"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return "timeout"
    return "killed" if number == signal.SIGKILL else f"killed: {signal.Signals(number).name}"
