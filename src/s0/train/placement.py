"""Which linear layers of a model an adapter is put on: by their names, or by the part of the model that they are in."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from s0.core.families import find_mixers, is_beside_decoder, plain_name
from s0.core.releases import cache_name
from s0.errors import UnsupportedModelError

ATTENTION, RECURRENT, ALL_LINEAR = "attention", "recurrent", "all-linear"
PLACES = (ATTENTION, RECURRENT, ALL_LINEAR)
"""The linear layers inside attention layers; inside the recurrent mixers; all of them but the head."""


def as_names(targets: str | Sequence[str]) -> tuple[str, ...]:
    """Targets as settings keep them; a single one may be told as it is."""
    return (targets,) if isinstance(targets, str) else tuple(targets)


def target_layers(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers that `LoraTuning.targets` name, by module name.

    Args:
        model: with or without adapters on it.
        targets: words of `PLACES`, names of linear layers inside attention layers, and endings of full module names
            with a dot.

    Returns:
        the layers. A word leaves those out whose weights the module around them reads itself (Mamba's `dt_proj`, and
        what its fused kernels take): nothing that is put around such a layer would be run.

    Raises:
        UnsupportedModelError: the model lacks a target.
    """
    linears = linear_modules(model)
    attention = tuple(f"{plain_name(name)}." for name, module in model.named_modules() if _is_attention(module))
    names: set[str] = set()
    for target in targets:
        hits = _in_place(model, target, attention) if target in PLACES else _named(linears, target, attention)
        if not hits:
            there = sorted({name.rpartition(".")[2] for name in linears if name.startswith(attention)})
            raise UnsupportedModelError(
                f"expected {type(model).__name__} to have the LoRA target {target!r}, but the linear layers of its "
                f"attention are {there}; set targets to some of these, to endings of full module names with a dot, or "
                f"to one of {', '.join(PLACES)}"
            )
        names |= hits
    return {name: layer for name, layer in linears.items() if name in names}


def linear_modules(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a model by their names without any adapter, the adapters' own left out."""
    named = [(name, module) for name, module in model.named_modules() if ".lora_" not in name]
    return {plain_name(name): module for name, module in named if isinstance(module, nn.Linear)}


def _named(linears: dict[str, nn.Linear], target: str, attention: tuple[str, ...]) -> set[str]:
    reach = [name for name in linears if "." in target or name.startswith(attention)]
    return {name for name in reach if f".{name}".endswith(f".{target}")}


def _in_place(model: Any, place: str, attention: tuple[str, ...]) -> set[str]:
    head = getattr(model, "get_output_embeddings", lambda: None)()
    linears = {
        name for name, layer in linear_modules(model).items() if layer is not head and not is_beside_decoder(name)
    }
    unreached = {
        f"{plain_name(name)}.{child}" for name, module in model.named_modules() for child in _weights_read_by(module)
    }
    if place == ATTENTION:
        within = attention
    else:
        within = ("",) if place == ALL_LINEAR else tuple(f"{name}." for name in find_mixers(model))
    return {name for name in linears - unreached if name.startswith(within)}


def _weights_read_by(module: nn.Module) -> set[str]:
    """The children whose weights a module's forward reads itself, past what is put around them: `self.x.weight`."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    steps = [step.argval for step in dis.get_instructions(code) if step.opname.startswith("LOAD")] if code else []
    return {child for child, attribute in pairwise(steps) if attribute == "weight"}


def _is_attention(module: nn.Module) -> bool:
    """Whether its forward adds keys and values to a cache. Names do not tell: some recurrent mixers are `self_attn`."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    updates_something = code is not None and "update" in code.co_names
    return updates_something and cache_name(forward) is not None
