"""The trainers' `generate`: many prompts get what each gets alone, greedily and by sampling."""

from __future__ import annotations

import inspect
import sys
import typing
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from s0 import S0Config, S0Trainer
from s0.errors import ConfigError, UnsupportedModelError
from s0.models import load_model
from s0.train import BaselineTrainer, LoraTuning, PrefixTuning
from tests import words, zoo
from tests.train.helpers import CHAT, EXAMPLES, PAIRS, tokenizer, trained, trainer

PROMPTS: list[Any] = ["def add(a, b):\n", "x = ", CHAT, "for i in [1, 2, 3]:\n    print(i)", "x = "]
SAMPLING: dict[str, Any] = {"temperature": 1.5, "top_p": 0.9, "seed": 5}


@pytest.mark.parametrize("how", [{}, SAMPLING, {**SAMPLING, "n": 3}], ids=["greedy", "sampled", "three samples"])
def test_many_prompts_get_what_each_gets_alone(active: S0Trainer, how: dict[str, Any]) -> None:
    together = active.generate(PROMPTS, 12, **how)
    assert together == [active.generate(prompt, 12, **how) for prompt in PROMPTS]
    assert together == [*active.generate(PROMPTS[:2], 12, **how), *active.generate(tuple(PROMPTS[2:]), 12, **how)]
    with active.model.disable_adapter():
        assert together != active.generate(PROMPTS, 12, **how)  # the state mattered


def test_what_comes_back_has_the_form_that_was_asked_for(active: S0Trainer) -> None:
    text = active.generate("x = ", 12, temperature=1.5)
    assert isinstance(text, str)
    assert active.generate(["x = "], 12, temperature=1.5) == [text]
    assert active.generate("x = ", 12, temperature=1.5, n=1) == [text]
    samples = active.generate("x = ", 12, temperature=1.5, n=3)
    assert samples[0] == text and len(set(samples)) == 3
    assert active.generate(["x = ", "y"], 12, temperature=1.5, n=3)[0] == samples
    assert isinstance(active.generate(CHAT, 12), str)
    (of_chat,) = active.generate([CHAT], 12)
    assert of_chat == active.generate(CHAT, 12)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.get_overloads is of Python 3.11")
def test_the_form_that_comes_back_is_typed() -> None:
    forms = [inspect.signature(form) for form in typing.get_overloads(S0Trainer.generate)]
    asked = [(form.parameters["prompt"].annotation, form.parameters["n"].annotation) for form in forms]
    assert dict(zip(asked, (form.return_annotation for form in forms), strict=True)) == {
        ("Prompt", "None"): "str",
        ("Prompt", "int"): "list[str]",
        ("Sequence[Prompt]", "None"): "list[str]",
        ("Sequence[Prompt]", "int"): "list[list[str]]",
    }
    whole = inspect.signature(S0Trainer.generate).parameters
    assert all([*form.parameters] == [*whole] for form in forms)


def test_sampling_depends_on_its_seed_alone(active: S0Trainer) -> None:
    before = torch.get_rng_state()
    first = active.generate("x = ", 12, temperature=1.5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert active.generate("x = ", 12, temperature=1.5, seed=0) == first
    assert active.generate("x = ", 12, temperature=1.5, seed=1) != first
    greedy = active.generate("x = ", 12)
    assert first != greedy == active.generate("x = ", 12, temperature=0) == active.generate("x = ", 12, seed=3)
    assert active.generate("x = ", 12, temperature=1.5, top_p=1e-6) == greedy


def test_only_end_tokens_are_taken_from_the_generation_config() -> None:
    made = trained()
    made.activate()
    greedy = made.generate("x = ", 12)
    made.model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0)
    assert made.generate("x = ", 12) == greedy
    assert made.generate("x = ", 12, do_sample=False) != greedy
    made.model.generation_config.eos_token_id = made.tokenizer(greedy[4])["input_ids"]
    assert made.generate(["x = ", "x = "], 12) == [greedy[: greedy.index(greedy[4])]] * 2


def test_arguments_of_transformers_go_to_transformers(active: S0Trainer) -> None:
    greedy = active.generate(PROMPTS, 12)
    assert active.generate(PROMPTS, 12, do_sample=False) == greedy
    assert active.generate("x = ", 12, do_sample=True, temperature=1e-3, top_p=0.5) == greedy[1]
    torch.manual_seed(0)
    first = active.generate("x = ", 12, do_sample=True, temperature=5.0)
    assert active.generate("x = ", 12, do_sample=True, temperature=5.0) != first
    torch.manual_seed(0)
    assert active.generate("x = ", 12, do_sample=True, temperature=5.0) == first
    assert active.generate("x = ", 12, adapter_names=["__base__"]) != greedy[1]
    with pytest.raises(ValueError, match="temprature"):
        active.generate("x = ", 12, temprature=1.5)


def test_a_temperature_samples_beside_arguments_of_transformers(active: S0Trainer) -> None:
    greedy = active.generate("x = ", 12)
    for how in ({"num_beams": 1}, {"adapter_names": [active.model.active_adapter]}):
        torch.manual_seed(0)
        sampled = active.generate("x = ", 12, temperature=5.0, **how)
        torch.manual_seed(0)
        assert greedy != sampled == active.generate("x = ", 12, temperature=5.0, do_sample=True, **how)
        assert active.generate("x = ", 12, temperature=0, **how) == greedy
    config = GenerationConfig(temperature=5.0)
    torch.manual_seed(0)
    assert active.generate("x = ", 12, generation_config=config) == sampled


