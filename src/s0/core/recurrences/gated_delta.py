"""GatedDeltaNet and Kimi Delta Attention: the delta rule with a decay.

    S_t = (I - b_t k_t k_t^T) A_t S_{t-1} + b_t k_t v_t^T        y_t = S_t^T q_t / sqrt(K)        S: (K, V) a head

with q_t and k_t of unit length, and a decay A_t in (0, 1): one number for each head in GatedDeltaNet (Yang, Kautz and
Hatamizadeh 2024, arXiv 2412.06464), one for each of the K rows of S in Kimi Delta Attention (Kimi Team 2025, arXiv
2510.26692). The write strength b_t is in (0, 1), or in (0, 2) where the model allows negative eigenvalues, as
olmo_hybrid does.

Kernels: the whole sequence at once from any state, or one token. The decay comes as its logarithm `g`, (B, T, H) or
(B, T, H, K), the strength as `beta`, (B, T, H).

Pads: both are 0, so nothing decays and nothing is written.

Offset: y_t = (S_t + dS)^T q_t / sqrt(K).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s0.core.recurrences.base import Kernel, KernelRequest, OffsetRequest, Recurrence
from s0.core.recurrences.readout import product, to_heads

_GATES = ("g", "beta")
_CHUNKS, _STEPS = "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"
_KDA_CHUNKS, _KDA_STEPS = "chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"


def _rests_at_pads(request: KernelRequest, kernel: Kernel, *args: Any, **kwargs: Any) -> Any:
    shut = {gate: kwargs[gate].masked_fill(request.pads_of(kwargs[gate]), 0.0) for gate in _GATES}
    return kernel(*args, **{**kwargs, **shut})


def _readout(request: OffsetRequest, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """(B, T, H, V): what the offset (B, H, K, V) adds for q and k (B, T, G, K), v (B, T, H, V)."""
    reader = q.float()
    if kwargs.get("use_qk_l2norm_in_kernel"):
        reader = reader * (reader.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
    return product("bthk,bhkv->bthv", to_heads(reader, v.shape[2]) * q.shape[-1] ** -0.5, request.offset)


def _shape_of_gated_delta_net(mixer: Any) -> tuple[int, ...]:
    """(H, K, V)."""
    return mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim


def _shape_of_kda(mixer: Any) -> tuple[int, ...]:
    """(H, K, V)."""
    return mixer.num_heads, mixer.head_dim, mixer.head_dim


GATED_DELTA_NET = Recurrence(
    name="gated_delta_net",
    recognised_by=_CHUNKS,
    shape=_shape_of_gated_delta_net,
    axes="(value heads, key dim, value dim)",
    alpha=0.07,
    alpha_source="Young 2026, Qwen3.5",
    seams={_CHUNKS: _rests_at_pads},
    readouts={_CHUNKS: _readout, _STEPS: _readout},
)
KDA = Recurrence(
    name="kimi_delta_attention",
    recognised_by=_KDA_CHUNKS,
    shape=_shape_of_kda,
    axes="(heads, key dim, value dim)",
    alpha=0.07,
    alpha_source="none published; GatedDeltaNet's value",
    seams={_KDA_CHUNKS: _rests_at_pads},
    readouts={_KDA_CHUNKS: _readout, _KDA_STEPS: _readout},
)
