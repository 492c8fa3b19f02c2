"""Mamba-2, a selective state space model with one decay a head (Dao and Gu 2024, arXiv 2405.21060).

    S_t = exp(d_t A) S_{t-1} + d_t x_t B_t^T        y_t = S_t C_t + D x_t        S: (P, N) a head

with a step d_t = softplus(dt_t + bias), clamped, and a rate A < 0; B_t and C_t are shared by the heads of a group.

Kernels: the whole sequence at once from any state, or one token; some apply a gate, y_t silu(z_t), themselves.

Pads: the step is 0, so nothing decays and nothing is written.

Offset: y_t has (S_t + dS) C_t in the place of S_t C_t, before the gate where the kernel applies it.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from s0.core.recurrences.base import NO_STEP, Kernel, KernelRequest, OffsetRequest, Recurrence
from s0.core.recurrences.readout import gated, product, to_heads

_SCAN, _STEP = "mamba2_chunk_scan", "mamba2_selective_state_update"


def _rests_at_pads(request: KernelRequest, kernel: Kernel, x: Tensor, dt: Tensor, *args: Any, **kwargs: Any) -> Any:
    pads = request.pads_of(dt)  # (B, T, H)
    low, high = kwargs.get("dt_limit", (0.0, float("inf")))
    if low <= 0:
        return kernel(x, dt.masked_fill(pads, NO_STEP), *args, **kwargs)
    # Families with a lower limit (nemotron_h and zamba2, time_step_min) clamp the step after softplus, so no input to
    # softplus gives a step of 0: do both here, as the kernel would, and let pads have exactly 0.
    bias = kwargs.pop("dt_bias", None)
    dt = dt if bias is None else dt + bias.to(dt.dtype)
    dt = F.softplus(dt) if kwargs.pop("dt_softplus", False) else dt
    dt = dt.clamp(low, high).masked_fill(pads, 0.0)
    return kernel(x, dt, *args, **{**kwargs, "dt_limit": (0.0, float("inf"))})


def _read_by_scan(
    request: OffsetRequest, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """(B, T, H, P): what the offset (B, H, P, N) adds for x (B, T, H, P), c (B, T, G, N)."""
    return gated(product("bthn,bhpn->bthp", to_heads(c.float(), x.shape[2]), request.offset), kwargs.get("z"))


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
    """(B, H, P): the same for one token, x (B, H, P), c (B, G, N)."""
    return gated(product("bhn,bhpn->bhp", to_heads(c.float(), x.shape[1]), request.offset), kwargs.get("z"))


def _shape(mixer: Any) -> tuple[int, ...]:
    """(H, P, N)."""
    return mixer.num_heads, mixer.head_dim, mixer.ssm_state_size


MAMBA2 = Recurrence(
    name="mamba2",
    recognised_by=_SCAN,
    shape=_shape,
    axes="(heads, head dim, state dim)",
    alpha=0.65,
    alpha_source="Young 2026, Falcon-H1",
    seams={_SCAN: _rests_at_pads},
    readouts={_SCAN: _read_by_scan, _STEP: _read_by_step},
)
