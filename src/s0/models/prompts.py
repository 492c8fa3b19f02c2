"""Prompts as tokens: training must see exactly what generation will see."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError
from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.errors import ConfigError, DatasetError


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | list[dict[str, str]]) -> list[int]:
    """The tokens of a prompt, whole, with the special tokens that generation puts before it.

    Args:
        tokenizer: the model's.
        prompt: text as it is, or messages for the chat template, with thinking off where the template knows it.

    Raises:
        DatasetError: the prompt has no tokens, or it is a list of messages and there is no chat template for them.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
    elif tokenizer.chat_template is None:
        raise DatasetError("expected a text prompt, got messages, but this tokenizer has no chat template; pass text")
    else:
        try:
            text = tokenizer.apply_chat_template(
                prompt, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except TemplateError as error:
            raise DatasetError(f"expected messages that fit the chat template, got {prompt!r:.60}: {error}") from error
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])  # the template has put its own
    if not ids:
        raise DatasetError(f"expected a prompt with at least one token, got {prompt!r:.60}")
    return ids


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
