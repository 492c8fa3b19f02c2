"""Learning rate, number of steps and scale, all chosen by the loss on examples that were not learned from.

Every learning rate trains a state of its own, one after the other. Adam's learning rate is constant, so a state trained
for fewer steps is the longer training's state on its way: one training per learning rate holds every number of steps.
Each of these states is then measured at a ladder of scales, as rows of the same batches (`s0.train.scale`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from s0.adapter.attach import alone
from s0.core.layer import TunedLayer
from s0.errors import ConfigError, DatasetError
from s0.progress import Stage, silent
from s0.train.checkpoint import Checkpoint
from s0.train.data import Splits
from s0.train.distributed import Processes
from s0.train.learner import Learner
from s0.train.loop import training_loop
from s0.train.scale import FixedDeployment, ScaleChoice, at_scale, choose_scale, loss_by_state, passing_states
from s0.train.settings import FitSettings, S0Config, require_whole


@dataclass(frozen=True)
class Grid:
    """What is tried: every learning rate with every number of steps.

    What cannot be tried is refused (ConfigError) when it is made.

    Attributes:
        lrs: Adam's learning rates, at least one, all different.
        steps: numbers of optimiser steps, at least one, all different.
    """

    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2)
    steps: Sequence[int] = (10, 20, 40)

    def __post_init__(self) -> None:
        for name in ("lrs", "steps"):
            values = tuple(getattr(self, name))
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"expected different `{name}`, at least one, got {list(values)}")
            object.__setattr__(self, name, values)
        for lr in self.lrs:
            FitSettings(lr=lr)  # checks it
        for n_steps in self.steps:
            require_whole("steps", n_steps, 1)


@dataclass(frozen=True)
class Candidate:
    """A learning rate and a number of steps, and how well they do.

    Attributes:
        lr: Adam's learning rate.
        n_steps: optimiser steps.
        scale: the best scale and what was measured; None where training or every scale gave no finite loss.
        loss: on the select examples, at that scale, in nats per token.
    """

    lr: float
    n_steps: int
    scale: ScaleChoice | None = None
    loss: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """What was tried, and the best of it.

    Attributes:
        candidates: every learning rate with every number of steps.
        best: the candidate with the lowest loss.
        scale: its scale.
        tensors: its state, raw: an (H, K, V) tensor per layer, in layer order.
        losses, norms: at each of its steps, as in `FitResult`.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    scale: ScaleChoice
    tensors: list[Tensor]
    losses: tuple[float, ...]
    norms: tuple[float, ...]


@dataclass(frozen=True)
class Search:
    """A search for the learning rate, the number of steps and the scale that give the best state.

    Attributes:
        model: left as it is.
        layers: its layers that are to have a state, then those that are to have a gain.
        splits: examples to learn from, and of other problems to choose on.
        config: all settings of a state, but for the learning rate, number of steps and scale.
        grid: what is tried.
    """

    model: nn.Module
    layers: Sequence[TunedLayer]
    splits: Splits
    config: S0Config
    grid: Grid = Grid()

    def choose(self, checkpoint: Checkpoint | None = None, stage: Stage = silent) -> SearchResult:
        """Train a state per learning rate and find the best of them, after the best number of steps, at its best scale.

        Args:
            checkpoint: file from which an interrupted search goes on; it holds every learning rate that was begun, the
                finished ones too.
            stage: shows progress.

        Returns:
            all candidates, and the state of the best.

        Raises:
            DatasetError: no candidate has a finite loss. A learning rate whose loss is not finite stops nothing
                otherwise.
            ConfigError, StateMismatchError, CheckpointError: as `fit`.
        """
        learners = self._train(checkpoint, stage)
        tried = [(learner, n_steps) for learner in learners for n_steps in self.grid.steps]
        candidates = self._measure(tried, stage)
        finite = [
            (candidate.loss, candidate, candidate.scale, learner)
            for candidate, (learner, _) in zip(candidates, tried, strict=True)
            if candidate.scale is not None and candidate.loss is not None
        ]
        if not finite:
            raise DatasetError(
                f"expected a finite loss with some learning rate of {list(self.grid.lrs)}, got none; try lower `lrs`"
            )
        _, best, scale, learner = min(finite, key=lambda row: row[0])
        return SearchResult(
            candidates=tuple(candidates),
            best=best,
            scale=scale,
            tensors=learner.copies[best.n_steps],
            losses=tuple(learner.losses[: best.n_steps]),
            norms=tuple(learner.norms[: best.n_steps]),
        )

    def _train(self, checkpoint: Checkpoint | None, stage: Stage) -> list[Learner]:
        """A learner per rate at its end, with its state after each number of steps that it has come to.

        Raises:
            DatasetError: none has come to its end with finite losses.
        """
        lrs, steps = self.grid.lrs, self.grid.steps
        settings = self.config.fit_settings()
        raw = [{layer: nn.Parameter(layer.zero().to(layer.state_device())) for layer in self.layers} for _ in lrs]
        learners = [
            Learner(list(state.values()), replace(settings, lr=lr, n_steps=max(steps)))
            for state, lr in zip(raw, lrs, strict=True)
        ]
        unscaled = FixedDeployment(1.0, kind=self.config.kind, gains=self.config.gains)
        with (
            passing_states(self.model, [(state, unscaled) for state in raw]) as names,
            training_loop(self.model, learners, Splits(self.splits.train), checkpoint, stage, sorted(steps)) as loop,
        ):
            for name, learner in zip(names, learners, strict=True):
                # A learner that fails says so itself, and the next one's turn comes.
                with alone(self.model, name), suppress(DatasetError):
                    loop.learn(learner)
            if all(learner.failure is not None for learner in learners):
                raise DatasetError(
                    f"expected finite losses with some learning rate of {list(lrs)}, got none; the last one: "
                    f"{learners[-1].failure}; try lower `lrs`"
                )
        return learners

    def _measure(self, tried: Sequence[tuple[Learner, int]], stage: Stage) -> list[Candidate]:
        """A candidate for each learner and number of steps, in their order."""
        tensors = [tensor for learner, _ in tried for tensor in learner.parameters]
        is_main = Processes.of(self.model, tensors).is_main
        candidates = []
        with (stage if is_main else silent)("choosing", len(tried)) as advance:
            for learner, n_steps in tried:
                candidates.append(self._candidate(learner, n_steps))
                advance(1)
        return candidates

    def _candidate(self, learner: Learner, n_steps: int) -> Candidate:
        """A learner's state after so many steps, at its best scale."""
        lr = learner.settings.lr
        if n_steps not in learner.copies:
            return Candidate(lr, n_steps)
        copies = [nn.Parameter(tensor, requires_grad=False) for tensor in learner.copies[n_steps]]
        state = dict(zip(self.layers, copies, strict=True))
        try:
            scale = choose_scale(partial(self._losses, state))
        except DatasetError:
            return Candidate(lr, n_steps)
        return Candidate(lr, n_steps, scale, scale.values[scale.alphas.index(scale.alpha)])

    def _losses(self, state: Mapping[TunedLayer, nn.Parameter], alphas: Sequence[float]) -> list[float]:
        """The select examples' mean loss, in nats per token, with a state at each of `alphas`."""
        config = self.config
        like = FixedDeployment(1.0, config.normalize, config.kind, config.gains)
        with passing_states(self.model, [at_scale(state, alpha, like) for alpha in alphas]) as names:
            return loss_by_state(self.model, names, self.splits.select, batch_tokens=config.batch_tokens)
