"""`s0 generate`."""

from __future__ import annotations

from typing import Any

from s0 import load_model
from s0.decode import Sampling
from s0.decode import generate as continued
from s0.errors import ConfigError
from s0.train import load_tuned
from s0_cli.options import ModelOptions


def generate(
    model: ModelOptions, state: str | None, allow_other_base: bool, prompt: str, max_new_tokens: int, chat: bool
) -> dict[str, Any]:
    """`s0 generate`."""
    if not prompt:
        raise ConfigError("expected a prompt, got an empty one")
    loaded, tokenizer = load_model(model.name, **model.loading.arguments())
    asked = [{"role": "user", "content": prompt}] if chat else prompt
    tuned: Any = loaded
    if state is not None:
        tuned = load_tuned(loaded, tokenizer, state, allow_other_base=allow_other_base).model
    ((completion,),) = continued(tuned, tokenizer, [asked], Sampling(max_new_tokens))
    return {"kind": "generate", "text": completion.text, "state": state}
