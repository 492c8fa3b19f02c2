"""One thread runs the model: whatever happens to a request, it ends, and gives back what it has held."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s0.decode import Batcher, Request
from s0.errors import (
    ConfigError,
    EngineError,
    QueueFullError,
    StateMismatchError,
    StoppingError,
    TimeLimitError,
    UnknownStateError,
)
from s0.serve.metrics import Metrics
from s0.serve.registry import Registry
from s0.serve.runner import Runner, RunnerLimits, Stream
from tests import words, zoo
from tests.serve.states import save

PROMPT = (5, 6, 7, 8)
TOKENIZER = words.characters()


class Served:
    """A running runner over a tiny model."""

    def __init__(self, family: str = "qwen3_5", max_states: int = 8, **limits: Any) -> None:
        self.model = zoo.make(family)
        self.model.generation_config.eos_token_id = [zoo.VOCAB]  # which it cannot write
        self.states = Registry(self.model, "base", max_states=max_states)
        self.limits = RunnerLimits(**limits)
        self.batcher = self.limits.batcher(self.model, TOKENIZER)
        self.runner = Runner(self.batcher, self.states, self.limits, Metrics())

    def figure(self, start: str) -> float:
        """One of the metrics."""
        lines = self.runner.metrics.text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    async def all_given_back(self) -> None:
        """Until nothing is left of any request."""
        deadline = time.monotonic() + 10
        while self.runner._n_unfinished or self.batcher.unfinished or self.batcher.n_rows:
            assert time.monotonic() < deadline, "something is stuck"
            await asyncio.sleep(0.005)
        assert not self.runner._jobs and not self.runner._running
        assert all(version.n_requests == 0 for version in self.states._on_model.values())


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    server = Served(**settings)
    server.runner.start()
    try:
        yield server
    finally:
        server.runner.stop()


def on_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine that may take 30 seconds."""
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def add(server: Served, name: str, folder: Path) -> None:
    """Put a state on a running server."""
    await asyncio.wrap_future(server.runner.call(lambda: server.states.add(name, folder)))


async def written(stream: Stream) -> list[list[int]]:
    """The tokens of each request of a stream, to the end."""
    tokens: dict[int, list[int]] = {}
    while stream.n_open:
        index, event = await stream.next()
        tokens.setdefault(index, []).append(event.token)
    return [tokens[index] for index in sorted(tokens)]


def alone(server: Served, request: Request, adapter: str) -> list[int]:
    """What a batcher with nothing else to do writes; while the runner does nothing."""
    batcher, tokens = Batcher(server.model, TOKENIZER), []
    batcher.submit(
        Request(request.tokens, request.max_new_tokens, request.temperature, seed=request.seed, state=adapter)
    )
    batcher.finish(lambda event: tokens.append(event.token))
    return tokens


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_mixed_requests_of_many_clients_get_what_they_get_alone(family, tmp_path):
    async def scenario() -> None:
        for i, (name, kind) in enumerate((("a", "state"), ("b", "state"), ("c", "offset"))):
            await add(server, name, save(tmp_path / name, i, family, kind=kind))
        asked = [
            (name, Request((3 + i, 7, 9 + i), 3 + i, temperature=i % 2, seed=i))
            for i in range(8)
            for name in ("base", "a", "b", "c")
        ]
        answers = await asyncio.gather(*(written(server.runner.submit(name, [request])) for name, request in asked))
        await server.all_given_back()
        adapters = {version.name: adapter for adapter, version in server.states._on_model.items()}
        assert len({tuple(answer[0]) for answer in answers[24:32:2]}) > 1
        for (name, request), (answer,) in zip(asked, answers, strict=True):
            assert answer == alone(server, request, adapters.get(name, "__base__"))
        assert server.figure('s0_completion_tokens_total{state="a"}') == sum(3 + i for i in range(8))
        assert server.figure('s0_time_to_first_token_seconds_count{state="a"}') == 8
        assert server.figure("s0_running_requests") == 0

    with served(family=family, max_rows=5) as server:
        on_loop(scenario)


def test_states_come_and_go_where_there_is_room_for_one(tmp_path):
    async def scenario() -> None:
        names = [f"s{i}" for i in range(4)]
        for i, name in enumerate(names):
            await add(server, name, save(tmp_path / name, i))
        request = Request(PROMPT, 6)
        answers = await asyncio.gather(*(written(server.runner.submit(name, [request])) for name in names * 3))
        assert len({str(answer) for answer in answers}) == 4 and answers[:4] == answers[4:8] == answers[8:]
        await server.all_given_back()
        assert server.states.n_on_model == 1

    with served(max_states=1) as server:
        on_loop(scenario)


