"""Which modules of a model are its RMSNorms (Zhang and Sennrich 2019, arXiv 1910.07467), whose gains can be learned.

An RMSNorm divides a token's numbers by their root mean square and multiplies each by a learned weight, or by 1 + weight
(Qwen3.5): either way by a *gain*. Some multiply by a gate as well (`RMSNormGated`). They stand before and behind the
mixers, in their heads, and behind the last layer.
"""

from __future__ import annotations

from torch import nn

from s0.core.families import is_beside_decoder, plain_name
from s0.errors import UnsupportedModelError


def find_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Every RMSNorm with a weight that text goes through, by its name in the untouched model, in the model's order.

    Raises:
        UnsupportedModelError: the model has none.
    """
    norms = norms_of(model)
    if not norms:
        raise UnsupportedModelError(
            f"expected a model with RMSNorms, whose gains can be learned, got {type(model).__name__}, which has none; "
            "learn a state, or use LoRA instead"
        )
    return norms


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """The same, and none where the model has none."""
    norms: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        # PEFT's copies, to be tuned; and what an indexer chooses keys by, through which no gradient comes.
        is_left_out = ".ln_tuning_layers." in name or ".indexer." in name or is_beside_decoder(name)
        if _is_rms_norm(module) and not is_left_out:
            norms[plain_name(name)] = module
    return norms


def _is_rms_norm(module: nn.Module) -> bool:
    """Whether it has a weight for each number of a token, and nothing else, and is called so; kernels' classes are."""
    weights = dict(module.named_parameters(recurse=False))
    is_leaf = next(module.children(), None) is None
    return is_leaf and [*weights] == ["weight"] and weights["weight"].ndim == 1 and "RMSNorm" in type(module).__name__
