"""The training loop, and everything that can come between its steps.

The story of a step, from data to new tensors:

1. `s0.train.data.prepare` has tokenised the examples, once, and grouped them into right-padded micro-batches.
2. `training_loop` readies the model: gradients for the trained tensors alone, dropout off; every process has the same
   tensors.
3. `Loop.resume` lets every `LearnerState` go on from where a checkpoint, if there is one, has left it.
4. `Loop.learn` begins a step: it keeps or judges the tensors as they are, and ends after the last step.
5. `Loop._accumulate_gradients` adds up the gradients of the micro-batches, from their rows' losses (`Batch.losses`).
   Where memory does not hold a micro-batch, the step begins again with smaller ones (`s0.train.room`).
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from s0.adapter.fingerprint import dtype_entry, fingerprint
from s0.core.bound import refuse_wrong_gradients
from s0.core.states import state_layers
from s0.errors import CheckpointError, DatasetError, StateMismatchError
from s0.progress import Advance, Stage, silent
from s0.train.checkpoint import Checkpoint, Signals, Stopped, signals_kept_back
from s0.train.data import Batch, Splits
from s0.train.distributed import Processes
from s0.train.learner import LearnerState
from s0.train.modes import training_mode
from s0.train.room import Result, Room

_ADVICE = "; lower `lr`, or leave the example out"


@dataclass(frozen=True)
class Loop:
    """The loop, and what it works on: the learners of one training, of which each takes all its steps in turn."""

    model: nn.Module
    learners: Sequence[LearnerState]
    splits: Splits
    keep_at: Sequence[int]
    checkpoint: Checkpoint | None
    identity: Mapping[str, Any]
    processes: Processes
    signals: Signals
    advance: Advance
    room: Room = field(default_factory=Room)

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
                learner.judge(self.mean_loss(self.splits.select))
            if step == learner.settings.n_steps or learner.is_out_of_patience:
                self._save_end()
                return
            # 5., 6. The gradients of all examples.
            loss, fault = self._in_room(self.splits.train, partial(self._accumulate_gradients, learner))
            # 7. New tensors, or the last good ones.
            if fault is None:
                learner.step(loss)
            else:
                learner.fail(loss, f"{fault} at step {step}")
            # 8. Telling and saving.
            if learner.failure is None:
                progress = f"{len(learner.norms)}/{learner.settings.n_steps}"
                self.advance(1, f"{progress}  loss {learner.losses[-1]:.4f}  norm {learner.norms[-1]:.3f}")
            if self.checkpoint is not None and (step + 1) % self.checkpoint.every == 0:
                self.save()
        raise DatasetError(f"{learner.failure}{_ADVICE}")

    def _accumulate_gradients(self, learner: LearnerState, batches: Sequence[Batch]) -> tuple[float, str | None]:
        """The mean loss, and what is wrong with it; where nothing is, the learner's tensors have its gradients."""
        learner.optimizer.zero_grad()
        n_examples = sum(len(batch.names) for batch in batches)
        shares = torch.zeros(len(batches), dtype=torch.float64)  # of each batch in the mean loss
        faults = torch.zeros(len(batches), dtype=torch.int64)  # 1 + the first row that is not finite
        # 5. Micro-batch by micro-batch, so that memory holds the activations of one.
        with self.processes.together():
            for i, batch in self.processes.part_of(batches):
                self.signals.check()
                losses = self._losses(batch)
                wrong = (~torch.isfinite(losses)).nonzero()
                if len(wrong):
                    row = int(wrong[0, 0])
                    shares[i], faults[i] = losses[row].item(), row + 1
                    break
                mean = losses.sum() / n_examples
                mean.backward()  # type: ignore[no-untyped-call]
                shares[i] = mean.item()
        # 6. What all processes have come to.
        shares, faults = self.processes.sum(shares), self.processes.sum(faults)
        total = 0.0
        for batch, share, fault in zip(batches, shares.tolist(), faults.tolist(), strict=True):
            if fault:
                return share, f"the loss of {batch.names[fault - 1]} is {share}"
            total += share
        self.processes.sum_gradients(learner.parameters)
        return total, None

    def _losses(self, batch: Batch) -> Tensor:
        """(B,) float32: the losses of the batch's rows, as the model is."""
        with self.processes.autocast(self.model):
            return batch.losses(self.model)

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """As `s0.train.fitting.mean_loss`, with every process's share."""
        return self._in_room(batches, self._mean_loss)

    def _in_room(self, batches: Sequence[Batch], work: Callable[[Sequence[Batch]], Result]) -> Result:
        return self.room.for_each(batches, work, n_processes=self.processes.n)

    @torch.no_grad()
    def _mean_loss(self, batches: Sequence[Batch]) -> float:
        losses = [torch.zeros(len(batch.names), device=self.processes.device) for batch in batches]
        with self.processes.together():
            for i, batch in self.processes.part_of(batches):
                self.signals.check()
                losses[i] = self._losses(batch)
        return mean_of(self.processes.sum(torch.cat(losses)), batches)

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
        training_mode(model, parameters, learners[0].settings.gradient_checkpointing),
        (stage if processes.is_main else silent)("training", n_steps) as advance,
    ):
        loop = Loop(model, learners, splits, keep_at, checkpoint, identity, processes, signals, advance)
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
        (layer.scales[name].alpha, layer.scales[name].normalize)
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


def mean_of(losses: Tensor, batches: Sequence[Batch]) -> float:
    """The mean of all rows' losses.

    Args:
        losses: (N,) in nats per token, of all rows of all batches in order.
        batches: these batches, for the rows' names.

    Returns:
        the mean, in nats per token.

    Raises:
        DatasetError: one is not finite; names the example.
    """
    faults = (~torch.isfinite(losses)).nonzero()
    if len(faults):
        names, row = [name for batch in batches for name in batch.names], int(faults[0, 0])
        raise DatasetError(f"the loss of {names[row]} is {losses[row].item()} at evaluation{_ADVICE}")
    return float(losses.mean())
