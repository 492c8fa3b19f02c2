"""S0 tuning, the whole method: learn where the recurrent state of each layer starts.

A recurrent layer reads its input token by token into a matrix state S. For GatedDeltaNet, per head,

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        y_t = q_t^T S_t          S: (K, V)

with decay a_t in (0, 1) and write strength b_t in (0, 1); for Mamba-2, S_t = a_t S_{t-1} + dt_t x_t B_t^T and
y_t = S_t C_t, with S: (P, N). Models start at S_0 = 0. Here S_0 is a learned tensor, one per recurrent layer, shared
by all sequences, while every weight of the model stays frozen (Young 2026, arXiv 2604.01168). The state that enters
the model is the *effective* one:

    alpha * S_0            or, with `normalize`,            alpha * S_0 / ||S_0||

The recurrence is linear in the state, so after T tokens S_0 survives as (G_T ... G_1) S_0, with G_t the factor in
front of S_{t-1}: it is absorbed by the first token and never added again. From the second token on, the model does
exactly the work of the untouched model; that is why a tuned model costs nothing at inference.

How it gets in. Every mixer asks its cache for the state to start from. `StateLayer` wraps the mixer and hands it a
stand-in that answers with the effective state, in the two situations where a sequence truly begins:

    no cache (training, scoring)         NoCache       answers S_0, stores nothing
    a cache with nothing in it yet       SeededCache   answers S_0, stores what follows in the real cache

Any later call on that cache (decoding, a second turn, the next chunk of a prompt) finds a state there and passes
through untouched. No model code is changed, and a gradient reaches S_0 through the model's own kernels.

Shapes: B batch, T tokens, H heads, K key dim, V value dim (Mamba-2: P head dim, N state dim), D hidden size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from s0.core.families import layer_index, recurrence_of
from s0.core.kernels import neutral_at_pads, refuse_packing
from s0.errors import ConfigError, EngineError

BASE = "__base__"
"""The name of the untouched model where rows choose their states (PEFT's word)."""


class Scale(Protocol):
    """How a raw state becomes the effective one. An adapter's config is one."""

    alpha: float
    normalize: bool


def effective_state(raw: Tensor, scale: Scale) -> Tensor:
    """What enters the model, (H, K, V) float32: `alpha * raw`, or `alpha * raw / ||raw||` over the whole layer.

    A raw state of zero stays zero under both.
    """
    state = raw.float()
    if scale.normalize:
        state = state / torch.linalg.vector_norm(state).clamp_min(1e-12)
    return scale.alpha * state


@dataclass(frozen=True)
class RowChoice:
    """One adapter name per row of a batch, for the state layers of one model."""

    names: tuple[str, ...]
    layers: frozenset[int]  # id() of each StateLayer it speaks to
    repeats: bool = False  # whether rows may be copies of each other, as generation makes for beams

    def copies(self, batch: int) -> int:
        """How many consecutive rows of a batch each name stands for."""
        copies, rest = divmod(batch, len(self.names) or batch + 1)
        if rest or (copies > 1 and not self.repeats):
            raise ConfigError(
                f"expected one adapter name per row, got {len(self.names)} names for a batch of {batch}; pass one name "
                "per prompt (beams and returned sequences repeat it)"
            )
        return copies


class _RowChoices(threading.local):
    stack: tuple[RowChoice, ...] = ()  # per thread: concurrent calls on one model can choose different states


_ROWS = _RowChoices()


def rows_choose(choice: RowChoice) -> AbstractContextManager[None]:
    """Within this context, on this thread, row i of a batch starts from the state named `choice.names[i]`."""
    return _rows_chosen((*_ROWS.stack, choice))


@contextmanager
def _rows_chosen(stack: tuple[RowChoice, ...]) -> Iterator[None]:
    outer, _ROWS.stack = _ROWS.stack, stack
    try:
        yield
    finally:
        _ROWS.stack = outer


class RowsUnderCheckpointing:
    """A model's gradient checkpointing function that remembers the choice of rows for the recomputation.

    The backward pass runs a layer's forward again after `rows_choose` has ended; without this the recomputation
    would use other states than the forward did and the gradient would be silently wrong.
    """

    def __init__(self, checkpoint: Callable[..., Any]) -> None:
        self.checkpoint = checkpoint

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint `function` with the rows chosen now."""
        chosen = _ROWS.stack

        def with_chosen_rows(*inner: Any) -> Any:
            with _rows_chosen(chosen):
                return function(*inner)

        return self.checkpoint(with_chosen_rows, *args, **kwargs)


class NoCache:
    """Stands in for `cache_params=None`: the state to start from, and nowhere to store what follows."""

    def __init__(self, state: Tensor) -> None:
        self.state = state  # (B, H, K, V)
        self.was_read = False

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor:
        self.was_read = True
        return self.state

    def get_conv_state(self, *args: Any, **kwargs: Any) -> None:
        return None

    def update_conv_state(self, conv_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return conv_states

    def update_recurrent_state(self, recurrent_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        return False


class SeededCache:
    """Stands in for a real cache at the true start of a sequence; everything but the first read goes to that cache."""

    def __init__(self, cache: Any, state: Tensor, n_tokens: int) -> None:
        self.cache = cache
        self.state = state  # (B, H, K, V)
        self.n_tokens = n_tokens
        self.was_read = False

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor:
        self.was_read = True
        if self.n_tokens > 1:
            return self.state
        # Single-step kernels write into the tensor they are given, and a state expanded over the batch is the learned
        # tensor itself: give them the cache's own buffer instead.
        buffer: Tensor = self.cache.update_recurrent_state(self.state, layer_idx, state_idx)
        return buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


class StateLayer(nn.Module, BaseTunerLayer):
    """A recurrent mixer whose sequences start from a learned state.

    Holds one raw state (H, K, V) per adapter, float32 whatever the model's dtype is. States of several active adapters
    add up. With no active adapter, or with adapters disabled, it is the mixer it wraps.
    """

    adapter_layer_names = ("s0_state",)
    other_param_names = ("scales",)
    base_layer: nn.Module
    s0_state: nn.ParameterDict
    active_adapters: list[str]
    _active_adapter: str | list[str]

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.base_layer = mixer
        self.layer_idx = layer_index(mixer)
        self.state_shape = recurrence_of(mixer).state_shape(mixer)
        self.s0_state = nn.ParameterDict({})
        self.scales: dict[str, Scale] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def add_state(self, name: str, scale: Scale, initial: Tensor | None = None) -> None:
        """Add a trainable state called `name`, zero or a copy of `initial` (H, K, V)."""
        raw = torch.zeros(self.state_shape, dtype=torch.float32)
        if initial is not None:
            raw.copy_(initial)
        # PEFT's low_cpu_mem_usage makes `raw` a meta tensor here, to be filled from a file.
        self.s0_state[name] = nn.Parameter(raw if raw.is_meta else raw.to(self._device()))
        self.scales[name] = scale

    def effective(self, name: str) -> Tensor:
        """The effective state (H, K, V) of adapter `name`; zero for the base and for adapters of other layers."""
        if name not in self.s0_state:
            return torch.zeros(self.state_shape, device=self._device())
        return effective_state(self.s0_state[name], self.scales[name])

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: there is nothing to merge into."""
        raise ConfigError(
            "an initial state is not a weight, so it cannot be merged into the model's weights, and it costs nothing "
            "at inference as it is; save the adapter, or `s0 export` it for a serving engine"
        )

    unmerge = merge

    def forward(
        self, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Run the mixer from the chosen states where a sequence begins, and as it is everywhere else.

        Args:
            hidden_states: (B, T, D).
            cache_params: the model's cache, or None.
            attention_mask: (B, T) with 0 at pads, or None where nothing is padded.
            kwargs: whatever else the model passes to its mixer.
        """
        batch, n_tokens, _ = hidden_states.shape
        begun = cache_params is not None and cache_params.has_previous_state(self.layer_idx, 0)
        # A token that comes alone is never a pad, but some models pass a mask for it all the same.
        pads = None if attention_mask is None or n_tokens == 1 else attention_mask == 0
        states = None if begun and pads is None else self._states(batch)
        mixer = partial(self.base_layer, attention_mask=attention_mask, **kwargs)
        if states is None:
            return mixer(hidden_states, cache_params=cache_params)
        refuse_packing(kwargs)
        if cache_params is None and n_tokens == 1:
            # One token would take the single-step kernel, which writes into its state and has no gradient.
            hidden_states = torch.cat([hidden_states, torch.zeros_like(hidden_states)], dim=1)
            return self._seeded(partial(mixer, attention_mask=None), hidden_states, NoCache(states))[:, :1]
        # Pads must not touch the state, neither where it enters nor in a later chunk of a padded prompt.
        with nullcontext() if pads is None else neutral_at_pads(self.base_layer, pads):
            if begun:
                return mixer(hidden_states, cache_params=cache_params)
            start = NoCache(states) if cache_params is None else SeededCache(cache_params, states, n_tokens)
            return self._seeded(mixer, hidden_states, start)

    def _seeded(self, mixer: Callable[..., Any], hidden_states: Tensor, start: NoCache | SeededCache) -> Any:
        output = mixer(hidden_states, cache_params=start)
        if not start.was_read:
            raise EngineError(
                f"expected {type(self.base_layer).__name__} to ask its cache for a state to start from, but it did "
                "not, so the tuned state would be ignored; load the model without replaced layers (use_kernels=False)"
            )
        return output

    def _states(self, batch: int) -> Tensor | None:
        """(B, H, K, V) effective states of the batch's rows, or None where every row is the base model."""
        if self.disable_adapters:
            return None
        choice = next((one for one in reversed(_ROWS.stack) if id(self) in one.layers), None)
        if choice is None:
            active = [self.effective(name) for name in self.active_adapters if name in self.s0_state]
            return reduce(torch.add, active).expand(batch, *self.state_shape) if active else None
        names, copies = choice.names, choice.copies(batch)
        if not any(name in self.s0_state for name in names):
            return None
        distinct = sorted(set(names))
        index = torch.tensor([distinct.index(name) for name in names for _ in range(copies)])
        choices = torch.stack([self.effective(name) for name in distinct])
        return choices[index.to(choices.device)]

    def _device(self) -> torch.device:
        return next(self.base_layer.parameters()).device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StateLayer:
        """Move states with the model, but keep them float32 when the model changes its dtype."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        self.base_layer._apply(fn)
        self.s0_state._apply(move)
        return self


def state_layers(model: nn.Module) -> Sequence[StateLayer]:
    """The state layers of `model`, in layer order."""
    layers = [module for module in model.modules() if isinstance(module, StateLayer)]
    return sorted(layers, key=lambda layer: layer.layer_idx)
