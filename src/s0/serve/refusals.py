"""What goes wrong, as clients of the OpenAI API expect to hear of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s0.errors import (
    ConfigError,
    DatasetError,
    QueueFullError,
    SandboxError,
    StateMismatchError,
    StoppingError,
    TimeLimitError,
    UnknownStateError,
)

RETRY_AFTER_S = 1


class RequestError(ValueError):
    """A request that cannot be answered as it is; never seen beyond HTTP.

    Attributes:
        param: the parameter that it is about, if it is about one.
        status: of HTTP.
        code: one word for programs.
    """

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True)
class Refusal:
    """What a client is told.

    Attributes:
        status: of HTTP.
        body: the error in the form that OpenAI's clients read.
        headers: beyond the usual ones.
    """

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


_KINDS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    (UnknownStateError, 404, "invalid_request_error", "model_not_found"),
    (QueueFullError, 429, "rate_limit_error", "queue_full"),
    (StoppingError, 503, "server_error", "stopping"),
    (TimeLimitError, 504, "server_error", "timeout"),
    (StateMismatchError, 503, "server_error", "state_unavailable"),
    (SandboxError, 503, "server_error", "no_sandbox"),
    (ConfigError, 400, "invalid_request_error", None),
    (DatasetError, 400, "invalid_request_error", None),
)


def refusal_of(error: Exception, request_id: str) -> Refusal:
    """What a client is told of an error; of one that is nobody's on purpose, no more than where the log has it."""
    if isinstance(error, RequestError):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return _refusal(error.status, str(error), kind, error.param, error.code)
    for known, status, kind, code in _KINDS:
        if isinstance(error, known):
            return _refusal(status, str(error), kind, "model" if status == 404 else None, code)
    return _refusal(
        500, f"the server has failed; its log says why, at request {request_id}", "server_error", None, None
    )


def _refusal(status: int, message: str, kind: str, param: str | None, code: str | None) -> Refusal:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    if status == 504 or code == "state_unavailable":
        headers["x-should-retry"] = (
            "false"  # it would take as long again, or be no better; OpenAI's clients look at this
        )
    return Refusal(status, body, headers)
