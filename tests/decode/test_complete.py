from dataclasses import replace

import pytest
import torch
from peft import get_peft_model

from s0 import S0AdapterConfig
from s0.core.states import state_layers
from s0.decode import Sampling
from s0.errors import ConfigError
from tests import words, zoo
from tests.decode.completing import complete

SEEDS = [7, "a", "b", 3, "c"]
PROMPTS = ["def add(a, b):\n", "x", "return a", "def double(x):\n    return x * 2\n", "lazy dog"]


@pytest.fixture(params=["qwen3_5", "falcon_h1"])
def tuned(request):
    model = get_peft_model(zoo.make(request.param), S0AdapterConfig()).eval()
    for layer in state_layers(model):
        generator = torch.Generator().manual_seed(layer.layer_idx)
        layer.s0_state["default"].data.normal_(generator=generator)
    return model


def texts(model, prompts, **sampling):
    tokenizer = words.characters()
    return [one.text for one in complete(model, tokenizer, prompts, Sampling(max_new_tokens=12, **sampling))]


def test_a_batch_gives_what_single_prompts_give(tuned):
    together = texts(tuned, PROMPTS)
    assert together == [texts(tuned, [prompt])[0] for prompt in PROMPTS]
    assert together == texts(tuned, PROMPTS, batch_rows=2)
    with tuned.disable_adapter():
        assert together != texts(tuned, PROMPTS)  # the state mattered


def test_sampling_repeats_with_its_seed_and_leaves_the_global_random_state_alone(tuned):
    tokenizer, sampling = words.characters(), Sampling(max_new_tokens=12, temperature=1.5)
    before = torch.get_rng_state()
    first = complete(tuned, tokenizer, PROMPTS, sampling, seeds=SEEDS)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert first == complete(tuned, tokenizer, PROMPTS, replace(sampling, batch_rows=2), seeds=SEEDS)
    assert first[:2] == complete(tuned, tokenizer, PROMPTS[:2], sampling, seeds=SEEDS[:2])
    assert first != complete(tuned, tokenizer, PROMPTS, sampling)
    twice = complete(tuned, tokenizer, PROMPTS[:1] * 2, sampling, seeds=[1, 2])
    assert twice[0] != twice[1]


def test_every_prompt_has_its_state(tuned):
    tokenizer, sampling = words.characters(), Sampling(max_new_tokens=12)
    states = ["default", "__base__", "default", "__base__", "default"]
    mixed = complete(tuned, tokenizer, PROMPTS, sampling, states=states)
    with_state = complete(tuned, tokenizer, PROMPTS, sampling)
    with tuned.disable_adapter():
        without = complete(tuned, tokenizer, PROMPTS, sampling)
    assert mixed == [without[i] if i % 2 else with_state[i] for i in range(5)] and with_state != without


def test_length_and_truncation_are_reported(tuned):
    tokenizer, sampling = words.characters(), Sampling(max_new_tokens=5)
    answers = dict(zip(PROMPTS, complete(tuned, tokenizer, PROMPTS, sampling), strict=True))
    prompt, cut_short = next((prompt, one) for prompt, one in answers.items() if one.truncated)
    assert cut_short.n_tokens == 5
    # Make the last character it wrote the end token: now it ends where that stands first.
    last = cut_short.text[-1]
    tuned.generation_config.eos_token_id = tokenizer(last)["input_ids"][0]
    ended = complete(tuned, tokenizer, [prompt], sampling)[0]
    assert not ended.truncated and ended.n_tokens <= 5
    assert ended.text == cut_short.text[: cut_short.text.index(last)]


def test_stop_texts_end_a_completion_and_are_cut_off(tuned):
    whole = texts(tuned, PROMPTS[:1])[0]
    stop = whole[4:6]
    stopped = complete(tuned, words.characters(), PROMPTS[:1], Sampling(max_new_tokens=12, stop=(stop,)))[0]
    assert stopped.text == whole[: whole.find(stop)]
    assert not stopped.truncated


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"batch_rows": 0}])
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        Sampling(max_new_tokens=4, **wrong)
