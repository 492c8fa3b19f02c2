"""Running a model in the ways its users do: whole, in pieces over a cache, padded, generating, learning.

Shapes: B batch, T tokens, V vocabulary. Everything takes a plain model or one that PEFT has wrapped.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn

from s0.core.gains import gains_with
from s0.core.releases import cache_name, cache_of
from s0.core.states import state_layers

_GAIN_SIZE = 0.2
"""The standard deviation of random gains."""


def fill(model: nn.Module, name: str = "default", seed: int = 1, size: float = 1.0) -> None:
    """Give the adapter `name` normal random states of standard deviation `size`, and gains, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    for layer in state_layers(model):
        if name in layer.s0_state:
            state = layer.s0_state[name].data
            state.copy_(size * torch.randn(state.shape, generator=generator))
    for norm in gains_with(model, name).values():
        gain = norm.s0_state_gain[name].data
        gain.copy_(_GAIN_SIZE * torch.randn(gain.shape, generator=generator))


def forward(model: nn.Module, ids: Tensor, mask: Tensor | None = None, cache: Any = None, **kwargs: Any) -> Any:
    """The model's output on `ids` (B, T), at the positions that `mask` (or the cache) implies.

    Args:
        model: a causal language model.
        ids: token ids.
        mask: (B, T so far) with 0 at pads, as the model takes it.
        cache: what an earlier call returned, see `cache_of`.
        kwargs: passed to the model.
    """
    if cache is not None:
        kwargs[name_of_cache(model)] = cache
    if not takes_positions(model):  # recurrent all through
        if mask is not None:
            mask = mask[:, -ids.shape[1] :]  # Mamba-1's models take that of the tokens they are given
    else:
        length = (0 if cache is None else cache.get_seq_length()) + ids.shape[1]
        positions = torch.arange(length, device=ids.device)[None]
        if mask is not None:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
        kwargs["position_ids"] = positions[:, -ids.shape[1] :].expand(ids.shape)
    return model(input_ids=ids, attention_mask=mask, **kwargs)


def name_of_cache(model: nn.Module) -> str:
    """What the model calls the cache it takes and returns."""
    return str(cache_name(_untouched(model).forward))


def takes_positions(model: nn.Module) -> bool:
    """Whether the model has a use for positions: not where it is recurrent all through."""
    return "position_ids" in inspect.signature(_untouched(model).forward).parameters


def _untouched(model: nn.Module) -> nn.Module:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def logits(model: nn.Module, ids: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """(B, T, V) logits without a cache."""
    output: Tensor = forward(model, ids, mask, use_cache=False, **kwargs).logits
    return output


def feed(
    model: nn.Module,
    ids: Tensor,
    sizes: Sequence[int],
    mask: Tensor | None = None,
    cache: Any = None,
    **kwargs: Any,
) -> Tensor:
    """(B, T, V) logits of `ids` fed in consecutive pieces of `sizes` tokens over one cache, an empty one."""
    parts, seen = [], 0
    for size in sizes:
        piece = slice(seen, seen + size)
        seen += size
        seen_mask = None if mask is None else mask[:, :seen]
        output = forward(model, ids[:, piece], seen_mask, cache, use_cache=True, **kwargs)
        cache = cache_of(output)
        parts.append(output.logits)
    return torch.cat(parts, dim=1)


def generate(model: Any, ids: Tensor, mask: Tensor | None = None, n_new: int = 5, **kwargs: Any) -> Tensor:
    """(B, n_new) the tokens generated after each row, greedily unless `kwargs` says otherwise."""
    mask = torch.ones_like(ids) if mask is None else mask
    pad_token = {"pad_token_id": model.generation_config.pad_token_id or 0}  # also where the model names none
    settings = {"max_new_tokens": n_new, "min_new_tokens": n_new, "do_sample": False, **pad_token, **kwargs}
    output: Tensor = model.generate(input_ids=ids, attention_mask=mask, **settings)
    return output[:, ids.shape[1] :]


def pad(rows: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows (1, T) of different length as one batch padded on `side`, and its mask."""
    longest = max(row.shape[1] for row in rows)
    gaps = [(longest - row.shape[1], 0) if side == "left" else (0, longest - row.shape[1]) for row in rows]
    ids = torch.cat([F.pad(row, gap) for row, gap in zip(rows, gaps, strict=True)])
    mask = torch.cat([F.pad(torch.ones_like(row), gap) for row, gap in zip(rows, gaps, strict=True)])
    return ids, mask


def loss(output: Tensor, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """() summed negative log-likelihood in nats of every token of `ids` that follows another one."""
    losses = F.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if mask is not None:
        losses = losses * (mask[:, 1:] * mask[:, :-1]).flatten()
    return losses.sum()


def gradients(model: nn.Module, value: Tensor, name: str = "default") -> Tensor:
    """Flat gradient of `value` with respect to all states called `name`, in layer order."""
    states = [layer.s0_state[name] for layer in state_layers(model) if name in layer.s0_state]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, states)])
