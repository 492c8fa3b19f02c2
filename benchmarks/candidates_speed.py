"""Four candidates trained side by side against the same four one after the other, in CPU seconds of one thread.

    python benchmarks/candidates_speed.py [--pairs 8] [--out benchmarks/results/candidates_speed.json]

Two jobs, float32: the model and examples of training_speed.py, and pocket:gdn with the solutions of 80 of its training
problems. Side by side, micro-batches are a quarter as large and repeated four times, so that a forward holds as many
tokens; this is what `S0Trainer.train_auto` does. Both ways take turns, pair by pair, two steps each time; the ratio is
the geometric mean over pairs with its 95% t-interval on the log scale. Peak memory is what the process held at most
above what it held before, measured apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from ratios import ratio
from torch import nn
from training_speed import build_batches, build_model, cpu_seconds

from s0 import Example, S0AdapterConfig, load_model
from s0.bench import environment
from s0.core.states import BASE, state_layers
from s0.record import write_record
from s0.tasks import load as load_task
from s0.train import Batch, FitSettings, Learner, fit_together, prepare
from s0.train.scale import FixedScale, passing_states

LRS = (1e-3, 3e-3, 1e-2, 3e-2)
BATCH_TOKENS, STEPS, N_EXAMPLES = 1024, 2, 80


@dataclass(frozen=True)
class Job:
    """A model with its examples in large and in small micro-batches."""

    model: nn.Module
    large: Sequence[Batch]
    small: Sequence[Batch]

    def train(self, batches: Sequence[Batch], lrs: Sequence[float]) -> None:
        """Train one state per learning rate, side by side."""
        layers = state_layers(self.model)
        raw = [{layer: nn.Parameter(layer.effective(BASE)) for layer in layers} for _ in lrs]
        with passing_states(self.model, [(state, FixedScale(1.0)) for state in raw]) as names:
            learners = [
                Learner(name, list(state.values()), FitSettings(n_steps=STEPS, lr=lr))
                for name, state, lr in zip(names, raw, lrs, strict=True)
            ]
            fit_together(self.model, batches, learners, progress=False)

    def together(self) -> None:
        self.train(self.small, LRS)

    def one_by_one(self) -> None:
        for lr in LRS:
            self.train(self.large, [lr])


def random_model() -> Job:
    small = BATCH_TOKENS // len(LRS)
    return Job(get_peft_model(build_model(), S0AdapterConfig()), build_batches(BATCH_TOKENS), build_batches(small))


def pocket_model() -> Job:
    model, tokenizer = load_model("pocket:gdn", dtype=torch.float32)
    problems = load_task("pocket-code").split("train")[:N_EXAMPLES]
    examples = [Example(problem.prompt, problem.canonical_solution) for problem in problems]
    large, small = (
        prepare(examples, model, tokenizer, max_length=BATCH_TOKENS, batch_tokens=tokens).batches
        for tokens in (BATCH_TOKENS, BATCH_TOKENS // len(LRS))
    )
    return Job(get_peft_model(model, S0AdapterConfig()), large, small)


def peak_mib(work: Callable[[], None]) -> float:
    """The largest resident memory while `work` runs, less that before, in MiB. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure(job: Job, pairs: int) -> dict[str, Any]:
    ways = (job.together, job.one_by_one)
    for way in ways:  # warm up
        way()
    memory = {way.__name__: round(statistics.median(peak_mib(way) for _ in range(3))) for way in ways}
    seconds: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for i in range(pairs):
        for way in ways if i % 2 else ways[::-1]:
            seconds[way.__name__].append(cpu_seconds(way))
    return {
        "together_over_one_by_one": ratio(seconds["together"], seconds["one_by_one"]),
        "cpu_seconds_per_step": {name: statistics.median(taken) / STEPS for name, taken in seconds.items()},
        "peak_memory_mib": memory,
        "tokens_with_pads": {
            name: sum(batch.tokens.numel() for batch in batches)
            for name, batches in (("together", job.small), ("one_by_one", job.large))
        },
        "micro_batches": {"together": len(job.small), "one_by_one": len(job.large)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "benchmark": "candidates_speed",
        "environment": environment(),
        "candidates": len(LRS),
        "steps": STEPS,
        "batch_tokens": BATCH_TOKENS,
        "pairs": chosen.pairs,
    }
    for name, build in (("training_speed", random_model), ("pocket:gdn", pocket_model)):
        record[name] = measure(build(), chosen.pairs)
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
