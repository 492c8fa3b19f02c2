"""Learning rate, number of steps and scale, all chosen by the loss on examples that were not learned from.

Every learning rate trains a state of its own, all side by side as rows of the same batches. Adam's learning rate is
constant, so a state trained for fewer steps is the longer course's state on its way: one course per learning rate holds
every number of steps. Each of these states is then measured at a ladder of scales, again as rows (`s0.train.scale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from s0.core.states import BASE, StateLayer
from s0.errors import ConfigError, DatasetError
from s0.train.batches import Batch
from s0.train.checkpoint import Checkpoint
from s0.train.fit import Course, FitSettings, Learner, fit_together
from s0.train.processes import Processes
from s0.train.scale import FixedScale, ScaleChoice, choose_scale, loss_by_state, passing_states


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
class Tuned:
    """What was tried, and the best of it.

    Attributes:
        candidates: every learning rate with every number of steps.
        best: the one with the lowest loss.
        scale: the best one's.
        tensors: its state, one (H, K, V) tensor per layer, in layer order.
        losses, norms: its course, as in `FitResult`.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    scale: ScaleChoice
    tensors: list[Tensor]
    losses: tuple[float, ...]
    norms: tuple[float, ...]


def tune(
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
    progress: bool = True,
) -> Tuned:
    """Train a state per learning rate and find the best of them, after the best number of steps, at its best scale.

    Args:
        model: left as it is.
        layers: its layers that are to have a state.
        batches: training examples; repeated once per learning rate, so make them so many times smaller.
        select: examples of other problems, to choose on.
        settings: everything but lr and n_steps.
        normalize: divide each layer's state by its norm before scaling; not while it is trained.
        variant: "state" or "offset".
        lrs, steps: what to try.
        batch_tokens: largest rows x longest row of a forward that measures, in tokens.
        checkpoint: file from which an interrupted training goes on.
        progress: show bars on stderr.

    Raises:
        ConfigError: nothing to try, or something twice; otherwise as `fit_together`.
        DatasetError: no candidate has a finite loss.
        StateMismatchError, CheckpointError: as `fit_together`.
    """
    if not lrs or not steps or len(set(lrs)) < len(lrs) or len(set(steps)) < len(steps) or min(steps) < 1:
        raise ConfigError(
            f"expected different learning rates, and different numbers of steps of at least 1, got {list(lrs)} and "
            f"{list(steps)}"
        )
    raw = [{layer: nn.Parameter(layer.effective(BASE)) for layer in layers} for _ in lrs]
    with passing_states(model, [(state, FixedScale(1.0, variant=variant)) for state in raw]) as names:
        learners = [
            Learner(name, list(state.values()), replace(settings, lr=lr, n_steps=max(steps)))
            for name, state, lr in zip(names, raw, lrs, strict=True)
        ]
        courses = fit_together(
            model, batches, learners, keep_at=sorted(steps), checkpoint=checkpoint, progress=progress
        )

    def measured(lr: float, course: Course, n_steps: int) -> Candidate:
        if n_steps not in course.kept:
            return Candidate(lr, n_steps)
        kept = [nn.Parameter(tensor, requires_grad=False) for tensor in course.kept[n_steps]]
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

    main = Processes.found(model, [tensor for state in raw for tensor in state.values()]).is_main
    tried = [(lr, course, n_steps) for lr, course in zip(lrs, courses, strict=True) for n_steps in steps]
    shown = track(tried, "choosing", console=Console(stderr=True), disable=not (progress and main))
    candidates = tuple(measured(*one) for one in shown)
    finite = [(one, one.scale, course) for one, (_, course, _) in zip(candidates, tried, strict=True) if one.scale]
    if not finite:
        raise DatasetError(f"expected a finite loss with some learning rate of {list(lrs)}, got none; try lower ones")
    best, scale, course = min(finite, key=lambda one: one[0].loss or 0.0)
    return Tuned(
        candidates,
        best,
        scale,
        course.kept[best.n_steps],
        course.losses[: best.n_steps],
        course.norms[: best.n_steps],
    )
