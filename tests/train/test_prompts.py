"""Prompts as tokens: training sees what generation sees, and learns the token that generation stops at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from s0 import Example, S0Config, S0Trainer
from s0.decode import Sampling
from s0.errors import ConfigError, DatasetError
from s0.models import check_tokens, encode_prompt, end_tokens
from s0.train import BaselineTrainer, LoraTuning, tokenize
from tests import words, zoo
from tests.decode.completing import complete
from tests.train.helpers import CHAT, END, tokenizer, trainer


@pytest.mark.parametrize("make", [words.characters, words.merging])
@pytest.mark.parametrize("bos", [False, True], ids=["plain", "with bos"])
@pytest.mark.parametrize("prompt", ["def add(a", CHAT], ids=["text", "chat"])
def test_training_sees_the_tokens_that_generation_sees(make: Any, bos: bool, prompt: Any) -> None:
    made = S0Trainer(zoo.make("qwen3_5"), tokenizer(make, bos=bos), S0Config())
    seen: list[list[int]] = []
    made.model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].tolist()[0]))
    made.generate(prompt, max_new_tokens=1)
    made.generate(prompt, max_new_tokens=1, do_sample=False)  # by transformers
    (row,) = tokenize([Example(prompt, " + b")], made.tokenizer, end_token=END, max_length=99)
    assert seen == [row.tokens[: row.prompt_length]] * 2


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "with bos"])
def test_the_chat_template_brings_its_own_special_tokens_and_no_thinking(bos: bool) -> None:
    made = tokenizer(bos=bos)
    ids = encode_prompt(made, CHAT)
    assert made.decode(ids) == "<end>user: add a to b\nbot:"
    assert ids.count(END) == 1


def test_text_gets_the_special_tokens_of_the_tokenizer() -> None:
    assert encode_prompt(tokenizer(bos=True), "a") == [END, *encode_prompt(tokenizer(), "a")]


@pytest.mark.parametrize(
    ("prompt", "says"), [("", "at least one token"), (CHAT, "no chat template")], ids=["empty", "chat"]
)
def test_a_prompt_without_tokens_or_template_is_refused(prompt: Any, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        encode_prompt(words.characters(), prompt)


def test_an_empty_prompt_is_refused_though_the_tokenizer_begins_it() -> None:
    assert tokenizer(bos=True)("")["input_ids"] == [END]
    with pytest.raises(DatasetError, match="at least one token of its own, got ''"):
        encode_prompt(tokenizer(bos=True), "")


@pytest.mark.parametrize("how", [{}, {"do_sample": False}], ids=["own", "transformers'"])
@pytest.mark.parametrize(
    ("prompt", "got"),
    [
        (None, "or a list of prompts, at least one, got None"),
        (7, "or a list of prompts, at least one, got 7"),
        ([], r"or a list of prompts, at least one, got \[\]"),
        (CHAT[0], r"or a list of prompts, at least one, got {'role'"),
        (["a", None], "^in prompt 2: expected a prompt: a text, or a list of messages .*, got None"),
        (["a", ["b"]], r"^in prompt 2: .* got \['b'\]"),
        (["a", CHAT[0]], "^expected a prompt: a text, or a list of messages"),
        ([{"text": "a"}], "'role' and 'content', got"),
    ],
    ids=str,
)
def test_what_is_no_prompt_is_refused_with_what_one_is(prompt: Any, got: str, how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=got):
        trainer().generate(prompt, 4, **how)


def test_a_prompt_among_several_is_refused_by_its_place() -> None:
    for how in ({}, {"do_sample": False}):
        with pytest.raises(DatasetError, match=r"^in prompt 2: expected a prompt with at least one token"):
            trainer().generate(["a", ""], **how)


# --- Tokens that the model has no embedding for ---


def beyond() -> Any:
    """A tokenizer with two tokens more than the tiny models: the pad token, and one that texts make."""
    made = tokenizer()
    made.add_tokens(["<spare>", "<filler>", "λ"])
    made.pad_token = "<filler>"
    return made


BEYOND = (
    r"below 64, the rows of Qwen3_5ForCausalLM's embedding, in {}, got 65 \('λ'\): the tokenizer is not this model's"
)


def test_a_prompt_beyond_the_embedding_is_refused() -> None:
    made = S0Trainer(zoo.make("qwen3_5"), beyond(), S0Config())
    with pytest.raises(DatasetError, match=BEYOND.format("the prompt")):
        made.generate("a λ b")
    lora = BaselineTrainer(zoo.make("qwen3_5"), beyond(), LoraTuning())
    with pytest.raises(DatasetError, match=BEYOND.format("the prompt")):
        lora.generate("a λ b")
    with pytest.raises(DatasetError, match=BEYOND.format("the prompt")):
        complete(zoo.make("qwen3_5"), beyond(), ["a", "a λ b"], Sampling(1))


@pytest.mark.parametrize("row", [("a λ b", 2), Example("a", "λ"), Example("λ", "b")])
def test_a_row_beyond_the_embedding_is_refused_by_name(row: Any) -> None:
    made = S0Trainer(zoo.make("qwen3_5"), beyond(), S0Config())
    with pytest.raises(DatasetError, match=BEYOND.format("example 1")):
        made.train([("a b", 1), row])


def test_tokens_that_no_text_makes_hinder_nothing() -> None:
    made = S0Trainer(zoo.make("qwen3_5"), beyond(), S0Config(n_steps=1))
    made.train([("a b", 1), ("a longer b", 1)])  # padded
    made.activate()
    assert made.generate("a b", max_new_tokens=3) == complete(made.model, beyond(), ["a b"], Sampling(3))[0].text


def test_a_model_without_input_embeddings_is_not_checked() -> None:
    check_tokens(nn.Linear(2, 2), beyond(), [10**6], "the prompt")


def test_a_token_that_nobody_knows_is_refused_however_large() -> None:
    with pytest.raises(DatasetError, match=r"below 64, .*got 1000000000000, which is none of the tokenizer's either"):
        check_tokens(zoo.make("qwen3_5"), beyond(), [10**12], "the prompt")


def test_messages_that_the_chat_template_refuses_are_refused_by_name() -> None:
    row = Example([{"role": "system", "content": "be short"}], "yes")
    with pytest.raises(DatasetError, match=r"example 0.*the user speaks first"):
        tokenize([row], tokenizer(), end_token=END, max_length=99)


@pytest.mark.parametrize(
    ("of_generation", "of_tokenizer", "ends"),
    [
        pytest.param(None, "<end>", [1], id="tokenizer only"),
        pytest.param(7, None, [7], id="generation config only"),
        pytest.param(7, "<end>", [7], id="one, not the tokenizer's"),
        pytest.param(1, "<end>", [1], id="one, the tokenizer's"),
        pytest.param([7, 1, 8], "<end>", [1, 7, 8], id="list with the tokenizer's"),
        pytest.param([7, 8], "<end>", [7, 8], id="list without the tokenizer's"),
        pytest.param([7, 8], None, [7, 8], id="list only"),
    ],
)
def test_the_end_token_that_is_learned_ends_generation(of_generation: Any, of_tokenizer: Any, ends: list[int]) -> None:
    made = trainer(n_steps=1)
    made.model.generation_config.eos_token_id = of_generation
    made.tokenizer.eos_token = of_tokenizer
    assert end_tokens(made.model, made.tokenizer) == ends
    (row,) = tokenize([Example("a", "b")], made.tokenizer, end_token=ends[0], max_length=9)
    assert row.tokens[-1] == ends[0]
    wanted: list[int] = []

    def only_wanted(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(-1, torch.tensor(wanted), 1e4)

    made.model.get_base_model().lm_head.register_forward_hook(only_wanted)
    for end in ends:
        wanted[:] = [end]
        assert made.generate("a", max_new_tokens=3) == ""
        by_transformers = made.generate("a", max_new_tokens=3, do_sample=False)
        assert by_transformers == made.tokenizer.decode([end], skip_special_tokens=True)
    wanted[:] = [9]
    assert len(made.generate("a", max_new_tokens=3)) == 3


def test_a_model_without_an_end_token_is_refused() -> None:
    made = words.characters()
    made.eos_token = None
    with pytest.raises(ConfigError, match="end-of-sequence"):
        end_tokens(zoo.make("qwen3_5"), made)
