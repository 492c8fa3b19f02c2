"""What `s0 inspect` tells of memory: what a training step needs, and what this machine has."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch

from s0.errors import S0Error
from s0.models import model_without_weights
from s0.train.memory import StepMemory, step_memory
from s0_cli.env import devices
from s0_cli.groups import ModelOptions

_BATCH_TOKENS = 1024  # what `s0 train` takes where nothing else is asked for


def step_memory_facts(model: ModelOptions) -> dict[str, Any]:
    """What a step of training a state needs, from the model's config alone.

    Returns:
        `device`: that the model would be loaded to, and `device_bytes`: its memory; `steps`: without and with gradient
        checkpointing, the bytes of a step's parts, their `total`, and the largest micro-batch, in tokens, that the
        device holds; `trouble`: why a step is not among them, None where both are.
    """
    device, device_bytes = _device(model.device)
    steps, trouble = [], None
    for gradient_checkpointing in (False, True):
        try:
            needed = _needed(model, gradient_checkpointing)
        except S0Error as error:
            trouble = str(error)
        else:
            largest = needed.most_tokens(device_bytes)
            facts = {**asdict(needed), "total": needed.total, "most_batch_tokens": largest}
            steps.append({"gradient_checkpointing": gradient_checkpointing, **facts})
    return {"device": device, "device_bytes": device_bytes, "steps": steps, "trouble": trouble}


def _needed(model: ModelOptions, gradient_checkpointing: bool) -> StepMemory:
    outline = model_without_weights(model.name, **model.source.loading.arguments())
    return step_memory(outline, batch_tokens=_BATCH_TOKENS, gradient_checkpointing=gradient_checkpointing)


def _device(asked: str | None) -> tuple[str, int]:
    """The device of that name, or the one that models are loaded to, and the bytes of its memory."""
    gpus = {gpu["device"]: gpu["memory_bytes"] for gpu in devices()}
    default = "cuda:0" if torch.cuda.is_available() else "cpu"
    name = {None: default, "cuda": "cuda:0"}.get(asked, asked) or default
    return name, gpus[name] if name in gpus else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
