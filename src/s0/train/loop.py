"""The training loop, and everything that can come between its steps.

The story of a training, phase by phase:

    prepare     `s0.train.data.prepare` has tokenised the examples, once, and grouped them into right-padded
                micro-batches.
    ready       `training_loop` readies the model: gradients for the trained tensors alone, dropout off; every process
                has the same tensors.
    resume      `Loop.resume` lets every `Learner` go on from where a checkpoint, if there is one, has left it.

    `Loop.learn` takes the steps of a learner, and each of them is:

    look back   keep or judge the tensors as they are; after the last step, end here.
    gradient    `Evaluator.each` has the gradients of the micro-batches added up, from their rows' losses
                (`Batch.losses`). A micro-batch that memory does not hold is computed in halves (`s0.train.room`). Then
                every process has what all have come to (`Processes.sum`, `sum_gradients`).
    update      `Learner.step` adds the gradient of the L2 term, clips the norm, lets Adam update the tensors and
                brings them to where they have to be (`FitSettings.project`); after what is not finite, which is named,
                `Learner.fail` takes the last good ones again.
    tell        show progress; so it is after each micro-batch, since a step may take long.
    save        replace the checkpoint, every so many steps.

    result      `fit` takes the best tensors and measures them, or `Search` chooses among those that were kept.
    put back    `training_loop` leaves the model as it was.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s0.adapter.fingerprint import fingerprint, rounding_entry
from s0.core.kernel_backends import refuse_wrong_gradients
from s0.core.states import state_layers
from s0.errors import CheckpointError, DatasetError, EngineError, StateMismatchError
from s0.progress import Advance, Stage, silent
from s0.train.checkpoint import Checkpoint, Stopped, signals_kept_back
from s0.train.data import Batch, Splits
from s0.train.distributed import Processes
from s0.train.evaluator import ADVICE, Evaluator, Losses
from s0.train.learner import Learner
from s0.train.modes import frozen_except
from s0.train.room import Rows


@dataclass(frozen=True)
class Loop:
    """The loop, and what it works on: the learners of one training, of which each takes all its steps in turn."""

    evaluator: Evaluator
    learners: Sequence[Learner]
    splits: Splits
    keep_at: Sequence[int]
    checkpoint: Checkpoint | None
    terms: Mapping[str, Any]
    advance: Advance

    @property
    def processes(self) -> Processes:
        """That train together."""
        return self.evaluator.processes

    def learn(self, learner: Learner) -> None:
        """Take all steps of a learner, or as many as its patience allows, from where it is.

        Raises:
            DatasetError: a loss or gradient is not finite; names the example. The learner keeps the last good tensors
                and what it has kept so far.
        """
        while learner.failure is None:
            self._look_back(learner)
            if learner.is_finished:
                self._save_end()
                return
            losses = self._gradient(learner)
            self._update(learner, losses)
            self._tell(learner, 0)
            self._save_in_turn(learner)
        raise DatasetError(f"{learner.failure}{ADVICE}")

    def _look_back(self, learner: Learner) -> None:
        """Keep or judge what the steps so far have come to."""
        if learner.steps_done in self.keep_at:
            learner.keep()
        if self.splits.select and learner.is_unjudged:
            learner.judge(self.evaluator.mean_loss(self.splits.select))

    def _gradient(self, learner: Learner) -> Losses:
        """What every example loses; the learner's tensors have the gradient of the mean."""
        learner.optimizer.zero_grad()
        batches = self.splits.train
        whole_weight = sum(float(batch.weights.sum()) for batch in batches)
        n_own = sum(len(batch.names) for _, batch in self.processes.part_of(batches))

        def work(rows: Rows) -> Tensor:
            losses = self._add_gradient(learner, whole_weight, rows)
            self._tell(learner, len(rows.names) / n_own)
            return losses

        losses = self.evaluator.each(batches, work)
        self.processes.sum_gradients(learner.parameters)
        return losses

    def _add_gradient(self, learner: Learner, whole_weight: float, rows: Rows) -> Tensor:
        losses = self.evaluator.of_rows(rows)
        # Added when it is whole: where memory runs out on the way, nothing is left of it.
        share = (losses * rows.weights.to(losses)).sum() / whole_weight
        learner.add_gradient(torch.autograd.grad(share, learner.parameters, materialize_grads=True))
        return losses

    def _update(self, learner: Learner, losses: Losses) -> None:
        """New tensors, or the last good ones."""
        if losses.fault is None:
            learner.step(losses.mean)
        else:
            learner.fail(losses.mean, f"{losses.fault} at step {learner.steps_done}")

    def _tell(self, learner: Learner, share: float) -> None:
        """Show that so much of a step was done, and what the last whole step has come to."""
        note = f"{learner.steps_done}/{learner.settings.n_steps}"
        if learner.steps_done:
            note += f"  loss {learner.losses[learner.steps_done - 1]:.4f}  norm {learner.norms[-1]:.3f}"
        self.advance(share, note)

    def _save_in_turn(self, learner: Learner) -> None:
        if self.checkpoint is not None and learner.steps_begun % self.checkpoint.every == 0:
            self.save()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one, and see early whether one can be written."""
        if self.checkpoint is None:
            return
        with self.processes.together():
            stored = self.checkpoint.read(self.terms)
            if stored is not None:
                self._take_over(*stored)
        self.processes.require_same(f"checkpoint {self.checkpoint.path}", json.dumps(self._progress()))
        self.save()

    def _take_over(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        assert self.checkpoint is not None
        try:
            for i, learner in enumerate(self.learners):
                start = f"{i}."
                named = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
                learner.resume(progress["learners"][i], named)
        except (StateMismatchError, KeyError, IndexError, TypeError) as error:
            raise self.checkpoint.damaged_error(str(error)) from error

    def save(self) -> None:
        """Write the checkpoint, if there is to be one: what the last whole step has left."""
        if self.checkpoint is None:
            return
        tensors = {
            f"{i}.{name}": tensor
            for i, learner in enumerate(self.learners)
            for name, tensor in learner.tensors().items()
        }
        with self.processes.together():
            if self.processes.is_main:
                self.checkpoint.write(self.terms, self._progress(), tensors)

    def _save_end(self) -> None:
        """Write what all steps have left. Where there is no room for it, the result itself may still be saved."""
        try:
            self.save()
        except CheckpointError as error:
            warnings.warn(f"the training goes on to its end without its last checkpoint: {error}", stacklevel=2)

    def _progress(self) -> dict[str, Any]:
        return {"learners": [learner.progress() for learner in self.learners]}

    def forget(self) -> None:
        """Remove the checkpoint of a training that has broken down: to go on from it would end the same."""
        if self.checkpoint is not None and self.processes.is_main:
            self.checkpoint.remove()


@contextmanager
def training_loop(
    model: nn.Module,
    learners: Sequence[Learner],
    splits: Splits,
    checkpoint: Checkpoint | None,
    stage: Stage,
    keep_at: Sequence[int] = (),
) -> Iterator[Loop]:
    """The loop, from where it was interrupted; ends with the model as it was before and nothing half done.

    Args:
        model: as it is to compute.
        learners: one or more; of several, each has tensors of its own, and the model is to compute with those of the
            learner at work. What their settings say of gradient checkpointing and scale in training is the same.
        splits: what to learn from, and what patience looks at.
        checkpoint: a file for all learners, the finished ones too.
        stage: shows progress.
        keep_at: numbers of steps after which a learner's tensors are copied.

    Raises:
        EngineError: gradients of the model's kernels would be wrong (see `s0.core.kernel_backends`).
        ConfigError, StateMismatchError, CheckpointError, DatasetError: as `s0.train.fitting.fit`.
    """
    refuse_wrong_gradients(model)
    parameters = [parameter for learner in learners for parameter in learner.parameters]
    n_steps = sum(learner.settings.n_steps for learner in learners)
    processes = Processes.of(model, parameters)
    terms: dict[str, Any] = {}
    if checkpoint is not None or processes.n > 1:
        terms = _terms(model, learners, splits, keep_at)
        resumable = checkpoint is not None and [str(checkpoint.path), checkpoint.every]
        processes.require_same("settings, examples, base model and checkpoint", json.dumps([terms, resumable]))
    processes.share(parameters)
    with (
        signals_kept_back(checkpoint is not None) as signals,
        frozen_except(model, parameters, recompute=learners[0].settings.gradient_checkpointing),
        (stage if processes.is_main else silent)("training", n_steps) as advance,
    ):
        loop = Loop(Evaluator(model, processes, signals), learners, splits, keep_at, checkpoint, terms, advance)
        for learner in learners:
            learner.trust()
        loop.resume()
        advance(sum(learner.steps_done for learner in learners), earlier=True)
        try:
            yield loop
            with processes.together():
                signals.check()
        except (Stopped, EngineError):
            loop.save()
            raise
        except DatasetError:
            for learner in learners:
                learner.go_back()
            loop.forget()
            raise
        finally:
            for learner in learners:
                learner.optimizer.zero_grad()


def _terms(
    model: nn.Module,
    learners: Sequence[Learner],
    splits: Splits,
    keep_at: Sequence[int],
) -> dict[str, Any]:
    """What two trainings must agree in for one to go on from the other's checkpoint, as JSON."""
    trained = {id(parameter) for learner in learners for parameter in learner.parameters}
    scales = {
        (layer.deployments[name].alpha, layer.deployments[name].normalize)
        for layer in state_layers(model)
        for name, state in layer.s0_state.items()
        if id(state) in trained
    }
    return {
        "model": fingerprint(model),
        **rounding_entry(model),
        "scales": sorted(scales) if learners[0].settings.scale_in_training else None,
        "examples": _digest(splits.train),
        "selection examples": _digest(splits.select),
        "keep_at": sorted(keep_at),
        "learners": [
            {
                "settings": asdict(learner.settings),
                "tensors": [f"{list(parameter.shape)} {parameter.dtype}" for parameter in learner.parameters],
            }
            for learner in learners
        ],
    }


def _digest(batches: Sequence[Batch]) -> str:
    """Identifies examples; of weights it tells where some are not 1, so that checkpoints of before are known."""
    plain = [
        [batch.tokens.tolist(), batch.predicts.tolist(), batch.targets.tolist(), list(batch.names)] for batch in batches
    ]
    is_weighted = any(bool((batch.weights != 1).any()) for batch in batches)
    weights = [batch.weights.tolist() for batch in batches] if is_weighted else []
    return hashlib.sha256(json.dumps([*plain, *weights]).encode()).hexdigest()
