"""Who may ask, and what is logged of it: between the network and the application.

On a loopback address no key is needed, and requests must be addressed to this machine by a name that stands for it: a
page in somebody's browser can make its own name point here. On any other address every request needs a key, but for
those of `OPEN_PATHS`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s0.errors import ConfigError
from s0.serve.refusals import RequestError, refusal_of

OPEN_PATHS = frozenset({"/health", "/ready", "/", "/page/page.css", "/page/page.js"})
"""That tell nothing of model, states or requests; the page asks for the key itself."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("s0.serve")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: digests of the API keys; none for everybody.
        hosts: names by which requests may address the server; none for any.
    """

    keys: tuple[bytes, ...] = ()
    hosts: frozenset[str] = frozenset()

    def require(self, path: str, headers: Headers) -> None:
        """Refuse a request that may not be asked.

        Raises:
            RequestError: a wrong key or none, or another machine's name.
        """
        host = re.sub(r":\d*$", "", headers.get("host", "")).lower()
        if self.hosts and host not in self.hosts:
            raise RequestError(
                f"expected a request to {', '.join(sorted(self.hosts))}, got one to {host!r:.80}", status=403
            )
        if self.keys and path not in OPEN_PATHS and not self._is_key(headers.get("authorization", "")):
            raise RequestError(
                "expected an API key of this server, in the header `Authorization: Bearer KEY`, got another or none",
                status=401,
                code="invalid_api_key",
            )

    def _is_key(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known) for known in self.keys]  # all of them, however early one is right
        return scheme.lower() == "bearer" and any(matches)


def access_for(host: str, key_file: Path | None, *, allow_everybody: bool) -> Access:
    """Who may ask a server at this address.

    Args:
        host: the address that it listens at.
        key_file: API keys, one a line; lines that begin with # are none.
        allow_everybody: no key is needed, whatever the address.

    Raises:
        ConfigError: other machines could ask without a key; a file without one, or with one that is too short.
        OSError: the file cannot be read.
    """
    keys = [] if key_file is None else _read_keys(key_file)
    if keys or allow_everybody:
        return Access(tuple(map(_digest, keys)))
    if not _is_loopback(host):
        raise ConfigError(
            f"expected API keys for the address {host}, which other machines can reach, got none; name a file of them "
            "(`api_key_file=PATH`), listen at 127.0.0.1, or allow everybody (`no_api_keys=True`)"
        )
    return Access(hosts=frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()}))


def _read_keys(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    keys = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not all(key.isascii() and key.isprintable() for key in keys):
        raise ConfigError(
            f"expected API keys of ASCII characters in {path}, as HTTP headers hold, got others; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if not keys or min(map(len, keys)) < 16:
        raise ConfigError(
            f"expected API keys of at least 16 characters in {path}, one a line, got {len(keys)} lines, some shorter; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Gate:
    """Names every request, lets in those that may be asked, and logs how each has ended.

    Handlers find the request's name in `request.state.id`, and put what the log should say in `request.state.logged`.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # which every path with GET has; the network's side sends no body
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        named = headers.get("x-request-id", "")
        request_id = named if _REQUEST_ID.fullmatch(named) else uuid.uuid4().hex
        logged: dict[str, Any] = {}
        scope.setdefault("state", {}).update(id=request_id, logged=logged)
        began, status = time.monotonic(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            self._access.require(scope["path"], headers)
            await self._app(scope, receive, send_named)
        except RequestError as error:
            refusal = refusal_of(error, request_id)
            await JSONResponse(refusal.body, refusal.status, refusal.headers)(scope, receive, send_named)
        finally:
            line = {"request_id": request_id, "method": method, "path": scope["path"], "status": status}
            fields = {**line, "seconds": round(time.monotonic() - began, 4), **logged}
            is_failure = status >= 500 or (status < 400 and "error" in logged)  # in a stream that had begun
            logger.log(logging.WARNING if is_failure else logging.INFO, "request", extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A log of one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_as_json(names: Sequence[str] = ("s0.serve", "uvicorn.error")) -> None:
    """Send these loggers' records to stderr, as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in names:
        own = logging.getLogger(name)
        own.handlers, own.propagate = [handler], False
        own.setLevel(logging.INFO)
