"""What the loss of a training step adds to peak memory at the vocabulary of a large model.

    python benchmarks/loss_memory.py [--positions 4096] [--words 248320] [--out benchmarks/results/loss_memory.json]

A tiny model of Qwen3.5's kind with as many words as Qwen3.5 has, and one micro-batch of which every position predicts
something. Once all logits are made at once, once some positions at a time (`s0.train.token_losses`), each in a process
of its own: first a step whose loss is the sum of the last hidden states, which brings weights and buffers into memory,
then a step with the real one. Counted is how far above what is there before it the second one's peak lies: the loss and
the activations of two small layers. Linux alone tells that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s0.bench import environment
from s0.record import write_record
from s0.train import token_losses
from s0.train.data import Batch

WAYS = ("at once", "in parts")
MIB = 1 << 20


def model_of(n_words: int) -> Any:
    """Two layers, one of them recurrent, hidden size 128, in float32, frozen but for the last norm."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3_5_text", vocab_size=n_words, hidden_size=128, intermediate_size=128, num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"], num_attention_heads=2, num_key_value_heads=2, head_dim=64,
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=64, linear_value_head_dim=64,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    return model


def batch_of(n_positions: int, n_words: int) -> Batch:
    """Eight rows in which every token is predicted."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, n_words, (8, n_positions // 8 + 1), generator=generator)
    return Batch(tokens, torch.arange(tokens.shape[1] - 1), tokens[:, 1:], tuple(map(str, range(8))), torch.ones(8))


def measured(way: str, n_positions: int, n_words: int) -> dict[str, Any]:
    """Bytes that the loss adds to the peak, CPU seconds, and what came out; in this process."""
    if way == "at once":
        token_losses.MOST_LOGITS = sys.maxsize
    model, batch = model_of(n_words), batch_of(n_positions, n_words)
    model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state.float().sum().backward()
    model.zero_grad()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew, from what is there
    before, started = memory_bytes("VmHWM"), time.process_time()
    loss = batch.losses(model).mean()
    loss.backward()
    return {
        "added_bytes": memory_bytes("VmHWM") - before,
        "cpu_seconds": round(time.process_time() - started, 2),
        "loss": loss.item(),
        "gradient_norm": model.model.norm.weight.grad.float().norm().item(),
    }


def memory_bytes(what: str) -> int:
    """A line of what the kernel says of this process; `VmHWM` is the peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{what}:"))
    return int(kibibytes) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--words", type=int, default=248_320)
    parser.add_argument("--way", choices=WAYS, help="measure one way in this process")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.way:
        print(json.dumps(measured(chosen.way, chosen.positions, chosen.words)))
        return
    sizes = ["--positions", str(chosen.positions), "--words", str(chosen.words)]
    figures: dict[str, Any] = {}
    for way in WAYS:
        asked = [sys.executable, __file__, *sizes, "--way", way]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        figures[way] = json.loads(done.stdout.splitlines()[-1])
        print(way, f"{figures[way]['added_bytes'] / MIB:,.0f} MiB", figures[way], flush=True)
    record = {
        "benchmark": "loss_memory",
        "environment": environment(),
        "positions": chosen.positions,
        "words": chosen.words,
        "most_logits": token_losses.MOST_LOGITS,
        "figures": figures,
    }
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
