"""How prompts are read: several of one length together, long ones alone and a chunk at a time.

A prompt of more tokens than a chunk can be read from a beginning on that was read before, from the same state
(`s0.decode.prefixes`). Chunks have the same borders in every prompt, so what that saves is the very computation that it
stands for: the rest of the prompt comes to the same bits.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache

from s0.core.families import recurrence_in, unwrapped
from s0.core.releases import cache_name, cache_of
from s0.decode.caches import side_by_side
from s0.decode.prefixes import Prefixes, keys_of
from s0.errors import UnsupportedModelError

Start = tuple[tuple[int, ...], str | None]
"""A prompt and the state that it is read from."""

_TOGETHER = 8  # on a CPU more at once are no faster per row, and the rows that run wait for them


@dataclass
class Reading:
    """Prompts of one length that are being read, as the rows of one batch.

    Attributes:
        starts: the prompts, each with its state.
        group: by request, which of them is its own.
        keys: of the beginnings that could be kept.
        cache: what was read; None before the first chunk.
        n_read: tokens of each prompt that were.
    """

    starts: Sequence[Start]
    group: Mapping[int, int]
    keys: Sequence[bytes] = ()
    cache: Cache | None = None
    n_read: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of each prompt."""
        return len(self.starts[0][0])


class Reader:
    """Reads prompts into caches.

    Attributes:
        takes: the arguments of the model's forward pass.
        cache_name: by which of them it takes a cache.
        chunk_tokens: read at a time; None where prompts are read whole.
        prefixes: that are kept.
        n_tokens_reused: tokens of prompts that were not read, because a beginning with them was kept.
    """

    n_tokens_reused = 0

    def __init__(self, model: nn.Module, chunk_tokens: int | None, prefix_bytes: int, *, is_prompted: bool) -> None:
        """Make a reader, which reads whole prompts where a model cannot go on in chunks.

        Args:
            model: as `Batcher` takes it.
            chunk_tokens: to read at a time; None for whole prompts.
            prefix_bytes: for beginnings.
            is_prompted: whether virtual tokens enter with the prompt.
        """
        base: Any = unwrapped(model)
        self._model: Any = model
        self.takes = frozenset(inspect.signature(base.forward).parameters)
        self.cache_name = str(cache_name(base.forward))
        reads_in_chunks = chunk_tokens is not None and not is_prompted and _goes_on_in_chunks(base)
        self.chunk_tokens = chunk_tokens if reads_in_chunks else None
        self.prefixes = Prefixes(prefix_bytes if reads_in_chunks else 0)

    def most_together(self, length: int) -> int:
        """How many prompts of so many tokens are read at the same time."""
        if self.chunk_tokens is None:
            return _TOGETHER
        return max(1, min(_TOGETHER, self.chunk_tokens // length))

    def begin(self, starts: Sequence[Start], group: Mapping[int, int]) -> Reading:
        """A reading of these prompts, behind what is known of a long one."""
        reading = Reading(starts, group)
        (tokens, state), chunk = starts[0], self.chunk_tokens
        # A state that is not named may be another one when the next prompt comes.
        if chunk is not None and len(tokens) > chunk and state is not None and self.prefixes.max_bytes:
            reading.keys = keys_of(tokens, state, chunk)
            n_chunks, reading.cache = self.prefixes.longest(reading.keys)
            reading.n_read = n_chunks * chunk
            self.n_tokens_reused += reading.n_read
        return reading

    def read(self, reading: Reading, device: torch.device) -> Tensor:
        """(B, V): logits behind the next chunk of the prompts, or behind all of them."""
        begin, chunk = reading.n_read, self.chunk_tokens
        end = reading.n_tokens if chunk is None else min(begin + chunk, reading.n_tokens)
        inputs: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self.takes else {}
        if begin:
            inputs[self.cache_name] = reading.cache
            if "position_ids" in self.takes:  # Bamba would count from the length of a layer that has none
                inputs["position_ids"] = torch.arange(begin, end, device=device)[None]
        tokens = torch.tensor([tokens[begin:end] for tokens, _ in reading.starts], device=device)
        output = self._model(input_ids=tokens, use_cache=True, **inputs)
        reading.cache, reading.n_read = self._own(cache_of(output)), end
        if chunk is not None and end < reading.n_tokens and reading.keys:
            self.prefixes.offer(reading.keys, end // chunk, reading.cache)
        logits: Tensor = output.logits[:, -1]
        return logits

    def _own(self, cache: Any) -> Cache:
        """The cache, unless it is of a kind whose rows nobody here can tell apart."""
        if type(cache) is not DynamicCache:
            raise UnsupportedModelError(
                f"expected {type(unwrapped(self._model)).__name__} to keep what it has read in a DynamicCache, got "
                f"{type(cache).__name__}, whose rows this version cannot tell apart; use the model's own generate()"
            )
        return cache


def _goes_on_in_chunks(model: Any) -> bool:
    """Whether a model without states goes on exactly from a cache where several tokens come at once.

    transformers drops the state of Mamba-1 there, whose kernel takes none. Windows that slide are not tried.
    """
    try:
        kernel_takes_state = recurrence_in(model).kernel_takes_state
    except UnsupportedModelError:
        kernel_takes_state = True  # attention alone
    return kernel_takes_state and side_by_side(DynamicCache(config=model.config))
