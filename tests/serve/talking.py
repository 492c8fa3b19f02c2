"""A tiny model that has learned one text by heart, a byte a token: characters of several bytes come in pieces."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import zoo

PROMPT = "say: "
TEXT = "naïve café, ½ of 日本 🙂. STOP here."
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and an end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<end>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", chat_template=TEMPLATE)


def talking_model() -> tuple[Any, PreTrainedTokenizerFast]:
    """The model, which writes TEXT after PROMPT, and its tokenizer."""
    tokenizer = byte_tokenizer()
    model = zoo.make("qwen3_5", vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=0)
    ids = torch.tensor([tokenizer(PROMPT + TEXT + "<end>")["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), tokenizer
