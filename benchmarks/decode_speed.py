"""Tokens per CPU second of the continuous batcher, beside `model.generate` in padded batches and one by one.

    python benchmarks/decode_speed.py [--repeats 3] [--out benchmarks/results/decode_speed.json]

200 prompts of the pocket task, answered greedily up to its stop texts by the untouched pocket models in float32 on one
thread. Padded batches: 64 prompts of similar length, padded on the left, each batch until its last row has ended. The
three ways take turns, one by one with a part of the prompts per repeat; each repeat gives two ratios, and the record
holds their medians and extremes. Loading the model is not counted, and a short run of each way comes first.

`differing` counts completions that are not, token for token, those of one by one: in float32 the number of rows changes
how sums are rounded, and where two tokens are close enough another one is chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from training_speed import cpu_seconds

from s0 import load_model, tasks
from s0.bench import environment
from s0.decode import Batcher, Request
from s0.models import encode_prompt, end_tokens
from s0.record import write_record

MODELS = ("pocket:gdn", "pocket:mamba2")
PROMPTS, ROWS = 200, 64


class Job:
    """The prompts, and one model to answer them: `ways` take prompts and give the tokens written after each."""

    def __init__(self, name: str) -> None:
        self.model, self.tokenizer = load_model(name)
        task = tasks.load("pocket-code")
        self.stop, self.max_new_tokens = tuple(task.stop), task.max_new_tokens
        self.prompts = [encode_prompt(self.tokenizer, problem.prompt) for problem in task.problems[:PROMPTS]]
        self.ends = end_tokens(self.model, self.tokenizer)

    def batcher(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        batcher = Batcher(self.model, self.tokenizer, ROWS)
        asked = [batcher.submit(Request(tuple(row), self.max_new_tokens, stop=self.stop)) for row in prompts]
        written: dict[int, list[int]] = {request: [] for request in asked}
        while batcher.unfinished:
            for event in batcher.step():
                written[event.request].append(event.token)
        return [written[request] for request in asked]

    def padded(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        written: dict[int, list[int]] = {}
        for start in range(0, len(order), ROWS):
            group = order[start : start + ROWS]
            written |= dict(zip(group, self._generate([prompts[i] for i in group]), strict=True))
        return [written[i] for i in range(len(prompts))]

    def one_by_one(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        return [self._generate([row])[0] for row in prompts]

    def _generate(self, rows: Sequence[list[int]]) -> list[list[int]]:
        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        output = self.model.generate(
            input_ids=torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            eos_token_id=self.ends,
            pad_token_id=pad,  # no model writes it, so what is left without it was written
            stop_strings=list(self.stop),
            tokenizer=self.tokenizer,
        )
        return [[token for token in row if token != pad] for row in output[:, longest:].tolist()]


def measure(name: str, repeats: int) -> dict[str, Any]:
    job = Job(name)
    ways = {"batcher": job.batcher, "padded": job.padded, "one_by_one": job.one_by_one}
    for run in ways.values():
        run(job.prompts[:8])
    written: dict[str, dict[int, list[int]]] = {way: {} for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(repeats):
        for way in [*list(ways)[i % 3 :], *list(ways)[: i % 3]]:
            # One by one is slow and steady: a part of the prompts per repeat is enough.
            asked = range(i, PROMPTS, repeats) if way == "one_by_one" else range(PROMPTS)
            answers: list[list[int]] = []

            def work(way: str = way, asked: range = asked, answers: list[list[int]] = answers) -> None:
                answers += ways[way]([job.prompts[j] for j in asked])

            seconds = cpu_seconds(work)
            rates[way].append(sum(map(len, answers)) / seconds)
            written[way] |= dict(zip(asked, answers, strict=True))
    alone = written.pop("one_by_one")
    record: dict[str, Any] = {
        "prompt_tokens": [min(map(len, job.prompts)), max(map(len, job.prompts))],
        "written_tokens": sum(map(len, alone.values())),
        "tokens_per_cpu_second": {way: round(statistics.median(values), 1) for way, values in rates.items()},
        "differing": {way: sum(rows[j] != alone[j] for j in alone) for way, rows in written.items()},
    }
    for other in ("padded", "one_by_one"):
        ratios = [ours / theirs for ours, theirs in zip(rates["batcher"], rates[other], strict=True)]
        summary = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        record[f"batcher_to_{other}"] = {key: round(value, 2) for key, value in summary.items()}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"benchmark": "decode_speed", "environment": environment(), "repeats": chosen.repeats}
    record |= {"prompts": PROMPTS, "rows": ROWS, "models": {name: measure(name, chosen.repeats) for name in MODELS}}
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
