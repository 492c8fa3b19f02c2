"""Two fork servers, each in a jail of its own: one forks checkers, the other candidates.

A program's time is its processor time, as its fork server reads it from outside: beside other work, or many programs at
once, it gets the same verdict. Copying data is not its work: the checker, which it cannot reach, counts the bytes, and
for each the program gets a little more time, within a bound.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from s0.errors import SandboxError
from s0.tasks.sandbox import launch
from s0.tasks.sandbox.guest import codec
from s0.tasks.sandbox.guest.zygote import CANDIDATE, CHECKER, END, FORK, SECONDS, UNKNOWN_S
from s0.tasks.sandbox.programs import CANNOT_RUN, NOT_JUDGED, Program, Verdict

_END_LIMIT_S = 10.0
_JOB_LIMIT_S = 10.0
_VERDICT_BYTES = 4096
_MAX_PROGRAM_BYTES = 8 << 20
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.005, 0.1
_CLOCK_S_PER_S = 10
"""Seconds by the clock that a program may take for each second of processor time: so sleeping ends, too."""
_TEST_S_PER_S = 10
"""Seconds of processor time that the checker gets for each of the program's: its test may run a reference and look at
all it gets."""
_COPYING_S_PER_BYTE = 1e-6
"""What the smallest dictionaries cost on a busy machine; a million numbers cost a hundredth of it."""
_MOST_COPYING = 4.0
"""Times the timeout."""


class ServerLost(Exception):
    """A fork server or a checker ended on its own; who is to blame is not known yet."""


class _End(NamedTuple):
    """How a child of a fork server ended.

    Attributes:
        started: whether it had given up its rights and come to its program.
        status: as `os.wait` gives it.
        seconds: of processor time.
    """

    started: bool
    status: int
    seconds: float

    @property
    def signal(self) -> int | None:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None


class _ForkServer:
    def __init__(self, role: str, backend: str, limits: launch.Limits) -> None:
        self._process, self._control = launch.start(role, backend, limits)

    def fork(self, cpu_s: float, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [FORK.pack(math.ceil(cpu_s) + 1)], descriptors)
        except OSError as error:
            raise ServerLost(str(error)) from None

    def cpu_seconds(self) -> float | None:
        """Processor time of the child that was forked last, up to now; None where the system does not tell."""
        seconds: float = self._ask(b"T", SECONDS)[0]
        return None if seconds == UNKNOWN_S else seconds

    def end(self, *, patient: bool = False) -> _End:
        """End the child that was forked last."""
        return _End(*self._ask(b"E" if patient else b"K", END))

    def _ask(self, order: bytes, reply: struct.Struct) -> tuple[Any, ...]:
        try:
            self._control.settimeout(_END_LIMIT_S)
            self._control.sendall(order)
            data = self._control.recv(reply.size, socket.MSG_WAITALL)
        except OSError as error:
            raise ServerLost(str(error)) from None
        if len(data) != reply.size:
            raise ServerLost("the fork server has ended")
        return reply.unpack(data)

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
    """Judges one program at a time.

    Attributes:
        seconds: the least `timeout_s` that the last program could have been judged with.
        spent: whether it has been closed.
    """

    def __init__(self, backend: str, limits: launch.Limits) -> None:
        self._timeout_s = limits.timeout_s
        self.seconds = 0.0
        self.spent = False
        self._candidates = _ForkServer(CANDIDATE, backend, limits)
        try:
            self._checkers = _ForkServer(CHECKER, backend, limits)
        except SandboxError:
            self._candidates.close()
            raise

    def judge(self, program: Program) -> Verdict:
        """Run `program` against its test.

        Raises:
            ServerLost: the sandbox did not survive this program; the cell must be closed.
        """
        if _size(program.source) > _MAX_PROGRAM_BYTES:
            return Verdict(False, "too large")
        if _size(program.prompt) + _size(program.test) > codec.MAX_MESSAGE_BYTES // 2:
            return Verdict(False, f"{NOT_JUDGED}{CANNOT_RUN}its text is longer than can be sent")
        timeout_s = program.timeout_s or self._timeout_s
        ours, theirs = socket.socketpair()
        calls = socket.socketpair()
        with ours:
            with theirs, calls[0], calls[1]:
                self._candidates.fork((1 + _MOST_COPYING) * timeout_s, [calls[0].fileno()])
                self._checkers.fork(_TEST_S_PER_S * timeout_s, [theirs.fileno(), calls[1].fileno()])
            watch = _Watch(self._candidates, self._checkers, timeout_s)
            answer = _converse(ours, program, watch)
        died = answer == ("failed", "died")
        candidate = self._candidates.end(patient=died)
        checker = self._checkers.end()
        self.seconds = max(candidate.seconds - watch.copying_s, checker.seconds / _TEST_S_PER_S)
        return _verdict(answer, candidate, checker, late=candidate.seconds > watch.limit_s)

    def user(self) -> int | None:
        """The numeric user that candidates are on this machine, whatever they see; None where there is no /proc."""
        return self._candidates.user()

    def close(self) -> None:
        """End both servers and what they run."""
        self.spent = True
        self._candidates.close()
        self._checkers.close()

    def abandon(self) -> None:
        """See `_ForkServer.abandon`."""
        self._candidates.abandon()
        self._checkers.abandon()


class _Watch:
    """When a program has had its time.

    Attributes:
        copying_s: seconds allowed for the data that has been copied, as the checker counts it.
    """

    def __init__(self, candidates: _ForkServer, checkers: _ForkServer, timeout_s: float) -> None:
        self._candidates = candidates
        self._checkers = checkers
        self._timeout_s = timeout_s
        self._started_s = time.monotonic()
        self._used_s = 0.0
        self.copying_s = 0.0

    @property
    def limit_s(self) -> float:
        return self._timeout_s + self.copying_s

    def copied(self, size: int) -> None:
        self.copying_s = min(size * _COPYING_S_PER_BYTE, _MOST_COPYING * self._timeout_s)

    def next_look_s(self) -> float:
        """Seconds in which nothing can go past its limit, or few enough not to matter."""
        return min(max(self.limit_s - self._used_s, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)

    def is_over(self) -> bool:
        """Look at the clocks."""
        elapsed_s = time.monotonic() - self._started_s
        used_s = self._candidates.cpu_seconds()
        self._used_s = elapsed_s if used_s is None else used_s
        if self._used_s > self.limit_s:
            return True
        if elapsed_s < _CLOCK_S_PER_S * self._timeout_s:
            return False
        test_s = self._checkers.cpu_seconds() or 0.0  # a test that works, on a busy machine, is not asleep
        return elapsed_s > _CLOCK_S_PER_S * (self._timeout_s + test_s)


def _converse(verdict: socket.socket, program: Program, watch: _Watch) -> tuple[str, str] | None:
    """Send the job and wait for the answer; None where the checker ends without one."""
    job = codec.encode((program.source, program.prompt, program.test, program.entry_point))
    try:
        verdict.settimeout(_JOB_LIMIT_S)
        verdict.sendall(struct.pack("<I", len(job)) + job)
        while True:
            size = struct.unpack("<I", _exactly(verdict, 4, watch))[0]
            if size > _VERDICT_BYTES:
                return "failed", "killed"
            match codec.decode(_exactly(verdict, size, watch)):
                case ("copied", int() as copied):
                    watch.copied(copied)
                case (("passed" | "failed" | "unusable" | "unjudged") as kind, str() as reason):
                    return kind, reason
                case _:
                    return "failed", "killed"
    except TimeoutError:
        return "failed", "timeout"
    except (OSError, codec.CodecError):
        return None


def _exactly(connection: socket.socket, size: int, watch: _Watch) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(watch.next_look_s())
        try:
            part = connection.recv(size - len(data))
        except TimeoutError:
            if watch.is_over():
                raise
            continue
        if not part:
            raise ConnectionResetError
        data += part
    return data


def _verdict(answer: tuple[str, str] | None, candidate: _End, checker: _End, *, late: bool) -> Verdict:
    """What the answer and the ends of candidate and checker come to; `late` says that the candidate took too long.

    Raises:
        ServerLost: one of them never started, or the system has killed the checker. Nothing else is judged again: no
            way to end is worth a second try.
    """
    if answer is None:
        if checker.signal == signal.SIGXCPU:
            return Verdict(False, "timeout")
        if checker.started and checker.signal != signal.SIGKILL:
            return Verdict(False, "killed")
        raise ServerLost("the checker ended without a verdict")
    kind, reason = answer
    died = answer == ("failed", "died")
    if died and not candidate.started:
        raise ServerLost("the candidate's process could not be locked down")
    if kind in ("unusable", "unjudged"):
        return Verdict(False, f"{NOT_JUDGED}{CANNOT_RUN if kind == 'unusable' else ''}{reason}")
    if late:  # it is its time that decides, not how soon we looked
        return Verdict(False, "timeout")
    return Verdict(kind == "passed", _cause_of_death(candidate.signal) if died else reason)


def _cause_of_death(number: int | None) -> str:
    """What ended the candidate, in words, by the number of its signal; None where it was none."""
    if number is None:
        return "exit"
    if number == signal.SIGXCPU:
        return "timeout"
    if number == signal.SIGKILL:
        return "killed"
    known = number in set(signal.Signals)  # real-time signals have no names
    return f"killed: {signal.Signals(number).name if known else f'signal {number}'}"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
