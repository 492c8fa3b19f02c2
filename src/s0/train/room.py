"""Room for micro-batches: one that a device's memory does not hold is computed in halves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size  # type: ignore[import-untyped]
from torch import Tensor, nn

from s0.errors import EngineError

Result = TypeVar("Result")


class Rows(Protocol):
    """Examples that are computed together: a micro-batch, or a part of one."""

    @property
    def names(self) -> Sequence[str]:
        """One for each row."""

    @property
    def n_tokens(self) -> int:
        """How much it is: rows x longest row."""

    @property
    def weights(self) -> Tensor:
        """(B,) float64: how much each row counts beside all others."""

    def losses(self, model: nn.Module) -> Tensor:
        """(B,) float32: what each row loses, in nats per token."""

    def halves(self) -> Sequence[Rows]:
        """Its rows, in order, in two parts. There are two rows or more."""


@dataclass
class Room:
    """How large a micro-batch may be, as far as is known.

    Attributes:
        n_tokens_too_many: the size, as `Rows.n_tokens`, of the smallest one that memory has not held.
    """

    n_tokens_too_many: float = math.inf

    def in_parts(self, rows: Rows, work: Callable[[Rows], Result]) -> list[Result]:
        """Do work on a micro-batch, or on parts of it where memory runs out.

        Args:
            rows: the micro-batch.
            work: takes the micro-batch, or a part of it; leaves nothing behind where memory runs out within it.

        Returns:
            what the work gives for each part, in the order of the rows.

        Raises:
            EngineError: a single row is too much.
        """
        is_single = len(rows.names) == 1
        if is_single or rows.n_tokens < self.n_tokens_too_many:
            try:
                return [work(rows)]
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                reason = str(error)
            # Not in the except clause, where the error keeps alive all tensors that memory is too small for.
            self._take_note(rows, reason)
        return [result for half in rows.halves() for result in self.in_parts(half, work)]

    def _take_note(self, rows: Rows, reason: str) -> None:
        n_rows = len(rows.names)
        if n_rows == 1:
            raise EngineError(
                f"expected memory for a micro-batch of 1 row, {rows.n_tokens} tokens, got: {reason:.200}; set "
                "gradient_checkpointing, with which a training goes on from its checkpoint, or leave the longest "
                "examples out"
            )
        if self.n_tokens_too_many == math.inf:  # said once, however often it is halved
            warnings.warn(
                f"memory does not hold a micro-batch of {n_rows} rows, {rows.n_tokens} tokens together: it goes on in "
                "halves, with the same result; a smaller batch_tokens begins so",
                stacklevel=2,
            )
        self.n_tokens_too_many = rows.n_tokens
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory of any kind has run out: a GPU's has a class of its own, others tell it in words."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
