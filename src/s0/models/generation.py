"""One prompt, one answer, by the model's own `generate`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from s0.models.prompts import check_tokens, encode_prompt, end_tokens


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | list[dict[str, str]],
    max_new_tokens: int,
    **kwargs: Any,
) -> str:
    """Continue a prompt with a model as it is now: any causal model, with or without adapters.

    Args:
        model: what generates.
        tokenizer: the model's.
        prompt: text, or chat messages. It is never cut.
        max_new_tokens: upper bound; generation ends earlier at an end token.
        kwargs: passed to the model's `generate`.

    Raises:
        ConfigError: what is no prompt.
        DatasetError: a prompt without tokens, or with tokens that the model does not know.
    """
    tokens = encode_prompt(tokenizer, prompt)
    check_tokens(model, tokenizer, tokens, "the prompt")
    ids = torch.tensor([tokens], device=next(model.parameters()).device)
    ends = end_tokens(model, tokenizer)
    kwargs = {"eos_token_id": ends, "pad_token_id": ends[0], **kwargs}
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, **kwargs)
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
