"""The layout of the published package, 0.1.2, which `s0.adapter.state_files` reads and this writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s0.adapter import state_files
from s0.errors import StateMismatchError


def write(path: str | Path, stored: state_files.StoredState, indices: Mapping[str, int]) -> None:
    """Write a state in the layout of the published package.

    Args:
        path: the folder; made if need be.
        stored: the state.
        indices: layer index of each of its layers.

    Raises:
        StateMismatchError: its layers differ in shape, it is of some layers only, it is an offset, or has gains: what
            the published package refuses to load, or cannot express.
    """
    if stored.kind != "state":
        raise StateMismatchError(f"expected a state for the published layout, got the kind {stored.kind!r}")
    if stored.gains:
        raise StateMismatchError(
            "expected a state alone for the published layout, got one with gains; merge them into a copy of the model "
            "(s0.adapter.attach.merge_gains), and export the state for that one"
        )
    if stored.layers is not None:
        raise StateMismatchError(
            "expected a state of all recurrent layers for the published layout, got one of the layers "
            f"{list(stored.layers)} that its settings name; train with layers=None"
        )
    shapes = {tuple(tensor.shape) for tensor in stored.tensors.values()}
    if len(shapes) != 1:
        raise StateMismatchError(f"expected layers of one shape for the published layout, got {sorted(shapes)}")
    settings = dict(stored.training.get("settings") or {})
    known = ("n_steps", "lr", "l2_lambda", "grad_clip", "max_length")
    config = {name: settings[name] for name in known if name in settings}
    keyed = {str(indices[name]): tensor.detach().cpu().contiguous() for name, tensor in stored.tensors.items()}
    meta = {
        "arch": stored.recurrence,
        "recurrent_layers": sorted(indices[name] for name in stored.tensors),
        "state_shape": list(shapes.pop()),
    }
    described = {**config, "alpha": stored.alpha, "normalize": stored.normalize}
    state_files.write_contents(
        Path(path), {state_files.PUBLISHED_STATE_FILE: keyed, "config.json": described, "meta.json": meta}
    )


def layer_indices(stored: state_files.StoredState) -> dict[str, int]:
    """The index of each layer of a state, by the layer's name, which tells it.

    Raises:
        StateMismatchError: a name tells none, or more than one.
    """
    return {name: _only_number(name) for name in stored.tensors}


def _only_number(name: str) -> int:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    if len(numbers) != 1:
        raise StateMismatchError(f"expected a layer name with one number in it, got {name!r}")
    return numbers[0]
