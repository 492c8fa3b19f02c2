"""The training loop, and everything that can come between its steps.

The story of a step, from data to new tensors:

1. `s0.train.data.prepare` has tokenised the examples, once, and grouped them into right-padded micro-batches.
2. `training_loop` readies the model: gradients for the trained tensors alone, dropout off; every process has the same
   tensors.
3. `Loop.resume` lets every `LearnerState` go on from where a checkpoint, if there is one, has left it.
4. `Loop.learn` begins a step: it keeps or judges the tensors as they are, and ends after the last step.
5. `Evaluator.each` has the gradients of the micro-batches added up, from their rows' losses (`Batch.losses`). A
   micro-batch that memory does not hold is computed in halves (`s0.train.room`).
6. `Processes.sum` and `sum_gradients` give every process what all have come to; losses that are not finite are named.
7. `LearnerState.step` adds the gradient of the L2 term, clips the norm and lets Adam update the tensors; after what is
   not finite, `LearnerState.fail` takes the last good ones again.
8. `Loop.learn` tells how it goes, and `Loop.save` replaces the checkpoint every so many steps; then comes 4 again.
9. `fit` takes the best tensors and measures them, or `Search` chooses among those that were kept; `training_loop` puts
   the model back.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from s0.adapter.fingerprint import dtype_entry, fingerprint
from s0.core.bound import refuse_wrong_gradients
from s0.core.states import state_layers
from s0.errors import CheckpointError, DatasetError, StateMismatchError
from s0.progress import Advance, Stage, silent
from s0.train.checkpoint import Checkpoint, Stopped, signals_kept_back
from s0.train.data import Batch, Splits
from s0.train.distributed import Processes
from s0.train.evaluator import ADVICE, Evaluator, Losses
from s0.train.learner import LearnerState
from s0.train.modes import frozen_except
from s0.train.room import Rows


@dataclass(frozen=True)
class Loop:
    """The loop, and what it works on: the learners of one training, of which each takes all its steps in turn."""

    evaluator: Evaluator
    learners: Sequence[LearnerState]
    splits: Splits
    keep_at: Sequence[int]
    checkpoint: Checkpoint | None
    identity: Mapping[str, Any]
    advance: Advance

    @property
    def processes(self) -> Processes:
        """That train together."""
        return self.evaluator.processes

    def learn(self, learner: LearnerState) -> None:
        """Take all steps of a learner, or as many as its patience allows, from where it is.

        Raises:
            DatasetError: a loss or gradient is not finite; names the example. The learner keeps the last good tensors
                and what it has kept so far.
        """
        while learner.failure is None:
            step = len(learner.norms)
            # 4. What the steps so far have come to.
            if step in self.keep_at:
                learner.keep()
            if self.splits.select and step > len(learner.select_losses):
                learner.judge(self.evaluator.mean_loss(self.splits.select))
            if step == learner.settings.n_steps or learner.is_out_of_patience:
                self._save_end()
                return
            # 5., 6. The gradients of all examples.
            losses = self._take_gradient(learner)
            # 7. New tensors, or the last good ones.
            if losses.fault is None:
                learner.step(losses.mean)
            else:
                learner.fail(losses.mean, f"{losses.fault} at step {step}")
            # 8. Telling and saving.
            if learner.failure is None:
                progress = f"{len(learner.norms)}/{learner.settings.n_steps}"
                self.advance(1, f"{progress}  loss {learner.losses[-1]:.4f}  norm {learner.norms[-1]:.3f}")
            if self.checkpoint is not None and (step + 1) % self.checkpoint.every == 0:
                self.save()
        raise DatasetError(f"{learner.failure}{ADVICE}")

    def _take_gradient(self, learner: LearnerState) -> Losses:
        """What every example loses; the learner's tensors have the gradient of the mean."""
        learner.optimizer.zero_grad()
        n_examples = sum(len(batch.names) for batch in self.splits.train)
        losses = self.evaluator.each(self.splits.train, partial(self._add_gradient, learner, n_examples))
        self.processes.sum_gradients(learner.parameters)
        return losses

    def _add_gradient(self, learner: LearnerState, n_examples: int, rows: Rows) -> Tensor:
        losses = self.evaluator.of_rows(rows)
        # Added when it is whole: where memory runs out on the way, nothing is left of it.
        share = losses.sum() / n_examples
        learner.add_gradient(torch.autograd.grad(share, learner.parameters, materialize_grads=True))
        return losses

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one, and see early whether one can be written."""
        if self.checkpoint is None:
            return
        with self.processes.together():
            stored = self.checkpoint.read(self.identity)
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
            raise self.checkpoint.refused(str(error)) from error

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
                self.checkpoint.write(self.identity, self._progress(), tensors)

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
    learners: Sequence[LearnerState],
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
        EngineError: gradients of the model's kernels would be wrong (see `s0.core.bound`).
        ConfigError, StateMismatchError, CheckpointError, DatasetError: as `s0.train.fitting.fit`.
    """
    refuse_wrong_gradients(model)
    parameters = [parameter for learner in learners for parameter in learner.parameters]
    n_steps = sum(learner.settings.n_steps for learner in learners)
    processes = Processes.of(model, parameters)
    identity: dict[str, Any] = {}
    if checkpoint is not None or processes.n > 1:
        identity = _identity(model, learners, splits, keep_at)
        resumable = checkpoint is not None and [str(checkpoint.path), checkpoint.every]
        processes.require_same("settings, examples, base model and checkpoint", json.dumps([identity, resumable]))
    # 2. The model as it is while it trains.
    processes.share(parameters)
    with (
        signals_kept_back(checkpoint is not None) as signals,
        frozen_except(model, parameters, recompute=learners[0].settings.gradient_checkpointing),
        (stage if processes.is_main else silent)("training", n_steps) as advance,
    ):
        loop = Loop(Evaluator(model, processes, signals), learners, splits, keep_at, checkpoint, identity, advance)
        # 3. From the start, or from where a checkpoint has left the learners.
        for learner in learners:
            learner.trust()
        loop.resume()
        advance(sum(len(learner.norms) for learner in learners), earlier=True)
        try:
            yield loop  # 4. to 8., and 9.
            with processes.together():
                signals.check()
        except Stopped:
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


def _identity(
    model: nn.Module,
    learners: Sequence[LearnerState],
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
        **dtype_entry(model),
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
    plain = [
        [value.tolist() if isinstance(value, Tensor) else value for value in vars(batch).values()] for batch in batches
    ]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
