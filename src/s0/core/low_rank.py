"""States of low rank: each head's matrix is the sum of a few products of a key and a value.

GatedDeltaNet and Mamba-2 write one such product, k v^T, for each token, so a state of rank r is of the form that r
tokens leave. It is looked for by projected gradient descent: whatever a step has made of a head's matrix, the nearest
of that rank takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s0.core.families import find_mixers, layer_index, recurrence_of
from s0.errors import ConfigError


def nearest_of_rank(matrices: Tensor, rank: int) -> Tensor:
    """Of all matrices of a rank, or a lower one, the nearest in Frobenius' norm, by truncated SVD.

    Args:
        matrices: (..., K, V), finite.
        rank: from 1 to min(K, V).

    Returns:
        (..., K, V): singular values beyond `rank` are zero, to the rounding of the dtype.

    Source: Eckart and Young 1936.
    """
    keys, sizes, values = torch.linalg.svd(matrices, full_matrices=False)
    nearest: Tensor = (keys[..., :rank] * sizes[..., None, :rank]) @ values[..., :rank, :]
    return nearest


def n_numbers(shape: Sequence[int], rank: int | None) -> int:
    """How many numbers a tensor is made of: all of them, or those of its heads' two factors where these are fewer.

    Args:
        shape: (H, K, V) of a state; a tensor without heads has no factors.
        rank: of each head's matrix; None for any.
    """
    if rank is None or len(shape) != 3:
        return math.prod(shape)
    heads, n_keys, n_values = shape
    return heads * min(rank * (n_keys + n_values), n_keys * n_values)


def require_rank(rank: int | None, model: nn.Module, layers: Sequence[int] | None = None) -> None:
    """Refuse a rank that the states of a model cannot be limited to.

    Args:
        rank: at least 1; None for any, which always can be.
        model: with or without states on it.
        layers: indices of those that are tuned; None for every recurrent layer.

    Raises:
        ConfigError: a state there is no matrix per head, or a smaller one.
        UnsupportedModelError: the model has no recurrent state to tune.
    """
    mixers = {} if rank is None else find_mixers(model)
    for mixer in mixers.values():
        if layers is not None and layer_index(mixer) not in layers:
            continue
        recurrence = recurrence_of(mixer)
        shape = recurrence.state_shape(mixer)
        state = f"{type(mixer).__name__}, whose state is {recurrence.axes} = {shape}"
        has_heads = len(shape) == 3
        if not has_heads:
            raise ConfigError(f"expected `state_rank=None` for {state}, no matrix per head, got {rank}; leave it out")
        largest = min(shape[1:])
        if rank is not None and rank > largest:
            raise ConfigError(f"expected `state_rank` of 1 to {largest} for {state}, got {rank}; take a smaller one")