def test_without_a_temperature_transformers_is_greedy_too() -> None:
    made = trained()
    made.activate()
    greedy = made.generate("x = ", 12)
    made.model.generation_config.update(do_sample=True, temperature=5.0)
    assert made.generate("x = ", 12, num_beams=1) == greedy == made.generate("x = ", 12, num_beams=1, temperature=0.0)
    torch.manual_seed(0)
    assert made.generate("x = ", 12, do_sample=True) != greedy


def test_a_generation_config_counts_as_its_settings_by_name_do(active: S0Trainer) -> None:
    greedy = active.generate("x = ", 12)
    assert active.generate("x = ", 12, generation_config=GenerationConfig(max_new_tokens=5)) == greedy[:5]
    assert active.generate("x = ", 5, generation_config=GenerationConfig(max_new_tokens=12)) == greedy[:5]
    end = active.tokenizer(greedy[4])["input_ids"]
    as_named = active.generate("x = ", 12, eos_token_id=end)
    assert active.generate("x = ", 12, generation_config=GenerationConfig(eos_token_id=end)) == as_named
    assert as_named == greedy[: greedy.index(greedy[4]) + 1]


def test_the_text_is_told_as_it_comes(active: S0Trainer) -> None:
    told: list[str] = []
    text = active.generate("x = ", 12, on_text=told.append)
    assert "".join(told) == text
    assert len(told) == 12
    for several in ({"prompt": ["x = ", "y"]}, {"prompt": "x = ", "n": 2, "temperature": 1.0}):
        with pytest.raises(ConfigError, match=r"expected a single prompt and n=1.*leave on_text out"):
            active.generate(**several, on_text=told.append)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"n": 2}, "expected a `temperature` above 0 for several samples"),
        ({"top_p": 0.9}, "expected a `temperature` above 0 .*`top_p` below 1"),
        ({"n": 0, "temperature": 1}, "n, at least 1.*got n=0"),
        ({"n": True}, "got n=True"),
        ({"seed": "a"}, "seed='a'"),
        ({"temperature": -1}, "a finite `temperature` >= 0"),
        ({"temperature": True}, "a finite `temperature` >= 0"),
        ({"temperature": 1, "top_p": True}, "`top_p` above 0 and at most 1"),
        ({"temperature": "hot"}, "a finite `temperature` >= 0"),
        ({"temperature": float("nan")}, "a finite `temperature` >= 0"),
        ({"temperature": 1, "top_p": 0}, "`top_p` above 0 and at most 1"),
        ({"max_new_tokens": 0}, "whole numbers for `max_new_tokens` and"),
        ({"max_new_tokens": 1.5}, "whole numbers for `max_new_tokens` and"),
        ({"do_sample": True, "seed": 1}, r"expected seed without transformers' own arguments, got \['do_sample'\]"),
        ({"num_return_sequences": 2}, "with which a prompt gets one text, got num_return_sequences"),
        *[
            ({"generation_config": GenerationConfig(do_sample=True, **more)}, "a prompt gets one text")
            for more in ({"num_return_sequences": 3}, {"return_dict_in_generate": True})
        ],
        ({"temperature": 5.0, "do_sample": False}, "temperature=5.0 .* would be ignored"),
        ({"top_p": 0.5, "num_beams": 1}, "top_p=0.5, which would be ignored"),
        ({"do_sample": True, "n": 1, "on_text": print}, "expected n and on_text without"),
    ],
    ids=str,
)
def test_impossible_requests_are_refused(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        trainer().generate("x = ", **how)


def test_a_prompt_that_is_too_long_is_refused_by_its_place() -> None:
    made = trainer()
    made.model.get_base_model().config.max_position_embeddings = 20
    with pytest.raises(ConfigError, match=r"^in prompt 2: expected at most 20 tokens.*prompt of 18"):
        made.generate(["x", "x" * 18], 4)


def test_baselines_generate_alike() -> None:
    lora = BaselineTrainer(zoo.make("qwen3_5"), words.characters(), LoraTuning(lr=0.1, n_steps=2))
    prefix = BaselineTrainer(*load_model("pocket:transformer"), PrefixTuning(lr=0.1, n_steps=2, virtual_tokens=3))
    for made in (lora, prefix):
        made.train(EXAMPLES)
        prompts = [prompt for prompt in PROMPTS if isinstance(prompt, str)]
        untouched = made.generate(prompts, 12, **SAMPLING, n=2)
        made.activate()
        together = made.generate(prompts, 12, **SAMPLING, n=2)
        assert together == [made.generate(prompt, 12, **SAMPLING, n=2) for prompt in prompts]
        assert together != untouched


@pytest.mark.parametrize("family", ["mamba2", "falcon_mamba", "kimi_linear", "nemotron_h"])
def test_other_families_generate_as_transformers_does(family: str) -> None:
    made = S0Trainer(zoo.make(family, torch.float64), tokenizer(), S0Config(n_steps=2, lr=0.5, alpha=1.0))
    made.train(PAIRS)
    made.activate()
    assert made.generate(PROMPTS, 8) == made.generate(PROMPTS, 8, do_sample=False)


def test_a_model_whose_cache_cannot_be_followed_generates_greedily() -> None:
    made = trained("minimax")
    made.activate()
    texts = made.generate(PROMPTS, 8)
    suppressed = {"suppress_tokens": made.tokenizer(texts[1])["input_ids"], "no_repeat_ngram_size": 1}
    made.model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, **suppressed)
    config = made.model.generation_config
    told: list[str] = []
    assert made.generate(PROMPTS, 8) == texts != made.generate(PROMPTS, 8, do_sample=False)
    assert made.model.generation_config is config
    assert [made.generate(PROMPTS[0], 8, on_text=told.append)] == told == texts[:1]
    with pytest.raises(UnsupportedModelError, match=r"^expected MiniMaxForCausalLM to.*the model's own generate"):
        made.generate("x = ", 8, temperature=1.0)
