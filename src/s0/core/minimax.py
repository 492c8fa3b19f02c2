"""MiniMax from a state: its lightning attention keeps the state in a cache of its own and calls no kernel.

    S_t = a S_{t-1} + k_t v_t^T        y_t = S_t^T q_t        S: (K, V), one fixed decay a for each head

Given a state, transformers runs this token by token; only from zero does it run in blocks. So a tuned MiniMax is as
exact as the others and slower: it is there to be right. The decay has no gate that could rest at pads, and it runs
between any two tokens: here the tokens are handed over in stretches within which no row begins or ends its padding,
and a row that was all pads in a stretch gets the state back that it had before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.models.minimax.modeling_minimax import MiniMaxCache

from s0.core.kernels import ignored_state, not_in_stand_in, refuse_packing, refuse_replaced_forward
from s0.core.states import StateLayer


class LinearCache:
    """Stands in for MiniMax's cache in one layer: holds that layer's state."""

    def __init__(self, state: Tensor) -> None:
        self.state = state  # (B, H, K, V)
        self.was_read = False

    def get_linear_cache(self, layer_idx: int) -> Tensor:
        self.was_read = True
        return self.state

    def set_linear_cache(self, layer_idx: int, linear_cache: Tensor) -> None:
        self.state = linear_cache

    def __getattr__(self, name: str) -> Any:
        raise not_in_stand_in(name)


class WholeCache(MiniMaxCache):
    """MiniMax's cache without the faults of transformers 5.23, which make a continued sequence another one.

    Of the linear states it reorders none for beam search and empties none on reset(). And it tells the length of what
    it holds by its first layer, which in the released models is a linear one and holds no keys: the length is then 0,
    so that masks of later calls, padding included, are those of a new sequence.
    """

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return max((layer.get_seq_length() for layer in self.layers if isinstance(layer, DynamicLayer)), default=0)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self.linear_cache = [state[beam_idx] if isinstance(state, Tensor) else state for state in self.linear_cache]

    def reset(self) -> None:
        self.layers.clear()
        self.linear_cache.clear()


class LightningStateLayer(StateLayer):
    """A lightning attention whose sequences start from a learned state.

    The state is float32 as everywhere and rounded to the model's dtype where it enters: MiniMax's own arithmetic
    allows no other.
    """

    def _from_state(self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any) -> Any:
        """(B, T, D) outputs and the state after the last token, (B, H, K, V)."""
        n_tokens = hidden_states.shape[1]
        held = None if cache is None else cache.get_linear_cache(self.layer_idx)
        states = None if held is not None else self._states(hidden_states)
        if cache is not None and (states is not None or attention_mask is not None):
            cache.__class__ = WholeCache  # the caller holds it and goes on with it
        may_be_nothing = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        if states is not None and attention_mask is None and may_be_nothing and not states.any():
            states = None  # nothing to start from and nothing to learn: in blocks, as the untouched model
        if states is None and attention_mask is None:
            return self._mixer(hidden_states, cache, None, **kwargs)
        refuse_packing(kwargs)
        refuse_replaced_forward(self.base_layer)
        pads = None if attention_mask is None else attention_mask == 0
        if held is None:  # with pads, rows of the base model are run from zero
            shape = len(hidden_states), *self.state_shape
            held = hidden_states.new_zeros(shape) if states is None else states.to(hidden_states.dtype)
        stand_in = LinearCache(held)
        outputs = []
        for piece, resting in _stretches(pads, n_tokens):
            before = stand_in.state
            mask = None if attention_mask is None else attention_mask[:, piece]
            outputs.append(self._mixer(hidden_states[:, piece], stand_in, mask, **kwargs)[0])
            if resting is not None:
                stand_in.state = torch.where(resting[:, None, None, None], before, stand_in.state)
        if not stand_in.was_read:
            raise ignored_state(self.base_layer)
        if cache is not None:
            cache.set_linear_cache(self.layer_idx, stand_in.state)
        return torch.cat(outputs, dim=1), stand_in.state


def _stretches(pads: Tensor | None, n_tokens: int) -> Iterator[tuple[slice, Tensor | None]]:
    """Consecutive tokens, and the rows (B,) that are all pads in them; the other rows have no pads there."""
    if pads is None:
        yield slice(0, n_tokens), None
        return
    if torch.compiler.is_compiling():  # one graph for all masks: every token is a stretch
        borders = list(range(n_tokens + 1))
    else:
        changes = (pads[:, 1:] != pads[:, :-1]).any(0).nonzero().flatten() + 1
        borders = [0, *changes.tolist(), n_tokens]
    for start, end in pairwise(borders):
        yield slice(start, end), pads[:, start]
