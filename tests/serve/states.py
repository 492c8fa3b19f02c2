"""States in folders, as training leaves them, and the models that they are of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model

from s0 import S0AdapterConfig
from s0.core.states import state_layers
from tests import zoo


@cache
def _source(family: str, kind: str) -> Any:
    return get_peft_model(zoo.make(family), S0AdapterConfig(kind=kind))


def save(folder: Path, seed: int, family: str = "qwen3_5", *, kind: str = "state", size: float = 2.0) -> Path:
    """A random state of `zoo.make(family)` in a folder."""
    model = _source(family, kind)
    generator = torch.Generator().manual_seed(seed)
    for layer in state_layers(model):
        layer.s0_state["default"].data.copy_(size * torch.randn(layer.state_shape, generator=generator))
    model.save_pretrained(str(folder))
    return folder