def test_the_rest_of_a_submission_does_not_wait_for_a_state_that_waits_for_it(tmp_path):
    """With room for one state, the second request of one was behind the next one, which waited for its end."""

    async def scenario() -> None:
        names = ("a", "b", "c")
        for i, name in enumerate(names):
            await add(server, name, save(tmp_path / name, i))
        requests = [Request(PROMPT, 4, temperature=1.0, seed=seed) for seed in range(3)]
        answers = await asyncio.gather(*(written(server.runner.submit(name, requests)) for name in names * 2))
        assert answers[:3] == answers[3:]
        await server.all_given_back()

    with served(max_states=1, max_rows=2) as server:
        on_loop(scenario)


def test_the_base_model_waits_for_no_states_room(tmp_path):
    async def scenario() -> None:
        for i, name in enumerate(("a", "b")):
            await add(server, name, save(tmp_path / name, i))
        long = server.runner.submit("a", [Request(PROMPT, 200)])
        await long.next()
        waiting = server.runner.submit("b", [Request(PROMPT, 2)])
        await written(server.runner.submit("base", [Request(PROMPT, 2)]))
        assert long.n_open == waiting.n_open == 1 and waiting.version is None
        long.cancel()
        await written(waiting)
        await server.all_given_back()

    with served(max_states=1) as server:
        on_loop(scenario)


def test_a_full_queue_refuses_all_of_a_submission_or_none():
    async def scenario() -> None:
        request = Request(PROMPT, 50)
        streams = [server.runner.submit("base", [request, request])]
        with pytest.raises(QueueFullError):
            server.runner.submit("base", [request, request])
        streams.append(server.runner.submit("base", [request]))
        assert [len(tokens) for stream in streams for tokens in await written(stream)] == [50, 50, 50]
        await server.all_given_back()
        await written(server.runner.submit("base", [request, request, request]))

    with served(max_rows=2, max_waiting=1) as server:
        on_loop(scenario)


def test_cancelled_requests_leave_at_once_wherever_they_are():
    async def scenario() -> None:
        running, waiting, kept = (server.runner.submit("base", [Request(PROMPT, n)]) for n in (1000, 1000, 3))
        await running.next()
        running.cancel()
        waiting.cancel()
        running.cancel()
        assert len((await written(kept))[0]) == 3
        await server.all_given_back()
        assert server.figure('s0_requests_total{outcome="cancelled"') == 2
        kept.cancel()  # has ended

    with served(max_rows=1) as server:
        on_loop(scenario)


def test_whoever_waits_hears_that_the_client_has_gone():
    async def scenario() -> None:
        stream = server.runner.submit("base", [Request(PROMPT, 1000)])
        await stream.next()
        stream.abandon()
        with pytest.raises(ConnectionAbortedError):
            while True:
                await stream.next()
        await server.all_given_back()

    with served() as server:
        on_loop(scenario)


def test_a_request_that_takes_too_long_ends_with_an_error_and_the_next_one_runs():
    async def scenario() -> None:
        stream = server.runner.submit("base", [Request(PROMPT, 1900), Request(PROMPT, 2)])
        with pytest.raises(TimeLimitError, match=r"0\.6 seconds"):
            await written(stream)
        await server.all_given_back()
        assert len((await written(server.runner.submit("base", [Request(PROMPT, 2)])))[0]) == 2

    with served(timeout_s=0.6) as server:
        on_loop(scenario)


