"""What is in force on this machine: every backend tried, and the strongest one attacked."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s0.tasks.sandbox import backends
from s0.tasks.sandbox.cell import Cell
from s0.tasks.sandbox.launch import Limits, readable
from s0.tasks.sandbox.programs import Program
from s0.tasks.sandbox.sandbox import Sandbox

LIMITS = Limits(timeout_s=0.2, memory_bytes=256 << 20, tmp_bytes=1 << 20)
"""Limits of the sandbox that is attacked: small, so that going past them is quick."""

ATTEMPTS = {
    "read a file of yours": ["open(folder + '/secret').read()"],
    "list your home folder": ["os.listdir(home)"],
    "write a file": ["open(folder + '/written', 'w')"],
    "change a file of Python's": ["open(os.__file__, 'a')"],
    "read this library's solutions": ["open(solutions).read()"],
    "import what is installed beside Python": ["import torch"],
    "write more than its tmp holds": ["open('/tmp/s0-large', 'wb').write(bytes(2 * tmp_bytes))"],
    "leave a file for the next program": [
        "try:\n        open('/tmp/s0-left', 'w')\n    except OSError:\n        pass",
        "os.stat('/tmp/s0-left')",
    ],
    "leave a word in its output for the next program": [
        "for leave in (lambda: os.utime(1, (1, 1)), lambda: fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND)):\n"
        "        try: leave()\n        except OSError: pass",
        "assert os.fstat(1).st_mtime == 1 or fcntl.fcntl(1, fcntl.F_GETFL) & os.O_APPEND",
    ],
    "see your environment": ["assert os.environ"],
    "connect to a server": ["socket.create_connection(('127.0.0.1', port), 1)"],
    "send a datagram": ["socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"],
    "use a local socket": ["socket.socket(socket.AF_UNIX).connect(folder + '/socket')"],
    "start a process": ["os.fork() or os._exit(0)"],
    "run a command": ["os.posix_spawn('/bin/sh', ['sh', '-c', 'exit'], {})"],
    "signal your process": ["os.kill(pid, 0)"],
    "take more memory than allowed": ["bytearray(2 * memory_bytes)"],
    "run for ever": ["while True: pass"],
    "run for ever, asleep": ["time.sleep(1000)"],
    "leave, as if done": ["os._exit(0)"],
    "end the loops of its test": ["raise StopIteration"],
    "answer with an object that equals everything": ["return type('Same', (str,), {'__eq__': lambda *_: True})()"],
}
"""Bodies of `attempt`, run one after the other; where the sandbox holds, the last one does not get to its end."""

_IMPORTS = "import fcntl, os, socket, time\n"
_TEST = (
    "def check(attempt):\n    for got in map(lambda _: attempt(**{arguments!r}), 'a'):\n        assert got == 'done'\n"
)
_SOLUTIONS = Path(__file__).parents[1] / "data" / "pocket_code.jsonl"


def check() -> dict[str, Any]:
    """Try every backend, then attack the strongest.

    Returns:
        `backends`: why each cannot be used here, or None; `strongest`: its name, or None; `limits`: the defaults;
        and, of the strongest, `attempts`: see `attack`; `grants`: what a program may do, in words; `packages`: that it
        can import beside the standard library, with their versions; `user_inside`: the numeric user a program sees
        itself as; `user_outside`: the one this machine sees, None where that cannot be read.
    """
    troubles = {backend: backends.trouble_with(backend) for backend in backends.BACKENDS}
    strongest = next((name for name, trouble in troubles.items() if trouble is None), None)
    report: dict[str, Any] = {
        "kind": "sandbox",
        "backends": troubles,
        "strongest": strongest,
        "limits": asdict(Limits()),
    }
    if strongest is not None:
        with Sandbox(strongest, LIMITS) as sandbox:
            report["attempts"] = attack(sandbox)
        report["grants"] = list(backends.GRANTS[strongest])
        report["packages"] = {name: version(name) for name in readable().packages}
        report["user_inside"], report["user_outside"] = _users(strongest)
    return report


def attack(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Run `ATTEMPTS` in a sandbox of `LIMITS`.

    Returns:
        of each, `attempt`: its name, `held`: whether it failed, `reason`: of its verdict, `seconds`: that it took.
    """
    outcomes = []
    sandbox.judge([_program("pass", {})])  # starts the servers: their time is not an attempt's
    with _targets() as arguments:
        for name, bodies in ATTEMPTS.items():
            for body in bodies:
                started_s = time.monotonic()
                verdict = sandbox.judge([_program(body, arguments)])[0]
            outcomes.append(
                {
                    "attempt": name,
                    "held": not verdict.passed,
                    "reason": verdict.reason,
                    "seconds": round(time.monotonic() - started_s, 3),
                }
            )
    return outcomes


@contextmanager
def _targets() -> Iterator[dict[str, object]]:
    """What there is to get at, as arguments of `attempt`: outside the sandbox all of it is within reach."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
    ):
        Path(folder).chmod(0o777)
        Path(folder, "secret").write_text("secret")
        local.bind(f"{folder}/socket")
        Path(folder, "socket").chmod(0o777)
        local.listen()
        yield {
            "folder": folder,
            "home": str(Path.home()),
            "solutions": str(_SOLUTIONS),
            "port": server.getsockname()[1],
            "pid": os.getpid(),
            "memory_bytes": LIMITS.memory_bytes,
            "tmp_bytes": LIMITS.tmp_bytes,
        }


def _program(body: str, arguments: dict[str, object]) -> Program:
    source = f"{_IMPORTS}def attempt({', '.join(arguments)}):\n    {body}\n    return 'done'\n"
    return Program(source, "", _TEST.format(arguments=arguments), "attempt")


def _users(backend: str) -> tuple[int, int | None]:
    """What a program sees, told by raising an exception of that name, and what this machine sees."""
    cell = Cell(backend, LIMITS)
    try:
        verdict = cell.judge(_program("raise type(f'user_{os.getuid()}', (Exception,), {})", {}))
        return int(verdict.reason.rpartition("_")[2]), cell.user()
    finally:
        cell.close()
