"""What `s0 inspect` says that a training step needs beside the weights, against what a process takes for it.

    python -m benchmarks.step_memory [--out benchmarks/results/step_memory.json]

Two models of 6 layers, of Qwen3.5's and of Falcon-H1's kind, and steps of a GiB and more, without and with gradient
checkpointing, each in a process of its own: first a small step, which brings weights and buffers into memory, then the
real one. Counted is how far above what is there before it the second one's peak lies. glibc's allocator is told to give
back what is freed (`MALLOC_MMAP_THRESHOLD_`), as a GPU's does; how much more it takes otherwise is recorded too. Linux
alone tells that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.loss_memory import MIB, memory_bytes
from s0.adapter.attach import attach, switch_to
from s0.bench import environment
from s0.core.states import state_layers
from s0.record import write_record
from s0.train.data import Batch
from s0.train.memory import step_memory
from s0.train.modes import frozen_except

WORDS, ROW = 32_000, 128
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": dict(
        layer_types=["linear_attention", "linear_attention", "full_attention"] * 2,
        linear_num_key_heads=8, linear_num_value_heads=16, linear_key_head_dim=64, linear_value_head_dim=64,
    ),
    "falcon_h1": dict(mamba_d_ssm=1024, mamba_n_heads=16, mamba_d_head=64, mamba_d_state=64, mamba_n_groups=1),
}  # fmt: skip
JOBS = [
    ("qwen3_5_text", 2048, False),
    ("qwen3_5_text", 8192, True),
    ("falcon_h1", 2048, False),
    ("falcon_h1", 8192, True),
]
"""Model, tokens of the micro-batch, and whether layers are computed again."""


def model_of(kind: str, device: str) -> Any:
    """Six layers of hidden size 512 in float32, with random weights."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=WORDS, hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, head_dim=64, tie_word_embeddings=True, **SHAPES[kind],
    )  # fmt: skip
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def batch_of(n_tokens: int) -> Batch:
    """Rows in which every token is predicted."""
    tokens = torch.randint(0, WORDS, (n_tokens // ROW, ROW), generator=torch.Generator().manual_seed(0))
    return Batch(
        tokens, torch.arange(ROW - 1), tokens[:, 1:], tuple(map(str, range(len(tokens)))), torch.ones(len(tokens))
    )


def expected(kind: str, n_tokens: int, gradient_checkpointing: bool) -> int:
    """Bytes that a step adds, as the estimate has them: no state is made or optimised here."""
    needed = step_memory(model_of(kind, "meta"), batch_tokens=n_tokens, gradient_checkpointing=gradient_checkpointing)
    return needed.activations + needed.logits


def measured(kind: str, n_tokens: int, gradient_checkpointing: bool) -> int:
    """Bytes that a step adds to the peak memory of this process."""
    tuned, name = attach(model_of(kind, "cpu"), None, {"alpha": 1.0})
    switch_to(tuned, name)
    states = [layer.s0_state[name] for layer in state_layers(tuned)]
    with frozen_except(tuned, states, recompute=gradient_checkpointing):
        torch.autograd.grad(batch_of(ROW).losses(tuned).mean(), states)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew, from what is there
        before = memory_bytes("VmHWM")
        torch.autograd.grad(batch_of(n_tokens).losses(tuned).mean(), states)
    return memory_bytes("VmHWM") - before


def measured_apart(job: tuple[str, int, bool], *, gives_back: bool = True) -> int:
    """The same in a process of its own, whose allocator gives back what is freed or keeps it."""
    asked = [sys.executable, "-m", "benchmarks.step_memory", "--job", json.dumps(job)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    if gives_back:
        settings["MALLOC_MMAP_THRESHOLD_"] = "65536"
    root = Path(__file__).parents[1]
    done = subprocess.run(asked, cwd=root, env=settings, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=json.loads, help="measure one in this process")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.job:
        print(measured(*chosen.job))
        return
    rows = []
    for job in JOBS:
        kind, n_tokens, gradient_checkpointing = job
        rows.append(
            {
                "kind": kind,
                "batch_tokens": n_tokens,
                "gradient_checkpointing": gradient_checkpointing,
                "expected_bytes": expected(*job),
                "measured_bytes": measured_apart(job),
                "measured_bytes_kept": measured_apart(job, gives_back=False),
            }
        )
        print({name: value // MIB if "bytes" in name else value for name, value in rows[-1].items()}, flush=True)
    if chosen.out:
        write_record(chosen.out, {"benchmark": "step_memory", "environment": environment(), "jobs": rows})


if __name__ == "__main__":
    main()
