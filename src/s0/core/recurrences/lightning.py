"""Lightning attention, linear attention with one fixed decay a head, as MiniMax has it.

    S_t = a S_{t-1} + k_t v_t^T        y_t = S_t^T q_t        S: (K, V) a head

(Lightning Attention-2, Qin et al. 2024, arXiv 2401.04658; MiniMax 2025, arXiv 2501.08313.)

Kernels: none. MiniMax keeps the state in a cache of its own, and transformers runs it from a state token by token; only
from zero does it run in blocks. So a tuned MiniMax is as exact as the others and slower: it is there to be right. The
state is float32 as everywhere and rounded to the model's dtype where it enters: MiniMax's own arithmetic allows no
other.

Pads: the decay has no gate that could rest there, and it runs between any two tokens. So the tokens are handed over in
stretches within which no row begins or ends its padding, and a row that was all pads in a stretch gets the state back
that it had before.

Offset: y_t = (S_t + dS)^T q_t, before the norm. The query is taken where the activation puts it out, and its part is
added to what enters the norm, so that every weight around it, and a dropout in them, counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from s0.core.recurrences.base import CURRENT, Recurrence
from s0.core.recurrences.readout import product
from s0.core.refusals import ignored_state, not_in_stand_in, refuse_packing, refuse_replaced_forward


class LinearCache:
    """Stands in for MiniMax's cache in one layer: holds that layer's state."""

    def __init__(self, state: Tensor) -> None:
        self.state = state  # (B, H, K, V)
        self.was_read = False

    def get_linear_cache(self, layer_idx: int) -> Tensor:
        """The state, which the mixer asks for before its kernel runs."""
        self.was_read = True
        return self.state

    def set_linear_cache(self, layer_idx: int, linear_cache: Tensor) -> None:
        """Keep what the mixer leaves, for whoever goes on from it."""
        self.state = linear_cache

    def __getattr__(self, name: str) -> Any:
        raise not_in_stand_in(name)


def _run(
    layer: Any, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """(B, T, D) outputs and the state after the last token, (B, H, K, V).

    Args:
        layer: the state layer (`s0.core.states`) around the mixer.
        hidden_states: (B, T, D).
        cache: MiniMax's, or None.
        attention_mask: (B, T) with 0 at pads, or None where nothing is padded.
        kwargs: whatever else the model passes to its mixer.
    """
    kept = None if cache is None else cache.get_linear_cache(layer.layer_idx)
    states = None if kept is not None else layer.states_of_rows(hidden_states)
    if cache is not None and (states is not None or attention_mask is not None):
        from s0.core.recurrences.minimax_cache import make_whole  # loads transformers' MiniMax

        make_whole(cache)
    values_matter = torch.is_grad_enabled() or torch.compiler.is_compiling()  # zero learns, and a graph is for all
    if states is not None and attention_mask is None and not values_matter and not states.any():
        states = None  # nothing to start from: in blocks, as the untouched model
    if states is None and attention_mask is None:
        untouched: tuple[Tensor, Tensor] = layer.run_mixer(hidden_states, cache, None, **kwargs)
        return untouched
    refuse_packing(kwargs)
    refuse_replaced_forward(layer.base_layer)
    if kept is None:  # with pads, rows of the base model are run from zero
        shape = len(hidden_states), *layer.state_shape
        kept = hidden_states.new_zeros(shape) if states is None else states.to(hidden_states.dtype)
    outputs, state = _in_stretches(layer, LinearCache(kept), hidden_states, attention_mask, kwargs)
    if cache is not None:
        cache.set_linear_cache(layer.layer_idx, state)
    return outputs, state


def _in_stretches(
    layer: Any, stand_in: LinearCache, hidden_states: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    outputs = []
    for tokens, resting in _stretches(None if mask is None else mask == 0, hidden_states.shape[1]):
        before = stand_in.state
        its_mask = None if mask is None else mask[:, tokens]
        outputs.append(layer.run_mixer(hidden_states[:, tokens], stand_in, its_mask, **kwargs)[0])
        if resting is not None:
            stand_in.state = torch.where(resting[:, None, None, None], before, stand_in.state)
    if not stand_in.was_read:
        raise ignored_state(layer.base_layer)
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


@contextmanager
def _reading(mixer: nn.Module) -> Iterator[None]:
    """While `mixer` runs on this thread, let it read the current offset."""
    seen: list[Tensor] = []  # (B, T, 3 H K), from the activation to the norm

    def keep(activation: nn.Module, args: tuple[Any, ...], projected: Tensor) -> None:
        if CURRENT.offset_request is request:
            seen.append(projected)

    def add(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if CURRENT.offset_request is not request or request is None or not seen:
            return None
        (output,) = args  # (B, T, H V)
        n_heads, key_dim = request.offset.shape[1:3]
        # In each head q, k and v lie one after another. What pads read does not matter: nobody reads it.
        query = seen.pop().reshape(*output.shape[:2], n_heads, -1)[..., :key_dim].float()
        request.n_calls += 1
        return (output + product("bthk,bhkv->bthv", query, request.offset).flatten(2).to(output.dtype),)

    request = CURRENT.offset_request
    hooks = (
        mixer.get_submodule("act_fn").register_forward_hook(keep),
        mixer.get_submodule("norm").register_forward_pre_hook(add),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _shape(mixer: Any) -> tuple[int, ...]:
    """(H, K, V)."""
    return mixer.num_attention_heads, mixer.head_dim, mixer.head_dim


LIGHTNING_ATTENTION = Recurrence(
    name="lightning_attention",
    recognised_by="get_linear_cache",
    shape=_shape,
    axes="(heads, key dim, value dim)",
    alpha=0.07,
    alpha_source="none published; GatedDeltaNet's value",
    cache_calls=frozenset({"get_linear_cache", "set_linear_cache"}),
    reading=_reading,
    run=_run,
)
