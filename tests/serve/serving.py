"""A real server on a free port, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s0.serve.access import Access
from s0.serve.playground import Playground
from s0.serve.registry import Registry
from s0.serve.runner import RunnerLimits
from s0.serve.server import GracefulServer
from s0.serve.service import RequestLimits, Service


class Server:
    """A running server.

    Attributes:
        url: where it answers.
        service: what it serves; its model may be looked at while nothing runs.
    """

    def __init__(self, model: Any, tokenizer: Any, access: Access, **settings: Any) -> None:
        folders, grace_s = settings.pop("folders", ()), settings.pop("grace_s", 5.0)
        tasks = settings.pop("tasks", ())
        self.states = Registry(model, "base", folders=folders, max_states=settings.pop("max_states", 8))
        self.model, self.tokenizer = model, tokenizer
        self.service = Service(
            model,
            tokenizer,
            self.states,
            runner_limits=RunnerLimits(**settings.pop("running", {})),
            request_limits=RequestLimits(**settings),
        )
        self.uvicorn = GracefulServer(self.service, access, Playground(tasks), grace_s)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self.uvicorn.serve([self._socket])))

    def start(self) -> None:
        """Until it answers."""
        self._thread.start()
        while not self.uvicorn.started:
            assert self._thread.is_alive(), "the server has not started"
            time.sleep(0.005)

    def stop(self) -> None:
        """As SIGTERM does."""
        self.uvicorn.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server has not ended"
        self._socket.close()

    def add(self, name: str, folder: Path) -> None:
        """Put a state there."""
        self.service.runner.call(lambda: self.states.add(name, folder)).result()

    def all_given_back(self) -> None:
        """Until nothing is left of any request."""
        runner, deadline = self.service.runner, time.monotonic() + 10
        while runner._n_unfinished or runner._batcher.unfinished or runner._inbox:
            assert time.monotonic() < deadline, "something is stuck"
            time.sleep(0.005)
        assert not runner._jobs and not runner._running
        assert all(version.n_requests == 0 for version in self.states._on_model.values())


@contextmanager
def serving(model: Any, tokenizer: Any, access: Access | None = None, **settings: Any) -> Iterator[Server]:
    """A server while this context lasts; the base model is called "base"."""
    server = Server(model, tokenizer, access or Access(), **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
