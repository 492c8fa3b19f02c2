"""Learning rate, number of steps and scale, all chosen by the loss on examples that were not learned from.

Every learning rate trains a state of its own, one after the other. Adam's learning rate is constant, so a state trained
for fewer steps is the longer training's state on its way: one training per learning rate holds every number of steps.
Each of these states is then measured at a ladder of scales, as rows of the same batches (`s0.train.scale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor, nn

from s0.adapter.attach import alone
from s0.core.states import BASE, StateLayer
from s0.errors import ConfigError, DatasetError
from s0.progress import Stage, silent
from s0.train.checkpoint import Checkpoint
from s0.train.data import Batch
from s0.train.distributed import Processes
from s0.train.learner import LearnerState
from s0.train.loop import run
from s0.train.scale import FixedScale, ScaleChoice, choose_scale, loss_by_state, passing_states
from s0.train.settings import FitSettings


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
        best: the one with the lowest loss.
        scale: the best one's.
        tensors: its state, one (H, K, V) tensor per layer, in layer order.
        losses, norms: at each of its steps, as in `FitResult`.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    scale: ScaleChoice
    tensors: list[Tensor]
    losses: tuple[float, ...]
    norms: tuple[float, ...]


def search(
    model: nn.Module,
    layers: Sequence[StateLayer],
    batches: Sequence[Batch],
    select: Sequence[Batch],
    settings: FitSettings,
    *,
    normalize: bool,
    variant: str,
    lrs: Sequence[float],
    steps: Sequence[int],
    batch_tokens: int,
    checkpoint: Checkpoint | None = None,
    stage: Stage = silent,
) -> SearchResult:
    """Train a state per learning rate and find the best of them, after the best number of steps, at its best scale.

    Args:
        model: left as it is.
        layers: its layers that are to have a state.
        batches: training examples.
        select: examples of other problems, to choose on.
        settings: everything but lr and n_steps.
        normalize: divide each layer's state by its norm before scaling; not while it is trained.
        variant: "state" or "offset".
        lrs, steps: what to try.
        batch_tokens: largest rows x longest row of a forward that measures, in tokens.
        checkpoint: file from which an interrupted search goes on; it holds every learning rate that was begun, the
            finished ones too.
        stage: shows progress.

    Raises:
        ConfigError: nothing to try, or something twice; otherwise as `fit`.
        DatasetError: no candidate has a finite loss. A learning rate whose loss is not finite stops nothing otherwise.
        StateMismatchError, CheckpointError: as `fit`.
    """
    are_different = len(set(lrs)) == len(lrs) and len(set(steps)) == len(steps)
    are_steps = all(type(n) is int and n >= 1 for n in steps)
    if not lrs or not steps or not are_different or not are_steps:
        raise ConfigError(
            f"expected different learning rates, and different numbers of steps of at least 1, got {list(lrs)} and "
            f"{list(steps)}"
        )
    learners = _trained(model, layers, batches, settings, variant, lrs, steps, checkpoint, stage)

    def measured(learner: LearnerState, n_steps: int) -> Candidate:
        lr = learner.settings.lr
        if n_steps not in learner.kept:
            return Candidate(lr, n_steps)
        kept = [nn.Parameter(tensor, requires_grad=False) for tensor in learner.kept[n_steps]]
        state = dict(zip(layers, kept, strict=True))

        def losses(alphas: Sequence[float]) -> list[float]:
            scales = [FixedScale(alpha, normalize, variant) for alpha in alphas]
            with passing_states(model, [(state, scale) for scale in scales]) as names:
                return loss_by_state(model, names, select, batch_tokens=batch_tokens)

        try:
            scale = choose_scale(losses)
        except DatasetError:
            return Candidate(lr, n_steps)
        return Candidate(lr, n_steps, scale, scale.values[scale.alphas.index(scale.alpha)])

    main = Processes.found(model, [tensor for learner in learners for tensor in learner.parameters]).is_main
    tried = [(learner, n_steps) for learner in learners for n_steps in steps]
    candidates = []
    with (stage if main else silent)("choosing", len(tried)) as advance:
        for learner, n_steps in tried:
            candidates.append(measured(learner, n_steps))
            advance(1)
    finite = [
        (candidate.loss, candidate, candidate.scale, learner)
        for candidate, (learner, _) in zip(candidates, tried, strict=True)
        if candidate.scale is not None and candidate.loss is not None
    ]
    if not finite:
        raise DatasetError(f"expected a finite loss with some learning rate of {list(lrs)}, got none; try lower `lrs`")
    _, best, scale, learner = min(finite, key=lambda row: row[0])
    return SearchResult(
        candidates=tuple(candidates),
        best=best,
        scale=scale,
        tensors=learner.kept[best.n_steps],
        losses=tuple(learner.losses[: best.n_steps]),
        norms=tuple(learner.norms[: best.n_steps]),
    )


def _trained(
    model: nn.Module,
    layers: Sequence[StateLayer],
    batches: Sequence[Batch],
    settings: FitSettings,
    variant: str,
    lrs: Sequence[float],
    steps: Sequence[int],
    checkpoint: Checkpoint | None,
    stage: Stage,
) -> list[LearnerState]:
    """A learner per rate at its end, with its state after each of `steps` that it has come to.

    Raises:
        DatasetError: none has come to its end with finite losses.
    """
    raw = [{layer: nn.Parameter(layer.effective(BASE)) for layer in layers} for _ in lrs]
    learners = [
        LearnerState(list(state.values()), replace(settings, lr=lr, n_steps=max(steps)))
        for state, lr in zip(raw, lrs, strict=True)
    ]
    with (
        passing_states(model, [(state, FixedScale(1.0, variant=variant)) for state in raw]) as names,
        run(model, learners, batches, checkpoint, stage, keep_at=sorted(steps)) as loop,
    ):
        for name, learner in zip(names, learners, strict=True):
            with alone(model, name), suppress(DatasetError):  # then it has failed, and the next one's turn comes
                loop.learn(learner)
        if all(learner.failure is not None for learner in learners):
            raise DatasetError(
                f"expected finite losses with some learning rate of {list(lrs)}, got none; the last one: "
                f"{learners[-1].failure}; try lower `lrs`"
            )
    return learners
