"""Rows of different length in one batch: pads touch neither a row's state nor its convolution, wherever they lie.

A mixer remembers two things of a row, the last columns of its short convolution and its recurrent state. Transformers
zeroes the hidden states of pads, which is enough for pads before the first token of a row that starts from nothing;
pads after a token, in a batch padded on the right or in a later turn, still move the convolution on and decay the
state. So a state layer brings each row's tokens to the front, in their order, and its pads behind them:

    . . a b c             a b c . .
    a b c . .      ->     a b c . .
    a . b . c             a b c . .

Now nothing that a token sees depends on pads. What a cache keeps must not either: `OwnColumns` keeps the last columns
of the convolution that are the row's own, and the seam in the kernels (`s0.core.kernels`) lets the state rest at pads.
The outputs go back to where the tokens were. A row of pads alone keeps what it had, its start included.

A call with a single token is the exception: for it, transformers hands no mask to the layers. `watch` lets the model
tell them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from s0.core.families import family_of
from s0.core.hooks import add_hooks, remove_hooks
from s0.core.releases import cache_of, call_arguments
from s0.errors import EngineError


class Padding:
    """Where the pads of a batch lie."""

    def __init__(self, mask: Tensor, n_tokens: int) -> None:
        """From a mask (B, columns so far) with 0 at pads, of which the last `n_tokens` are looked at.

        Raises:
            EngineError: it is no such mask.
        """
        if mask.ndim != 2 or mask.shape[1] < n_tokens:
            raise EngineError(
                f"expected a padding mask of shape (rows, {n_tokens} columns or more), got {tuple(mask.shape)}; pass "
                "the model a 2-D attention_mask of zeros and ones"
            )
        mask = mask[:, -n_tokens:]
        real = mask != 0
        batch = len(real)
        self.lengths = real.sum(1)  # (B,) tokens of each row
        places = torch.arange(n_tokens, device=mask.device)
        self.front_mask = (places < self.lengths[:, None]).to(mask.dtype)  # (B, T) once the tokens are in front
        pads_go_to = self.lengths[:, None] + places - real.cumsum(1)
        goes_to = torch.where(real, real.cumsum(1) - 1, pads_go_to)
        rows = n_tokens * torch.arange(batch, device=mask.device)[:, None]
        self._back = (rows + goes_to).flatten()
        self._front = (rows + goes_to.argsort(1)).flatten()

    def to_front(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) with the tokens of each row in front, and zeros behind them."""
        moved = hidden_states.flatten(0, 1).index_select(0, self._front).view_as(hidden_states)
        return moved.masked_fill(self.front_mask[..., None] == 0, 0)

    def back(self, output: Tensor) -> Tensor:
        """(B, T, D) undoes `to_front`; what stands at pads means nothing."""
        return output.flatten(0, 1).index_select(0, self._back).view_as(output)


