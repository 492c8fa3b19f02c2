"""Models by name: a Hugging Face id, a local folder, or one of the pocket models that ship with the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from s0.errors import ConfigError

POCKET_MODELS = {
    f"pocket:{name}": Path(__file__).parent / f"pocket_{name}" for name in ("gdn", "mamba2", "transformer")
}
"""Models of about 1M parameters, trained by this project, for trying everything on a laptop."""


def _launched() -> bool:
    """Whether accelerate launch or torchrun has started several processes like this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def load_model(name: str, **model_kwargs: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in eval mode.

    Args:
        name: a Hugging Face id, a local folder, or one of `POCKET_MODELS`.
        model_kwargs: passed to `AutoModelForCausalLM.from_pretrained`. By default the dtype is the checkpoint's
            (float32 for pocket models, which is the fast one on a CPU) and the model goes to the GPU if there is one;
            with several launched processes, to each one's own.

    Raises:
        ConfigError: nothing can be loaded under that name; says what was tried.
    """
    if name.startswith("pocket:") and name not in POCKET_MODELS:
        raise ConfigError(f"expected one of the pocket models {sorted(POCKET_MODELS)}, got {name!r}")
    pocket = POCKET_MODELS.get(name)
    model_kwargs.setdefault("dtype", torch.float32 if pocket else "auto")
    if torch.cuda.is_available():
        model_kwargs.setdefault("device_map", {"": int(os.environ.get("LOCAL_RANK", 0))} if _launched() else "auto")
    source = str(pocket or name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, **model_kwargs)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"expected a Hugging Face id, a local model folder, or one of {sorted(POCKET_MODELS)}, got {name!r}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    if pocket:
        model.name_or_path = name  # not the folder: states record where they come from
    model.train(False)
    return model, tokenizer
