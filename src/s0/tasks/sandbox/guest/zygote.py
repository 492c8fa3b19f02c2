"""The fork server: one process inside the jail that forks a fresh child for every program.

Its children are all candidates or all checkers. It starts once, imports what programs commonly import, and then forks:
a program costs a fork, not an interpreter. It never reads a program, so there is nothing of one program in the memory
the next one is forked from, and every candidate finds a tmp that was mounted for it, empty. Children inherit
descriptors that were made for one program only, and cannot signal, trace or outlive this process. What they print goes
into a pipe that this process empties, what they read ends at once: no file of the machine, not even its null device, is
in their hands.

Control messages: `FORK`, the most seconds of processor time, with the child's descriptors (a candidate's connection; a
checker's for the verdict, and the one to the candidate). Then, of one byte each: "T", answered by `SECONDS`, the
processor time of the child up to now; and "K" (end it now) or "E" (it is ending by itself: wait a moment first),
answered by `END`: whether it ever came to its program, its wait status and all its time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass

from s0.tasks.sandbox.guest import candidate, checker, codec, frames, imports, landlock, limits, namespaces, seccomp
from s0.tasks.sandbox.guest.scope import Scope

_COMMON_MODULES = (
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "enum", "fractions", "functools", "heapq",
    "itertools", "json", "math", "operator", "re", "string", "textwrap", "typing",
)  # fmt: skip
"""Not among them: random and threading, which do work of their own in every forked child (0.4 ms each)."""
_PAST_ALL_DESCRIPTORS = 64
FORK, SECONDS, END = struct.Struct("<I"), struct.Struct("<d"), struct.Struct("<?id")
UNKNOWN_S = -1.0
"""Seconds, where the system does not tell them."""
CANDIDATE, CHECKER = "candidate", "checker"
"""What the children of a fork server are: each is the one or the other, for the server's whole life."""
_LOCKED_DOWN = b"L"
_PRINTED_BYTES = 1 << 16
"""Taken out of a pipe at a time: all that it holds."""
_ENDING_BY_ITSELF_S = 0.2
_CPUCLOCK_SCHED = 2
_WARMING_ROUNDS = 64
_WITH_NAMESPACES = ("bubblewrap", "namespaces")


@dataclass(frozen=True)
class Rules:
    """What children are and are held to; `backend` says what else already surrounds this process."""

    role: str
    backend: str
    read_paths: list[str]
    folders: list[str]
    packages: dict[str, str]
    memory_bytes: int
    tmp_bytes: int

    @property
    def has_tmp(self) -> bool:
        """Whether children may write: only where what they write is bounded, theirs alone, and gone with them."""
        return self.role == CANDIDATE and self.backend in _WITH_NAMESPACES


def main(rules: Rules) -> None:
    """Serve until the control connection, descriptor 0, is closed."""
    if rules.backend == "namespaces":
        namespaces.enter(rules.read_paths)
    if rules.backend == "bubblewrap":
        namespaces.keep_only(rules.read_paths, rules.folders)
    if rules.backend != "none" and sys.platform == "linux":
        limits.drop_privileges()
        limits.keep_capabilities(limits.SYS_ADMIN if rules.has_tmp else 0)
    for name in _COMMON_MODULES:
        importlib.import_module(name)
    os.environ.clear()
    imports.allow(rules.packages)
    domain = _domain(rules)
    if seccomp.supported():
        seccomp.program(rules.has_tmp)  # built before the fork, not after every one
    _warm_up()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=0)
    control.sendall(b"R")
    os.dup2(1, 2)  # from here on nobody reads what this process might say
    while _serve_one(control, rules, domain):
        pass


def _warm_up() -> None:
    """Run what every program needs: Python writes into code until it has run often; a child has to copy for that."""
    reader, writer = os.pipe()
    for _ in range(_WARMING_ROUNDS):
        scope, copy = Scope(), Scope()
        frames.send(writer, codec.encode(("call", ([1, 2], (0.5, "a"), {"a": [None]}), {"b": [(1, 2)]}), scope))
        codec.decode(frames.receive(reader), copy)
        copy.watch()
        frames.send(writer, codec.encode(("value", [copy.objects[0], "b", -1]), copy, with_changes=True))
        codec.decode(frames.receive(reader), scope)
    os.close(reader)
    os.close(writer)


