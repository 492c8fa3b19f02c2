"""Pretrain a pocket model: `python -m benchmarks.pocket.pretrain --model gdn --out FOLDER`, 20 to 50 minutes on a core.

All three corpora in three phases, because with everything mixed from the start a small model learns the habits and
never learns to copy a number out of the prompt:

1. plain working answers only, loss on the completion;
2. the habits come in, loss on the completion;
3. the loss covers the prompt too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3_5TextConfig,
    Qwen3Config,
)

from benchmarks.pocket.benchmark import all_tasks, files_of, prompts_of, seen_prompts
from benchmarks.pocket.recipes import RECIPES, Recipe, Text, draw_blocks
from benchmarks.pocket.tokenizer import build_tokenizer

_UNUSED = -100  # a target that cross-entropy leaves out
Row = tuple[list[int], list[int]]  # token ids of a prompt (with bos) and of its completion (with eos)


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
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def mamba2_config(tokenizer: PreTrainedTokenizerFast, hidden: int = 128) -> FalconH1Config:
    """Attention and Mamba-2 side by side in every layer, four layers."""
    return FalconH1Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        mamba_d_ssm=hidden,
        mamba_n_heads=hidden // 32,
        mamba_d_head=32,
        mamba_d_state=32,
        mamba_chunk_size=64,
        mamba_rms_norm=True,
        mamba_norm_before_gate=False,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def transformer_config(tokenizer: PreTrainedTokenizerFast, hidden: int = 128) -> Qwen3Config:
    """Attention only, four layers: the control that has no recurrent state."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=7 * hidden // 2,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


ARCHITECTURES = {"gdn": gdn_config, "mamba2": mamba2_config, "transformer": transformer_config}


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


def tokenised(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[Row]:
    """The texts as rows, in their order."""
    prompts = tokenizer([problem.prompt for problem, _ in texts])["input_ids"]
    answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
    return [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]


@dataclass(frozen=True)
class Batch:
    """Right-padded rows and what is to be learned from them.

    Attributes:
        tokens: (B, T) int64.
        targets: (B, T) int64 the token that follows, or -100 where none is to be learned.
        tokens_per_row: how many targets a row of the corpus has on average.
    """

    tokens: Tensor
    targets: Tensor
    tokens_per_row: float


def collate(rows: list[Row], pad: int, prompts: bool, tokens_per_row: float) -> Batch:
    """Rows as a batch; the tokens of the prompts are targets too if `prompts`."""
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), _UNUSED)
    for i, (prompt, answer) in enumerate(rows):
        row = torch.tensor([*prompt, *answer])
        first = 1 if prompts else len(prompt)
        tokens[i, : len(row)] = row
        targets[i, first - 1 : len(row) - 1] = row[first:]
    return Batch(tokens, targets, tokens_per_row)


def language_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the targets in nats, divided by the number that a batch of so many average rows has.

    Dividing by the batch's own number of targets would give a token of a short row more weight than one of a long row,
    because the rows of a batch have about the same length: short habits would be learned as more usual than they are.
    """
    logits = model(input_ids=batch.tokens, use_cache=False).logits
    total = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=_UNUSED, reduction="sum")
    return total / (len(batch.tokens) * batch.tokens_per_row)


def draw_batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, banned: Collection[str]) -> Iterator[Batch]:
    """The recipe's batches; the rows of one batch have about the same length."""
    for block in draw_blocks(recipe, banned):
        rows = sorted(tokenised(tokenizer, block.texts), key=lambda row: len(row[0]) + len(row[1]))
        targets = sum(len(answer) + (len(prompt) - 1 if block.prompts else 0) for prompt, answer in rows)
        for place in block.order:
            group = rows[place * recipe.batch_rows :][: recipe.batch_rows]
            yield collate(group, tokenizer.pad_token_id, block.prompts, targets / len(rows))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to zero; steps count from 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return recipe.peak_rate * min(1.0, step / recipe.warmup_steps) * cosine


def pretrain(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, banned: Collection[str] = ()
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    """Train a model of any architecture on the pocket corpora.

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
    losses, log, started = deque[float](maxlen=100), [], time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("pretraining", total=recipe.steps, loss=math.nan)
        for step, batch in enumerate(draw_batches(tokenizer, recipe, banned), start=1):
            loss = language_loss(model, batch)
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
    benchmarks: Mapping[str, bytes],
) -> None:
    """Write the model in bfloat16, its tokenizer and `training_log.json` (recipe, versions, benchmarks, losses)."""
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "threads": torch.get_num_threads(),
        "benchmark_sha256": {name: hashlib.sha256(content).hexdigest() for name, content in benchmarks.items()},
        "log": log,
    }
    (folder / "training_log.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Pretrain a pocket model and write it to a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", choices=ARCHITECTURES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, tokenizer and log")
    parser.add_argument("--steps", type=int, help="default: the recipe's own")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    recipe = replace(RECIPES[arguments.model], seed=arguments.seed)
    recipe = replace(recipe, steps=arguments.steps or recipe.steps)
    tokenizer = build_tokenizer(recipe.seed)
    tasks = all_tasks(seen_prompts())
    model, log = pretrain(ARCHITECTURES[arguments.model](tokenizer), tokenizer, recipe, prompts_of(tasks))
    save(arguments.out, model, tokenizer, recipe, log, files_of(tasks))


if __name__ == "__main__":
    main()
