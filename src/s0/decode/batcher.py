"""Many requests on one model at once: continuous batching.

    batcher = Batcher(model, tokenizer)
    batcher.submit(Request(tokens, max_new_tokens=100))
    while batcher.unfinished:
        for event in batcher.step():
            print(event.text, end="")

A request waits until a row is free. Prompts of one length are read together, never padded, so every model and every
state starts exactly as it does alone; equal prompts are read once, and long ones a chunk at a time where that is asked
for (`s0.decode.reading`). Then each row adds a token per step in one joint call, whatever the lengths
(`s0.decode.caches`), and leaves when it ends.

What a request gives depends on the request alone, up to the rounding of the model's arithmetic, which may differ with
the number of rows: where two tokens are closer than that, another one may be chosen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from s0.core.families import unwrapped
from s0.core.layer import tuned_layers
from s0.core.row_choice import RowChoice, rows_choose
from s0.core.states import BASE, state_layers
from s0.decode.caches import OneRow, Rows, side_by_side
from s0.decode.reading import Reader, Reading, Start
from s0.decode.request import Request
from s0.decode.row import Completion, Event, Row
from s0.decode.sampling import Logprobs, choose, logprobs_of
from s0.errors import ConfigError
from s0.models import check_tokens, end_tokens


class Batcher:
    """Answers requests on one model; to be driven from one thread.

    Models whose cache has layers that rows of different length cannot share (sliding windows, indexed attention)
    answer one request after the other.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        max_rows: int = 64,
        *,
        max_batch_tokens: int | None = None,
        chunk_tokens: int | None = None,
        prefix_bytes: int = 0,
    ) -> None:
        """Make a batcher for the model as it is, with or without tuned parts; it must stay so while requests run.

        Args:
            model: a causal language model, or a PEFT model of one.
            tokenizer: its tokenizer.
            max_rows: requests that run at the same time; with their lengths it bounds the memory.
            max_batch_tokens: requests that run x the longest of them, with all that it may still write. What would pass
                that waits; None for no such bound.
            chunk_tokens: so much is read of prompts before the rows that run go on; None for all. A prompt that is
                longer is read in chunks, but by models whose mixers cannot go on so from a cache (Mamba-1's), or
                which read virtual tokens before it.
            prefix_bytes: memory for beginnings of prompts, whole chunks, that are not read again from the same state,
                where requests name theirs; 0 for none.

        Raises:
            ConfigError: a bound below 1, prefix_bytes without chunk_tokens, or there is no end token.
        """
        for name, bound in (
            ("max_rows", max_rows),
            ("max_batch_tokens", max_batch_tokens),
            ("chunk_tokens", chunk_tokens),
        ):
            if bound is not None and bound < 1:
                raise ConfigError(f"expected {name} >= 1, got {bound}")
        if prefix_bytes < 0 or (prefix_bytes and chunk_tokens is None):
            raise ConfigError(
                f"expected prefix_bytes >= 0, and 0 without chunk_tokens, got {prefix_bytes}; leave it out"
            )
        self.model: Any = model
        self.tokenizer = tokenizer
        base: Any = unwrapped(model)
        # Virtual tokens enter with the prompt; PEFT would add them again at every step.
        prompted = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
        self._decoder: Any = base if prompted else model
        self._reader = Reader(model, chunk_tokens, prefix_bytes, is_prompted=prompted)
        self._ends = end_tokens(model, tokenizer)
        config = base.config.get_text_config()
        self._longest: int | None = getattr(config, "max_position_embeddings", None)
        self._new_cache = partial(Rows, max_rows) if side_by_side(DynamicCache(config=base.config)) else OneRow
        self._cache: OneRow = self._new_cache()
        self._find_layers()
        self._submitted = 0
        self._max_batch_tokens = max_batch_tokens
        self._waiting: dict[int, Request] = {}
        self._reading: Reading | None = None  # the prompts of some that wait
        self._ready: deque[tuple[Row, Cache, int]] = deque()  # whose prompt was read, into that row of that cache
        self._rows: list[Row] = []  # in the order of the cache's rows
        self._events: list[Event] = []  # of the step, until it ends
        self.failed: frozenset[int] = frozenset()  # the requests that went with the last step's error

    @property
    def unfinished(self) -> int:
        """Requests that were submitted and whose end no step has returned."""
        ended = sum(event.completion is not None for event in self._events)
        return len(self._waiting) + len(self._ready) + len(self._rows) + ended

    @property
    def n_rows(self) -> int:
        """Requests that run."""
        return len(self._rows)

    @property
    def prefix_bytes(self) -> int:
        """Memory that the kept beginnings of prompts take."""
        return self._reader.prefixes.n_bytes

    @property
    def n_tokens_reused(self) -> int:
        """Prompt tokens that were not read, because a beginning with them was kept."""
        return self._reader.n_tokens_reused

    def submit(self, request: Request) -> int:
        """Queue a request; the number its events will bear.

        Raises:
            ConfigError: it is longer than the model allows, or names a state that is not there.
            DatasetError: its prompt has tokens that the model does not know.
        """
        check_tokens(self.model, self.tokenizer, request.tokens, "the prompt")
        length = len(request.tokens) + request.max_new_tokens
        if self._longest is not None and length > self._longest:
            raise ConfigError(
                f"expected at most {self._longest} tokens (the model's max_position_embeddings), got a prompt of "
                f"{len(request.tokens)} and `max_new_tokens={request.max_new_tokens}`: shorten one of them"
            )
        if self._max_batch_tokens is not None and length > self._max_batch_tokens:
            raise ConfigError(
                f"expected at most {self._max_batch_tokens} tokens, for which there is memory, got a prompt of "
                f"{len(request.tokens)} and `max_new_tokens={request.max_new_tokens}`: shorten one of them"
            )
        if request.state not in (None, BASE):
            self._find_layers()  # a first state may have been put on the model since
            names = {name for layer in self._layers for name in layer.s0_state}
            if request.state not in names:
                raise ConfigError(
                    f"expected one of the model's states {sorted(names)}, got {request.state!r}; load it first"
                )
            if len(self._active) > 1 and any(map(self._is_read_on, {request.state, *self._active})):
                raise ConfigError(
                    f"expected at most one active state where requests name theirs and some are offsets or have "
                    f"gains, got {sorted(self._active)}; switch the others off"
                )
        self._submitted += 1
        self._waiting[self._submitted] = request
        return self._submitted

    def cancel(self, request: int) -> None:
        """Drop a request and give its row back; nothing happens if it has ended."""
        self._waiting.pop(request, None)
        if self._reading is not None and not self._reading.group.keys() & self._waiting.keys():
            self._reading = None  # nobody waits for it any more
        self._events = [event for event in self._events if event.request != request]
        self._ready = deque(prefilled for prefilled in self._ready if prefilled[0].number != request)
        for i, row in enumerate(self._rows):
            if row.number == request:
                self._leave(i)
                break

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Let waiting requests join where rows are free, then add a token to every row.

        Returns:
            the new tokens; a request that has just joined may have two.

        Raises:
            Exception: the model's. The requests that it concerns, `failed`, are dropped then; the others go on with
                the next step, which also returns what this one had.
        """
        n_read = 0
        while len(self._rows) < self._cache.max_rows:
            if self._ready:
                self._join()
                continue
            if self._reading is None:
                self._reading = self._next_reading()
            rows_have_waited = bool(self._rows) and n_read >= (self._reader.chunk_tokens or math.inf)
            if self._reading is None or rows_have_waited:
                break
            n_read += self._read(self._reading)
        if self._rows:
            with self._dropping():
                self._events += self._decode()
        events, self._events = self._events, []
        return events

    def finish(self, on_event: Callable[[Event], None]) -> dict[int, Completion]:
        """Step until every request has ended.

        Args:
            on_event: told every event as it comes.

        Returns:
            the completions by their requests' numbers.
        """
        completions: dict[int, Completion] = {}
        while self.unfinished:
            for event in self.step():
                on_event(event)
                if event.completion is not None:
                    completions[event.request] = event.completion
        return completions

    @contextmanager
    def _dropping(self, group: Collection[int] | None = None) -> Iterator[None]:
        """An error in this context takes a group of waiting requests with it, or else all rows, which share a cache."""
        try:
            yield
        except Exception:
            if group is None:
                group = [row.number for row in self._rows]
                self._rows, self._cache = [], self._new_cache()  # it may be half written
            else:
                self._reading = None
            self.failed = frozenset(group)
            self._waiting = {number: request for number, request in self._waiting.items() if number not in self.failed}
            self._events = [event for event in self._events if event.request not in self.failed]
            raise

    def _join(self) -> None:
        row, cache, i = self._ready.popleft()
        self._rows.append(row)
        with self._dropping():
            self._cache.join(cache, i)

    def _next_reading(self) -> Reading | None:
        """The prompt of the oldest request, and of others of the same length; None where nothing may begin now."""
        head = next(iter(self._waiting.values()), None)
        if head is None:
            return None
        most = min(self._reader.most_together(len(head.tokens)), self._cache.max_rows)
        starts: dict[Start, int] = {}  # what to read, and the row that reads it
        group: dict[int, int] = {}  # the row of each request
        for number, request in self._waiting.items():
            is_alike = len(request.tokens) == len(head.tokens) and (request.state is None) == (head.state is None)
            start = request.tokens, request.state
            if is_alike and (start in starts or len(starts) < most) and self._fits([*group, number]):
                group[number] = starts.setdefault(start, len(starts))
        return self._reader.begin(list(starts), group) if group else None

    def _fits(self, numbers: Sequence[int]) -> bool:
        """Whether there is memory for these requests beside those that run."""
        if self._max_batch_tokens is None:
            return True
        requests = [*(row.request for row in self._rows), *(self._waiting[number] for number in numbers)]
        longest = max(len(request.tokens) + request.max_new_tokens for request in requests)
        return len(requests) * longest <= self._max_batch_tokens

    def _read(self, reading: Reading) -> int:
        """Read on; how many tokens."""
        before = reading.n_read
        with self._dropping(reading.group):
            with self._rows_start_from([state for _, state in reading.starts]):
                logits = self._reader.read(reading, self._device)
            if reading.n_read == reading.n_tokens:
                self._reading = None
                self._begin_rows(reading, logits)
        return (reading.n_read - before) * len(reading.starts)

    def _begin_rows(self, reading: Reading, logits: Tensor) -> None:
        """Choose the first token of every request whose prompt was read."""
        assert reading.cache is not None
        numbers = [number for number in reading.group if number in self._waiting]  # the others were cancelled
        requests = [self._waiting.pop(number) for number in numbers]
        rows = [
            Row(number, request, self.tokenizer, reads_on=self._is_read_on(request.state))
            for number, request in zip(numbers, requests, strict=True)
        ]
        events = self._choose(rows, logits[[reading.group[number] for number in numbers]])
        self._events += events
        for row, event in zip(rows, events, strict=True):
            if event.completion is None:
                self._ready.append((row, reading.cache, reading.group[row.number]))

    def _decode(self) -> list[Event]:
        self._cache.advance()
        device = self._device
        inputs: dict[str, Any] = {self._reader.cache_name: self._cache}
        if "position_ids" in self._reader.takes:
            inputs["position_ids"] = self._cache.positions(device)
        with self._rows_go_on():
            output = self._decoder(
                input_ids=self._tensor([[row.last] for row in self._rows]),
                attention_mask=self._cache.mask(device),
                use_cache=True,
                **inputs,
            )
        events = self._choose(self._rows, output.logits[:, -1])
        for i in reversed(range(len(events))):
            if events[i].completion is not None:
                self._leave(i)
        return events

    def _choose(self, rows: Sequence[Row], logits: Tensor) -> list[Event]:
        asked = [row.request for row in rows]
        draws = [row.random.random() for row in rows]
        tokens = choose(logits, [request.temperature for request in asked], [request.top_p for request in asked], draws)
        logprobs = _logprobs(asked, logits, tokens)
        return [
            row.add(token, self._ends, logprobs.get(i)) for i, (row, token) in enumerate(zip(rows, tokens, strict=True))
        ]

    def _leave(self, i: int) -> None:
        self._cache.leave(i)
        self._rows[i] = self._rows[-1]
        self._rows.pop()

    def _find_layers(self) -> None:
        self._layers = state_layers(self.model)
        self._choosing = frozenset(map(id, tuned_layers(self.model)))

    def _rows_start_from(self, states: Sequence[str | None]) -> AbstractContextManager[None]:
        names = tuple(state for state in states if state is not None)
        if not names:
            return nullcontext()
        return rows_choose(RowChoice(names, self._choosing))

    def _rows_go_on(self) -> AbstractContextManager[None]:
        # A state was absorbed by the first token it met; only offsets and gains are read at every step.
        states, active = [row.request.state for row in self._rows], self._active
        is_some_read_on = any(row.reads_on for row in self._rows) or any(map(self._is_read_on, active))
        if not any(states) or not is_some_read_on:
            return nullcontext()
        (otherwise,) = active or {BASE}
        return self._rows_start_from([state or otherwise for state in states])

    def _is_read_on(self, state: str | None) -> bool:
        deployed = (layer.deployments[state] for layer in self._layers if state in layer.deployments)
        # Of one kind in all layers.
        return any(deployment.kind == "offset" or deployment.gains for deployment in islice(deployed, 1))

    @property
    def _active(self) -> set[str]:
        return {name for layer in self._layers for name in layer.active_adapters if name in layer.s0_state}

    def _tensor(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(tokens, device=self._device)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._decoder.parameters()).device
        return device


def _logprobs(requests: Sequence[Request], logits: Tensor, tokens: Sequence[int]) -> dict[int, Logprobs]:
    """By row, for those that ask for them."""
    asked = {i: request.logprobs for i, request in enumerate(requests) if request.logprobs is not None}
    if not asked:
        return {}
    rows = list(asked)
    return dict(zip(rows, logprobs_of(logits[rows], [tokens[i] for i in rows], [*asked.values()]), strict=True))
