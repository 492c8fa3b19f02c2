"""What goes over the wire around an answer: JSON bodies of requests, and refusals."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from s0.errors import StateMismatchError
from s0.serve.refusals import Refusal, RequestError, refusal_of

CLIENT_GONE = 499
"""The status of a request whose client did not wait, for the log."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    kind: {
        "description": "Refused, and why.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["message", "type", "param", "code"],
                            "properties": {
                                "message": {"type": "string"},
                                "type": {"type": "string"},
                                "param": {"type": ["string", "null"]},
                                "code": {"type": ["string", "null"]},
                            },
                        }
                    },
                }
            }
        },
    }
    for kind in ("4XX", "5XX")
}
"""What the description of the API says of answers that are none."""
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "text/event-stream": {}}}}
"""What it says of those that may come in pieces."""
_MOST_EXACT = 1 << 53
"""Up to here a float holds every whole number."""

logger = logging.getLogger("s0.serve")


def refuse(request: Request, error: Exception) -> Response:
    """The response that tells a client of an error."""
    refusal = refused(request, error)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def refused(request: Request, error: Exception) -> Refusal:
    """What a client is told of an error, which the log is told, too."""
    state = request.state.logged.get("model")
    shown = error
    if isinstance(error, StateMismatchError):  # it says where the server keeps its files, and what is in them
        shown = StateMismatchError(
            f"the state {state!r} cannot be read now; the server's log says why, at request {request.state.id}"
        )
    refusal = refusal_of(shown, request.state.id)
    request.state.logged.update(error=str(error), code=refusal.body["error"]["code"])
    if refusal.status == 500:
        logger.error("a request has failed", exc_info=error, extra={"fields": {"request_id": request.state.id}})
    return refusal


def takes(body: type[BaseModel]) -> dict[str, Any]:
    """What the description of the API says of a request's body."""
    schema = _inlined(body.model_json_schema())
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to in its place: its references lead nowhere within a larger description."""
    parts = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(part) for part in value]
        if not isinstance(value, dict):
            return value
        referred = parts[value["$ref"].rpartition("/")[2]] if "$ref" in value else {}
        return {name: inline(part) for name, part in {**referred, **value}.items() if name != "$ref"}

    inlined: dict[str, Any] = inline(schema)
    return inlined


async def json_in(request: Request, max_bytes: int) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        RequestError: it is too large, or none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which a page in a browser cannot send here unasked
        raise RequestError(f"expected Content-Type: application/json, got {kind!r:.80}", status=415)
    too_large = RequestError(
        f"expected a body of at most {max_bytes} bytes, got a larger one; ask for less", status=413
    )
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > max_bytes:
            raise too_large
    try:
        body = json.loads(raw, parse_float=_number, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"expected a body of JSON, got {type(error).__name__}: {error!s:.100}") from None
    if not isinstance(body, dict):
        raise RequestError(f"expected a JSON object, got {type(body).__name__}")
    return body


def _number(text: str) -> int | float:
    """A number with a point or an exponent: whole ones are whole however they are written, as JSON Schema has it."""
    number = float(text)
    return int(number) if abs(number) <= _MOST_EXACT and number.is_integer() else number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is no JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("the same name twice in one object")
    return names
