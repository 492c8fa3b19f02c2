"""A state on a model becomes a folder: its tensors, its config with what PEFT's auto classes look for, and a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s0.adapter import state_files
from s0.adapter.card import CARD_FILE, card_for
from s0.adapter.config import S0AdapterConfig
from s0.core.families import unwrapped
from s0.core.gains import tuned_with
from s0.core.states import layers_with
from s0.record import Record


def write(model: Any, name: str, path: str | Path, record: Record | None = None) -> None:
    """Write a state's folder, all of it or nothing.

    Args:
        model: the PEFT model that it is on.
        name: the state's adapter name there.
        path: the folder; made if need be.
        record: of an evaluation with this state, for the card.
    """
    base, adapter = unwrapped(model), model.peft_config[name]
    assert isinstance(adapter, S0AdapterConfig)
    # By these PEFT's auto classes find the base model. A second trainer's adapter has no name of it.
    base_name = adapter.base_model_name_or_path or vars(base).get("name_or_path")
    config = {
        **adapter.to_dict(),
        "target_modules": sorted(layers_with(model, name)),
        "base_model_name_or_path": base_name or None,
        "auto_mapping": {"base_model_class": type(base).__name__, "parent_library": type(base).__module__},
    }
    tensors = {layer_name: layer.raw[name] for layer_name, layer in tuned_with(model, name).items()}
    card = card_for(path, config, record)
    state_files.write(path, tensors, config, {} if card is None else {CARD_FILE: card})
