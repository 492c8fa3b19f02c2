"""No cry of wolf: models shrunk from published settings, with the random weights that transformers gives them.

Their states die out fast and hardly reach the logits: most checks say nothing of them, and none may fail.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from s0.verify import CHECKS, Result, advice, verify
from tests import zoo
from tests.installed import AT_THE_NEWEST

QUICK = [check for check in CHECKS if check.name != "compile"]  # tracing takes as long as all the rest
_HEADS: dict[str, Any] = dict(hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1)
_GRANITE: dict[str, Any] = dict(
    **_HEADS,
    **dict(num_hidden_layers=4, layer_types=["mamba", "mamba", "attention", "mamba"], position_embedding_type=None),
    **dict(mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=8, mamba_expand=2, mamba_chunk_size=8),
    **dict(embedding_multiplier=12, logits_scaling=8, residual_multiplier=0.22, attention_multiplier=0.0078125),
    shared_intermediate_size=32,
)

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3.5": (
        "qwen3_5_text",
        {
            **zoo.GDN,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "layer_types": 3 * ["linear_attention"] + ["full_attention"],
        },
    ),
    "Qwen3-Next": (
        "qwen3_next",
        {
            **zoo.GDN,
            "intermediate_size": 48,
            "layer_types": 3 * ["linear_attention"] + ["full_attention"],
            **dict(num_hidden_layers=4, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True),
            **dict(moe_intermediate_size=16, shared_expert_intermediate_size=16, partial_rotary_factor=0.25),
        },
    ),
    "OLMo-hybrid": (
        "olmo_hybrid",
        {
            **_HEADS,
            **dict(num_key_value_heads=2, linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=12),
            **dict(linear_value_head_dim=24, linear_allow_neg_eigval=True, num_hidden_layers=4),
            "layer_types": 3 * ["linear_attention"] + ["full_attention"],
        },
    ),
    "Falcon-H1": (
        "falcon_h1",
        {
            **_HEADS,
            **dict(num_hidden_layers=2, mamba_d_ssm=48, mamba_n_heads=3, mamba_d_head=16, mamba_n_groups=1),
            **dict(mamba_d_state=8, mamba_chunk_size=8, mamba_rms_norm=False, ssm_in_multiplier=1.25),
            **dict(ssm_multipliers=[0.35, 0.25, 0.35, 0.5, 0.35], ssm_out_multiplier=0.24, key_multiplier=0.39),
            **dict(embedding_multiplier=5.66, lm_head_multiplier=0.039, mlp_multipliers=[0.88, 0.59]),
        },
    ),
    "Granite 4 H, dense": ("granitemoehybrid", {**_GRANITE, "num_local_experts": 0, "num_experts_per_tok": 0}),
    "Granite 4 H, mixture": ("granitemoehybrid", {**_GRANITE, "num_local_experts": 8, "num_experts_per_tok": 2}),
    "Nemotron 3": (
        "nemotron_h",
        {
            **_HEADS,
            **dict(layers_block_type=["mamba", "moe", "mamba", "attention", "moe"], head_dim=16, ssm_state_size=8),
            **dict(mamba_num_heads=4, mamba_head_dim=16, n_groups=2, conv_kernel=4, chunk_size=8, n_routed_experts=8),
            **dict(num_experts_per_tok=2, moe_intermediate_size=16, moe_shared_expert_intermediate_size=16),
            **dict(n_shared_experts=1, routed_scaling_factor=2.5, time_step_min=0.001, time_step_max=0.1),
        },
    ),
    "Zamba2": (
        "zamba2",
        {
            **_HEADS,
            **dict(
                num_key_value_heads=2, num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"]
            ),
            **dict(mamba_d_state=8, mamba_ngroups=1, n_mamba_heads=4, chunk_size=8, num_mem_blocks=2, adapter_rank=8),
            **dict(use_shared_attention_adapter=False, use_mem_rope=True),
        },
    ),
}


def make(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    kind, settings = PUBLISHED[name]
    config = AutoConfig.for_model(kind, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=None, **settings)
    return AutoModelForCausalLM.from_config(config).eval()


def statuses(results: list[Result], status: str) -> dict[str, str]:
    return {result.name: f"{result.error} {result.note}" for result in results if result.status == status}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED if AT_THE_NEWEST else ["Qwen3.5", "Falcon-H1"])
def test_nothing_fails_on_shrunk_published_models(name: str) -> None:
    results = verify(make(name, seed=0), checks=QUICK)
    assert statuses(results, "fails") == {}


def named(*names: str) -> Any:
    return [check for check in CHECKS if check.name in names]


def test_a_change_that_drowns_in_rounding_says_nothing() -> None:
    for name, check, seeds in (("Qwen3.5", "bfloat16", (0, 2)), ("Falcon-H1", "slope", (0, 1, 2))):
        for seed in seeds:
            (result,) = verify(make(name, seed), checks=named(check))
            assert result.status in ("says nothing", "holds"), (name, seed, result)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_a_border_of_the_router_is_not_a_wrong_slope(seed: int) -> None:
    # At the largest step of the finite differences, seeds 3 and 4 cross one.
    (result,) = verify(zoo.make("qwen3_next", seed=seed), checks=named("slope"))
    assert result.status == "holds", result


@pytest.mark.slow
def test_a_clamp_of_the_untouched_model_is_its_own() -> None:
    # transformers bounds Mamba-2's step in prefill and not in decoding (5.23, 5.24).
    results = verify(zoo.make("mamba2", time_step_limit=(0.0, 0.1)), checks=QUICK)
    assert statuses(results, "fails") == {}
    assert {"decode", "offset", "rows, generating", "left-padded decode"} <= set(statuses(results, "stock too"))
    assert "token, then chunk" in statuses(results, "holds")  # a first token alone is clamped as it is among others


def result(status: str) -> Result:
    return Result("a check", "what it compares", status)


def test_where_many_checks_say_nothing_there_is_advice() -> None:
    assert advice([result("says nothing")] * 3 + [result("holds")] * 6) is None
    told = advice([result("says nothing")] * 4 + [result("holds")] * 6)
    assert told is not None and "4 of 10 checks say nothing" in told and "verify the trained ones" in told
