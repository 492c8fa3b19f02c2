"""One training step against one forward pass of the untouched model, in CPU seconds of one thread.

    python benchmarks/training_speed.py [--repeats 7] [--out benchmarks/results/training_speed.json]

The job is the one on which the published package was measured (8.1 CPU seconds a step, 5.4 forward passes): 8 layers, 6
of them GatedDeltaNet, hidden size 128, key and value dim 64, 2 key and 4 value heads, float32, 48 examples of about 200
tokens. The forward pass runs over the same right-padded batches and computes all logits.

`profile` says where the time of both goes, by kinds of operators. A step cannot take two forward passes: a product with
a frozen weight has one gradient, as long as itself, but in the recurrence both factors of a product depend on what is
trained, and it has two. `bfloat16_autocast` compares a step in which products are made in bfloat16, turn by turn;
`compiled` compares one that `torch.compile` has translated, on batches of one shape, and tells the CPU seconds it took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # of what an earlier run has compiled
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch
from peft import get_peft_model
from ratios import ratio
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from s0 import S0AdapterConfig
from s0.bench import environment
from s0.core.states import state_layers
from s0.record import write_record
from s0.train import Batch, FitSettings, Splits, batches, fit
from s0.train.data import TokenizedExample
from s0.train.modes import frozen_except

LAYERS = ["linear_attention"] * 3 + ["full_attention"]
VOCABULARY, PAD = 1024, 0


def build_model() -> Qwen3_5ForCausalLM:
    """The benchmark's model with random weights."""
    torch.manual_seed(0)
    config = Qwen3_5TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        layer_types=LAYERS * 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        pad_token_id=PAD,
    )
    return Qwen3_5ForCausalLM(config).eval()


def build_batches(max_tokens: int) -> list[Batch]:
    """48 examples of 180 to 220 tokens, two thirds of them prompt."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for i in range(48):
        length = 180 + int(torch.randint(41, (), generator=generator))
        tokens = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        rows.append(TokenizedExample(tokens, 2 * length // 3, f"example {i}"))
    return batches(rows, pad_token=PAD, max_tokens=max_tokens)


def cpu_seconds(work) -> float:
    """CPU time of the whole process, all threads, while `work` runs."""
    start = time.process_time()
    work()
    return time.process_time() - start


KINDS = {
    "products with weights": ("aten::mm", "aten::addmm", "aten::mkldnn_convolution", "aten::convolution_backward"),
    "products in recurrences and attention": ("aten::bmm", "aten::_scaled_dot_product"),
    "triangular solves in recurrences": ("aten::linalg_solve_triangular",),
    "copies and fills": ("aten::copy_", "aten::fill_", "aten::cat", "aten::zero_"),
}
"""Operators by how their names begin; all others are elementwise, sums and bookkeeping."""


def milliseconds_by_kind(work: Callable[[], object]) -> dict[str, float]:
    """CPU time of the operators themselves while `work` runs."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    spent = {**dict.fromkeys(KINDS, 0.0), "all else": 0.0}
    for event in profiled.key_averages():
        kinds = [kind for kind, starts in KINDS.items() if event.key.startswith(starts)]
        spent[kinds[0] if kinds else "all else"] += event.self_cpu_time_total / 1000
    return spent


class Step:
    """The gradient of a step on a model with new states, as training computes it."""

    def __init__(self, model: Qwen3_5ForCausalLM, data: list[Batch]) -> None:
        self.tuned, self.data = get_peft_model(model, S0AdapterConfig()), data
        self.states = [layer.s0_state["default"] for layer in state_layers(self.tuned)]

    def gradient(self) -> list[Tensor]:
        """Of every micro-batch and layer."""
        with frozen_except(self.tuned, self.states, recompute=False):
            losses = (batch.losses(self.tuned).sum() for batch in self.data)
            return [gradient for loss in losses for gradient in torch.autograd.grad(loss, self.states)]

    def gradient_in_bfloat16(self) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return self.gradient()


