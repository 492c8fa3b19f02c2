"""What a step needs is told from a config alone, and is what a step takes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import step_memory as benchmark
from s0.errors import ConfigError, UnsupportedModelError
from s0.train.memory import StepMemory, _Tally, step_memory
from tests import zoo

UNKNOWN = {"glm5_next": "torch.nonzero", "qwen4_exp": "torch.nonzero"}
"""Families with an operation that wants to see data."""


def outline(family: str, dtype: torch.dtype = torch.bfloat16, **settings: Any) -> Any:
    with torch.device("meta"):
        return zoo.build(family, settings).to(dtype).eval()


def needed(model: nn.Module, batch_tokens: int = 256, gradient_checkpointing: bool = False) -> StepMemory:
    return step_memory(model, batch_tokens=batch_tokens, gradient_checkpointing=gradient_checkpointing)


@zoo.every_family
def test_it_is_known_of_every_family_but_those_that_want_to_see_data(family: str) -> None:
    if family in UNKNOWN:
        with pytest.raises(UnsupportedModelError, match=UNKNOWN[family]):
            needed(outline(family), 32)
        return
    found = needed(outline(family), 32)
    model = zoo.make(family, torch.bfloat16)
    assert found.weights == sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert found.activations > 32 * 32 * 2 and found.states > 0


def test_more_tokens_and_wider_numbers_take_more_and_computing_again_less() -> None:
    usual = needed(outline("qwen3_5"), 1024)
    assert 1.8 < needed(outline("qwen3_5"), 2048).activations / usual.activations < 2.1
    assert needed(outline("qwen3_5", torch.float32), 1024).weights == 2 * usual.weights
    rows = [
        step_memory(outline("qwen3_5"), batch_tokens=1024, gradient_checkpointing=False, row_tokens=n) for n in (8, 128)
    ]
    assert rows[0].activations > 2 * rows[1].activations and rows[1] == usual  # each is filled up, and has a state
    many_layers = dict(num_hidden_layers=8, layer_types=["linear_attention"] * 8)
    whole, again = (needed(outline("qwen3_5", **many_layers), 1024, again) for again in (False, True))
    assert again.activations < 0.4 * whole.activations


def test_the_largest_micro_batch_fits_and_one_more_token_does_not() -> None:
    memory = StepMemory(batch_tokens=1000, weights=500, states=60, activations=4000, logits=40)
    assert memory.total == 4600
    full = 4600 / 0.75  # a quarter is left to what is not known
    assert memory.most_tokens(math.ceil(full)) == 1000 and memory.most_tokens(math.ceil(2600 / 0.75)) == 500
    assert memory.most_tokens(math.floor(full)) == 999
    assert memory.most_tokens(600) == memory.most_tokens(100) == 0


@pytest.mark.parametrize("batch_tokens", [0, -1])
def test_no_tokens_are_refused(batch_tokens: int) -> None:
    with pytest.raises(ConfigError, match="expected batch_tokens >= 1"):
        needed(outline("qwen3_5"), batch_tokens)
    with pytest.raises(ConfigError, match="and row_tokens >= 1"):
        step_memory(outline("qwen3_5"), batch_tokens=8, row_tokens=batch_tokens, gradient_checkpointing=False)


def test_experts_in_float32_are_said_to_be_what_cannot_be_rehearsed() -> None:
    with pytest.raises(UnsupportedModelError, match="can be rehearsed in its dtype"):
        needed(outline("qwen3_5_moe", torch.float32), 32)


def test_what_is_let_go_is_counted_no_more() -> None:
    start = torch.zeros(1000, device="meta")
    with _Tally() as tally:
        kept = start + 1
        for _ in range(5):
            (start + 2).view(10, 100)  # a view is no memory of its own
        assert tally.most == 2 * 4000
        del kept
        (start + 3).double()
    assert tally.most == 4000 + 8000


def test_views_of_weights_are_no_memory_of_a_step() -> None:
    usual = needed(outline("qwen3_5", vocab_size=64), 64)
    wide = needed(outline("qwen3_5", vocab_size=64, intermediate_size=40_000), 64)
    more = 40_000 - zoo.build("qwen3_5", {}).config.intermediate_size
    assert wide.weights - usual.weights > 2 * 32 * more * 2
    assert wide.activations - usual.activations < 10 * 64 * more * 2 * 4  # what goes through these layers, not they

    weight = torch.zeros(1000, 10, device="meta")
    with _Tally([weight]) as tally:
        weight.t()
    assert tally.most == 0


def test_quantised_weights_are_not_told() -> None:
    model = outline("qwen3_5")
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(UnsupportedModelError, match="quantised"):
        needed(model)


@pytest.mark.slow
@pytest.mark.parametrize("job", [job for job in benchmark.JOBS if not job[2]], ids=lambda job: job[0])
def test_it_is_what_a_process_takes(job: tuple[str, int, bool]) -> None:
    measured = benchmark.measured_apart(job)
    assert measured > 1 << 30
    assert benchmark.expected(*job) == pytest.approx(measured, rel=0.3)
