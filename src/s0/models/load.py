"""Models by name: a Hugging Face id, a local folder, or one of the pocket models that ship with the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from s0.errors import ConfigError

POCKET_MODELS = {
    f"pocket:{name}": Path(__file__).parent / f"pocket_{name}" for name in ("gdn", "mamba2", "transformer")
}
"""Models of about 1M parameters, trained by this project, for trying everything on a laptop."""


def _launched() -> bool:
    """Whether accelerate launch or torchrun has started several processes like this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _auto_class(config: PreTrainedConfig) -> Any:
    kind = type(config)
    only_with_vision = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if only_with_vision else AutoModelForCausalLM


def load_model(name: str, **model_kwargs: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in eval mode.

    Args:
        name: a Hugging Face id, a local folder, or one of `POCKET_MODELS`.
        model_kwargs: passed to `from_pretrained` of `AutoModelForCausalLM`, or of `AutoModelForImageTextToText` where
            transformers has a family with its vision part only. By default the dtype is the checkpoint's
            (float32 for pocket models, which is the fast one on a CPU) and the model goes to the GPU if there is one;
            with several launched processes, to each one's own.

    Raises:
        ConfigError: nothing can be loaded under that name, or not all of its weights; says what was tried.
    """
    if name.startswith("pocket:") and name not in POCKET_MODELS:
        raise ConfigError(f"expected one of the pocket models {sorted(POCKET_MODELS)}, got {name!r}")
    pocket = POCKET_MODELS.get(name)
    model_kwargs.setdefault("dtype", torch.float32 if pocket else "auto")
    if torch.cuda.is_available():
        model_kwargs.setdefault("device_map", {"": int(os.environ.get("LOCAL_RANK", 0))} if _launched() else "auto")
    source = str(pocket or name)
    where = {name: model_kwargs[name] for name in ("revision", "trust_remote_code", "token") if name in model_kwargs}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        kind = _auto_class(AutoConfig.from_pretrained(source, **where))
        loaded: Any = kind.from_pretrained(source, output_loading_info=True, **model_kwargs)
    except Exception as error:  # damaged files end in whatever error the code had that reads them
        reason = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
        raise ConfigError(
            f"expected a Hugging Face id, a local model folder, or one of {sorted(POCKET_MODELS)}, got {name!r}: "
            f"{reason}"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"expected all weights of {name!r} in its files, got none for {missing[0]} and {len(missing) - 1} more, "
            "which would stay random; download the model again, or load what its config describes"
        )
    if pocket:
        model.name_or_path = name  # not the folder: states record where they come from
    model.train(False)
    return model, tokenizer
