"""The model of docs/add-a-family.md, which no release of transformers has: a Qwen3.5 with retention in it.

S_t = a_t S_{t-1} + k_t v_t^T, y_t = S_t^T q_t / sqrt(K), with a decay a_t in (0, 1) for each head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import zoo

WIDTH, HEADS, DIM, TAPS = 32, 4, 8, 4


def retention_scan(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The kernel, from any state: y (B, T, H, V) and the last state (B, H, K, V).

    q, k (B, T, H, K), v (B, T, H, V), decay (B, T, H).
    """
    batch, n_tokens, n_heads, key_dim = k.shape
    last = v.new_zeros(batch, n_heads, key_dim, v.shape[-1], dtype=torch.float32) if state is None else state.float()
    outputs = []
    for t in range(n_tokens):
        write = k[:, t, :, :, None].float() * v[:, t, :, None, :].float()
        last = decay[:, t, :, None, None].float() * last + write
        outputs.append((q[:, t, :, None, :].float() @ last).squeeze(-2) * key_dim**-0.5)
    return torch.stack(outputs, dim=1).to(v.dtype), last


class RetentionMixer(nn.Module):
    """What transformers' recurrent layers are: a short convolution and a recurrence, whose states the cache keeps."""

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx, self.n_heads, self.head_dim = layer_idx, HEADS, DIM
        self.mix = nn.Parameter(torch.randn(WIDTH, 1, TAPS) * 0.4)
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * DIM, bias=False)
        self.decay = nn.Linear(WIDTH, HEADS)
        self.out = nn.Linear(HEADS * DIM, WIDTH, bias=False)
        nn.init.constant_(self.decay.bias, 4.0)  # keeps 98% a token: a lost state shows at every position

    def forward(
        self, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        n_tokens, state = hidden_states.shape[1], None
        if attention_mask is not None and n_tokens > 1:
            hidden_states = hidden_states * attention_mask[:, -n_tokens:, None].to(hidden_states.dtype)
        x = hidden_states.transpose(1, 2)
        if cache_params is not None:
            state = cache_params.get_recurrent_state(self.layer_idx, state_idx=0)
            x = cache_params.update_conv_state(x, self.layer_idx, conv_kernel_size=TAPS)
        x = F.conv1d(F.pad(x, (TAPS - 1, 0)), self.mix, groups=WIDTH)[..., -n_tokens:].transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, DIM)).unbind(2)
        y, state = retention_scan(q, k, v, torch.sigmoid(self.decay(x)), state)
        if cache_params is not None:
            cache_params.update_recurrent_state(state, self.layer_idx)
        return self.out(y.flatten(2))


def make() -> nn.Module:
    """A tiny random model of model type "toy_retention", in eval mode, float32."""
    model: Any = zoo.make("qwen3_5")
    for layer in model.model.layers:
        if hasattr(layer, "linear_attn"):
            layer.linear_attn = RetentionMixer(layer.linear_attn.layer_idx)
    model.config.model_type = "toy_retention"
    return model.eval()
