"""The few steps every test of the core takes: tune a tiny model, run it, compare with a model that was not lost on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.core.states import StateLayer, state_layers
from tests import zoo

TOLERANCE = 1e-4
"""For float32 logits of size 1; measured errors stay below 2e-5."""


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """(rows, length) token ids, none of them a pad or one of the special ids at the vocabulary's end."""
    return torch.randint(2, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


def fill(model: nn.Module, name: str = "default", seed: int = 1) -> None:
    """Give adapter `name` random states, so large that they show at every position."""
    generator = torch.Generator().manual_seed(seed)
    for layer in state_layers(model):
        if name in layer.s0_state:
            state = layer.s0_state[name].data
            state.copy_(torch.randn(state.shape, generator=generator))


def tuned(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 1, **settings: Any) -> PeftModel:
    """A fresh tiny model of `family` with a random state on every recurrent layer."""
    model = get_peft_model(zoo.make(family, dtype), S0AdapterConfig(**settings))
    fill(model, seed=seed)
    return model


@cache
def shared(family: str) -> PeftModel:
    """`tuned(family)`, built once; for tests that only run it."""
    return tuned(family)


def forward(model: nn.Module, ids: Tensor, mask: Tensor | None = None, cache: Any = None, **kwargs: Any) -> Any:
    """The model's output on `ids`, at the positions that `mask` (or the cache) implies."""
    if model.config.model_type == "mamba2":
        if cache is not None:
            kwargs["cache_params"] = cache
    else:
        seen = 0 if cache is None else cache.get_seq_length()
        length = seen + ids.shape[1]
        positions = torch.arange(length)[None] if mask is None else (mask.cumsum(-1) - 1).clamp(min=0)
        kwargs["position_ids"] = positions[:, -ids.shape[1] :].expand(ids.shape)
        kwargs["past_key_values"] = cache
    return model(input_ids=ids, attention_mask=mask, **kwargs)


def logits(model: nn.Module, ids: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """(B, T, vocabulary) logits without a cache."""
    return forward(model, ids, mask, use_cache=False, **kwargs).logits


def cache_of(output: Any) -> Any:
    """The cache a model returned."""
    return output.cache_params if "cache_params" in output else output.past_key_values


def feed(model: nn.Module, ids: Tensor, sizes: Sequence[int], mask: Tensor | None = None, cache: Any = None) -> Tensor:
    """Logits of `ids` fed in consecutive pieces over one cache, an empty one."""
    parts, seen = [], 0
    for size in sizes:
        piece = slice(seen, seen + size)
        seen += size
        output = forward(model, ids[:, piece], None if mask is None else mask[:, :seen], cache, use_cache=True)
        cache = cache_of(output)
        parts.append(output.logits)
    return torch.cat(parts, dim=1)


def generate(model: nn.Module, ids: Tensor, mask: Tensor | None = None, n_new: int = 5, **kwargs: Any) -> Tensor:
    """The `n_new` tokens generated after each row, greedily unless `kwargs` says otherwise."""
    mask = torch.ones_like(ids) if mask is None else mask
    settings = {"max_new_tokens": n_new, "min_new_tokens": n_new, "do_sample": False, **kwargs}
    return model.generate(input_ids=ids, attention_mask=mask, **settings)[:, ids.shape[1] :]


def pad(rows: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows (1, T) of different length as one batch, and its mask."""
    longest = max(row.shape[1] for row in rows)
    gaps = [(longest - row.shape[1], 0) if side == "left" else (0, longest - row.shape[1]) for row in rows]
    ids = torch.cat([F.pad(row, gap) for row, gap in zip(rows, gaps, strict=True)])
    mask = torch.cat([F.pad(torch.ones_like(row), gap) for row, gap in zip(rows, gaps, strict=True)])
    return ids, mask


def loss(output: Tensor, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Summed negative log-likelihood of every token that follows another one."""
    losses = F.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if mask is not None:
        losses = losses * (mask[:, 1:] * mask[:, :-1]).flatten()
    return losses.sum()


def gradients(model: nn.Module, value: Tensor, name: str = "default") -> Tensor:
    """Flat gradient of `value` with respect to all states called `name`."""
    states = [layer.s0_state[name] for layer in state_layers(model) if name in layer.s0_state]
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, states)])


def assert_same(got: Tensor, want: Tensor, stock: Tensor, tolerance: float = TOLERANCE) -> None:
    """`got` equals `want`, and this says something: the untouched model's `stock` is far away at every position."""
    distance = (want - stock).abs().amax(-1).min().item()
    assert distance > 100 * tolerance, f"the state has died out ({distance:.2g}), so equality would prove nothing"
    torch.testing.assert_close(got, want, atol=tolerance, rtol=0)


def assert_same_gradient(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to `tolerance` of the largest entry, and not just zero."""
    size = want.abs().max().item()
    assert size > 1e-3
    torch.testing.assert_close(got, want, atol=tolerance * size, rtol=0)


def holds_no_state(model: nn.Module) -> bool:
    """Whether nothing of this library is left in `model`."""
    return not any(isinstance(module, StateLayer) for module in model.modules())
