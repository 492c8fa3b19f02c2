"""What `s0 inspect` tells of memory: what a training step needs, and what this machine has."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedModel

from s0.errors import S0Error
from s0.train import S0Config
from s0.train.memory import ROW_TOKENS, step_memory
from s0_cli.commands.env import devices


def step_memory_facts(outline: PreTrainedModel, device_name: str | None) -> dict[str, Any]:
    """What a step of training a state needs.

    Args:
        outline: the model without weights, see `s0.models.model_without_weights`.
        device_name: that was asked for; None for the one that models are loaded to.

    Returns:
        `device`: that the model would be loaded to, and `device_bytes`: its memory; `steps`: without and with gradient
        checkpointing, the bytes of a step's parts, their `total`, and the largest micro-batch, in tokens, that the
        device holds; `trouble`: why a step is not among them, None where both are.
    """
    device, device_bytes = _device(device_name)
    batch_tokens = S0Config.batch_tokens  # what `s0 train` takes where nothing else is asked for
    steps, trouble = [], None
    for gradient_checkpointing in (False, True):
        try:
            needed = step_memory(outline, batch_tokens=batch_tokens, gradient_checkpointing=gradient_checkpointing)
        except S0Error as error:
            trouble = str(error)
        else:
            largest = needed.most_tokens(device_bytes)
            facts = {**asdict(needed), "row_tokens": ROW_TOKENS, "total": needed.total, "most_batch_tokens": largest}
            steps.append({"gradient_checkpointing": gradient_checkpointing, **facts})
    return {"device": device, "device_bytes": device_bytes, "steps": steps, "trouble": trouble}


def _device(asked: str | None) -> tuple[str, int]:
    """The device of that name, or the one that models are loaded to, and the bytes of its memory."""
    gpus = {gpu["device"]: gpu["memory_bytes"] for gpu in devices()}
    name = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        name = "cuda:0"
    return name, gpus[name] if name in gpus else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
