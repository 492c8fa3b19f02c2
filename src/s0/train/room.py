"""Room for micro-batches: they are halved where a device's memory does not hold them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from s0.errors import EngineError
from s0.train.data import Batch

Result = TypeVar("Result")


@dataclass
class Room:
    """How small micro-batches have to be, as far as is known.

    Attributes:
        n_halvings: so often every micro-batch is halved.
    """

    n_halvings: int = 0

    def for_each(
        self, batches: Sequence[Batch], work: Callable[[Sequence[Batch]], Result], *, n_processes: int = 1
    ) -> Result:
        """Do work on micro-batches, or on smaller ones where memory runs out; the result is the same, to rounding.

        Args:
            batches: as they were made.
            work: begins anew whenever it is called; every row has the same weight in it whatever the batch is.
            n_processes: that train together: several have to make the same steps, so none of them does with less.

        Raises:
            EngineError: a single row is too much, or there are several processes.
        """
        while True:
            parts = [part for batch in batches for part in batch.parts(2**self.n_halvings)]
            try:
                return work(parts)
            except torch.OutOfMemoryError as error:
                reason = str(error)
            # Outside of the clause: the error there holds all the tensors that memory is too small for.
            self._halve(parts, reason, n_processes)

    def _halve(self, batches: Sequence[Batch], reason: str, n_processes: int) -> None:
        n_rows, n_tokens = max(tuple(batch.tokens.shape) for batch in batches)
        if n_rows == 1 or n_processes > 1:
            remedy = (
                "set gradient_checkpointing, or leave the longest examples out"
                if n_rows == 1
                else "set a smaller batch_tokens, which one process does by itself, or gradient_checkpointing"
            )
            raise EngineError(
                f"expected memory for a micro-batch of {n_rows} rows, {n_tokens} tokens each, got: {reason:.200}; "
                f"{remedy}"
            )
        warnings.warn(
            f"memory does not hold a micro-batch of {n_rows} rows: training goes on with half of each, with the same "
            "result; a smaller batch_tokens begins so",
            stacklevel=2,
        )
        self.n_halvings += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