def test_what_cannot_run_says_why_and_leaves_nothing_behind(tmp_path):
    async def scenario() -> None:
        with pytest.raises(UnknownStateError):
            server.runner.submit("nothing", [Request(PROMPT, 2)])
        folder = save(tmp_path / "code", 1)
        await add(server, "code", folder)
        too_long = server.runner.submit("code", [Request(PROMPT, 10**9)])
        with pytest.raises(ConfigError, match="max_position_embeddings"):
            await too_long.next()
        (folder / "adapter_model.safetensors").unlink()
        for _ in range(2):
            with pytest.raises(StateMismatchError, match="'code'"):
                await server.runner.submit("code", [Request(PROMPT, 2)]).next()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(server.runner.call(lambda: 1 // 0))
        await server.all_given_back()

    with served() as server:
        on_loop(scenario)


def test_an_unloaded_state_answers_whoever_has_begun_and_nobody_else(tmp_path):
    async def scenario() -> None:
        await add(server, "code", save(tmp_path / "code", 1))
        (expected,) = await written(server.runner.submit("code", [Request(PROMPT, 80)]))
        stream = server.runner.submit("code", [Request(PROMPT, 80)])
        _, first = await stream.next()
        await asyncio.wrap_future(server.runner.call(lambda: server.states.remove("code")))
        with pytest.raises(UnknownStateError):
            server.runner.submit("code", [Request(PROMPT, 2)])
        assert [first.token, *(await written(stream))[0]] == expected
        await server.all_given_back()
        assert server.states.n_on_model == 0

    with served() as server:
        on_loop(scenario)


def test_all_of_a_submission_starts_from_one_version(tmp_path):
    async def scenario() -> None:
        folder = save(tmp_path / "code", 1)
        await add(server, "code", folder)
        stream = server.runner.submit("code", [Request(PROMPT, 40), Request(PROMPT, 40)])
        acquire = server.states.acquire

        def acquire_and_change(name: str) -> Any:
            version = acquire(name)
            save(folder, 2)
            return version

        server.states.acquire = acquire_and_change  # type: ignore[method-assign]
        first, second = await written(stream)
        server.states.acquire = acquire  # type: ignore[method-assign]
        assert first == second
        (third,) = await written(server.runner.submit("code", [Request(PROMPT, 40)]))
        assert third != first
        await server.all_given_back()

    with served() as server:
        on_loop(scenario)


def test_an_error_of_the_model_fails_its_requests_and_the_next_ones_run(monkeypatch):
    async def scenario() -> None:
        whole = type(server.model).forward
        long, short = Request(PROMPT, 1500), Request(PROMPT, 4)
        expected = await written(server.runner.submit("base", [short]))
        streams = [server.runner.submit("base", [long]) for _ in range(3)]
        await asyncio.gather(*(stream.next() for stream in streams))

        def failing(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(type(server.model), "forward", failing)
        for stream in streams:
            with pytest.raises(EngineError, match="out of memory"):
                await written(stream)
        monkeypatch.setattr(type(server.model), "forward", whole)
        await server.all_given_back()
        assert server.runner.is_ready
        assert await written(server.runner.submit("base", [short])) == expected

    with served() as server:
        on_loop(scenario)


def test_a_runner_that_breaks_tells_everybody_and_takes_no_more(monkeypatch):
    async def scenario() -> None:
        stream = server.runner.submit("base", [Request(PROMPT, 1500)])
        await stream.next()
        monkeypatch.setattr(server.batcher, "step", lambda: 1 // 0)
        with pytest.raises(EngineError, match="runner has ended"):
            await written(stream)
        server.runner._thread.join(5)
        assert not server.runner.is_ready
        with pytest.raises(EngineError, match="division"):
            server.runner.submit("base", [Request(PROMPT, 1)])

    with served() as server:
        on_loop(scenario)


def test_to_stop_is_to_let_the_running_end_and_refuse_the_others():
    async def scenario() -> None:
        stream = server.runner.submit("base", [Request(PROMPT, 80)])
        await stream.next()
        stopping = asyncio.create_task(asyncio.to_thread(server.runner.stop, 30.0))
        while server.runner.is_ready:
            await asyncio.sleep(0.001)
        with pytest.raises(StoppingError):
            server.runner.submit("base", [Request(PROMPT, 1)])
        with pytest.raises(StoppingError):
            server.runner.call(lambda: None)
        assert len((await written(stream))[0]) == 79
        await stopping

    with served() as server:
        on_loop(scenario)
    assert not server.runner._thread.is_alive()


def test_to_stop_without_patience_ends_them_with_an_error():
    async def scenario() -> None:
        stream = server.runner.submit("base", [Request(PROMPT, 1900)])
        await stream.next()
        stopping = asyncio.create_task(asyncio.to_thread(server.runner.stop, 0.05))
        with pytest.raises(StoppingError):
            await written(stream)
        await stopping

    with served() as server:
        on_loop(scenario)


def test_an_event_loop_that_ends_early_harms_nobody_else():
    async def leave() -> None:
        await server.runner.submit("base", [Request(PROMPT, 100)]).next()

    async def stay() -> None:
        assert len((await written(server.runner.submit("base", [Request(PROMPT, 80)])))[0]) == 80
        await server.all_given_back()

    with served() as server:
        thread = threading.Thread(target=on_loop, args=(stay,))
        thread.start()
        on_loop(leave)
        thread.join(30)
        assert server.runner.is_ready
        on_loop(stay)


def test_limits_that_cannot_be_are_refused():
    for limits in ({"max_rows": 0}, {"max_waiting": -1}, {"timeout_s": 0.0}):
        with pytest.raises(ConfigError, match="max_rows"):
            RunnerLimits(**limits)
