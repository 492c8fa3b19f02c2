"""HTTP as plainly as it can be written, so that a client may also go, wait or stop in the middle of anything."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

_LEAST_BUFFER = 4096  # bytes: of one who reads slowly


@dataclass(frozen=True)
class Reply:
    """What came of a request."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Connection:
    """A connection to the server, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int, *, is_slow: bool = False) -> Connection:
        """A new connection; a slow client's takes in no more than it has to."""
        link = socket.socket()
        if is_slow:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LEAST_BUFFER)
        link.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", port))
            return cls(*await asyncio.open_connection(sock=link, limit=_LEAST_BUFFER if is_slow else 1 << 20))
        except BaseException:
            link.close()
            raise

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()  # without a farewell

    async def send(self, method: str, path: str, body: Any = None, *, share: float = 1.0) -> None:
        """Send a request, or the first share of it."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw
        self._writer.write(request[: int(len(request) * share)])
        await self._writer.drain()

    async def ask(self, method: str, path: str, body: Any = None) -> Reply:
        """Send a request, and read all of what comes."""
        await self.send(method, path, body)
        status, parts = await self.answer()
        return Reply(status, b"".join([part async for part in parts]).decode())

    async def answer(self) -> tuple[int, AsyncIterator[bytes]]:
        """The status of what comes, and its body in the pieces that it is sent in."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        is_chunked = headers.get("transfer-encoding") == "chunked"
        return int(first.split()[1]), self._chunks() if is_chunked else self._whole(int(headers["content-length"]))

    async def _whole(self, n_bytes: int) -> AsyncIterator[bytes]:
        yield await self._reader.readexactly(n_bytes)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while n_bytes := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(n_bytes + 2))[:-2]
        await self._reader.readexactly(2)


async def ask(port: int, method: str, path: str, body: Any = None) -> Reply:
    """A request on a connection of its own."""
    async with await Connection.to(port) as connection:
        return await connection.ask(method, path, body)


async def events(parts: AsyncIterator[bytes], pause_s: float = 0.0) -> AsyncIterator[dict[str, Any]]:
    """The server-sent events in the pieces of a body, to the one that says that all is done."""
    rest = b""
    async for part in parts:
        *whole, rest = (rest + part).split(b"\n\n")
        for event in whole:
            data = event.removeprefix(b"data: ")
            if data == b"[DONE]":
                return
            yield json.loads(data)
        await asyncio.sleep(pause_s)
    raise AssertionError("expected a stream to say that it is done, got its end before")
