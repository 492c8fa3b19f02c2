"""Rows of one batch choose their states, by name: in a forward pass, and when its gradient recomputes parts of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from s0.core.layer import tuned_layers
from s0.errors import ConfigError


@dataclass(frozen=True)
class RowChoice:
    """One adapter name per row of a batch, for the layers of one model that have adapters."""

    names: tuple[str, ...]
    layers: frozenset[int]  # id() of each layer it speaks to
    repeats: bool = False  # whether rows may be copies of each other, as generation makes for beams

    def copies(self, batch: int) -> int:
        """How many consecutive rows of a batch each name stands for."""
        copies = self.parts(batch)
        if copies > 1 and not self.repeats:
            raise self._wrong_number(batch)
        return copies

    def parts(self, n: int) -> int:
        """How many of `n` consecutive parts of a batch are of one row, where a model has split rows in as many each."""
        each, rest = divmod(n, len(self.names) or n + 1)
        if rest:
            raise self._wrong_number(n)
        return each

    def _wrong_number(self, batch: int) -> ConfigError:
        return ConfigError(
            f"expected one adapter name per row, got {len(self.names)} names for a batch of {batch}; pass one name "
            "per prompt (beams and returned sequences repeat it)"
        )


class _RowChoices(threading.local):
    def __init__(self) -> None:
        self.stack: tuple[RowChoice, ...] = ()  # per thread: concurrent calls on one model can choose different states


_ROWS = _RowChoices()


def choose_in(model: nn.Module, names: Sequence[str], *, repeats: bool = False) -> RowChoice:
    """The choice that speaks to all layers of `model` that have adapters."""
    return RowChoice(tuple(names), frozenset(map(id, tuned_layers(model))), repeats)


def rows_choose(choice: RowChoice) -> AbstractContextManager[None]:
    """Within this context, on this thread, row i of a batch starts from the state named `choice.names[i]`."""
    return _rows_chosen((*_ROWS.stack, choice))


@contextmanager
def _rows_chosen(stack: tuple[RowChoice, ...]) -> Iterator[None]:
    outer, _ROWS.stack = _ROWS.stack, stack
    try:
        yield
    finally:
        _ROWS.stack = outer


def choice_for(layer: nn.Module) -> RowChoice | None:
    """The innermost choice on this thread that speaks to `layer`."""
    return next((choice for choice in reversed(_ROWS.stack) if id(layer) in choice.layers), None)


class RowsUnderCheckpointing:
    """A model's gradient checkpointing function that remembers the choice of rows for the recomputation.

    The backward pass runs a layer's forward again after `rows_choose` has ended; without this the recomputation
    would use other states than the forward did and the gradient would be silently wrong.
    """

    def __init__(self, checkpoint: Callable[..., Any]) -> None:
        self.checkpoint = checkpoint

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint `function` with the rows chosen now."""
        chosen = _ROWS.stack

        def with_chosen_rows(*inner: Any) -> Any:
            with _rows_chosen(chosen):
                return function(*inner)

        return self.checkpoint(with_chosen_rows, *args, **kwargs)


def forget_rows_under_checkpointing(model: nn.Module) -> None:
    """Give every module in `model` the checkpointing function back that it had before `RowsUnderCheckpointing`."""
    for module in model.modules():
        checkpoint = vars(module).get("_gradient_checkpointing_func")
        if isinstance(checkpoint, RowsUnderCheckpointing):
            module._gradient_checkpointing_func = checkpoint.checkpoint  # type: ignore[assignment]
