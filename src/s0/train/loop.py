"""The training loop: gradients of all micro-batches, one step of each learner, and everything that can come between."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from s0.adapter.fingerprint import fingerprint
from s0.core.rows import RowChoice, rows_choose
from s0.core.states import state_layers
from s0.errors import CheckpointError, DatasetError, StateMismatchError
from s0.train.batches import Batch
from s0.train.checkpoint import Checkpoint, Signals, Stopped, signals_kept_back
from s0.train.learning import Learning
from s0.train.modes import training
from s0.train.processes import Processes

_ADVICE = "; lower `lr`, or leave the example out"


@dataclass(frozen=True)
class Run:
    """The loop, and what it works on. With one learner the model computes as it is; several have rows of their own."""

    model: nn.Module
    learners: Sequence[Learning]
    batches: Sequence[Batch]
    select: Sequence[Batch]
    keep_at: Sequence[int]
    checkpoint: Checkpoint | None
    identity: Mapping[str, Any]
    processes: Processes
    signals: Signals
    show: Callable[[Sequence[Learning]], None]

    def learn(self) -> None:
        """Take all steps, or as many as patience allows, and learners are left for."""
        n_steps = self.learners[0].settings.n_steps
        while True:
            going = [one for one in self.learners if one.failure is None]
            if not going:
                raise self._all_failed()
            step = len(going[0].norms)
            if step in self.keep_at:
                for one in going:
                    one.keep()
            if self.select and step > len(going[0].select_losses):
                going[0].judge(self.mean_loss(self.select))
            if step == n_steps or going[0].is_out_of_patience:
                self._save_end()
                return
            for one in going:
                one.optimizer.zero_grad()
            for one, (loss, fault) in zip(going, self._accumulate_gradients(going, step), strict=True):
                if fault is None:
                    one.step(loss)
                else:
                    one.fail(loss, fault)
            self.show(going)
            if self.checkpoint is not None and (step + 1) % self.checkpoint.every == 0:
                self.save()

    def _accumulate_gradients(self, going: Sequence[Learning], step: int) -> list[tuple[float, str | None]]:
        """Each learner's mean loss, and what is wrong with it; where nothing is, its tensors have their gradients."""
        n_examples = sum(len(batch.names) for batch in self.batches)
        shares = torch.zeros(len(going), len(self.batches), dtype=torch.float64)  # of each batch in the mean loss
        faults = torch.zeros(len(going), len(self.batches), dtype=torch.int64)  # 1 + the first row that is not finite
        with self.processes.together():
            for i, batch in self.processes.own(self.batches):
                self.signals.check()
                sound = [c for c in range(len(going)) if not faults[c].any()]
                if not sound:
                    break
                losses = self._losses(batch, [going[c] for c in sound])
                finite = torch.isfinite(losses)
                fine = finite.all(1).tolist()
                means = torch.stack([rows.sum() / n_examples for rows in losses])
                if any(fine):  # rows that are not finite spoil the gradients of their own learner only
                    means[fine].sum().backward()  # type: ignore[no-untyped-call]
                for c, mean, rows, is_fine in zip(sound, means.tolist(), losses, finite, strict=True):
                    shares[c, i] = mean
                    if not is_fine.all():
                        row = int((~is_fine).nonzero()[0, 0])
                        shares[c, i], faults[c, i] = rows[row].item(), row + 1
        shares, faults = self.processes.sum(shares), self.processes.sum(faults)
        sound = [c for c in range(len(going)) if not faults[c].any()]
        self.processes.sum_gradients([parameter for c in sound for parameter in going[c].parameters])
        return [self._outcome(*told, step) for told in zip(shares.tolist(), faults.tolist(), strict=True)]

    def _outcome(self, shares: list[float], faults: list[int], step: int) -> tuple[float, str | None]:
        total = 0.0
        for batch, share, fault in zip(self.batches, shares, faults, strict=True):
            if fault:
                return share, f"the loss of {batch.names[fault - 1]} is {share} at step {step}"
            total += share
        return total, None

    def _losses(self, batch: Batch, going: Sequence[Learning]) -> Tensor:
        """(C, B) float32: the losses of the batch's rows as each of C learners has them."""
        states = [one.state for one in going if one.state is not None]
        with self.processes.autocast(self.model):
            if not states:
                return batch.losses(self.model)[None]
            n, names = len(states), tuple(state for state in states for _ in batch.names)
            copies = replace(
                batch, tokens=batch.tokens.repeat(n, 1), targets=batch.targets.repeat(n, 1), names=batch.names * n
            )
            with rows_choose(RowChoice(names, frozenset(map(id, state_layers(self.model))))):
                return copies.losses(self.model).view(n, -1)

    @torch.no_grad()
    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """As `mean_loss`, with every process's share; for one learner."""
        losses = [torch.zeros(len(batch.names), device=self.processes.device) for batch in batches]
        with self.processes.together():
            for i, batch in self.processes.own(batches):
                self.signals.check()
                losses[i] = self._losses(batch, self.learners)[0]
        return mean_of(self.processes.sum(torch.cat(losses)), batches)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one, and see early whether one can be written."""
        if self.checkpoint is None:
            return
        with self.processes.together():
            held = self.checkpoint.read(self.identity)
            if held is not None:
                self._take_over(*held)
        self.processes.require_same(f"checkpoint {self.checkpoint.path}", json.dumps(self._progress()))
        self.save()

    def _take_over(self, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        assert self.checkpoint is not None
        try:
            for c, one in enumerate(self.learners):
                own = {
                    name.removeprefix(f"{c}."): tensor for name, tensor in tensors.items() if name.startswith(f"{c}.")
                }
                one.resume(progress["learners"][c], own)
        except (StateMismatchError, KeyError, IndexError, TypeError) as error:
            raise self.checkpoint.refused(str(error)) from error

    def save(self) -> None:
        """Write the checkpoint, if there is to be one: what the last whole step has left."""
        if self.checkpoint is None:
            return
        tensors = {f"{c}.{name}": one for c, held in enumerate(self.learners) for name, one in held.tensors().items()}
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
        return {"learners": [one.progress() for one in self.learners]}

    def forget(self) -> None:
        """Remove the checkpoint of a run that has broken down: to go on from it would end the same."""
        if self.checkpoint is not None and self.processes.is_main:
            self.checkpoint.remove()

    def _all_failed(self) -> DatasetError:
        last = max(self.learners, key=lambda one: len(one.losses))
        several = f"no learner is left; the last one, {last.state!r}: " if len(self.learners) > 1 else ""
        return DatasetError(f"{several}{last.failure}{_ADVICE}")


@contextmanager
def run(
    model: nn.Module,
    learners: Sequence[Learning],
    batches: Sequence[Batch],
    checkpoint: Checkpoint | None,
    progress: bool,
    select: Sequence[Batch] = (),
    keep_at: Sequence[int] = (),
) -> Iterator[Run]:
    """A run of the loop from where it was interrupted; ends with the model as it was found and nothing half done."""
    parameters, settings = [parameter for one in learners for parameter in one.parameters], learners[0].settings
    processes = Processes.found(model, parameters)
    identity: dict[str, Any] = {}
    if checkpoint is not None or processes.n > 1:
        identity = _identity(model, learners, batches, select, keep_at)
        resumable = checkpoint is not None and [str(checkpoint.path), checkpoint.every]
        processes.require_same("settings, examples, base model and checkpoint", json.dumps([identity, resumable]))
    processes.share(parameters)
    with (
        signals_kept_back(checkpoint is not None) as signals,
        training(model, parameters, settings.gradient_checkpointing),
        _bar(settings.n_steps, progress and processes.is_main) as show,
    ):
        loop = Run(model, learners, batches, select, keep_at, checkpoint, identity, processes, signals, show)
        for one in learners:
            one.trust()
        loop.resume()
        try:
            yield loop
            with processes.together():
                signals.check()
        except Stopped:
            loop.save()
            raise
        except DatasetError:
            for one in learners:
                one.go_back()
            loop.forget()
            raise
        finally:
            for one in learners:
                one.optimizer.zero_grad()


def _identity(
    model: nn.Module,
    learners: Sequence[Learning],
    batches: Sequence[Batch],
    select: Sequence[Batch],
    keep_at: Sequence[int],
) -> dict[str, Any]:
    """What two runs must agree in for one to go on from the other's checkpoint, as JSON."""
    trained = {id(parameter) for one in learners for parameter in one.parameters}
    scales = {
        (layer.scales[name].alpha, layer.scales[name].normalize)
        for layer in state_layers(model)
        for name, state in layer.s0_state.items()
        if id(state) in trained
    }
    return {
        "model": fingerprint(model),
        "scales": sorted(scales) if learners[0].settings.scale_in_training else None,
        "examples": _digest(batches),
        "selection examples": _digest(select),
        "keep_at": sorted(keep_at),
        "learners": [
            {
                "settings": asdict(one.settings),
                "tensors": [f"{list(parameter.shape)} {parameter.dtype}" for parameter in one.parameters],
            }
            for one in learners
        ],
    }


def _digest(batches: Sequence[Batch]) -> str:
    plain = [[one.tolist() if isinstance(one, Tensor) else one for one in vars(batch).values()] for batch in batches]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def mean_of(losses: Tensor, batches: Sequence[Batch]) -> float:
    """The mean of all rows' losses.

    Raises:
        DatasetError: one is not finite; names the example.
    """
    faults = (~torch.isfinite(losses)).nonzero()
    if len(faults):
        names, row = [name for batch in batches for name in batch.names], int(faults[0, 0])
        raise DatasetError(f"the loss of {names[row]} is {losses[row].item()} at evaluation{_ADVICE}")
    return float(losses.mean())


@contextmanager
def _bar(n_steps: int, shown: bool) -> Iterator[Callable[[Sequence[Learning]], None]]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  norm {task.fields[norm]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("", total=n_steps, loss=math.nan, norm=0.0)

        def show(learners: Sequence[Learning]) -> None:
            going = [one for one in learners if one.failure is None]
            if going:
                loss = sum(one.losses[-1] for one in going) / len(going)
                norm = sum(one.norms[-1] for one in going) / len(going)
                progress.update(task, completed=len(going[0].norms), loss=loss, norm=norm)

        yield show
