"""The server as a process: started, killed, started again, and looked at from outside."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from benchmarks.soak.wire import Reply, ask

COMMAND = "from s0_cli import main; main()"
_READY_S, _IDLE_S = 120.0, 15.0


class Process(Protocol):
    """What of `subprocess.Popen` is used."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: int) -> None: ...


Begin = Callable[[Sequence[str], "IO[bytes]"], Process]
"""Starts the `s0` command with these words; its errors go into the file."""


def begun(words: Sequence[str], log: IO[bytes]) -> Process:
    """The command in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stderr=log)


class Server:
    """`s0 serve` on one port, time and again.

    Attributes:
        port: it listens at.
        n_kills: how often it was killed.
        is_up: whether it answers.
        rss_mib: (seconds since the soak began, MiB) as it was looked at.
    """

    def __init__(self, words: Sequence[str], log: Path, begin: Begin) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.n_kills = 0
        self.is_up = asyncio.Event()
        self._words, self._log, self._begin = [*words, "--port", str(self.port)], log, begin
        self._process: Process | None = None

    async def start(self) -> None:
        """Until it takes requests."""
        with self._log.open("ab") as log:
            self._process = await asyncio.to_thread(self._begin, self._words, log)
        deadline = time.monotonic() + _READY_S
        while not await self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"expected the server to start, got:\n{self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.05)
        self.is_up.set()

    async def _is_ready(self) -> bool:
        try:
            return (await ask(self.port, "GET", "/ready")).status == 200
        except OSError:
            return False

    async def kill(self) -> None:
        """End it as the kernel does where memory is short."""
        self.n_kills += 1
        self.is_up.clear()
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait, 30)

    async def stop(self) -> int:
        """End it as whoever runs it does; its status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, 60)

    @property
    def rss_mib(self) -> float:
        """Memory that the process has."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) / 1024

    async def metric(self, name: str) -> float:
        """A figure of /metrics, all of its states together."""
        text = (await ask(self.port, "GET", "/metrics")).text
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values))

    async def idle(self) -> dict[str, float]:
        """What it says of itself once nothing runs any more, or after a while if something does."""
        deadline = time.monotonic() + _IDLE_S
        while True:
            counts = {name: await self.metric(name) for name in ("s0_waiting_requests", "s0_running_requests")}
            if not any(counts.values()) or time.monotonic() > deadline:
                return counts
            await asyncio.sleep(0.05)

    async def ready(self) -> Reply:
        return await ask(self.port, "GET", "/ready")

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged; other lines than its own are none of it."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
