"""What examples lose, whoever asks: each process computes a share, in its precision, in parts that memory holds.

The steps of a training, its losses before and after, and the choice of a scale all come by here, so what they say of
one model can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn

from s0.errors import DatasetError
from s0.train.checkpoint import Signals
from s0.train.distributed import Processes
from s0.train.modes import without_dropout
from s0.train.room import Room, Rows

ADVICE = "; lower `lr`, or leave the example out"


@dataclass(frozen=True)
class Losses:
    """What examples lose.

    Attributes:
        names: the examples'.
        values: (N,) float64, of each the mean over its completion tokens, in nats.
        weights: (N,) float64, how much each counts.
    """

    names: Sequence[str]
    values: Tensor
    weights: Tensor

    @property
    def mean(self) -> float:
        """Over the examples, by their weights; inf or nan where one is."""
        return float((self.values * self.weights).sum() / self.weights.sum())

    @property
    def fault(self) -> str | None:
        """What is wrong with the first that is not finite, in words; None where all are."""
        faulty = (~self.values.isfinite()).nonzero()
        if not len(faulty):
            return None
        row = int(faulty[0])
        return f"the loss of {self.names[row]} is {self.values[row].item()}"


@dataclass(frozen=True)
class Evaluator:
    """Computes losses of one model. Of several processes, all have to ask for the same.

    Attributes:
        model: as it is to compute.
        processes: that share the micro-batches.
        signals: that end the work between two micro-batches.
        room: for micro-batches, in memory.
    """

    model: nn.Module
    processes: Processes
    signals: Signals = field(default_factory=Signals)
    room: Room = field(default_factory=Room)

    def of_rows(self, rows: Rows) -> Tensor:
        """(B,) float32: the losses of a micro-batch, in this process."""
        with self.processes.autocast(self.model):
            return rows.losses(self.model)

    def each(self, batches: Sequence[Rows], work: Callable[[Rows], Tensor]) -> Losses:
        """The losses of all rows, in order; every process has those of all.

        Args:
            batches: as they were made, at least one.
            work: computes the losses (B,) of a micro-batch, or of a part of it, and what comes of them; see `Room`.

        Raises:
            EngineError: memory does not hold a single row.
        """
        values = [torch.zeros(len(batch.names), dtype=torch.float64) for batch in batches]
        with self.processes.together():
            for i, batch in self.processes.part_of(batches):
                self.signals.check()
                values[i] = torch.cat(self.room.in_parts(batch, work)).detach().cpu().double()
        names = tuple(chain.from_iterable(batch.names for batch in batches))
        weights = torch.cat([batch.weights for batch in batches])
        return Losses(names, self.processes.sum(torch.cat(values)), weights)

    @torch.no_grad()
    def measure(self, batches: Sequence[Rows]) -> Losses:
        """The losses of all rows, in order, as the model is; dropout is off."""
        with without_dropout(self.model):
            return self.each(batches, self.of_rows)

    def mean_loss(self, batches: Sequence[Rows]) -> float:
        """Their mean, in nats per token.

        Raises:
            DatasetError: a loss is not finite; names the example.
        """
        losses = self.measure(batches)
        if losses.fault is not None:
            raise DatasetError(f"{losses.fault} at evaluation{ADVICE}")
        return losses.mean


def mean_loss(model: nn.Module, batches: Sequence[Rows]) -> float:
    """The mean over examples, by weight, of each one's mean completion loss, in nats per token, as the model is now.

    Dropout is off. Several processes (see `s0.train.distributed`) share the batches, so all of them have to call this.

    Args:
        model: with what was tuned active or not; left as it is.
        batches: of the examples, at least one.

    Returns:
        the loss.

    Raises:
        DatasetError: a loss is not finite; names the example.
        EngineError: memory does not hold a single example.
    """
    processes = Processes.of(model, [next(model.parameters())])
    return Evaluator(model, processes).mean_loss(batches)
