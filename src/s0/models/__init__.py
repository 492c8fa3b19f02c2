"""Loading models and tokenizers, and turning prompts into the tokens that generation sees."""

from s0.models.load import (
    AS_PUBLISHED,
    POCKET_MODELS,
    STATES_FOLDER,
    LoadSettings,
    ModelSource,
    load_base_model,
    load_model,
    load_tokenizer,
    model_without_weights,
    shipped_states,
)
from s0.models.prompts import check_tokens, encode_prompt, end_tokens

__all__ = [
    "AS_PUBLISHED",
    "POCKET_MODELS",
    "STATES_FOLDER",
    "LoadSettings",
    "ModelSource",
    "check_tokens",
    "encode_prompt",
    "end_tokens",
    "load_base_model",
    "load_model",
    "load_tokenizer",
    "model_without_weights",
    "shipped_states",
]
