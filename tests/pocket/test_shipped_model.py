"""What ships in `s0/models/pocket_gdn`: small, bf16, loadable by name, with a memory and a lossless tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import s0.models
from s0.pocket.benchmark import draw_benchmark

FOLDER = Path(s0.models.__file__).parent / "pocket_gdn"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(FOLDER)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    return loaded


def test_the_weights_are_bf16_and_small() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 4_000_000
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_it_is_a_real_hybrid_model(model: PreTrainedModel) -> None:
    assert type(model).__name__ == "Qwen3_5ForCausalLM"
    assert {"linear_attention", "full_attention"} == set(model.config.layer_types)


def test_prompts_and_completions_survive_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert 400 <= len(tokenizer) <= 700
    for row in draw_benchmark():
        for text in (row["prompt"], row["canonical_solution"], "```python\n" + row["canonical_solution"] + "```"):
            assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "naïve ☃ 价格\t\r\n  x"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_prompt_has_the_same_tokens_in_front_of_a_completion(tokenizer: PreTrainedTokenizerFast) -> None:
    for row in draw_benchmark():
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = tokenizer(row["canonical_solution"], add_special_tokens=False)["input_ids"]
        assert tokenizer(row["prompt"] + row["canonical_solution"])["input_ids"] == prompt + completion
        assert prompt[0] == tokenizer.bos_token_id
        assert len(prompt) <= 80 and len(completion) <= 64


def test_digits_are_tokens_of_their_own(tokenizer: PreTrainedTokenizerFast) -> None:
    digits = [token for token in tokenizer.tokenize("add 4207") if token.isdigit()]
    assert digits == ["4", "2", "0", "7"]


def test_a_recurrent_head_remembers_a_whole_prompt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Heads that forget at once are learned too (for the last few words); an initial state lives in the others."""
    rates: dict[int, list[torch.Tensor]] = {}
    mixers = {at: layer.linear_attn for at, layer in enumerate(model.model.layers) if hasattr(layer, "linear_attn")}
    for at, mixer in mixers.items():

        def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor, at: int = at) -> None:
            rate = mixers[at].A_log.exp() * torch.nn.functional.softplus(output + mixers[at].dt_bias)
            rates.setdefault(at, []).append(rate[0])  # (T, H), minus the log of the decay

        mixer.in_proj_a.register_forward_hook(keep)
    with torch.no_grad():
        for row in draw_benchmark()[:16]:
            model(input_ids=torch.tensor([tokenizer(row["prompt"])["input_ids"]]))
    assert len(mixers) == 2
    best_decay = max(torch.cat(prompts).neg().exp().mean(0).max() for prompts in rates.values())
    best_kept = max(
        torch.stack([rate.sum(0).neg().exp() for rate in prompts]).mean(0).max() for prompts in rates.values()
    )
    assert best_decay > 0.95
    assert best_kept > 0.1


def test_the_log_names_the_recipe_and_the_benchmark_that_was_excluded() -> None:
    log = json.loads((FOLDER / "training_log.json").read_text(encoding="utf-8"))
    assert log["recipe"]["seed"] == 0
    assert log["log"][-1]["step"] == log["recipe"]["steps"]
    assert log["log"][-1]["loss"] < log["log"][0]["loss"]
