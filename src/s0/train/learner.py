"""A learner on its way through the loop: its tensors, its optimiser, what was measured, and how that is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s0.errors import StateMismatchError
from s0.train.settings import FitSettings

_SERIES = ("losses", "norms", "select_losses")


class Learner:
    """Trainable tensors with their optimiser, and what their training has come to.

    Attributes:
        parameters: what it trains, in place.
        settings: how.
        losses: the mean loss before each step, in nats per token; inf or nan where it failed.
        norms: the mean norm of its tensors after each step.
        select_losses: of the selection examples, after each step.
        copies: of its tensors, by the number of steps they have learned.
        failure: why it learns no more, or None.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], settings: FitSettings) -> None:
        self.parameters, self.settings = list(parameters), settings
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.lr)
        self._last_good = self._copied()
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.select_losses: list[float] = []
        self.copies: dict[int, list[Tensor]] = {}
        self.failure: str | None = None

    @property
    def steps_done(self) -> int:
        """How many steps have changed the tensors."""
        return len(self.norms)

    @property
    def steps_begun(self) -> int:
        """How many steps have had a loss; one more than were done where the last one failed."""
        return len(self.losses)

    @property
    def is_unjudged(self) -> bool:
        """Whether the selection examples have not been measured since the last step."""
        return self.steps_done > len(self.select_losses)

    @property
    def is_finished(self) -> bool:
        """Whether it has taken all its steps, or as many as its patience allows."""
        return self.steps_done == self.settings.n_steps or self.is_out_of_patience

    def add_gradient(self, gradients: Sequence[Tensor]) -> None:
        """Add to the gradient of the next step, all or nothing; one tensor for each of `parameters`, of its shape."""
        pairs = list(zip(self.parameters, gradients, strict=True))
        # All sums are there before one counts: where memory runs out on the way, the same rows come again.
        sums = [gradient.clone() if own.grad is None else own.grad + gradient for own, gradient in pairs]
        for (parameter, _), total in zip(pairs, sums, strict=True):
            parameter.grad = total

    def step(self, loss: float) -> None:
        """Update the tensors from their gradients; `loss`, which gave these, is finite."""
        squares = torch.stack([parameter.float().pow(2).sum() for parameter in self.parameters])
        penalty = self.settings.l2_lambda * squares.sum()
        penalty.backward()  # type: ignore[no-untyped-call]
        self.trust()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.grad_clip)
        if not torch.isfinite(norm):
            self.fail(math.nan, f"the gradient of step {self.steps_done} is not finite (norm {norm.item()})")
            return
        self.optimizer.step()
        self.settings.project(self.parameters)
        norms = [float(parameter.detach().float().norm()) for parameter in self.parameters]
        self.losses.append(loss)
        self.norms.append(sum(norms) / len(norms))

    def fail(self, loss: float, why: str) -> None:
        """Learn no more, after a loss or gradient that is not finite.

        Args:
            loss: that of this step, in nats per token; inf or nan.
            why: what was not finite, for the message.
        """
        self.losses.append(loss)
        self.failure = why
        self.go_back()

    def trust(self) -> None:
        """Remember the tensors as the last good ones."""
        _fill(self._last_good, self.parameters)

    def go_back(self) -> None:
        """Take the last good tensors again."""
        _fill(self.parameters, self._last_good)

    def keep(self) -> None:
        """Keep a copy of the tensors as they are after so many steps."""
        self.copies[self.steps_done] = self._copied()

    def judge(self, loss: float) -> None:
        """Keep the tensors if `loss`, of the selection examples, is the lowest so far."""
        if not self.select_losses or loss < min(self.select_losses):
            self.copies.clear()
            self.keep()
        self.select_losses.append(loss)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the selection examples have shown no progress for too long."""
        patience = self.settings.patience
        if patience is None or not self.copies:
            return False
        n_steps_without_progress = len(self.select_losses) - max(self.copies)
        return n_steps_without_progress >= patience

    def take_best(self) -> int:
        """Take the tensors that were judged best, or leave those of the last step; returns their number of steps."""
        if not self.select_losses:
            return self.steps_done
        ((steps, best),) = self.copies.items()
        _fill(self.parameters, best)
        return steps

    def _copied(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def progress(self) -> dict[str, Any]:
        """For a checkpoint: what is no tensor, as JSON. Floats are exact."""
        series = {name: [value.hex() for value in getattr(self, name)] for name in _SERIES}
        return {**series, "kept": sorted(self.copies), "failure": self.failure}

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: every tensor that training goes on from, not copied."""
        lists: dict[str, Sequence[Tensor]] = {"now": self.parameters, "last_good": self._last_good}
        lists |= {f"after_{steps}": tensors for steps, tensors in self.copies.items()}
        named = {f"{name}.{i}": tensor for name, tensors in lists.items() for i, tensor in enumerate(tensors)}
        for i, parameter in enumerate(self.parameters):
            moments = self.optimizer.state.get(parameter, {})
            named |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
        return named

    @torch.no_grad()
    def resume(self, progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Become, from a fresh start, what a checkpoint tells of.

        Args:
            progress: as `progress` has made it.
            tensors: as `tensors` named them.

        Raises:
            StateMismatchError: it does not tell of such a learner; the parameters are as they were.
        """
        try:
            for name in _SERIES:
                setattr(self, name, [float.fromhex(value) for value in progress[name]])
            self.copies = {int(steps): self._copied() for steps in progress["kept"]}
            self.failure = progress["failure"]
        except (KeyError, TypeError, ValueError) as error:
            raise StateMismatchError(f"what it tells of a learner is incomplete ({error!r})") from error
        if self.steps_done:
            for parameter in self.parameters:
                moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
                self.optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        mine = self.tensors()
        if _forms(mine) != _forms(tensors):
            raise StateMismatchError("its tensors are not those of this learner")
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])


@torch.no_grad()
def _fill(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
