"""The few steps every test of the core takes: tune a tiny model, run it, compare with a model that was not lost on."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.core.releases import cache_of
from s0.core.states import StateLayer, state_layers
from s0.verify.running import feed, fill, forward, generate, gradients, logits, loss, name_of_cache, pad
from tests import zoo

__all__ = [
    "FORGETFUL", "PURE_MAMBA", "TOLERANCE", "assert_gradient_is_the_slope", "assert_same", "assert_same_as_single",
    "assert_same_gradient", "cache_of", "feed", "fill", "forward", "generate", "gradients", "holds_no_state",
    "logits", "loss", "name_of_cache", "pad", "shared", "tokens", "tuned",
]  # fmt: skip

TOLERANCE = 1e-4
"""For float32 logits of size 1; measured errors stay below 2e-5."""

PURE_MAMBA = ("mamba", "falcon_mamba", "mamba2")
"""Models without attention: they take no positions, and call their cache something else."""

FORGETFUL = ("mamba", "falcon_mamba", "jamba", "zamba", "minimax")
"""Families that, untouched, go wrong where several tokens continue a cache: faults of transformers 5.23."""


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    """(rows, length) token ids, none of them a pad or one of the special ids at the vocabulary's end."""
    return torch.randint(2, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


def tuned(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 1, **settings: Any) -> PeftModel:
    """A fresh tiny model of `family` with a random state on every recurrent layer."""
    model = get_peft_model(zoo.make(family, dtype), S0AdapterConfig(**settings))
    fill(model, seed=seed)
    return model


@cache
def shared(family: str) -> PeftModel:
    """`tuned(family)`, built once; for tests that only run it."""
    return tuned(family)


def assert_same(got: Tensor, want: Tensor, stock: Tensor, tolerance: float = TOLERANCE) -> None:
    """`got` equals `want`, and this says something: the untouched model's `stock` is far away at every position."""
    distance = (want - stock).abs().amax(-1).min().item()
    assert distance > 100 * tolerance, f"the state has died out ({distance:.2g}), so equality would prove nothing"
    torch.testing.assert_close(got, want, atol=tolerance, rtol=0)


def assert_same_as_single(batch: Tensor, mask: Tensor, model: PeftModel, rows: list[Tensor]) -> None:
    """The padded rows' logits `batch` (B, T, V) are those of each of `rows` (1, T) by itself."""
    for i, row in enumerate(rows):
        with model.disable_adapter():
            stock = logits(model, row)
        assert_same(batch[i, mask[i].bool()][None], logits(model, row), stock)


def assert_same_gradient(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Equal up to `tolerance` of the largest entry, and not just zero."""
    size = want.abs().max().item()
    assert size > 1e-3
    torch.testing.assert_close(got, want, atol=tolerance * size, rtol=0)


def assert_gradient_is_the_slope(model: PeftModel) -> None:
    """The gradient of a float64 model's loss is that of finite differences; the states move by a small step."""
    ids, layers = tokens(2, 7), state_layers(model)
    slope = gradients(model, loss(logits(model, ids), ids))
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(5))
    direction += slope.float().sign()  # so that the slope along it is large
    pieces = direction.split([layer.s0_state["default"].numel() for layer in layers])
    step, values = 2.0**-10, []
    with torch.no_grad():
        for sign in (1, -2):  # to +step, then to -step
            for layer, piece in zip(layers, pieces, strict=True):
                layer.s0_state["default"] += sign * step * piece.view(layer.state_shape)
            values.append(loss(logits(model, ids), ids).item())
    measured, expected = (values[0] - values[1]) / (2 * step), torch.dot(slope.double(), direction.double()).item()
    assert abs(measured) > 0.1
    assert abs(measured - expected) < 1e-3 * abs(expected)


def holds_no_state(model: nn.Module) -> bool:
    """Whether nothing of this library is left in `model`."""
    return not any(isinstance(module, StateLayer) for module in model.modules())
