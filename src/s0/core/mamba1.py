"""Mamba-1 from a state: its kernel starts every scan at zero, so what the state adds is worked out beside it.

For one channel, with steps d_t = softplus(dt_t + bias) and a rate A < 0 for each entry of its state S (N),

    S_t = exp(d_t A) S_{t-1} + d_t x_t B_t        y_t = (S_t C_t + D x_t) silu(z_t)

is linear in S. So a run from S_0 is the kernel's run from zero plus what becomes of S_0 alone:

    exp((d_1 + ... + d_t) A) S_0                  and, read by C_t, times silu(z_t), its part of y_t
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 64  # tokens worked out at once: bounds the (B, D, T, N) intermediate


def scan_from(
    state: Tensor,
    scan: Callable[..., Any],
    x: Tensor,
    dt: Tensor,
    rate: Tensor,
    write: Tensor,
    read: Tensor,
    **kwargs: Any,
) -> Any:
    """What `scan` would return if it started from `state`.

    Args:
        state: (B, D, N), D channels.
        scan: `mamba_selective_scan`, transformers' or mamba_ssm's.
        x, dt: (B, D, T).
        rate: (D, N), A in the equations.
        write, read: (B, N, T), B and C in the equations.
        kwargs: the rest of what the mixer passes.

    Returns:
        (B, D, T) outputs; with `return_last_state` also the state after the last token, (B, D, N).
    """
    result = scan(x, dt, rate, write, read, **kwargs)
    bias, z = kwargs.get("delta_bias"), kwargs.get("z")
    step = dt.float() if bias is None else dt.float() + bias.float()[:, None]
    step = F.softplus(step) if kwargs.get("delta_softplus") else step
    elapsed, rate = step.cumsum(-1), rate.float()
    added = torch.cat(
        [
            torch.einsum(
                "bnt,bdtn,bdn->bdt",
                read[..., block].float(),
                torch.exp(elapsed[..., block, None] * rate[:, None]),
                state.float(),
            )
            for block in (slice(start, start + _BLOCK) for start in range(0, x.shape[-1], _BLOCK))
        ],
        dim=-1,
    )
    added = gated(added, z)
    if not kwargs.get("return_last_state"):
        return result + added.to(result.dtype)
    output, last = result
    return output + added.to(output.dtype), last + torch.exp(elapsed[..., -1:] * rate) * state.float()


def of_call(state: Tensor, n_calls: int) -> Tensor:
    """(B, D, N): what the kernel call after `n_calls` others starts from, or reads.

    Args:
        state: (B, D, N); or (B, H, P, N) of a mixer that calls its kernel once for each head.
        n_calls: those before it, for the same tokens.
    """
    return state if state.ndim == 3 else state[:, n_calls]


def gated(output: Tensor, gate: Tensor | None) -> Tensor:
    """An output of the scan, times the silu of its gate where it has one."""
    return output if gate is None else output * F.silu(gate.float())
