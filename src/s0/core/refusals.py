"""What a mixer may not do, and may not be asked for, where a state is to enter it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from s0.errors import EngineError, StandInError

BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")
"""What may mark, in a call of a model, the borders of packed documents."""


def ignored_state_error(mixer: nn.Module) -> EngineError:
    """The error to raise where `mixer` ran without looking at the state it was given."""
    return EngineError(
        f"expected {type(mixer).__name__} to start from the state it is given, but its forward was replaced, so the "
        "tuned state would be ignored; load the model without replaced layers (use_kernels=False)"
    )


def not_in_stand_in_error(name: str) -> StandInError:
    """The error to raise where a mixer's cache is a stand-in, which has no attribute `name`."""
    return StandInError(
        f"expected a mixer, and hooks on it, to ask their cache for its states alone, got asked for {name!r}: where a "
        "sequence begins, what a tuned layer is given in the cache's place holds the state to start from and nothing "
        "else; ask the model's own cache, outside of the mixer"
    )


def refuse_packing(kwargs: Mapping[str, Any]) -> None:
    """Refuse several documents in one row: the kernels would give the state to the first one only.

    Raises:
        EngineError: `kwargs`, which a model passes to its mixers, mark the borders of packed documents.
    """
    borders = [name for name in BORDERS if kwargs.get(name) is not None]
    if borders:
        raise EngineError(
            f"expected the model to tell its state layers where packed documents begin, got only {', '.join(borders)}: "
            "call the model, not its layers, or batch the documents as padded rows"
        )


def refuse_replaced_forward(mixer: nn.Module) -> None:
    """Refuse a mixer that does not run the forward it was recognised by: kernels from the Hub replace whole forwards.

    Such a forward may never ask for the state to start from, or ask and take it for another layout of the same shape.

    Raises:
        EngineError: the mixer has a forward of its own, which does not wrap that of its class (as hooks do).
    """
    if "forward" not in mixer.__dict__:
        return
    running: Any = inspect.unwrap(mixer.forward)
    own = inspect.unwrap(type(mixer).forward)
    if getattr(running, "__func__", running) is not own:
        raise EngineError(
            f"expected {type(mixer).__name__} to run its own forward, but it was replaced by one of "
            f"{getattr(running, '__module__', running)}, so the tuned state could be ignored or misread; load the "
            "model without replaced layers (use_kernels=False)"
        )
