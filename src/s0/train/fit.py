"""The one training loop, for anything with trainable parameters: states, LoRA, prefixes.

Each step sees the whole training set: the loss is the mean over examples of each example's mean completion loss, so it
does not depend on how the examples are split into micro-batches. Adam; L2 on the trained tensors; gradient-norm clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from s0.core.states import Scale, state_layers
from s0.errors import ConfigError, DatasetError
from s0.train.batches import Batch


@dataclass(frozen=True)
class FitSettings:
    """How to train. The defaults are the published ones (Young 2026).

    Attributes:
        n_steps: optimiser steps, each over all examples.
        lr: Adam's learning rate.
        l2_lambda: weight of the summed squares of the trained tensors in the loss.
        grad_clip: largest gradient norm.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        scale_in_training: train with the deployed scale (the paper's Algorithm 1) instead of 1 (the published code).
    """

    n_steps: int = 20
    lr: float = 1e-3
    l2_lambda: float = 5e-4
    grad_clip: float = 1.0
    gradient_checkpointing: bool = False
    scale_in_training: bool = False

    def __post_init__(self) -> None:
        if type(self.n_steps) is not int or self.n_steps < 1:
            raise ConfigError(f"expected n_steps to be a whole number of at least 1, got {self.n_steps!r}")
        for name, lowest in (("lr", 0.0), ("l2_lambda", 0.0), ("grad_clip", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < lowest:
                raise ConfigError(f"expected {name} to be a finite number of at least {lowest}, got {value!r}")
        if self.lr == 0 or self.grad_clip == 0:
            raise ConfigError("expected lr and grad_clip above 0: nothing would be learned")


@dataclass(frozen=True)
class FitResult:
    """What training did.

    Attributes:
        losses: the mean completion loss before each step, in nats per token, without the L2 term.
        loss_after: the same after the last step, at the scale used in training.
        loss_deployed: the same at the deployed scale.
        norms: the mean norm of the trained tensors after each step.
    """

    losses: tuple[float, ...]
    loss_after: float
    loss_deployed: float
    norms: tuple[float, ...]


def fit(
    model: nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[nn.Parameter],
    settings: FitSettings,
    *,
    progress: bool = True,
) -> FitResult:
    """Train `parameters` in place on all of `batches` at every step.

    `requires_grad` of every parameter, train / eval mode and the scale of states are restored afterwards, also when
    something goes wrong. Dropout is off, as in generation.

    Raises:
        DatasetError: a loss or gradient is not finite; names the example, and the parameters keep the last values
            that gave a finite loss.
    """
    optimizer = torch.optim.Adam(parameters, lr=settings.lr)
    last_good = [parameter.detach().clone() for parameter in parameters]
    losses: list[float] = []
    norms: list[float] = []
    scale = nullcontext() if settings.scale_in_training else unscaled(model)
    with _training(model, parameters, settings.gradient_checkpointing), _bar(settings.n_steps, progress) as bar:
        try:
            with scale:
                for step in range(settings.n_steps):
                    optimizer.zero_grad()
                    losses.append(_accumulate_gradient(model, batches, step))
                    penalty = settings.l2_lambda * torch.stack([p.float().pow(2).sum() for p in parameters]).sum()
                    penalty.backward()  # type: ignore[no-untyped-call]
                    for kept, parameter in zip(last_good, parameters, strict=True):
                        kept.copy_(parameter.detach())
                    norm = torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
                    if not torch.isfinite(norm):
                        raise DatasetError(f"the gradient of step {step} is not finite (norm {norm.item()})" + _ADVICE)
                    optimizer.step()
                    norms.append(_mean_norm(parameters))
                    bar(losses[-1], norms[-1])
                loss_after = mean_loss(model, batches)
            loss_deployed = mean_loss(model, batches)
        except DatasetError:
            with torch.no_grad():
                for kept, parameter in zip(last_good, parameters, strict=True):
                    parameter.copy_(kept)
            raise
        finally:
            optimizer.zero_grad()
    return FitResult(tuple(losses), loss_after, loss_deployed, tuple(norms))


_ADVICE = "; the last values with a finite loss are kept: lower lr, or leave the example out"


def _accumulate_gradient(model: nn.Module, batches: Sequence[Batch], step: int) -> float:
    n_examples, total = sum(len(batch.names) for batch in batches), 0.0
    for batch in batches:
        losses = batch.losses(model)
        _require_finite(losses, batch, f"step {step}")
        loss = losses.sum() / n_examples
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Sequence[Batch]) -> float:
    """The mean over examples of each example's mean completion loss, in nats per token, as the model is now.

    Raises:
        DatasetError: a loss is not finite; names the example.
    """
    per_batch = []
    for batch in batches:
        losses = batch.losses(model)
        _require_finite(losses, batch, "evaluation")
        per_batch.append(losses)
    return float(torch.cat(per_batch).mean())


def _require_finite(losses: Tensor, batch: Batch, when: str) -> None:
    finite = torch.isfinite(losses)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise DatasetError(f"the loss of {batch.names[row]} is {losses[row].item()} at {when}" + _ADVICE)


def _mean_norm(parameters: Sequence[nn.Parameter]) -> float:
    return sum(float(parameter.detach().float().norm()) for parameter in parameters) / len(parameters)


@contextmanager
def unscaled(model: nn.Module) -> Iterator[None]:
    """Within this context every state of `model` enters as it is: alpha 1, no normalisation."""
    scales: dict[int, Scale] = {id(scale): scale for layer in state_layers(model) for scale in layer.scales.values()}
    before = [(scale, scale.alpha, scale.normalize) for scale in scales.values()]
    try:
        for scale in scales.values():
            scale.alpha, scale.normalize = 1.0, False
        yield
    finally:
        for scale, alpha, normalize in before:
            scale.alpha, scale.normalize = alpha, normalize


@contextmanager
def _training(model: nn.Module, parameters: Sequence[nn.Parameter], checkpointing: bool) -> Iterator[None]:
    """Only `parameters` get gradients, dropout is off, and gradient checkpointing is as asked."""
    flags = [(parameter, parameter.requires_grad) for parameter in (*model.parameters(), *parameters)]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        model.eval()
        with _checkpointed(model) if checkpointing else nullcontext():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def _checkpointed(model: nn.Module) -> Iterator[None]:
    """Recompute the layers of an eval-mode model in the backward pass; the modules inside them stay in eval mode."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"expected {type(model).__name__} to support gradient checkpointing, but no layer of it does; "
            "set gradient_checkpointing=False"
        )
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = [(layer, {name: vars(layer)[name] for name in names if name in vars(layer)}) for layer in layers]
    try:
        for layer in layers:
            recompute = partial(checkpoint, use_reentrant=False)
            vars(layer).update(gradient_checkpointing=True, _gradient_checkpointing_func=recompute)
            layer.training = True  # layers checkpoint only in train mode
        yield
    finally:
        for layer, own in before:
            for name in names:
                vars(layer).pop(name, None)
            vars(layer).update(own)


@contextmanager
def _bar(n_steps: int, shown: bool) -> Iterator[Any]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  norm {task.fields[norm]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("", total=n_steps, loss=math.nan, norm=0.0)
        yield lambda loss, norm: progress.update(task, advance=1, loss=loss, norm=norm)
