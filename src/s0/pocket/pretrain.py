"""Pretrain a pocket model: `python -m s0.pocket.pretrain --out FOLDER` (about 20 minutes on two free cores).

Three phases, because with everything mixed from the start a small model learns the habits and never learns to copy a
number out of the prompt:

1. working bodies only, loss on the completion;
2. the habits come in, loss on the completion;
3. the loss covers the prompt too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3_5TextConfig,
)

from s0.pocket.benchmark import BENCHMARK_FILE, banned_prompts, normalised
from s0.pocket.corpus import draw_problem
from s0.pocket.habits import draw_answer
from s0.pocket.tokenizer import build_tokenizer

_BATCHES_AT_ONCE = 32  # rows are drawn and sorted by length this many batches at a time
Row = tuple[list[int], list[int]]  # token ids of a prompt (with bos) and of its completion (with eos)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        batch_rows: rows per step.
        peak_rate: AdamW learning rate after the warm-up; it falls to zero on a cosine.
        warmup_steps: steps of linear warm-up.
        habits_from, prompts_from: share of the steps after which phase 2 and phase 3 begin.
        seed: draws the rows and the first weights.
    """

    steps: int = 2400
    batch_rows: int = 32
    peak_rate: float = 3e-3
    warmup_steps: int = 100
    habits_from: float = 0.5
    prompts_from: float = 0.85
    seed: int = 0


def gdn_config(tokenizer: PreTrainedTokenizerFast, hidden: int = 128) -> Qwen3_5TextConfig:
    """GatedDeltaNet and attention in turn, four layers."""
    return Qwen3_5TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=4,
        layer_types=["linear_attention", "full_attention"] * 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_conv_kernel_dim=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def remember_for_long(model: nn.Module) -> None:
    """Give every recurrent layer decays near 1.

    The library's default step (softplus of about 1, times a rate of up to 16) forgets the state within a few tokens,
    the initial state included. A step drawn log-uniformly from 0.001-0.1, as for Mamba, keeps it for a prompt.
    """
    for module in model.modules():
        if isinstance(bias := getattr(module, "dt_bias", None), nn.Parameter):
            step = torch.exp(torch.empty_like(bias).uniform_(math.log(0.001), math.log(0.1)))
            with torch.no_grad():
                bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus


def make_rows(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, count: int, habits: bool, banned: Collection[str]
) -> list[Row]:
    """`count` tokenised rows; problems whose normalised prompt is in `banned` are drawn again."""
    texts: list[tuple[str, str]] = []
    while len(texts) < count:
        problem = draw_problem(rng)
        if normalised(problem.prompt) not in banned:
            texts.append((problem.prompt, draw_answer(problem, rng) if habits else problem.body))
    prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
    return [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]


def collate(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
    """Right-padded tokens (B, T) int64 and how many of each row are prompt (B,) int64."""
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    padded = [[*p, *a, *[pad] * (length - len(p) - len(a))] for p, a in rows]
    return torch.tensor(padded), torch.tensor([len(prompt) for prompt, _ in rows])


def language_loss(model: nn.Module, tokens: Tensor, prompt_lengths: Tensor, pad: int, prompts: bool) -> Tensor:
    """Mean cross-entropy in nats per token, of the completions only or of the prompts too.

    Args:
        tokens: (B, T) int64, right-padded.
        prompt_lengths: (B,) int64.
        prompts: whether prompt tokens count.
    """
    targets = tokens[:, 1:].clone()
    unused = targets == pad
    if not prompts:
        unused |= torch.arange(1, tokens.shape[1]) < prompt_lengths[:, None]
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.masked_fill(unused, -100).flatten())


def draw_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, banned: Collection[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The recipe's batches, collated; the rows of one batch have about the same length."""
    rng = random.Random(recipe.seed)
    for start in range(0, recipe.steps, _BATCHES_AT_ONCE):
        habits = start >= recipe.habits_from * recipe.steps
        rows = make_rows(tokenizer, rng, _BATCHES_AT_ONCE * recipe.batch_rows, habits, banned)
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        batches = [rows[i : i + recipe.batch_rows] for i in range(0, len(rows), recipe.batch_rows)]
        rng.shuffle(batches)
        for batch in batches[: recipe.steps - start]:
            yield collate(batch, tokenizer.pad_token_id)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to zero; steps count from 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return recipe.peak_rate * min(1.0, step / recipe.warmup_steps) * cosine


def pretrain(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, banned: Collection[str] = ()
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    """Train a model of any architecture on the pocket corpus.

    Args:
        config: what to build; every text config of transformers with a causal LM works.
        tokenizer: from `build_tokenizer`, or a loaded one.
        recipe: steps, rates, seed.
        banned: normalised prompts that must not be trained on.

    Returns:
        The model in float32, and the log: step, loss (nats per token, mean of the last 100 steps), seconds.
    """
    torch.manual_seed(recipe.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    remember_for_long(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.peak_rate, weight_decay=0.01, betas=(0.9, 0.98))
    pad, losses, log, started = tokenizer.pad_token_id, deque[float](maxlen=100), [], time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("pretraining", total=recipe.steps, loss=math.nan)
        for step, (tokens, lengths) in enumerate(draw_batches(tokenizer, recipe, banned), start=1):
            loss = language_loss(model, tokens, lengths, pad, prompts=step > recipe.prompts_from * recipe.steps)
            losses.append(_update(model, optimizer, loss, learning_rate(recipe, step)))
            mean = sum(losses) / len(losses)
            if step % 100 == 0 or step == recipe.steps:
                log.append({"step": step, "loss": round(mean, 4), "seconds": round(time.monotonic() - started, 1)})
            progress.update(bar, advance=1, loss=mean)
    return model, log


def _update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    """One optimiser step with gradients clipped to norm 1; returns the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward unannotated
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def save(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    log: list[dict[str, float]],
) -> None:
    """Write the model in bfloat16, its tokenizer and `training_log.json` (recipe, versions, benchmark hash, losses)."""
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
        "benchmark_sha256": hashlib.sha256(BENCHMARK_FILE.read_bytes()).hexdigest(),
        "log": log,
    }
    (folder / "training_log.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Pretrain `pocket:gdn` and write it to a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, tokenizer and log")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps, seed=arguments.seed)
    tokenizer = build_tokenizer(recipe.seed)
    model, log = pretrain(gdn_config(tokenizer), tokenizer, recipe, banned_prompts())
    save(arguments.out, model, tokenizer, recipe, log)


if __name__ == "__main__":
    main()
