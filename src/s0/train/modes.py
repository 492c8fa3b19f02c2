"""The model as it is while it trains or is measured, put back afterwards: scale, gradients, dropout, recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from s0.core.families import unwrapped
from s0.core.flags import Flags
from s0.core.row_choice import RowsUnderCheckpointing
from s0.core.states import Deployment, state_layers
from s0.errors import ConfigError


@contextmanager
def unscaled(model: nn.Module) -> Iterator[None]:
    """Within this context every state of `model` enters as it is: alpha 1, no normalisation."""
    in_use = [deployment for layer in state_layers(model) for deployment in layer.deployments.values()]
    deployments: dict[int, Deployment] = {id(deployment): deployment for deployment in in_use}
    before = [(deployment, deployment.alpha, deployment.normalize) for deployment in deployments.values()]
    try:
        for deployment in deployments.values():
            deployment.alpha, deployment.normalize = 1.0, False
        yield
    finally:
        for deployment, alpha, normalize in before:
            deployment.alpha, deployment.normalize = alpha, normalize


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Within this context the model computes as in generation; its modules' modes are put back."""
    flags = Flags(model)
    try:
        model.eval()
        yield
    finally:
        flags.put_back(model)


@contextmanager
def frozen_except(model: nn.Module, parameters: Sequence[nn.Parameter], *, recompute: bool) -> Iterator[None]:
    """Within this context only `parameters` get gradients, dropout is off, and activations are recomputed if asked.

    Args:
        model: put back afterwards, with its parameters' flags and its modules' modes.
        parameters: that are trained; not all need to be the model's.
        recompute: whether to make activations again in the backward pass.

    Raises:
        ConfigError: the model cannot make activations again.
    """
    flags = Flags(model, *parameters)
    try:
        model.eval()
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        with _checkpointed(model) if recompute else nullcontext():
            yield
    finally:
        flags.put_back(model)


@contextmanager
def _checkpointed(model: nn.Module) -> Iterator[None]:
    """Recompute the layers of an eval-mode model in the backward pass; the modules inside them stay in eval mode."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"expected {type(unwrapped(model)).__name__} to support gradient checkpointing, but no layer of it does; "
            "set `gradient_checkpointing=False`"
        )
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = [(layer, {name: vars(layer)[name] for name in names if name in vars(layer)}) for layer in layers]
    try:
        for layer in layers:
            recompute = RowsUnderCheckpointing(partial(checkpoint, use_reentrant=False))
            vars(layer).update(gradient_checkpointing=True, _gradient_checkpointing_func=recompute)
            layer.training = True  # layers checkpoint only in train mode
        yield
    finally:
        for layer, attributes in before:
            for name in names:
                vars(layer).pop(name, None)
            vars(layer).update(attributes)
