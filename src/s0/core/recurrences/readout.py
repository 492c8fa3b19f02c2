"""What the readouts of several recurrences have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def to_heads(groups: Tensor, n_heads: int) -> Tensor:
    """(..., H, X): each of the groups (..., G, X) serves H / G consecutive heads."""
    return groups.repeat_interleave(n_heads // groups.shape[-2], dim=-2)


def product(equation: str, reader: Tensor, offset: Tensor) -> Tensor:
    """The einsum of `equation`, without a copy of the offset for each row that shares it."""
    if offset.stride(0) == 0:
        offset, equation = offset[0], equation.replace(",b", ",")
    return torch.einsum(equation, reader, offset.to(reader.dtype))


def gated(output: Tensor, gate: Tensor | None) -> Tensor:
    """An output of a scan, times the silu of its gate where it has one."""
    return output if gate is None else output * F.silu(gate.float())
