"""Does a tuned state cost anything? Prefill and decode, tuned : untouched, beside gains, an offset, an unmerged LoRA.

    python benchmarks/inference_speed.py [--pairs 40] [--out benchmarks/results/inference_speed.json]

Same model as in training_speed.py, float32, one thread, CPU seconds of the process. Untouched and adapted model take
turns, pair by pair; the ratio is the geometric mean over pairs with its 95% t-interval on the log scale. Prefill: 4
prompts of 192 tokens into an empty cache, where the state enters. Decode: 64 single steps from there, where it costs
nothing but a look at the cache. The offset is the kind that every step reads, in prefill and decode alike, with as
many numbers as the state. Gains: a state with gains of all norms, for the whole model, and chosen by each row, half
of the rows another one than the other half. LoRA: rank 24 on q, k, v and o of the attention layers, not merged.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from ratios import ratio
from torch import Tensor
from training_speed import VOCABULARY, build_model, cpu_seconds
from transformers import DynamicCache

from s0 import S0AdapterConfig
from s0.bench import environment
from s0.record import write_record
from s0.verify.running import fill, name_of_cache

BATCH, PROMPT, STEPS = 4, 192, 64


class Job:
    """Prefill and decode of one model, whose rows choose adapters where they are named."""

    def __init__(self, model: torch.nn.Module, **names: list[str]) -> None:
        self.model = partial(model, **names)
        self.config = model.config
        self.cache_name = name_of_cache(model)
        self.tokens: Tensor = torch.randint(1, VOCABULARY, (BATCH, PROMPT), generator=torch.Generator().manual_seed(2))

    @torch.no_grad()
    def prefill(self) -> DynamicCache:
        cache = DynamicCache(config=self.config)
        self.model(input_ids=self.tokens, use_cache=True, **{self.cache_name: cache}, logits_to_keep=1)
        return cache

    @torch.no_grad()
    def decode(self, cache: DynamicCache) -> None:
        for _ in range(STEPS):
            self.model(input_ids=self.tokens[:, :1], use_cache=True, **{self.cache_name: cache})


def measure(adapted: Job, untouched: Job, pairs: int, phase: str) -> dict[str, float]:
    seconds: dict[Job, list[float]] = {adapted: [], untouched: []}
    for i in range(pairs + 2):  # two pairs to warm up
        for job in (adapted, untouched) if i % 2 else (untouched, adapted):
            cache = job.prefill()
            work: Callable[[], object] = job.prefill if phase == "prefill" else lambda: job.decode(cache)  # noqa: B023
            seconds[job].append(cpu_seconds(work))
    return {**ratio(seconds[adapted][2:], seconds[untouched][2:]), "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    untouched = build_model()
    tuned = {}
    settings = {"s0": {}, "s0_gains": {"gains": True}, "offset": {"kind": "offset"}}
    for name, setting in settings.items():
        tuned[name] = get_peft_model(copy.deepcopy(untouched), S0AdapterConfig(**setting)).eval()
        fill(tuned[name], size=0.1)
    by_rows = copy.deepcopy(tuned["s0_gains"])
    by_rows.add_adapter("other", S0AdapterConfig(gains=True))
    fill(by_rows, "other", seed=2, size=0.1)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lora = get_peft_model(copy.deepcopy(untouched), LoraConfig(r=24, lora_alpha=48, target_modules=targets)).eval()
    base = Job(untouched)
    record = {"benchmark": "inference_speed", "environment": environment()}
    adapted = {**tuned, "lora_r24_unmerged": lora, "untouched_again": copy.deepcopy(untouched)}
    jobs = {name: Job(model) for name, model in adapted.items()}
    jobs["s0_gains_by_rows"] = Job(by_rows, adapter_names=BATCH // 2 * ["default", "other"])
    for name, job in jobs.items():
        record[name] = {phase: measure(job, base, chosen.pairs, phase) for phase in ("prefill", "decode")}
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