def _serve_one(control: socket.socket, rules: Rules, domain: int | None) -> bool:
    message, descriptors, _, _ = socket.recv_fds(control, FORK.size, 2)
    if not message:
        return False
    (cpu_s,) = FORK.unpack(message)
    if rules.has_tmp:
        namespaces.mount_fresh_tmp(rules.tmp_bytes)
    printed, output = os.pipe()
    os.set_blocking(printed, False)  # a program may find a way to read what it has printed before this process does
    report, locked = os.pipe()
    child = os.fork()
    if child == 0:
        _become(descriptors, output, locked, rules, domain, cpu_s)
    for descriptor in (*descriptors, output, locked):
        os.close(descriptor)
    while (order := _next_order(control, printed)) == b"T":
        control.sendall(SECONDS.pack(_seconds_of(child)))
    status, seconds = _end(child, patient=order == b"E")
    started = os.read(report, 1) == _LOCKED_DOWN  # the child has ended: what it has not written never comes
    os.close(report)
    os.close(printed)
    if rules.backend in _WITH_NAMESPACES and not seccomp.supported():
        _sweep()
    if not order:
        return False
    control.sendall(END.pack(started, status, seconds))
    return True


def _next_order(control: socket.socket, printed: int) -> bytes:
    """Throw away what the child prints until there is an order; b"" once the control connection is closed."""
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    waiting.register(printed, select.POLLIN)
    while True:
        ready = dict(waiting.poll())
        if control.fileno() in ready:
            return control.recv(1)
        with contextlib.suppress(BlockingIOError):
            if not os.read(printed, _PRINTED_BYTES):  # the child has closed its end
                waiting.unregister(printed)


def _seconds_of(child: int) -> float:
    """Processor time of a child and all its threads, by the clock that Linux has for every process.

    Source: Linux `clock_getcpuclockid(3)`, `include/linux/posix-timers.h`.
    """
    if sys.platform != "linux":
        return UNKNOWN_S
    try:
        return time.clock_gettime((~child << 3) | _CPUCLOCK_SCHED)
    except OSError:  # it has ended: whoever waits for it will hear of that
        return 0.0


def _become(descriptors: list[int], output: int, locked: int, rules: Rules, domain: int | None, cpu_s: int) -> None:
    """Turn the forked child into the checker or the candidate; never returns."""
    try:
        empty, writer = os.pipe()
        os.close(writer)
        for standard, end in enumerate((empty, output, output)):
            os.dup2(end, standard)
        _close_all_but([*descriptors, locked, *([] if domain is None else [domain])])
        _lock_down(rules, domain, cpu_s)
        os.write(locked, _LOCKED_DOWN)
        os.close(locked)
        if rules.role == CANDIDATE:
            os.chdir(namespaces.TMP if rules.has_tmp else "/")
            candidate.run(*descriptors)
        else:
            checker.run(*descriptors)
    finally:
        os._exit(0)


def _lock_down(rules: Rules, domain: int | None, cpu_s: int) -> None:
    limits.set_resource_limits(rules.memory_bytes, cpu_s, rules.tmp_bytes if rules.has_tmp else 0)
    if rules.backend == "none" or sys.platform != "linux":
        return
    limits.die_with_parent()
    limits.keep_capabilities(0)
    if domain is not None:
        landlock.restrict(domain)
        os.close(domain)
    if rules.backend == "landlock" or seccomp.supported():
        seccomp.install(rules.has_tmp)


def _domain(rules: Rules) -> int | None:
    """The Landlock ruleset for every child: required by the backend of that name, a second wall in the others.

    Where nothing is mounted any more, which Landlock would forbid, this process restricts itself and its children
    inherit that. Each needs a domain of its own all the same, which keeps it from its parent and what that holds.
    """
    if rules.backend == "landlock" and not seccomp.supported():
        raise OSError("this machine has no seccomp, or the numbers of its calls are not known here")
    if rules.backend == "none" or (rules.backend != "landlock" and landlock.version() == 0):
        return None
    files = landlock.ruleset(rules.read_paths, rules.folders, [namespaces.TMP_PARENT] if rules.has_tmp else [])
    if rules.has_tmp or landlock.version() < landlock.SCOPES:
        return files
    landlock.restrict(files)
    os.close(files)
    return landlock.apart()


def _end(child: int, *, patient: bool) -> tuple[int, float]:
    """End a child; its wait status, and the seconds of processor time that it and what it waited for have used."""
    deadline_s = time.monotonic() + (_ENDING_BY_ITSELF_S if patient else 0)
    while time.monotonic() < deadline_s:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            return status, used.ru_utime + used.ru_stime
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used.ru_utime + used.ru_stime


def _sweep() -> None:
    """Without seccomp a program can fork: end everything else in this pid namespace, which is ours alone."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except OSError:  # nobody left
        pass


def _close_all_but(descriptors: list[int]) -> None:
    borders = [2, *sorted(descriptors), _PAST_ALL_DESCRIPTORS]
    for below, above in itertools.pairwise(borders):
        os.closerange(below + 1, above)
