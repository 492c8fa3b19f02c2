"""A folder with a state becomes a state on a model: read, checked and matched once, then taken over as it is.

    stored = read("my-state", model)      # checked against itself and against the model
    model = put(stored, model, "code")    # on it, switched off; or `load`, which does both

What trains states does the same, with a trainer in the place of `put`; serving them needs no more than this.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn

from s0.adapter import state_files
from s0.adapter.attach import attach
from s0.adapter.state_files import StoredState
from s0.core.families import recurrence_in
from s0.core.gains import tuned_with


def read(
    path: str | Path, model: nn.Module, *, kind: str | None = None, allow_other_base: bool = False, **hub: Any
) -> StoredState:
    """Read a state of this package or the published one for `model`.

    Args:
        path: a local folder, or a repository on the Hub.
        model: with or without adapters on it.
        kind: the one that is expected; None takes any.
        allow_other_base: accept a state tuned on other weights of the same shape.
        hub: `revision`, `cache_dir` and `token` of the Hub.

    Returns:
        the state, with its tensors by the model's layer names, whichever layout it came in.

    Raises:
        StateMismatchError: no state, damaged, of another kind, or tuned on another model.
    """
    stored = state_files.read(path, kind=kind, **hub)
    tensors = state_files.match(stored, model, allow_other_base=allow_other_base)
    return replace(stored, tensors=tensors, layout="peft")


def put(stored: StoredState, model: nn.Module, name: str) -> PeftModel:
    """Put a state on the model that it was read for, switched off, beside those that are on it.

    Args:
        stored: what `read` returned for this model.
        model: a transformers model, or a PEFT model with states.
        name: the state's adapter name there, for `adapter_names` and `s0.adapter.attach.switch_to`.

    Returns:
        the PEFT model; the one that was passed, if it was one.

    Raises:
        ConfigError: a name that is taken or cannot be one, or a PEFT model of another kind.
    """
    layers = None if stored.layers is None else sorted(stored.layers)
    deployment = {
        "alpha": _alpha(stored, model),
        "normalize": stored.normalize,
        "kind": stored.kind,
        "gains": bool(stored.gains),
    }
    wrapped, _ = attach(model, layers, deployment, name)
    wrapped.peft_config[name].training = dict(stored.training)
    tensors = stored.all_tensors
    for layer_name, layer in tuned_with(wrapped, name).items():
        layer.raw[name].data.copy_(tensors[layer_name])
    return wrapped


def load(path: str | Path, model: nn.Module, name: str, *, allow_other_base: bool = False, **hub: Any) -> PeftModel:
    """`read` a state and `put` it on `model` under `name`; the arguments, result and errors are theirs."""
    return put(read(path, model, allow_other_base=allow_other_base, **hub), model, name)


def _alpha(stored: StoredState, model: nn.Module) -> float:
    """The state's scale; where the published layout leaves it open, the one published for the model's recurrence."""
    if stored.alpha is not None:
        return stored.alpha
    return recurrence_in(model).alpha
