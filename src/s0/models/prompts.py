"""Prompts as tokens: training must see exactly what generation will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.errors import ConfigError, DatasetError
from s0.examples import is_text


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | list[dict[str, str]]) -> list[int]:
    """The tokens of a prompt, whole, with the special tokens that generation puts before it.

    Args:
        tokenizer: the model's.
        prompt: text as it is, or messages for the chat template, with thinking off where the template knows it.

    Raises:
        ConfigError: it is neither text nor messages.
        DatasetError: the prompt has no tokens of its own, or it is a list of messages and there is no chat template.
    """
    if isinstance(prompt, str) and not is_text(prompt):
        raise DatasetError(f"expected a prompt of whole characters, got {prompt!r:.60}; is it UTF-8?")
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
    elif not _are_messages(prompt):
        raise ConfigError(
            f"expected a prompt: a text, or a list of messages with 'role' and 'content', got {prompt!r:.60}"
        )
    elif tokenizer.chat_template is None:
        raise DatasetError(
            "expected a text prompt, got messages, but this tokenizer has no chat template; pass text, without "
            "`chat=True`"
        )
    else:
        try:
            text = tokenizer.apply_chat_template(
                prompt, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except TemplateError as error:
            raise DatasetError(f"expected messages that fit the chat template, got {prompt!r:.60}: {error}") from error
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])  # the template has put its own
    if not ids or prompt == "":  # which some tokenizers begin with a token all the same
        raise DatasetError(f"expected a prompt with at least one token of its own, got {prompt!r:.60}")
    return ids


def _are_messages(prompt: Any) -> bool:
    is_list = isinstance(prompt, list) and bool(prompt)
    return is_list and all(isinstance(message, Mapping) and {"role", "content"} <= set(message) for message in prompt)


def check_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], what: str) -> None:
    """Refuse tokens for which the model has no embedding.

    Checked at each use: some published tokenizers have a few tokens more than their models, which no text makes.

    Args:
        model: with or without adapters; one without input embeddings is not checked.
        tokenizer: says what text the token stands for.
        ids: at least one.
        what: how the error calls them.

    Raises:
        DatasetError: an id is not below the number of rows of the embedding.
    """
    base: Any = getattr(model, "get_base_model", lambda: model)()  # without PEFT's wrapper, if it has one
    try:
        n_rows = base.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        return
    largest = max(ids)
    if largest >= n_rows:
        is_of_tokenizer = largest < len(tokenizer)
        reason = (
            f" ({tokenizer.decode([largest])!r}): the tokenizer is not this model's; load the two together"
            if is_of_tokenizer
            else ", which is none of the tokenizer's either; take ids that it has made"
        )
        raise DatasetError(
            f"expected token ids below {n_rows}, the rows of {type(base).__name__}'s embedding, in {what}, got "
            f"{largest}{reason}"
        )


def end_tokens(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end generation; the first is the one to learn.

    Raises:
        ConfigError: neither model nor tokenizer names one.
    """
    named: Any = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = [named] if isinstance(named, int) else list(named or [])
    own = tokenizer.eos_token_id
    if isinstance(own, int) and (own in ends or not ends):
        ends = [own, *(token for token in ends if token != own)]
    if not ends:
        raise ConfigError(
            "expected the model's generation config or the tokenizer to name an end-of-sequence token, found none; "
            "set tokenizer.eos_token"
        )
    return ends
