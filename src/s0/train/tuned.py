"""What was tuned, by whichever method: from its folder, read once, to a trainer that holds it on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter import load, state_files
from s0.adapter.state_files import StoredState
from s0.train.baseline_files import StoredBaseline, baseline_kind, read_baseline
from s0.train.methods import Settings, Trainer, make_trainer
from s0.train.settings import S0Config


def load_tuned(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path, allow_other_base: bool = False
) -> Trainer:
    """Put what was tuned on `model`, and switch it on.

    Args:
        model: with nothing attached.
        tokenizer: the model's.
        path: a folder with a state (of this package or the published one) or another method's; or a Hub repository.
        allow_other_base: accept what was tuned on other weights of the same shape.

    Returns:
        a trainer that has it, active.

    Raises:
        StateMismatchError: damaged, of another kind, or tuned on another model; the model is as before.
        UnsupportedModelError, ConfigError: as `make_trainer`.
    """
    return trainer_of(read_tuned(path, model, allow_other_base=allow_other_base), model, tokenizer)


def read_tuned(
    path: str | Path, model: PreTrainedModel, *, allow_other_base: bool = False
) -> StoredState | StoredBaseline:
    """Read what was tuned and check that it can be put on `model`.

    Args:
        path, model, allow_other_base: as of `load_tuned`; the model may have anything attached.

    Returns:
        a state or a baseline, for `trainer_of` or a trainer's `take`.

    Raises:
        StateMismatchError: damaged, or tuned on another model.
    """
    folder = state_files.locate(path)
    if baseline_kind(folder) is None:
        return load.read(folder, model, allow_other_base=allow_other_base)
    return read_baseline(folder, model, allow_other_base)


def trainer_of(
    stored: StoredState | StoredBaseline, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Trainer:
    """Put what `read_tuned` has read for `model` on it, and switch it on.

    Args:
        stored: what was read.
        model: it was read for; with nothing attached.
        tokenizer: the model's.

    Returns:
        a trainer that has it, active.

    Raises:
        UnsupportedModelError, ConfigError: as `make_trainer`.
    """
    settings: Settings
    if isinstance(stored, StoredBaseline):
        settings = stored.settings
    else:
        layers = None if stored.layers is None else sorted(stored.layers)
        settings = S0Config(kind=stored.kind, layers=layers, gains=bool(stored.gains))
    trainer: Any = make_trainer(model, tokenizer, settings)
    trainer.take(stored)
    trainer.activate()
    active: Trainer = trainer
    return active
