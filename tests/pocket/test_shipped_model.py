"""The models that ship with the package: small, bf16, with a memory where they recur, and a lossless tokenizer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.pocket.benchmark import draw_first, files_of, first_tasks, rows_of
from benchmarks.pocket.pretrain import ARCHITECTURES, RECIPES
from s0.models import POCKET_MODELS

CLASSES = {"gdn": "Qwen3_5ForCausalLM", "mamba2": "FalconH1ForCausalLM", "transformer": "Qwen3ForCausalLM"}
ROWS = rows_of("pocket-code", draw_first("pocket-code"))
MIXERS = {"gdn": "linear_attn", "mamba2": "mamba"}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str) -> Path:
    return POCKET_MODELS[f"pocket:{name}"]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(folder)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return loaded


def test_the_weights_are_bf16_and_small(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_size <= 4_000_000
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_they_are_real_models_of_about_the_same_size(model: PreTrainedModel, name: str) -> None:
    assert type(model).__name__ == CLASSES[name]
    assert 0.85e6 < sum(weight.numel() for weight in model.parameters()) < 1.15e6


def test_prompts_and_completions_survive_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert 400 <= len(tokenizer) <= 800
    for row in ROWS:
        for text in (row["prompt"], row["canonical_solution"], "```python\n" + row["canonical_solution"] + "```"):
            assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "naïve ☃ 价格\t\r\n  x"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_prompt_has_the_same_tokens_in_front_of_a_completion(tokenizer: PreTrainedTokenizerFast) -> None:
    for row in ROWS:
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = tokenizer(row["canonical_solution"], add_special_tokens=False)["input_ids"]
        assert tokenizer(row["prompt"] + row["canonical_solution"])["input_ids"] == prompt + completion
        assert prompt[0] == tokenizer.bos_token_id
        assert len(prompt) <= 80 and len(completion) <= 64


def test_digits_are_tokens_of_their_own(tokenizer: PreTrainedTokenizerFast) -> None:
    digits = [token for token in tokenizer.tokenize("add 4207") if token.isdigit()]
    assert digits == ["4", "2", "0", "7"]


@pytest.mark.parametrize("name", MIXERS, indirect=True)
def test_a_recurrent_head_remembers_a_whole_prompt(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Heads that forget at once are learned too (for the last few words); an initial state lives in the others."""
    rates: dict[int, list[torch.Tensor]] = {}
    found = ((at, getattr(layer, MIXERS[name], None)) for at, layer in enumerate(model.model.layers))
    mixers = {at: mixer for at, mixer in found if mixer is not None}
    for at, mixer in mixers.items():

        def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor, at: int = at) -> None:
            mixer = mixers[at]
            step = torch.nn.functional.softplus(output[..., -len(mixer.dt_bias) :] + mixer.dt_bias)
            rates.setdefault(at, []).append((mixer.A_log.exp() * step)[0])  # (T, H), minus the log of the decay

        # The step size: a projection of its own in GatedDeltaNet, the last columns of the one there is in Mamba-2.
        (mixer.in_proj_a if name == "gdn" else mixer.in_proj).register_forward_hook(keep)
    with torch.no_grad():
        for row in ROWS[:16]:
            model(input_ids=torch.tensor([tokenizer(row["prompt"])["input_ids"]]))
    assert len(mixers) == {"gdn": 2, "mamba2": 4}[name]
    best_decay = max(torch.cat(prompts).neg().exp().mean(0).max() for prompts in rates.values())
    best_kept = max(
        torch.stack([rate.sum(0).neg().exp() for rate in prompts]).mean(0).max() for prompts in rates.values()
    )
    assert best_decay > 0.95
    assert best_kept > 0.1


def test_the_log_names_the_recipe_and_the_benchmark_that_was_excluded(name: str, folder: Path) -> None:
    log = json.loads((folder / "training_log.json").read_text(encoding="utf-8"))
    assert log["recipe"] == asdict(RECIPES[name])
    made = {name: hashlib.sha256(content).hexdigest() for name, content in files_of(first_tasks()).items()}
    assert log["benchmark_sha256"] == made
    assert log["log"][-1]["step"] == log["recipe"]["steps"]
    assert log["log"][-1]["loss"] < log["log"][0]["loss"]


def test_all_share_one_tokenizer() -> None:
    texts = {(folder / "tokenizer.json").read_text(encoding="utf-8") for folder in POCKET_MODELS.values()}
    assert len(texts) == 1
