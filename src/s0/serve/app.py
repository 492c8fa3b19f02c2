"""The HTTP application: OpenAI's paths, vLLM's for states, and those for whoever runs the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from s0.errors import S0Error, StateMismatchError, UnknownStateError
from s0.serve.access import Access, Gate
from s0.serve.answers import ChatForm, Choices, CompletionForm, Form, Head, Usage
from s0.serve.bodies import CLIENT_GONE, REFUSALS, STREAMED, json_in, refuse, refused, takes
from s0.serve.parameters import ChatBody, CompletionBody, LoadBody, Sampled, UnloadBody, parse
from s0.serve.playground import Playground, add_playground
from s0.serve.refusals import RequestError
from s0.serve.runner import Stream
from s0.serve.service import Answering, Service

Body = TypeVar("Body", bound=BaseModel)


def make_app(service: Service, access: Access, playground: Playground) -> ASGIApp:
    """The application of a service.

    Args:
        service: starts and ends with the application.
        access: who may ask.
        playground: what the page offers; ends with the application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.runner.start()
        yield
        await asyncio.to_thread(service.close)
        await asyncio.to_thread(playground.close)

    # Its pages of documentation would fetch scripts from elsewhere.
    app = FastAPI(title="s0", lifespan=lifespan, docs_url=None, redoc_url=None, responses=REFUSALS)
    app.add_exception_handler(S0Error, refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    _add_completions(app, service)
    _add_states(app, service)
    _add_operation(app, service)
    add_playground(app, service, playground, needs_key=bool(access.keys))
    return Gate(app, access)


def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = f"expected a path of this server, got {request.method} {request.url.path:.200}: {error.detail}"
    response = refuse(request, RequestError(reason, status=error.status_code))
    response.headers.update(error.headers or {})  # which methods there are
    return response


# --- Completions ---


def _add_completions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/completions", openapi_extra=takes(CompletionBody), responses=STREAMED)
    async def completions(request: Request) -> Response:
        """Continue prompts, from the state that `model` names."""
        return await _complete(request, service, CompletionBody, service.completions, CompletionForm())

    @app.post("/v1/chat/completions", openapi_extra=takes(ChatBody), responses=STREAMED)
    async def chat_completions(request: Request) -> Response:
        """Answer messages, from the state that `model` names."""
        return await _complete(request, service, ChatBody, service.chat, ChatForm())


SampledBody = TypeVar("SampledBody", bound=Sampled)


async def _complete(
    request: Request,
    service: Service,
    body: type[SampledBody],
    begin: Callable[[SampledBody], Awaitable[Answering]],
    form: Form,
) -> Response:
    try:
        asked = parse(body, await json_in(request, service.limits.max_body_bytes))
        request.state.logged.update(model=asked.model, **({"user": asked.user} if asked.user else {}))
        answering = await begin(asked)
        return await _answer(request, service, asked, answering, form)
    except (ConnectionAbortedError, ClientDisconnect):
        return Response(status_code=CLIENT_GONE)  # for the log
    except Exception as error:
        return refuse(request, error)


async def _answer(request: Request, service: Service, asked: Sampled, answering: Answering, form: Form) -> Response:
    stream = answering.stream
    choices = Choices(service.tokenizer, service.ends, stream.n_open, with_logprobs=answering.with_logprobs)
    async with _watched(request.receive, stream):
        first = await stream.next()  # whatever cannot begin is refused with a status of its own
        assert stream.version is not None
        head = Head(f"{form.prefix}-{request.state.id}", asked.model, stream.version.digest)
        request.state.logged.update(version=head.version)
        if asked.stream:
            with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
            chunks = _Chunks(answering, choices, head, form, with_usage)
            return _Events(chunks.all(first, request), stream)
        choices.add(*first)
        while stream.n_open:
            choices.add(*await stream.next())
    usage = Usage(answering.prompt_tokens, choices.n_tokens).as_dict()
    request.state.logged.update(usage)
    return JSONResponse(head.body(form.whole_kind, [form.whole(choice) for choice in choices.all], usage=usage))


@asynccontextmanager
async def _watched(receive: Receive, stream: Stream) -> AsyncIterator[None]:
    """In this context a client that goes ends its stream, and so does an error."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.abandon()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        stream.cancel()
        raise
    finally:
        watching.cancel()


class _Chunks:
    """An answer piece by piece."""

    def __init__(self, answering: Answering, choices: Choices, head: Head, form: Form, with_usage: bool) -> None:
        self._answering, self._choices, self._head, self._form = answering, choices, head, form
        self._with_usage = with_usage

    async def all(self, first: tuple[int, Any], request: Request) -> AsyncIterator[str]:
        """The lines of all events, from the first token, which is here already, to the last."""
        stream, form = self._answering.stream, self._form
        for choice in self._choices.all:
            if (opening := form.opening(choice.index)) is not None:
                yield self._chunk([opening])
        item = first
        try:
            while True:
                piece = self._choices.add(*item)
                if not piece.is_empty:
                    yield self._chunk([form.piece(piece)])
                if not stream.n_open:
                    break
                item = await stream.next()
        except ConnectionAbortedError:
            return
        except Exception as error:  # the status was sent long ago
            request.state.logged.update(Usage(self._answering.prompt_tokens, self._choices.n_tokens).as_dict())
            yield _event(refused(request, error).body)
            return
        usage = Usage(self._answering.prompt_tokens, self._choices.n_tokens).as_dict()
        request.state.logged.update(usage)
        if self._with_usage:
            yield self._chunk([], usage)
        yield "data: [DONE]\n\n"

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        more = {"usage": usage} if self._with_usage else {}
        return _event(self._head.body(self._form.chunk_kind, choices, **more))


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


class _Events(Response):
    """Server-sent events, which end with the stream that they come from, however the client goes."""

    def __init__(self, lines: AsyncIterator[str], stream: Stream) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._lines, self._stream = lines, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of them."""
        async with _watched(receive, self._stream):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for line in self._lines:
                await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


# --- States ---


def _add_states(app: FastAPI, service: Service) -> None:
    states, created = service.states, int(time.time())

    def shown(name: str) -> dict[str, Any]:
        parent = None if name == states.base_name else states.base_name
        return {"id": name, "object": "model", "created": created, "owned_by": "s0", "parent": parent}

    @app.get("/v1/models")
    async def models() -> Response:
        """The base model, and every state with the base model as its parent."""
        names = await asyncio.to_thread(lambda: states.names)  # which looks into folders
        return JSONResponse({"object": "list", "data": [shown(name) for name in (states.base_name, *names)]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """One of them."""
        states.require(name)
        return JSONResponse(shown(name))

    async def change(request: Request, body: type[Body], work: Callable[[Body], str]) -> Response:
        try:
            asked = parse(body, await json_in(request, service.limits.max_body_bytes))
            request.state.logged.update(asked.model_dump())
            said = await asyncio.wrap_future(service.runner.call(lambda: work(asked)))
        except StateMismatchError as error:  # of what the request itself names
            return refuse(request, RequestError(str(error), "lora_path", code="no_such_state"))
        except UnknownStateError as error:
            return refuse(request, RequestError(str(error), "lora_name", status=404, code="model_not_found"))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            return refuse(request, error)
        return PlainTextResponse(said)

    def load(asked: LoadBody) -> str:
        states.add_from_request(asked.lora_name, asked.lora_path)
        return f"Success: {asked.lora_name} is loaded."

    def unload(asked: UnloadBody) -> str:
        states.remove(asked.lora_name)
        service.metrics.forget(asked.lora_name)
        return f"Success: {asked.lora_name} is unloaded."

    @app.post("/v1/load_lora_adapter", openapi_extra=takes(LoadBody), response_class=PlainTextResponse)
    async def load_state(request: Request) -> Response:
        """Make a state in one of the allowed folders known under a name."""
        return await change(request, LoadBody, load)

    @app.post("/v1/unload_lora_adapter", openapi_extra=takes(UnloadBody), response_class=PlainTextResponse)
    async def unload_state(request: Request) -> Response:
        """Forget a state; requests that run on it end on it."""
        return await change(request, UnloadBody, unload)


# --- For whoever runs it ---


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_class=PlainTextResponse)
    async def health() -> Response:
        """Whether the process lives."""
        return PlainTextResponse("ok")

    @app.get("/ready", response_class=PlainTextResponse, responses={503: {"content": {"text/plain": {}}}})
    async def ready() -> Response:
        """Whether it takes requests."""
        is_ready = service.runner.is_ready
        return PlainTextResponse("ready" if is_ready else "not ready", 200 if is_ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
