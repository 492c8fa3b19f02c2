"""Mamba, a selective state space model with a decay for each entry of its state (Gu and Dao 2023, arXiv 2312.00752).

For one channel, with steps d_t = softplus(dt_t + bias) and a rate A < 0 for each entry of its state S (N),

    S_t = exp(d_t A) S_{t-1} + d_t x_t B_t        y_t = (S_t C_t + D x_t) silu(z_t)

Kernels: the whole sequence at once, always from zero, or one token from any state. The recurrence is linear in S, so a
run from S_0 is the kernel's run from zero plus what becomes of S_0 alone, worked out here beside it:

    exp((d_1 + ... + d_t) A) S_0                  and, read by C_t, times silu(z_t), its part of y_t

zamba calls its kernel once for each of its heads.

Pads: the step is 0, so nothing decays and nothing is written.

Offset: y_t has (S_t + dS) C_t in the place of S_t C_t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s0.core.recurrences.base import NO_STEP, Kernel, KernelRequest, OffsetRequest, Recurrence
from s0.core.recurrences.readout import gated, product

_BLOCK = 64  # tokens worked out at once: bounds the (B, D, T, N) intermediate
_SCAN, _STEP = "mamba_selective_scan", "mamba_selective_state_update"


def _from_state(request: KernelRequest, kernel: Kernel, x: Tensor, dt: Tensor, *args: Any, **kwargs: Any) -> Any:
    assert request.state is not None
    if request.padded is not None:
        steps = dt.transpose(1, 2)  # (B, T, D)
        dt = steps.masked_fill(request.pads_of(steps), NO_STEP).transpose(1, 2)
    return scan_from(_of_head(request.state, request.n_calls), kernel, x, dt, *args, **kwargs)


def scan_from(
    state: Tensor,
    scan: Callable[..., Any],
    x: Tensor,
    dt: Tensor,
    rate: Tensor,
    write: Tensor,
    reader: Tensor,
    **kwargs: Any,
) -> Any:
    """What `scan` would return if it started from `state`.

    Args:
        state: (B, D, N), D channels.
        scan: `mamba_selective_scan`, transformers' or mamba_ssm's.
        x, dt: (B, D, T).
        rate: (D, N), A in the equations.
        write, reader: (B, N, T), B and C in the equations.
        kwargs: the rest of what the mixer passes.

    Returns:
        (B, D, T) outputs; with `return_last_state` also the state after the last token, (B, D, N).
    """
    result = scan(x, dt, rate, write, reader, **kwargs)
    bias, z = kwargs.get("delta_bias"), kwargs.get("z")
    step = dt.float() if bias is None else dt.float() + bias.float()[:, None]
    step = F.softplus(step) if kwargs.get("delta_softplus") else step
    elapsed, rate = step.cumsum(-1), rate.float()
    added = gated(_part_of_start(state.float(), reader.float(), elapsed, rate), z)
    if not kwargs.get("return_last_state"):
        return result + added.to(result.dtype)
    output, last = result
    return output + added.to(output.dtype), last + torch.exp(elapsed[..., -1:] * rate) * state.float()


def _part_of_start(state: Tensor, reader: Tensor, elapsed: Tensor, rate: Tensor) -> Tensor:
    """(B, D, T): what tokens read of the start, C_t exp(elapsed_t A) S_0, a block of tokens at a time."""
    blocks = []
    for start in range(0, elapsed.shape[-1], _BLOCK):
        tokens = slice(start, start + _BLOCK)
        decay = torch.exp(elapsed[..., tokens, None] * rate[:, None])  # (B, D, block, N)
        blocks.append(torch.einsum("bnt,bdtn,bdn->bdt", reader[..., tokens], decay, state))
    return torch.cat(blocks, dim=-1)


def _shape(mixer: Any) -> tuple[int, ...]:
    """(D, N), D channels; of Zamba's, which run a kernel for each of H heads, (H, P, N)."""
    if hasattr(mixer, "n_mamba_heads"):
        return mixer.n_mamba_heads, mixer.mamba_head_dim, mixer.ssm_state_size
    return mixer.intermediate_size, mixer.ssm_state_size


def _of_head(state: Tensor, head: int) -> Tensor:
    """(B, D, N): the part of a state, or an offset, that the kernel's next call is about.

    Args:
        state: (B, D, N); or (B, H, P, N) of a mixer that calls its kernel once for each head, in their order.
        head: the head, which is the number of calls before this one.
    """
    return state if state.ndim == 3 else state[:, head]


def _read_by_scan(
    request: OffsetRequest, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """(B, D, T): what the offset adds for c (B, N, T)."""
    return gated(product("bnt,bdn->bdt", c.float(), _of_head(request.offset, request.n_calls)), kwargs.get("z"))


def _read_by_step(
    request: OffsetRequest,
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """(B, D): the same for one token, c (B, N)."""
    return gated(product("bn,bdn->bd", c.float(), _of_head(request.offset, request.n_calls)), kwargs.get("z"))


MAMBA1 = Recurrence(
    name="mamba1",
    recognised_by=_SCAN,
    shape=_shape,
    axes="([heads,] channels, state dim)",
    alpha=0.65,
    alpha_source="none published; Mamba-2's value",
    kernel_takes_state=False,
    seams={_SCAN: _from_state},
    readouts={_SCAN: _read_by_scan, _STEP: _read_by_step},
)
