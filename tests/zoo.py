"""A tiny random model of every family, with decays so slow that a lost or doubled state shows at every position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from tests.breadth import mostly_slow

VOCAB = 64
_COMMON: dict[str, Any] = dict(vocab_size=VOCAB, pad_token_id=0, bos_token_id=1, eos_token_id=None)
_LAYERS = ["linear_attention", "full_attention", "linear_attention"]
GDN: dict[str, Any] = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    linear_key_head_dim=8,
    linear_value_head_dim=16,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_conv_kernel_dim=4,
    layer_types=_LAYERS,
)
_MOE: dict[str, Any] = dict(
    moe_intermediate_size=32, shared_expert_intermediate_size=32, num_experts=4, num_experts_per_tok=2
)
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
_MAMBA2: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=2,
    num_key_value_heads=1,
    mamba_n_heads=4,
    mamba_d_head=16,
    mamba_n_groups=2,
    mamba_d_state=8,
    mamba_d_conv=4,
    mamba_expand=2,
    mamba_chunk_size=8,
)
_KDA: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=48,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    kv_lora_rank=8,
    num_experts_per_tok=2,
    layer_types=_LAYERS,
    mlp_layer_types=["dense", "sparse", "sparse"],
)

# name -> (transformers model type, its settings)
TUNABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", {**GDN, "intermediate_size": 48, "rope_parameters": _ROPE}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**GDN, **_MOE, "rope_parameters": _ROPE}),
    "qwen3_next": ("qwen3_next", {**GDN, **_MOE, "intermediate_size": 48}),
    "qwen4_exp": (
        "qwen4_exp_text",
        {
            **GDN,
            **_MOE,
            "rope_parameters": _ROPE,
            "hc_count": 2,
            "hc_lowrank": 8,
            "ple_layer_ids": [],
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 64,
            "indexer_compress_ratio": 4,
        },
    ),
    "olmo_hybrid": (
        "olmo_hybrid",
        dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=16,
            layer_types=_LAYERS,
            linear_a_log_min=0.01,
        ),
    ),
    "lara_mini": (
        "lara_mini",
        {
            **GDN,
            **_MOE,
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "sliding_attention", "linear_attention", "full_attention"],
            "sliding_window": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
    "kimi_linear": (
        "kimi_linear",
        {
            **_KDA,
            **dict(num_attention_heads=2, num_key_value_heads=2, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=16),
            **dict(num_local_experts=4, linear_head_dim=8, linear_num_heads=4),
        },
    ),
    "bailing_hybrid": (
        "bailing_hybrid",
        {
            **_KDA,
            **dict(num_attention_heads=4, num_key_value_heads=4, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8),
            **dict(n_group=1, topk_group=1, num_experts_per_tok=2, num_local_experts=4, head_dim=8, num_mtp_layers=0),
        },
    ),
    "falcon_h1": (
        "falcon_h1",
        {**_MAMBA2, "num_hidden_layers": 2, "mamba_d_ssm": 64, "mamba_rms_norm": True},
    ),
    "falcon_h1_gated": (
        "falcon_h1",
        {**_MAMBA2, "num_hidden_layers": 2, "mamba_d_ssm": 64, "mamba_rms_norm": False},
    ),
    "bamba": (
        "bamba",
        {
            **_MAMBA2,
            "num_hidden_layers": 3,
            "attn_layer_indices": [1],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_MAMBA2,
            "num_hidden_layers": 3,
            "layer_types": ["mamba", "attention", "mamba"],
            "num_local_experts": 4,
            "shared_intermediate_size": 32,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        dict(
            hidden_size=32,
            intermediate_size=48,
            layers_block_type=["mamba", "attention", "mlp", "mamba"],
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            ssm_state_size=8,
            mamba_num_heads=4,
            mamba_head_dim=16,
            n_groups=2,
            conv_kernel=4,
            chunk_size=8,
        ),
    ),
    "zamba2": (
        "zamba2",
        dict(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            layers_block_type=["mamba", "hybrid", "mamba"],
            mamba_d_state=8,
            mamba_ngroups=2,
            n_mamba_heads=4,
            chunk_size=8,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_mem_blocks=1,
            adapter_rank=8,
        ),
    ),
    "mamba2": (
        "mamba2",
        dict(hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=4, head_dim=16, n_groups=2, expand=2)
        | dict(chunk_size=8),
    ),
    "mamba": ("mamba", dict(hidden_size=32, num_hidden_layers=2, state_size=8, expand=2)),
    "falcon_mamba": ("falcon_mamba", dict(hidden_size=32, num_hidden_layers=2, state_size=8, expand=2)),
    "jamba": (
        "jamba",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)
        | dict(mamba_d_state=8, attn_layer_period=3, attn_layer_offset=1, num_experts=2, num_experts_per_tok=1),
    ),
    "zamba": (
        "zamba",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2)
        | dict(n_mamba_heads=4, mamba_d_state=8, layers_block_type=2 * ["linear_attention", "hybrid"]),
    ),
    "minimax": (
        "minimax",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)
        | dict(num_local_experts=2, num_experts_per_tok=1, block_size=4, layer_types=_LAYERS),
    ),
}

WIDE = {
    "qwen3_5_wide": (
        "qwen3_5_text",
        {
            **GDN,
            **dict(hidden_size=64, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4),
            **dict(rope_parameters=_ROPE, linear_num_value_heads=32, linear_value_head_dim=2),
        },
    )
}
"""Every linear layer takes multiples of 64 numbers and gives multiples of 32, as bitsandbytes packs 4-bit weights."""

_GLM5 = {
    **_KDA,
    **dict(num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, q_lora_rank=8, qk_rope_head_dim=0),
    **dict(v_head_dim=16, qk_nope_head_dim=16, linear_head_dim=8, linear_num_heads=4, hc_mult=2, index_topk=64),
    **dict(index_head_dim=8, index_n_heads=2),
}
FAMILIES = [*(name for name, (kind, _) in TUNABLE.items() if kind in CONFIG_MAPPING), "glm5_next"]
"""Those that the installed transformers has."""
ONE_PER_RECURRENCE = ("qwen3_5", "kimi_linear", "falcon_h1", "mamba", "minimax")
every_family = pytest.mark.parametrize("family", mostly_slow(FAMILIES, ONE_PER_RECURRENCE))
_BOUNDED_GATES = ("bailing_hybrid", "glm5_next")

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": (
        "llama",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2),
    ),
    "zaya": (
        "zaya",
        dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
        | dict(moe_intermediate_size=32, num_experts=2, num_experts_per_tok=1, router_hidden_size=16),
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, lru_width=32)
        | dict(attention_window_size=32),
    ),
    "lfm2": (
        "lfm2",
        dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
        | dict(layer_types=["conv", "full_attention"]),
    ),
}


_VISION = dict(
    hidden_size=16,
    intermediate_size=16,
    depth=1,
    num_heads=2,
    patch_size=4,
    spatial_merge_size=1,
    temporal_patch_size=1,
    out_hidden_size=32,
    num_position_embeddings=16,
)
WITH_VISION = ["qwen3_5", "qwen3_5_moe", "qwen4_exp"]
"""Families that also come as one model with a vision tower: `make("qwen3_5+vision")`. (glm5_next always does.)"""


def make(name: str, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any) -> nn.Module:
    """A tiny model of family `name` in eval mode, the same for the same seed; `settings` change its (text) config.

    `name` may end in "+vision" for the model with a vision tower around it, or in "+bare" for the one without a head.
    """
    torch.manual_seed(seed)
    model = build(name, settings)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # Decay rates of about 0.08 per unit of step and steps of about 0.13: the state keeps 99% per token. Bounded
            # gates compute -5 sigmoid(rate * (x + dt_bias)), where these values keep 97%.
            if "A_log" in key:
                weight.fill_(0.0 if name in _BOUNDED_GATES else -2.5)
            elif "dt_bias" in key or key.endswith(("dt_proj_bias", "dt_proj.bias")):
                weight.fill_(-5.0 if name in _BOUNDED_GATES else -2.0)
            elif weight.ndim >= 2:
                gain = 2.0 if "x_proj" in key else 0.6  # what Mamba-1 reads its state with is not normalised
                scale = 0.4 if "conv" in key else gain / weight.shape[-1] ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    if dtype == torch.float64:  # the grouped expert kernels know no float64
        for module in model.modules():
            for config in (
                getattr(module, "config", None),
                getattr(getattr(module, "config", None), "text_config", None),
            ):
                if config is not None:
                    config._experts_implementation = "eager"
    return model.to(dtype).eval()


def build(name: str, changed: dict[str, Any]) -> nn.Module:
    """The same with whatever weights its classes start from; they are those of `torch.device`."""
    if name == "glm5_next":
        from transformers import Glm5NextConfig, Glm5NextForConditionalGeneration

        text = AutoConfig.for_model("glm5_next_text", **{**_COMMON, **_GLM5, **changed}).to_dict()
        vision = dict(depth=1, hidden_size=16, num_heads=2, image_size=28, patch_size=14, out_hidden_size=32)
        tokens = ["image", "video", "image_start", "image_end", "video_start", "video_end"]
        ids = {f"{token}_token_id": VOCAB - 7 + i for i, token in enumerate(tokens)}
        return Glm5NextForConditionalGeneration(
            Glm5NextConfig(text_config=text, vision_config={**vision, "intermediate_size": 16}, **ids)
        )
    name, _, form = name.partition("+")
    model_type, settings = {**TUNABLE, **REFUSED, **WIDE}[name]
    settings = {**_COMMON, **settings, **changed}
    if form == "vision":
        special = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        ids = {token: VOCAB - 1 - i for i, token in enumerate(special)}
        text = {**settings, "model_type": model_type}
        return AutoModelForImageTextToText.from_config(
            AutoConfig.for_model(name, text_config=text, vision_config=dict(_VISION), **ids)
        )
    loader = AutoModel if form == "bare" else AutoModelForCausalLM
    return loader.from_config(AutoConfig.for_model(model_type, **settings))
