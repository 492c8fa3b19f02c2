"""The one thread that runs the model: requests go in from anywhere, tokens come out where they are awaited.

    event loop(s)   submit -> [inbox] ->   runner thread: states on and off the model, batcher.step(), time limits
                    stream <- [queue] <-   tokens, errors

Between two steps the thread takes what has come in: requests, whose states it acquires; cancellations; and other work
on the model (`call`), such as loading a state. Whatever ends a request (its last token, an error, its time, its client)
gives its row and its state back. States take turns (`s0.serve.fair_queue`): where the next one has no room on the
model, it waits until a state there has no requests left, and those behind it wait with it; but for the rest of what was
submitted together with requests that have begun, which hold their state until the last of them has ended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.decode import Batcher, Event, Request
from s0.errors import ConfigError, EngineError, QueueFullError, StoppingError, TimeLimitError
from s0.serve.fair_queue import FairQueue
from s0.serve.metrics import Metrics
from s0.serve.registry import Registry, Version

Result = TypeVar("Result")
Item = tuple[int, Event | Exception]
"""What comes of a stream: of which of its requests (from 0), and what."""

_CHUNK_TOKENS = 512
"""Of prompts, read before the rows that run go on."""
_AHEAD = 8
"""Requests that the batcher knows beyond its rows: those of one length among them are read together."""

logger = logging.getLogger("s0.serve")


@dataclass(frozen=True)
class RunnerLimits:
    """What keeps a server's memory and answers bounded.

    Attributes:
        max_rows: requests that run at the same time.
        max_batch_tokens: requests that run x the longest of them, with all that it may still write; None for no bound.
        max_waiting: further ones that may wait for a row.
        timeout_s: from a request's arrival to its last token.
        prefix_bytes: memory for beginnings of prompts, which are not read again.
    """

    max_rows: int = 64
    max_batch_tokens: int | None = None
    max_waiting: int = 256
    timeout_s: float = 300.0
    prefix_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        counts = (self.max_rows, self.max_batch_tokens or 1)
        if min(counts) < 1 or min(self.max_waiting, self.prefix_bytes) < 0 or not self.timeout_s > 0:
            raise ConfigError(
                "expected `max_rows` and `max_batch_tokens` >= 1, `max_waiting` and `prefix_bytes` >= 0 and "
                f"`timeout_s` > 0, got {self}"
            )

    def batcher(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Batcher:
        """A batcher within these limits."""
        return Batcher(
            model,
            tokenizer,
            self.max_rows,
            max_batch_tokens=self.max_batch_tokens,
            chunk_tokens=_CHUNK_TOKENS,
            prefix_bytes=self.prefix_bytes,
        )


class Stream:
    """What comes of some requests that were submitted together.

    Attributes:
        state: the name they start from.
        version: of the state, once its first item is here: all of it starts from that one.
        n_open: requests whose end was not read yet.
    """

    def __init__(self, runner: Runner, state: str, n_requests: int) -> None:
        self.state = state
        self.version: Version | None = None
        self.n_open = self.n_jobs = n_requests
        self._runner = runner
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item] = asyncio.Queue()

    async def next(self) -> tuple[int, Event]:
        """The next token, and of which request it is.

        Raises:
            Exception: what has ended one of the requests; the others are cancelled.
        """
        index, item = await self._items.get()
        if isinstance(item, Exception):
            self.cancel()
            raise item
        if item.completion is not None:
            self.n_open -= 1
        return index, item

    def cancel(self) -> None:
        """End what still runs of it, from any thread; nothing happens if all has ended."""
        self._runner.cancel(self)

    def abandon(self) -> None:
        """The same for a client that has gone: whoever waits for the next token hears of it."""
        self.cancel()
        self._items.put_nowait((0, ConnectionAbortedError("the client has gone")))


@dataclass(eq=False)
class _Job:
    """A request, from its arrival to its end."""

    stream: Stream
    index: int
    request: Request
    arrived: float
    number: int | None = None  # the batcher's
    has_begun: bool = False


class Runner:
    """Drives a batcher in a thread of its own."""

    def __init__(self, batcher: Batcher, states: Registry, limits: RunnerLimits, metrics: Metrics) -> None:
        """Make a runner, which begins with `start`.

        Args:
            batcher: nobody else may use it from now on, nor its model.
            states: the model's.
            limits: that requests are held to.
            metrics: that are told what happens.
        """
        self.states, self.limits, self.metrics = states, limits, metrics
        self._batcher = batcher
        self._thread = threading.Thread(target=self._run, name="s0-runner", daemon=True)
        self._changed = threading.Condition()
        # What other threads touch, under that lock.
        self._inbox: deque[Callable[[], None]] = deque()
        self._n_unfinished = 0
        self._stopping = False
        self._broken: Exception | None = None
        # The runner thread's own.
        self._jobs: dict[_Job, None] = {}  # the oldest first
        self._waiting: FairQueue[_Job] = FairQueue()  # of these
        self._running: dict[int, _Job] = {}  # of these, by the batcher's number
        self._outbox: dict[Any, list[tuple[Stream, Item]]] = defaultdict(list)  # by event loop

    # --- From any thread ---

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self._thread.is_alive() and not self._stopping and self._broken is None

    def submit(self, state: str, requests: Sequence[Request]) -> Stream:
        """Queue requests, all of them or none; called on the event loop that awaits the stream.

        Args:
            state: the name that all of them start from; what `requests` say of it is not looked at.
            requests: at least one.

        Raises:
            UnknownStateError: there is no such state.
            QueueFullError: no more may wait.
            StoppingError: the server ends.
        """
        self.states.require(state)
        stream, arrived = Stream(self, state, len(requests)), time.monotonic()
        jobs = [_Job(stream, i, request, arrived) for i, request in enumerate(requests)]
        with self._changed:
            self._require_running()
            if self._n_unfinished + len(jobs) > self.limits.max_rows + self.limits.max_waiting:
                self.metrics.refused(state)
                raise QueueFullError(
                    f"expected at most {self.limits.max_rows + self.limits.max_waiting} requests at the same time, got "
                    f"{len(jobs)} beside {self._n_unfinished}; try again later"
                )
            self._n_unfinished += len(jobs)
            self._post(lambda: self._take(jobs))
        return stream

    def cancel(self, stream: Stream) -> None:
        """Drop what is left of a stream and give its rows back."""

        def drop() -> None:
            for job in [job for job in self._jobs if job.stream is stream]:
                self._end(job, "cancelled")

        with self._changed:
            self._post(drop)

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """Do something with the model or its states between two steps.

        Raises:
            StoppingError: the server ends.
        """
        future: Future[Result] = Future()

        def do() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)

        with self._changed:
            self._require_running()
            self._post(do)
        return future

    def stop(self, grace_s: float = 0.0) -> None:
        """Take no more requests, let those that are here end, for so long, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(grace_s)
            self.end_requests()
            self._thread.join()

    def end_requests(self) -> None:
        """End what runs and waits with the error that tells of a server's end; may be called by a signal's handler."""
        with self._changed:
            self._post(lambda: self._fail([*self._jobs], StoppingError("the server ends; ask it again later")))

    def _post(self, work: Callable[[], Any]) -> None:
        self._inbox.append(work)
        self._changed.notify()

    def _require_running(self) -> None:
        if self._broken is not None:
            raise EngineError(f"the runner has ended: {self._broken}; start the server again") from self._broken
        if self._stopping or not self._thread.is_alive():
            raise StoppingError("the server takes no requests now; ask it again later")

    # --- On the runner thread ---

    def _run(self) -> None:
        try:
            while self._take_inbox():
                self._expire()
                self._admit()
                self._step()
                self._deliver()
                n_rows = self._batcher.n_rows
                self.metrics.now(n_rows, len(self._jobs) - n_rows, self.states.n_on_model)
                self.metrics.prefixes(self._batcher.prefix_bytes, self._batcher.n_tokens_reused)
        except Exception as error:
            logger.exception("the runner has ended")
            with self._changed:
                self._broken = error
        finally:
            self._tell_the_rest()

    def _take_inbox(self) -> bool:
        """Do what has come in, waiting for it where nothing runs; whether to go on."""
        with self._changed:
            while not (self._inbox or self._jobs or self._stopping):
                self._changed.wait()
            inbox, self._inbox = self._inbox, deque()
            is_over = self._stopping and not (inbox or self._jobs)
        for work in inbox:
            work()
        return not is_over

    def _take(self, jobs: Sequence[_Job]) -> None:
        self._jobs.update(dict.fromkeys(jobs))
        for job in jobs:
            self._waiting.add(job, job.stream.state, len(job.request.tokens) + job.request.max_new_tokens)

    def _tell_the_rest(self) -> None:
        """At the thread's end: what came in meanwhile is the last, and nobody waits in vain."""
        with self._changed:
            inbox, self._inbox, self._stopping = self._inbox, deque(), True
        for work in inbox:
            work()
        for job in self._jobs:
            self._put(job, EngineError("the server's runner has ended; start it again"))
        self._deliver()

    def _expire(self) -> None:
        last = time.monotonic() - self.limits.timeout_s
        late = []
        for job in self._jobs:
            if job.arrived > last:
                break
            late.append(job)
        if late:
            limit = f"expected requests of at most {self.limits.timeout_s:g} seconds, got a longer one; ask for less"
            self._fail(late, TimeLimitError(limit), "timeout")

    def _admit(self) -> None:
        """Give waiting requests to the batcher, as long as it has rows for them and the model room for their states."""
        most, model_has_room = self.limits.max_rows + _AHEAD, True
        while self._batcher.unfinished < most:
            first = self._waiting.first() if model_has_room else self._waiting.first(self._needs_no_room)
            if first is None:
                break
            state, job = first
            try:
                version = job.stream.version = job.stream.version or self.states.acquire(state)
                if version is None:
                    model_has_room = False
                    continue
                job.number = self._batcher.submit(replace(job.request, state=version.adapter))
            except Exception as error:
                self._fail([job], error)
                continue
            self._waiting.take(job, state)
            self._running[job.number] = job

    def _needs_no_room(self, job: _Job) -> bool:
        """Whether it may begin before one that waits for room on the model, without keeping it waiting for longer.

        The rest of what holds a state must, or neither would ever begin.
        """
        return job.stream.version is not None or job.stream.state == self.states.base_name

    def _step(self) -> None:
        if not self._batcher.unfinished:
            return
        try:
            events = self._batcher.step()
        except Exception as error:
            logger.exception("a step has failed")
            failed = [job for number, job in self._running.items() if number in self._batcher.failed]
            if not failed:
                raise  # the next step would fail as well
            self._fail(failed, EngineError(f"the model has failed: {type(error).__name__}: {error}"))
            return
        n_tokens = Counter(self._running[event.request].stream.state for event in events)
        for event in events:
            job = self._running[event.request]
            self._put(job, event)
            if not job.has_begun:
                job.has_begun = True
                self.metrics.first_token(job.stream.state, len(job.request.tokens), time.monotonic() - job.arrived)
            if event.completion is not None:
                self._end(job, "length" if event.completion.truncated else "stop")
        for state, n in n_tokens.items():
            self.metrics.tokens(state, n)

    def _fail(self, jobs: Sequence[_Job], error: Exception, outcome: str = "error") -> None:
        for job in jobs:
            self._put(job, error)
            self._end(job, outcome)

    def _end(self, job: _Job, outcome: str) -> None:
        """Give back what a request holds, however it ends."""
        del self._jobs[job]
        self._waiting.discard(job, job.stream.state)
        if job.number is not None:
            self._batcher.cancel(job.number)
            self._running.pop(job.number, None)
        job.stream.n_jobs -= 1
        if job.stream.n_jobs == 0 and job.stream.version is not None:
            self.states.release(job.stream.version)
        with self._changed:
            self._n_unfinished -= 1
        self.metrics.ended(job.stream.state, outcome)

    def _put(self, job: _Job, item: Event | Exception) -> None:
        self._outbox[job.stream._loop].append((job.stream, (job.index, item)))

    def _deliver(self) -> None:
        """Hand what has come of a step to the event loops, each woken once."""
        for loop, items in self._outbox.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # it is closed: nobody waits there any more
                logger.debug("an event loop ended before its answers")
        self._outbox.clear()


def _deliver(items: Sequence[tuple[Stream, Item]]) -> None:
    for stream, item in items:
        stream._items.put_nowait(item)
