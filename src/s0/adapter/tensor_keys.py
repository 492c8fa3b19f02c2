"""What the tensors of an adapter are called in its file: as PEFT calls them, after the layers that have them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from s0.errors import StateMismatchError

_PREFIX, _STATE, _GAIN = "base_model.model.", ".s0_state", ".s0_state_gain"


def layer_name(key: str) -> str:
    """The layer a tensor of an adapter file belongs to: a mixer's, or a norm's.

    Raises:
        StateMismatchError: the tensor is neither a state nor a gain.
    """
    suffix = _GAIN if key.endswith(_GAIN) else _STATE
    if not (key.startswith(_PREFIX) and key.endswith(suffix)):
        raise StateMismatchError(f"expected only state tensors ('{_PREFIX}...{_STATE}'), got {key!r:.80}")
    return key.removeprefix(_PREFIX).removesuffix(suffix)


def states_and_gains(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The raw states and the raw gains among an adapter file's tensors, by the names of their layers.

    Raises:
        StateMismatchError: a tensor is neither.
    """
    states = {layer_name(key): tensor for key, tensor in tensors.items() if not key.endswith(_GAIN)}
    return states, {layer_name(key): tensor for key, tensor in tensors.items() if key.endswith(_GAIN)}


def file_keys(layers: Iterable[str], norms: Collection[str]) -> dict[str, str]:
    """By the name of a layer, the key of its tensor in a file; a gain's for those that are among `norms`."""
    return {name: f"{_PREFIX}{name}{_GAIN if name in norms else _STATE}" for name in layers}


def file_key(key: str) -> str:
    """How a file names a tensor that PEFT calls `key`: of a model without PEFT's wrapper, it leaves the prefix out."""
    return _PREFIX + key.removeprefix(_PREFIX)
