"""Training anything with trainable parameters: a state, LoRA, a prefix.

Each step sees the whole training set: the loss is the mean over examples of each example's mean completion loss, so it
does not depend on how the examples are split into micro-batches, or the micro-batches over processes. Adam; L2 on the
trained tensors; gradient-norm clip. The loop itself is `s0.train.loop.Loop`, which tells the story of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from s0.errors import ConfigError
from s0.progress import Stage, silent
from s0.train.checkpoint import Checkpoint
from s0.train.data import Splits
from s0.train.learner import Learner
from s0.train.loop import training_loop
from s0.train.modes import unscaled
from s0.train.settings import FitSettings


@dataclass(frozen=True)
class FitResult:
    """What training did.

    Attributes:
        losses: the mean completion loss before each step, in nats per token, without the L2 term.
        loss_after: the same with the tensors as they are left, at the scale used in training.
        loss_deployed: the same at the deployed scale.
        norms: the mean norm of the trained tensors after each step.
        best_step: the number of steps after which the tensors were as they are left.
        select_losses: with patience, the mean completion loss of the selection examples after each step, at the scale
            used in training.
    """

    losses: tuple[float, ...]
    loss_after: float
    loss_deployed: float
    norms: tuple[float, ...]
    best_step: int
    select_losses: tuple[float, ...] = ()

    def report(self) -> dict[str, float]:
        """Its losses as trainers report them; those before training are of the tensors that it began with."""
        return {
            "initial_loss": self.losses[0],
            "training_loss": self.loss_after,
            "final_loss": self.loss_deployed,
        }

    def series(self) -> dict[str, Any]:
        """What the account of a training keeps of it, step by step."""
        series = {"losses": self.losses, "norms": self.norms, "best_step": self.best_step}
        return {**series, "select_losses": self.select_losses} if self.select_losses else series


def fit(
    model: nn.Module,
    splits: Splits,
    parameters: Sequence[nn.Parameter],
    settings: FitSettings,
    *,
    checkpoint: Checkpoint | None = None,
    stage: Stage = silent,
) -> FitResult:
    """Train `parameters` in place on all of `splits.train` at every step.

    `requires_grad` of every parameter, train / eval mode and the scale of states are restored afterwards, also when
    something goes wrong. Dropout is off, as in generation. In several processes, see `s0.train.distributed`, each takes
    a share of the batches and all end with the same tensors.

    Args:
        model: with the tensors in it, as it is to compute.
        splits: what to learn from, and the select batches that `settings.patience` looks at; without patience, none.
        parameters: what is trained, of any shapes.
        settings: how.
        checkpoint: where to keep what is needed to go on; it stays when all is done, to be removed when the result is
            safe. With one, Ctrl-C and SIGTERM end the training after the micro-batch at hand with KeyboardInterrupt or
            SystemExit, the parameters as the last whole step left them.
        stage: shows progress.

    Returns:
        the losses and norms on the way, and which step's tensors were kept.

    Raises:
        DatasetError: a loss or gradient is not finite; names the example, and the parameters keep the last values
            that gave a finite loss.
        ConfigError: settings or a model that cannot be trained so; a checkpoint of another training.
        StateMismatchError: a damaged checkpoint.
        CheckpointError: a checkpoint that cannot be written; the parameters are as the last whole step left them.
        UnsupportedModelError: a model that computes logits for more positions than it is asked for.
        EngineError: the gradients of the model's kernels would be wrong (see `s0.core.kernel_backends`); or another
            process failed.
    """
    has_select, has_patience = bool(splits.select), settings.patience is not None
    if has_select != has_patience:
        raise ConfigError(
            f"expected selection examples with patience and only then, got {len(splits.select)} batches of them and "
            f"patience {settings.patience}"
        )
    learner = Learner(parameters, settings)
    with training_loop(model, [learner], splits, checkpoint, stage) as loop:
        with nullcontext() if settings.scale_in_training else unscaled(model):
            loop.learn(learner)
            best_step = learner.take_best()
            loss_after = loop.evaluator.mean_loss(splits.train)
        loss_deployed = loop.evaluator.mean_loss(splits.train)
    return FitResult(
        losses=tuple(learner.losses),
        loss_after=loss_after,
        loss_deployed=loss_deployed,
        norms=tuple(learner.norms),
        best_step=best_step,
        select_losses=tuple(learner.select_losses),
    )
