"""A server from its settings: looked at first, then the model, its states, and the network."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from s0.adapter.state_files import locate
from s0.errors import ConfigError
from s0.models import ModelSource, shipped_states
from s0.serve.access import Access, access_for, log_as_json
from s0.serve.app import make_app
from s0.serve.playground import Playground
from s0.serve.registry import Registry
from s0.serve.runner import RunnerLimits
from s0.serve.service import RequestLimits, Service
from s0.tasks import load

SHIPPED_TASKS = (("pocket-code", None), ("pocket-math", None), ("pocket-sql", None))
"""Those that ship, without the problems that are to be asked once."""
_SECONDS_TO_TELL = 3
"""For the last answers to reach their clients."""

logger = logging.getLogger("s0.serve")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server serves, to whom, and within which limits.

    Attributes:
        base_name: what requests call the untouched model; None for the name that it is loaded by.
        states: (name, folder or Hugging Face id) of each; where there are neither any nor `states_dirs`, those that
            ship with the model.
        tasks: (name, file or folder of its data, or None for its own) of each whose problems the page offers.
        pinned: names of those that never leave the model.
        states_dirs: folders in which requests may find states.
        max_states: on the model at the same time.
        host: the address it listens at.
        port: the port there; 0 for one that is free.
        api_key_file: API keys, one a line.
        no_api_keys: whether everybody may ask, at an address that other machines can reach.
        grace_s: how long requests that run may go on when the server ends.
        running: limits of what runs.
        asking: limits of what is asked.
    """

    base_name: str | None = None
    states: tuple[tuple[str, str], ...] = ()
    tasks: tuple[tuple[str, str | None], ...] = SHIPPED_TASKS
    pinned: frozenset[str] = frozenset()
    states_dirs: tuple[Path, ...] = ()
    max_states: int = 64
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    no_api_keys: bool = False
    grace_s: float = 30.0
    running: RunnerLimits = field(default_factory=RunnerLimits)
    asking: RequestLimits = field(default_factory=RequestLimits)

    def __post_init__(self) -> None:
        unknown = sorted(self.pinned - {name for name, _ in self.states})
        if unknown:
            raise ConfigError(f"expected names of the states that are served with `pin`, got {', '.join(unknown)}")


def serve(source: ModelSource, settings: ServerSettings) -> None:
    """Serve a model until a signal ends it; requests that run end first.

    Raises:
        S0Error: something of it cannot be served; says what.
        OSError: the address is taken, or a file cannot be read.
    """
    access = access_for(settings.host, settings.api_key_file, allow_everybody=settings.no_api_keys)
    playground = Playground([load(name, data) for name, data in settings.tasks])
    has_states = settings.states or settings.states_dirs
    named = settings.states if has_states else shipped_states(source.name).items()
    folders = [(name, locate(folder)) for name, folder in named]
    with _bound(settings.host, settings.port) as listening:
        model, tokenizer = source.load()
        base_name = settings.base_name or source.name
        states = Registry(model, base_name, folders=settings.states_dirs, max_states=settings.max_states)
        for name, folder in folders:
            states.add(name, folder, is_pinned=name in settings.pinned)
        service = Service(model, tokenizer, states, runner_limits=settings.running, request_limits=settings.asking)
        log_as_json()
        host, port = listening.getsockname()[:2]
        where = {"host": host, "port": port, "model": source.name, "states": states.names}
        logger.info("serving", extra={"fields": where})
        GracefulServer(service, access, playground, settings.grace_s).run(sockets=[listening])


class GracefulServer(uvicorn.Server):
    """A server of the network that, when it ends, lets what runs end, for so long, and tells the rest.

    A second signal tells all of it at once.
    """

    def __init__(self, service: Service, access: Access, playground: Playground, grace_s: float) -> None:
        self._runner, self._grace_s, self._is_urgent = service.runner, grace_s, False
        config = uvicorn.Config(
            make_app(service, access, playground),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace_s) + _SECONDS_TO_TELL,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end what still runs; called by uvicorn for each signal."""
        if not self.should_exit or self._is_urgent:
            super().handle_exit(sig, frame)
            return
        self._is_urgent = True
        self._runner.end_requests()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; called by uvicorn when a signal has come."""
        stopping = asyncio.create_task(asyncio.to_thread(self._runner.stop, self._grace_s))
        await super().shutdown(sockets)
        await stopping


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the address, before anything long is done for it."""
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return bound
