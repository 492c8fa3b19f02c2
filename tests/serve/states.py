"""States in folders, as training leaves them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model

from s0 import S0AdapterConfig
from s0.core.states import state_layers
from tests import zoo


@cache
def _source(family: str) -> Any:
    return zoo.make(family)


def save(folder: Path, seed: int, model: Any = "qwen3_5", *, kind: str = "state", size: float = 2.0) -> Path:
    """A random state of a model, or of the one that `zoo` makes of a family, in a folder."""
    source = _source(model) if isinstance(model, str) else model
    tuned = get_peft_model(copy.deepcopy(source), S0AdapterConfig(kind=kind))
    generator = torch.Generator().manual_seed(seed)
    for layer in state_layers(tuned):
        layer.s0_state["default"].data.copy_(size * torch.randn(layer.state_shape, generator=generator))
    tuned.save_pretrained(str(folder))
    return folder
