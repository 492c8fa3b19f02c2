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
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from s0.core.recurrences.base import CURRENT, OffsetRequest, Recurrence
from s0.core.recurrences.readout import product
from s0.core.refusals import ignored_state_error, not_in_stand_in_error, refuse_packing, refuse_replaced_forward


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
        raise not_in_stand_in_error(name)


class _StateLayer(Protocol):
    """What is asked here of the state layer (`s0.core.states`) around the mixer."""

    base_layer: nn.Module
    layer_idx: int
    state_shape: tuple[int, ...]

    def states_of_rows(self, hidden_states: Tensor) -> Tensor | None: ...

    def run_mixer(self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any) -> Any: ...


def _run(
    layer: _StateLayer, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """(B, T, D) outputs and the state after the last token, (B, H, K, V).

    Args:
        layer: the state layer around the mixer.
        hidden_states: (B, T, D).
        cache: MiniMax's, or None.
        attention_mask: (B, T) with 0 at pads, or None where nothing is padded.
        kwargs: whatever else the model passes to its mixer.
    """
    cached = None if cache is None else cache.get_linear_cache(layer.layer_idx)
    states = layer.states_of_rows(hidden_states) if cached is None else None
    if cache is not None and (states is not None or attention_mask is not None):
        from s0.core.recurrences.minimax_cache import make_whole  # loads transformers' MiniMax

        make_whole(cache)
    if attention_mask is None and not _change_something(states):
        untouched: tuple[Tensor, Tensor] = layer.run_mixer(hidden_states, cache, None, **kwargs)  # in blocks
        return untouched
    refuse_packing(kwargs)
    refuse_replaced_forward(layer.base_layer)
    if cached is not None:
        start = cached
    elif states is not None:
        start = states.to(hidden_states.dtype)
    else:  # rows of the base model beside pads
        start = hidden_states.new_zeros(len(hidden_states), *layer.state_shape)
    outputs, state = _in_stretches(layer, LinearCache(start), hidden_states, attention_mask, kwargs)
    if cache is not None:
        cache.set_linear_cache(layer.layer_idx, state)
    return outputs, state


def _change_something(states: Tensor | None) -> bool:
    """Whether a run from these states is any other than the untouched model's."""
    if states is None:
        return False
    # A state of zero does where it learns; and a graph is for all values.
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or bool(states.any())


def _in_stretches(
    layer: _StateLayer, stand_in: LinearCache, hidden_states: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    outputs = []
    for tokens, resting in _stretches(None if mask is None else mask == 0, hidden_states.shape[1]):
        before = stand_in.state
        its_mask = None if mask is None else mask[:, tokens]
        outputs.append(layer.run_mixer(hidden_states[:, tokens], stand_in, its_mask, **kwargs)[0])
        if resting is not None:
            stand_in.state = torch.where(resting[:, None, None, None], before, stand_in.state)
    if not stand_in.was_read:
        raise ignored_state_error(layer.base_layer)
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


class _OffsetAdder:
    """Hooks on a mixer: what one remembers of the activation's output, the other adds the offset by."""

    def __init__(self, request: OffsetRequest | None) -> None:
        self.request = request
        self.projected: Tensor | None = None  # (B, T, 3 H K), between the activation and the norm

    def remember(self, activation: nn.Module, args: tuple[Any, ...], projected: Tensor) -> None:
        if self._is_current():
            self.projected = projected

    def add(self, norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        request, projected = self.request, self.projected
        if not self._is_current() or request is None or projected is None:
            return None
        self.projected = None
        (output,) = args  # (B, T, H V)
        n_heads, key_dim = request.offset.shape[1:3]
        # In each head q, k and v lie one after another. What pads read does not matter: nobody reads it.
        query = projected.reshape(*output.shape[:2], n_heads, -1)[..., :key_dim].float()
        request.n_calls += 1
        return (output + product("bthk,bhkv->bthv", query, request.offset).flatten(2).to(output.dtype),)

    def _is_current(self) -> bool:
        return CURRENT.offset_request is self.request  # another thread may run the same mixer


@contextmanager
def _adding_offset(mixer: nn.Module) -> Iterator[None]:
    """While `mixer` runs on this thread, let it read the current offset."""
    adder = _OffsetAdder(CURRENT.offset_request)
    hooks = (
        mixer.get_submodule("act_fn").register_forward_hook(adder.remember),
        mixer.get_submodule("norm").register_forward_pre_hook(adder.add),
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
    adding_offset=_adding_offset,
    run=_run,
)
