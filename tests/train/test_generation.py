"""The trainers' `generate`: many prompts get what each gets alone, greedily and by sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
        ({"temperature": "hot"}, "a finite `temperature` >= 0"),
        ({"temperature": float("nan")}, "a finite `temperature` >= 0"),
        ({"temperature": 1, "top_p": 0}, "`top_p` above 0 and at most 1"),
        ({"max_new_tokens": 0}, "whole numbers >= 1 for `max_new_tokens`"),
        ({"max_new_tokens": 1.5}, "whole numbers >= 1 for `max_new_tokens`"),
        ({"do_sample": True, "seed": 1}, r"expected seed without transformers' own arguments, got \['do_sample'\]"),
        ({"num_return_sequences": 2}, "with which a prompt gets one text, got num_return_sequences"),
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
    made.model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0)
    told: list[str] = []
    texts = made.generate(PROMPTS, 8)
    assert texts == made.generate(PROMPTS, 8, do_sample=False, repetition_penalty=1.0)
    assert [made.generate(PROMPTS[0], 8, on_text=told.append)] == told == texts[:1]
    with pytest.raises(UnsupportedModelError, match=r"^expected MiniMaxForCausalLM to.*the model's own generate"):
        made.generate("x = ", 8, temperature=1.0)
