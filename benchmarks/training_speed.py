"""One training step against one forward pass of the untouched model, in CPU seconds of one thread.

    python benchmarks/training_speed.py [--repeats 7] [--out benchmarks/results/training_speed.json]

The job is the one on which the published package was measured (8.1 CPU seconds a step, 5.4 forward passes): 8 layers, 6
of them GatedDeltaNet, hidden size 128, key and value dim 64, 2 key and 4 value heads, float32, 48 examples of about 200
tokens. The forward pass runs over the same right-padded batches and computes all logits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from peft import get_peft_model
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from s0 import S0AdapterConfig
from s0.bench import environment
from s0.core.states import state_layers
from s0.record import write_record
from s0.train import Batch, FitSettings, Splits, batches, fit
from s0.train.data import TokenizedExample

LAYERS = ["linear_attention"] * 3 + ["full_attention"]
VOCABULARY = 1024


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
        pad_token_id=0,
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
    return batches(rows, pad_token=0, max_tokens=max_tokens)


def cpu_seconds(work) -> float:
    """CPU time of the whole process, all threads, while `work` runs."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model, data = build_model(), build_batches(chosen.batch_tokens)

    @torch.no_grad()
    def forward() -> None:
        for batch in data:
            model(input_ids=batch.tokens, use_cache=False)

    forward()
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forwards = [cpu_seconds(forward) for _ in range(2)]
    tuned = get_peft_model(model, S0AdapterConfig())
    states = [layer.s0_state["default"] for layer in state_layers(tuned)]

    def steps(n: int) -> None:
        fit(tuned, Splits(data), states, FitSettings(n_steps=n))

    steps(1)
    pairs = []
    for _ in range(chosen.repeats):
        # A call also measures the loss twice at the end; the difference of two calls is exactly three steps.
        with tuned.disable_adapter():
            floor = cpu_seconds(forward)
        pairs.append((floor, (cpu_seconds(lambda: steps(4)) - cpu_seconds(lambda: steps(1))) / 3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ratios = sorted(step / floor for floor, step in pairs)
    record = {
        "benchmark": "training_speed",
        "environment": environment(),
        "batches": [list(batch.tokens.shape) for batch in data],
        "tokens": sum(batch.tokens.numel() for batch in data),
        "state_parameters": sum(state.numel() for state in states),
        "forward_cpu_seconds": statistics.median(floor for floor, _ in pairs),
        "step_cpu_seconds": statistics.median(step for _, step in pairs),
        "step_over_forward": {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]},
        "peak_memory_over_forward_mib": round((peak - peak_before) / 1024),
        "repeats": chosen.repeats,
        "warm_up_forward_cpu_seconds": forwards,
    }
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
