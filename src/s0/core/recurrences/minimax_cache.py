"""MiniMax's cache without the faults of transformers 5.23 and 5.24, which make a continued sequence another one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.models.minimax.modeling_minimax import MiniMaxCache

from s0.errors import EngineError


def make_whole(cache: Any) -> None:
    """Mend a cache in place: the caller holds it and goes on with it.

    Raises:
        EngineError: it is of a class of its own, whose methods would be lost.
    """
    if type(cache) not in (MiniMaxCache, WholeCache):
        raise EngineError(
            f"expected MiniMax's own cache, got {type(cache).__name__}, whose length and beams cannot be mended; leave "
            "past_key_values out, or pass a MiniMaxCache"
        )
    cache.__class__ = WholeCache


class WholeCache(MiniMaxCache):
    """The cache, mended.

    Of the linear states transformers' own reorders none for beam search and empties none on reset(). And it tells the
    length of what it holds by its first layer, which in the released models is a linear one and holds no keys: the
    length is then 0, so that masks of later calls, padding included, are those of a new sequence.
    """

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens were read; linear layers do not count them."""
        return max((layer.get_seq_length() for layer in self.layers if isinstance(layer, DynamicLayer)), default=0)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """How many keys attention sees, and where the first of them stands."""
        return self.get_seq_length() + query_length, 0

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Take other rows in place of those there are, states of linear layers with them."""
        super().reorder_cache(beam_idx)
        self.linear_cache = [state[beam_idx] if isinstance(state, Tensor) else state for state in self.linear_cache]

    def reset(self) -> None:
        """Forget what was read."""
        self.layers.clear()
        self.linear_cache.clear()
