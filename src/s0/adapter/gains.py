"""The gains of an adapter against its model: whether they are those of its norms."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from s0.core.families import unwrapped
from s0.core.gains import gain_places
from s0.errors import StateMismatchError


def gain_shapes(model: nn.Module) -> dict[str, list[int]]:
    """[D] by the names of the layers of all norms that can have a gain."""
    return {name: [norm.get_parameter("weight").numel()] for name, norm in gain_places(model).items()}


def check_gains(shapes: Mapping[str, list[int]], model: nn.Module) -> None:
    """Refuse gains, if there are any, that are not those of all norms of the model.

    Args:
        shapes: [D] by the names of the norms' layers.
        model: the model, with or without adapters on it.

    Raises:
        StateMismatchError: saying which norm is the first one that differs.
    """
    expected = gain_shapes(model) if shapes else {}
    wrong = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
    if wrong:
        raise StateMismatchError(
            f"expected gains for the {len(expected)} norms of {type(unwrapped(model)).__name__}, got {len(shapes)}; at "
            f"{wrong[0]}, expected {expected.get(wrong[0], 'none')}, got {shapes.get(wrong[0], 'none')}: they were "
            "tuned on another model"
        )
