"""Choosing the strongest jail this machine has, by trying it.

    bubblewrap     namespaces built by `bwrap`, an empty read-only root and a tmp, Landlock and seccomp within
    namespaces     the same, built by the guest itself
    landlock       Landlock and seccomp alone: for containers that allow no namespaces; needs no root
    sandbox-exec   the profile of `seatbelt` on macOS; not run yet, see there
    none           no protection of files, network or processes; only on request

A program sees no file but the standard library's and numpy's, has no network, no environment, no other processes, and
no way to start one; all have the limits of `launch.Limits`. `GRANTS` says what else it may do, `check` tries what it
may not, and README.md says which wall holds what.
"""

from __future__ import annotations

import functools
import socket
import tempfile
from pathlib import Path

from s0.errors import ConfigError, SandboxError
from s0.tasks.sandbox import launch
from s0.tasks.sandbox.cell import Cell, ServerLost
from s0.tasks.sandbox.programs import Program

BACKENDS = (*launch.LINUX_BACKENDS, "sandbox-exec")
"""Strongest first."""
UNSAFE = "none"

_EVERYWHERE = (
    "read Python's standard library (without the tests of Python itself) and numpy, the shared libraries that these "
    "load, locales and time zones, and nothing else that is installed",
    "ask for the time, for chance, and how many cores, how much memory and how much load this machine has",
)
_WITH_A_TMP = (
    "write files into a folder of its own in memory, small, empty at its start and gone at its end",
    "lock a file of the library, which a program that is judged at the same moment can notice: the two could signal "
    "each other as fast as they can look. No verdict depends on it: neither is told what the other is asked",
)
GRANTS = {
    "bubblewrap": (*_EVERYWHERE, *_WITH_A_TMP),
    "namespaces": (*_EVERYWHERE, *_WITH_A_TMP),
    "landlock": (
        *_EVERYWHERE,
        "ask of any path whether it is there, how large it is, when it was changed and read, whose it is, and where a "
        "link leads; list the names of what is installed beside Python; none of these files can be opened",
        "ask for this machine's name",
        "leave a mark by reading: this machine may note when a file of the library was last read",
    ),
    "sandbox-exec": (*_EVERYWHERE, "use memory without a limit", "start threads, which end with it"),
}
"""What a program may do under each backend, beside computing."""

_HONEST = Program("def add(a, b):\n    return a + b\n", "", "def check(add):\n    assert add(2, 3) == 5\n", "add")
_WRONG = Program("def add(a, b):\n    return a - b\n", "", _HONEST.test, "add")
_PROBE = """\
def probe(folder, port):
    import os
    def read():
        open(folder + "/secret").read()
    def write():
        open(folder + "/written", "w")
    def connect():
        import socket
        socket.create_connection(("127.0.0.1", port), 1)
    def start():
        os.fork()
    got = []
    for attempt in (read, write, connect, start):
        try:
            attempt()
            got.append(attempt.__name__)
        except OSError:
            pass
    return got
"""


def strongest() -> str:
    """The first of `BACKENDS` that works here; tried once per process.

    Raises:
        SandboxError: none does.
    """
    troubles = []
    for backend in BACKENDS:
        trouble = trouble_with(backend)
        if trouble is None:
            return backend
        troubles.append(f"{backend}: {trouble}")
    raise SandboxError(
        f"expected a machine where one of {', '.join(BACKENDS)} works; got {'; '.join(troubles)}. Install bubblewrap, "
        "use a kernel with Landlock (5.13 or later), or choose the backend 'none' if everything that runs is trusted: "
        "it does not keep programs from your files, the network or other processes"
    )


@functools.cache
def trouble_with(backend: str) -> str | None:
    """Why `backend` cannot be used here, or None if it judges rightly and lets nothing through.

    Raises:
        ConfigError: there is no backend of that name.
    """
    if backend not in (*BACKENDS, UNSAFE):
        raise ConfigError(f"expected one of {', '.join((*BACKENDS, UNSAFE))}; got {backend!r}; correct the name")
    try:
        cell = Cell(backend, launch.Limits(timeout_s=10.0))
    except SandboxError as error:
        return str(error)
    try:
        return _trouble_in(cell) or (_leak_of(cell) if backend != UNSAFE else None)
    except ServerLost as error:
        return str(error)
    finally:
        cell.close()


def judges_rightly(cell: Cell) -> bool:
    """Whether a right program passes and a wrong one fails."""
    try:
        return _trouble_in(cell) is None
    except ServerLost:
        return False


def _trouble_in(cell: Cell) -> str | None:
    right, wrong = cell.judge(_HONEST), cell.judge(_WRONG)
    if right.passed and wrong.reason == "wrong answer":
        return None
    return f"a right program gives {right.reason!r}, a wrong one {wrong.reason!r}"


def _leak_of(cell: Cell) -> str | None:
    """Try what must be impossible: read, write, connect, start a process."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        Path(folder, "secret").write_text("secret")
        Path(folder).chmod(0o777)
        arguments = (folder, server.getsockname()[1])
        test = f"def check(probe):\n    assert probe(*{arguments!r}) == []\n"
        verdict = cell.judge(Program(_PROBE, "", test, "probe"))
    return None if verdict.passed else f"a program could read, write, connect or start a process ({verdict.reason})"
