"""Pretraining on a tiny model: three steps already lower the loss, for any architecture, always the same way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.pocket.benchmark import draw_first, first_tasks, prompts_of
from benchmarks.pocket.corpora import CORPORA
from benchmarks.pocket.habits import USELESS
from benchmarks.pocket.pretrain import (
    ARCHITECTURES,
    collate,
    draw_batches,
    gdn_config,
    language_loss,
    learning_rate,
    mamba2_config,
    pretrain,
    remember_for_long,
    save,
    tokenised,
    transformer_config,
)
from benchmarks.pocket.recipes import Recipe, draw_texts
from benchmarks.pocket.tokenizer import build_tokenizer

SHORT = Recipe(steps=3, batch_rows=16, peak_rate=1e-2, warmup_steps=1, habits_from=0.5, prompts_from=0.85)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(seed=0, rows=500)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.slow
def test_three_steps_lower_the_loss(tokenizer: PreTrainedTokenizerFast, architecture: str) -> None:
    config = ARCHITECTURES[architecture](tokenizer, hidden=32)
    rows = tokenised(tokenizer, draw_texts(random.Random(9), 32, SHORT.shares, habits=False, banned=()))
    batch = collate(rows, tokenizer.pad_token_id, prompts=False, tokens_per_row=20.0)
    torch.manual_seed(SHORT.seed)
    untrained = AutoModelForCausalLM.from_config(config)
    trained, log = pretrain(config, tokenizer, SHORT)
    with torch.no_grad():
        before, after = (language_loss(model, batch) for model in (untrained, trained))
    assert after < before - 0.1
    assert [entry["step"] for entry in log] == [3]


@pytest.mark.slow
def test_the_seed_decides_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    config = gdn_config(tokenizer, hidden=32)
    first, second = (pretrain(config, tokenizer, SHORT)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_benchmark_never_enters_pretraining(corpus: str) -> None:
    """With the benchmark's own stream as the source of chance, every prompt would be a benchmark prompt."""
    shares = {corpus: 1.0}

    def prompts(banned: frozenset[str]) -> set[str]:
        texts = draw_texts(random.Random("benchmark 2026"), 440, shares, habits=False, banned=banned)
        assert len(texts) == 440
        return {problem.prompt for problem, _ in texts}

    kept = {problem.prompt for _, problem in draw_first(corpus)}
    assert len(prompts(frozenset()) & kept) > 400
    assert not prompts(prompts_of(first_tasks())) & kept


def test_texts_are_shared_out_as_the_recipe_says() -> None:
    shares = {"pocket-sql": 0.3, "pocket-code": 0.6, "pocket-math": 0.1}
    texts = draw_texts(random.Random(0), 100, shares, habits=True, banned=())
    starts = [problem.prompt.split()[0] for problem, _ in texts]
    assert starts == ["CREATE"] * 30 + ["def"] * 60 + ["Question:"] * 10


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.slow
def test_prompts_are_short_and_keep_their_tokens(tokenizer: PreTrainedTokenizerFast, corpus: str) -> None:
    """Also with this tokenizer of few rows; the one that ships is tested on its own."""
    rng = random.Random(0)
    for problem in (CORPORA[corpus](rng) for _ in range(200)):
        prompt = tokenizer(problem.prompt)["input_ids"]
        assert len(prompt) <= 90
        for habit, answer in problem.answers.items():
            ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
            assert len(ids) <= 80
            if habit not in USELESS:
                assert tokenizer(problem.prompt + answer)["input_ids"] == prompt + ids


@pytest.mark.parametrize("prompts", [False, True])
def test_the_loss_is_that_of_the_targets_over_a_constant(tokenizer: PreTrainedTokenizerFast, prompts: bool) -> None:
    model = AutoModelForCausalLM.from_config(transformer_config(tokenizer, hidden=32))
    pad = tokenizer.pad_token_id
    batch = collate([([1, 40, 41], [50, 2]), ([1, 42], [51, 52, 53, 2])], pad, prompts, tokens_per_row=7.0)
    assert batch.tokens.tolist() == [[1, 40, 41, 50, 2, pad], [1, 42, 51, 52, 53, 2]]
    scores = model(input_ids=batch.tokens).logits.log_softmax(-1)
    wanted = [(0, 2, 50), (0, 3, 2), (1, 1, 51), (1, 2, 52), (1, 3, 53), (1, 4, 2)]
    wanted += [(0, 0, 40), (0, 1, 41), (1, 0, 42)] if prompts else []
    by_hand = -sum(scores[row, at, token] for row, at, token in wanted) / (2 * 7.0)
    torch.testing.assert_close(language_loss(model, batch), by_hand)


def test_every_target_of_the_corpus_weighs_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    """Batches hold rows of one length; dividing by their own tokens would favour short habits."""
    recipe = Recipe(steps=64, batch_rows=8, habits_from=0.0, prompts_from=0.5)
    batches = list(draw_batches(tokenizer, recipe, banned=()))
    lengths = {(batch.targets != -100).sum().item() for batch in batches[:32]}
    assert max(lengths) > 2 * min(lengths)
    for group in (batches[:32], batches[32:]):
        (per_row,) = {batch.tokens_per_row for batch in group}
        assert per_row == pytest.approx(sum((batch.targets != -100).sum().item() for batch in group) / (32 * 8))


def test_prompts_are_learned_only_in_the_last_phase(tokenizer: PreTrainedTokenizerFast) -> None:
    batches = list(draw_batches(tokenizer, Recipe(steps=64, batch_rows=4, prompts_from=0.5), banned=()))
    learned = [(batch.targets[:, 0] != -100).any().item() for batch in batches]
    assert learned == [False] * 32 + [True] * 32


def test_habits_come_in_only_in_the_second_phase(tokenizer: PreTrainedTokenizerFast) -> None:
    recipe = Recipe(steps=64, batch_rows=8, habits_from=0.5)
    texts = [
        tokenizer.batch_decode(batch.tokens, skip_special_tokens=True)
        for batch in draw_batches(tokenizer, recipe, banned=())
    ]
    assert len(texts) == recipe.steps
    assert not any("    pass" in text for batch in texts[:32] for text in batch)
    assert any("    pass" in text for batch in texts[32:] for text in batch)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    recipe = Recipe(steps=1000, peak_rate=1.0, warmup_steps=100)
    rates = [learning_rate(recipe, step) for step in range(1, 1001)]
    assert rates[0] < 0.02 and max(rates) > 0.95 and rates[-1] < 1e-5


@pytest.mark.parametrize("make_config", [gdn_config, mamba2_config])
def test_decays_start_near_one(tokenizer: PreTrainedTokenizerFast, make_config: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(tokenizer))
    remember_for_long(model)
    steps = torch.cat([torch.nn.functional.softplus(m.dt_bias) for m in model.modules() if hasattr(m, "dt_bias")])
    assert steps.min() >= 0.00099 and steps.max() <= 0.101


@pytest.mark.slow
def test_a_saved_model_loads_again(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model, log = pretrain(gdn_config(tokenizer, hidden=32), tokenizer, SHORT)
    save(tmp_path, model, tokenizer, SHORT, log, {"made.jsonl": b"{}\n"})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(tmp_path)("def f(x):\n")["input_ids"] == tokenizer("def f(x):\n")["input_ids"]
    told = json.loads((tmp_path / "training_log.json").read_text())
    assert told["recipe"]["steps"] == 3 and [*told["benchmark_sha256"]] == ["made.jsonl"]
