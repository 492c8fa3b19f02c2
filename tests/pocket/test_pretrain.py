"""Pretraining on a tiny model: three steps already lower the loss, for any architecture, always the same way."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedConfig, PreTrainedTokenizerFast

from s0.pocket.benchmark import banned_prompts, normalised
from s0.pocket.pretrain import (
    Recipe,
    collate,
    draw_batches,
    gdn_config,
    language_loss,
    learning_rate,
    make_rows,
    pretrain,
    remember_for_long,
    save,
)
from s0.pocket.tokenizer import build_tokenizer

SHORT = Recipe(steps=3, batch_rows=16, peak_rate=1e-2, warmup_steps=1, habits_from=0.5, prompts_from=0.85)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(seed=0, rows=500)


def _transformer_config(tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


@pytest.mark.parametrize("architecture", ["gdn", "transformer"])
def test_three_steps_lower_the_loss(tokenizer: PreTrainedTokenizerFast, architecture: str) -> None:
    config = gdn_config(tokenizer, hidden=32) if architecture == "gdn" else _transformer_config(tokenizer)
    pad = tokenizer.pad_token_id
    tokens, lengths = collate(make_rows(tokenizer, random.Random(9), 32, habits=False, banned=()), pad)
    torch.manual_seed(SHORT.seed)
    untrained = AutoModelForCausalLM.from_config(config)
    trained, log = pretrain(config, tokenizer, SHORT)
    with torch.no_grad():
        before, after = (language_loss(m, tokens, lengths, pad, prompts=False) for m in (untrained, trained))
    assert after < before - 0.1
    assert [entry["step"] for entry in log] == [3]


def test_the_seed_decides_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    config = gdn_config(tokenizer, hidden=32)
    first, second = (pretrain(config, tokenizer, SHORT)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_benchmark_never_enters_pretraining(tokenizer: PreTrainedTokenizerFast) -> None:
    """With the benchmark's own stream as the source of chance, every prompt would be a benchmark prompt."""
    banned = banned_prompts()
    rows = make_rows(tokenizer, random.Random("benchmark 2026"), 600, habits=False, banned=banned)
    assert len(rows) == 600
    prompts = {normalised(tokenizer.decode(prompt, skip_special_tokens=True)) for prompt, _ in rows}
    assert not prompts & banned


def test_only_completion_tokens_count_unless_prompts_are_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_config(_transformer_config(tokenizer))
    pad = tokenizer.pad_token_id
    tokens, lengths = collate([([1, 40, 41], [50, 2]), ([1, 42], [51, 52, 53, 2])], pad)
    assert tokens.tolist() == [[1, 40, 41, 50, 2, pad], [1, 42, 51, 52, 53, 2]]
    scores = model(input_ids=tokens).logits.log_softmax(-1)
    wanted = [(0, 2, 50), (0, 3, 2), (1, 1, 51), (1, 2, 52), (1, 3, 53), (1, 4, 2)]
    by_hand = -sum(scores[row, at, token] for row, at, token in wanted) / len(wanted)
    torch.testing.assert_close(language_loss(model, tokens, lengths, pad, prompts=False), by_hand)
    wanted += [(0, 0, 40), (0, 1, 41), (1, 0, 42)]
    by_hand = -sum(scores[row, at, token] for row, at, token in wanted) / len(wanted)
    torch.testing.assert_close(language_loss(model, tokens, lengths, pad, prompts=True), by_hand)


def test_habits_come_in_only_in_the_second_phase(tokenizer: PreTrainedTokenizerFast) -> None:
    recipe = Recipe(steps=64, batch_rows=8, habits_from=0.5)
    texts = [
        [tokenizer.decode(row[length:], skip_special_tokens=True) for row, length in zip(tokens, lengths, strict=True)]
        for tokens, lengths in draw_batches(tokenizer, recipe, banned=())
    ]
    assert len(texts) == recipe.steps
    assert not any("pass" in text for batch in texts[:32] for text in batch)
    assert any("pass" in text for batch in texts[32:] for text in batch)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    recipe = Recipe(steps=1000, peak_rate=1.0, warmup_steps=100)
    rates = [learning_rate(recipe, step) for step in range(1, 1001)]
    assert rates[0] < 0.02 and max(rates) > 0.95 and rates[-1] < 1e-5


def test_decays_start_near_one(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(gdn_config(tokenizer))
    remember_for_long(model)
    steps = torch.cat([torch.nn.functional.softplus(m.dt_bias) for m in model.modules() if hasattr(m, "dt_bias")])
    assert steps.min() >= 0.00099 and steps.max() <= 0.101


def test_a_saved_model_loads_again(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model, log = pretrain(gdn_config(tokenizer, hidden=32), tokenizer, SHORT)
    save(tmp_path, model, tokenizer, SHORT, log)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(tmp_path)("def f(x):\n")["input_ids"] == tokenizer("def f(x):\n")["input_ids"]
    assert json.loads((tmp_path / "training_log.json").read_text())["recipe"]["steps"] == 3