def with_a_pad(hidden_states: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token of each row (B, 1, D), and a pad behind it, with the mask (B, 2) that says so.

    Alone it would take the single-step kernel, which writes into its state (the learned one, where rows share it), has
    no gradient and no seam, and, in Mamba-2, does not clamp the step (transformers 5.23, 5.24).
    """
    if attention_mask is None:
        attention_mask = hidden_states.new_ones(len(hidden_states), 1)
    return F.pad(hidden_states, (0, 0, 0, 1)), F.pad(attention_mask, (0, 1))


class OwnColumns:
    """Stands in for a cache while rows have pads behind their tokens: the convolution keeps what is each row's own."""

    def __init__(self, cache: Any, lengths: Tensor) -> None:
        self.cache = cache
        self.lengths = lengths  # (B,) tokens of each row in this call

    def update_conv_state(self, columns: Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any) -> Tensor:
        """What the cache held before `columns` (B, C, T), and these; it holds the last ones of each row afterwards."""
        seen: Tensor = self.cache.update_conv_state(columns, layer_idx, state_idx, **kwargs)
        size = self.cache.get_conv_state(layer_idx, state_idx).shape[-1]
        with_room = F.pad(seen, (size, 0))  # zeros lie before the beginning of a row
        begin = seen.shape[-1] - columns.shape[-1] + self.lengths  # of the last `size` columns of each row, in there
        own = begin[:, None] + torch.arange(size, device=seen.device)
        kept = with_room.gather(-1, own[:, None].expand(-1, seen.shape[1], -1))
        self.cache.update_conv_state(kept, layer_idx, state_idx, **kwargs)  # as many as it holds: they replace it
        return seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


@dataclass(frozen=True)
class Limits:
    """What pads would make go wrong in a model beside its recurrent layers. Pads that would are refused.

    Attributes:
        window: how many columns its sliding attention looks back, pads included; None where it has none.
        looks_back: a part that reads earlier tokens and takes pads for some, in words; None where there is none.
    """

    window: int | None = None
    looks_back: str | None = None


class CallMask:
    """The mask (B, columns so far) of one call of a model, 0 at pads, of which the last `n_tokens` are the call's."""

    def __init__(self, mask: Tensor, n_tokens: int, is_passed_on: bool = True, n_read: int | None = None) -> None:
        self.mask, self.n_tokens = mask, n_tokens
        self.n_read = n_read  # columns in the cache; None where nothing tells
        self.is_passed_on = is_passed_on  # whether the model hands it to its recurrent layers
        self._allowed: Limits | None = None  # under which no pads were refused

    @cached_property
    def of_single_token(self) -> Tensor | None:
        """(B, 1) the mask of a call with one token per row; None where there are more, or no pads among them."""
        last = self.mask[:, -1:]
        if self.n_tokens > 1:
            return None
        # A graph is for all masks.
        return last if torch.compiler.is_compiling() or (last == 0).any() else None

    def refuse(self, limits: Limits) -> None:
        """Refuse pads that some part of the model would not keep out.

        Raises:
            EngineError: there are such pads; says which part. (From a compiled graph, a RuntimeError that says so.)
        """
        if limits == self._allowed:  # another layer has asked already
            return
        if not self.is_passed_on:
            raise EngineError(
                "expected a 2-D attention_mask where rows are padded, got a 4-D one, which a model does not hand to "
                "its recurrent layers: they would take pads for tokens"
            )
        if self.n_read is not None and self.mask.shape[1] != self.n_read + self.n_tokens:
            raise EngineError(
                f"expected an attention_mask of {self.n_read + self.n_tokens} columns, {self.n_read} in the cache and "
                f"{self.n_tokens} new ones, got {self.mask.shape[1]}; pass the mask of all columns so far"
            )
        if limits.looks_back is not None:
            alone = (self.mask[:, -1] == 0).any() & (self.n_tokens == 1)
            _refuse_if(
                self._has_gaps() | alone,
                "expected pads before the tokens of a row, in a call of several tokens, got others: the model's "
                f"{limits.looks_back} would take them for tokens; pad on the left, or batch rows of one length",
            )
        if limits.window is not None and self.mask.shape[1] > limits.window:
            _refuse_if(
                self._has_gaps(),
                f"expected no pads between the tokens of a row of {self.mask.shape[1]} columns, got some: the model's "
                f"attention looks back over {limits.window} columns and counts them; pad on the left, or batch rows of "
                "one length",
            )
        self._allowed = limits

    def _has_gaps(self) -> Tensor:
        """() bool: whether there are pads between two tokens of a row."""
        real = self.mask != 0
        pads_after_a_token = (real.cumsum(1) > 0) & ~real
        return ((pads_after_a_token.cumsum(1) > 0) & real).any()


def _refuse_if(wrong: Tensor, reason: str) -> None:
    if torch.compiler.is_compiling():  # a graph cannot branch at a value, but it can stop there
        torch._assert_async(~wrong, reason)
    elif wrong:
        raise EngineError(reason)


class _RunningModels(threading.local):
    def __init__(self) -> None:
        # The models around the layer that runs on this thread. A list, because torch.compile loses what a function that
        # it compiles by itself, as it may the hooks below, assigns to a thread's own attributes (2.13).
        self.stack: list[tuple[nn.Module, CallMask | None]] = []


_RUNNING = _RunningModels()


def call_mask() -> CallMask | None:
    """The mask that the model around the running layer was called with; None where it has none that tells pads."""
    return _RUNNING.stack[-1][1] if _RUNNING.stack else None


def watch(model: PreTrainedModel) -> None:
    """Let `model` tell the state layers in it the mask it is called with."""
    add_hooks(model, _note_mask, _drop_mask)


def unwatch(model: nn.Module) -> None:
    """Undo `watch` on all models in `model`."""
    remove_hooks(model, _note_mask, _drop_mask)


_LOOKS_BACK = {
    "ple_layer_ids": "n-gram embeddings (ple_layer_ids)",
    "index_kpool": "pools of keys (index_kpool)",
}
"""Parts of models that count columns rather than tokens, in words, by the setting that switches them on."""


def limits_of(model: nn.Module) -> Limits:
    """What else in `model` pads could get wrong."""
    config: Any = getattr(model, "config", None)
    if config is None:
        return Limits()
    text = config.get_text_config()
    # MiniMax does not say so in its layer types; others have the setting and no use for it.
    kinds = getattr(text, "layer_types", None) or ()
    slides = family_of(model) == "minimax" or any("sliding" in kind for kind in kinds)
    looks_back = next((words for key, words in _LOOKS_BACK.items() if getattr(text, key, None)), None)
    return Limits(text.sliding_window if slides else None, looks_back)


def _note_mask(model: PreTrainedModel, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    inputs = call_arguments(model.forward, args, kwargs)
    mask = inputs.get("attention_mask")
    tokens = next((inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None), None)
    if isinstance(mask, Mapping):  # one for each kind of layer, as generate() makes them for a static cache
        mask = mask.get("linear_attention")
    noted = None
    if isinstance(mask, Tensor) and tokens is not None:
        noted = _call_mask(mask, tokens.shape[1])
        cache = cache_of(inputs)
        # Others have columns that nothing was read into, or none at all.
        counts = type(cache) is DynamicCache and any(isinstance(layer, DynamicLayer) for layer in cache.layers)
        if noted is not None and counts:
            noted.n_read = cache.get_seq_length()
    _RUNNING.stack.append((model, noted))


def _call_mask(mask: Tensor, n_tokens: int) -> CallMask | None:
    if mask.ndim == 2:
        return CallMask(mask, n_tokens)
    # Of a mask for every pair of tokens recurrent layers learn nothing. Pads show as columns that no token looks at.
    if mask.ndim == 4 and mask.shape[-2] == mask.shape[-1] == n_tokens and not torch.compiler.is_compiling():
        seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        if not seen.any(-2).any(1).all():
            return CallMask(seen.any(-2).any(1), n_tokens, is_passed_on=False)
    return None


def _drop_mask(model: PreTrainedModel, args: tuple[Any, ...], output: Any) -> None:
    if _RUNNING.stack and _RUNNING.stack[-1][0] is model:  # else an earlier hook has stopped the call
        _RUNNING.stack.pop()