@torch.no_grad()
def forward(model: nn.Module, data: list[Batch]) -> None:
    """One pass over all batches, with all logits."""
    for batch in data:
        model(input_ids=batch.tokens, use_cache=False)


def against_forward(data: list[Batch], repeats: int) -> dict[str, Any]:
    """A step of `fit`, the update included, in forward passes of the untouched model, turn by turn."""
    model = build_model()
    forward(model, data)
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tuned = get_peft_model(model, S0AdapterConfig())
    states = [layer.s0_state["default"] for layer in state_layers(tuned)]

    def steps(n: int) -> None:
        fit(tuned, Splits(data), states, FitSettings(n_steps=n))

    steps(1)
    pairs = []
    for _ in range(repeats):
        # A call also measures the loss twice at the end; the difference of two calls is exactly three steps.
        with tuned.disable_adapter():
            floor = cpu_seconds(lambda: forward(tuned, data))
        pairs.append((floor, (cpu_seconds(lambda: steps(4)) - cpu_seconds(lambda: steps(1))) / 3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ratios = sorted(step / floor for floor, step in pairs)
    return {
        "state_parameters": sum(state.numel() for state in states),
        "forward_cpu_seconds": statistics.median(floor for floor, _ in pairs),
        "step_cpu_seconds": statistics.median(step for _, step in pairs),
        "step_over_forward": {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]},
        "peak_memory_over_forward_mib": round((peak - peak_before) / 1024),
        "repeats": repeats,
    }


def profile_of_both(data: list[Batch]) -> dict[str, Any]:
    """By kind of operator, its share of the forward pass, and how much longer it takes in a step."""
    untouched, step = build_model(), Step(build_model(), data)
    forward(untouched, data)
    step.gradient()
    of_forward = milliseconds_by_kind(lambda: forward(untouched, data))
    of_step = milliseconds_by_kind(step.gradient)
    whole = sum(of_forward.values())
    return {
        kind: {"share_of_forward": spent / whole, "step_over_forward": of_step[kind] / spent}
        for kind, spent in of_forward.items()
    }


def compared(plain: Step, others: Callable[[], list[Tensor]], repeats: int) -> dict[str, Any]:
    """How long it takes, as a share of the plain step in pairs, and how far its gradients are from it."""
    errors = [float((b - a).norm() / a.norm()) for a, b in zip(plain.gradient(), others(), strict=True)]
    pairs = [(cpu_seconds(others), cpu_seconds(plain.gradient)) for _ in range(repeats)]
    return {"to_plain": ratio(*zip(*pairs, strict=True)), "largest_relative_error": max(errors), "pairs": repeats}


def compiled(data: list[Batch], repeats: int) -> dict[str, Any]:
    """The same of a model whose body is compiled, on the batches of the most frequent shape."""
    most = max((batch.tokens.shape for batch in data), key=[batch.tokens.shape for batch in data].count)
    of_one_shape = [batch for batch in data if batch.tokens.shape == most]
    plain, other = Step(build_model(), of_one_shape), Step(build_model(), of_one_shape)
    other.tuned.get_base_model().model.compile(dynamic=False)
    before = os.times()
    other.gradient()
    after = os.times()
    seconds = sum(after[:4]) - sum(before[:4])  # of the compiler's processes, too
    return {"compiling_cpu_seconds": seconds, **compared(plain, other.gradient, repeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--compiled", action="store_true", help="also compile the model, which takes minutes")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = build_batches(chosen.batch_tokens)
    n_tokens = sum(batch.n_tokens for batch in data)
    against = against_forward(data, chosen.repeats)
    step = Step(build_model(), data)
    record = {
        "benchmark": "training_speed",
        "environment": environment(),
        "batches": [list(batch.tokens.shape) for batch in data],
        "tokens": n_tokens,
        "padding": sum(int((batch.tokens == PAD).sum()) for batch in data) / n_tokens,
        **against,
        "profile": profile_of_both(data),
        "bfloat16_autocast": compared(step, step.gradient_in_bfloat16, chosen.repeats),
    }
    if chosen.compiled:
        record["compiled"] = compiled(data, chosen.repeats)
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
