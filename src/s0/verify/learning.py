"""The gradient that reaches the state is the slope of the loss, and the same in every mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from s0.core.states import state_layers
from s0.verify.check import Check
from s0.verify.running import forward, gradients, logits, loss
from s0.verify.subject import ONE, Comparison, NotApplicable, Subject

STEPS = (2.0**-9, 2.0**-11, 2.0**-13)
"""The steps of finite differences. In a mixture of experts a large one may cross a border of the router, where the loss
jumps; a small one is lost in rounding. A wrong gradient is the slope at none of them."""
SLOPE_TOLERANCE = 1e-3
"""How far the gradient may be off, as a share of the slope: kernels compute in float32 even in a float64 model, and
that much is noise."""
SMALLEST_SLOPE = 0.25
"""The smallest slope that is compared, in nats per unit of the step: a smaller one drowns in that noise."""


def _slope(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 7)
    try:
        model = subject.copy(torch.float64)
    except NotApplicable:
        model = subject.tuned
    states = [layer.s0_state[ONE] for layer in state_layers(model)]
    gradient = gradients(model, loss(logits(model, ids), ids), ONE).double()
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(5)).to(gradient.device)
    direction += gradient.float().sign()  # so that the slope along it is large
    if abs(torch.dot(gradient, direction.double())) < SMALLEST_SLOPE:
        yield Comparison(0.0, SLOPE_TOLERANCE, shows=0.0)
        return
    centre = torch.cat([state.detach().flatten() for state in states])

    def value(point: Tensor) -> float:
        for state, piece in zip(states, torch.split(point, [state.numel() for state in states]), strict=True):
            state.copy_(piece.view(state.shape))
        return loss(logits(model, ids), ids).item()

    errors = []
    with torch.no_grad():
        for step in STEPS:
            points = centre + step * direction, centre - step * direction
            moved = points[0].double() - points[1].double()  # what rounding has left of the step
            change = torch.dot(gradient, moved).item()
            errors.append(abs(value(points[0]) - value(points[1]) - change) / abs(change))
    yield Comparison(min(errors), SLOPE_TOLERANCE)


def _with_a_cache(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 7)
    yield subject.same_gradient(
        lambda: subject.gradients(loss(forward(subject.model, ids, use_cache=True).logits, ids)),
        lambda: subject.gradients(loss(subject.logits(ids), ids)),
    )


def _of_one_token(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 2)

    def of_the_first(length: int) -> Tensor:
        return subject.gradients(loss(subject.logits(ids[:, :length])[:, :1].expand(-1, 2, -1), ids))

    yield subject.same_gradient(partial(of_the_first, 1), partial(of_the_first, 2))


def sum_of(parts: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(parts).sum(0)


def _in_train_mode(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 7)

    def run(training: bool) -> Tensor:
        subject.model.train(training)
        return subject.logits(ids)

    yield subject.same(partial(run, True), partial(run, False))
    if not subject.is_untouched:
        yield subject.same_gradient(
            lambda: subject.gradients(loss(run(True), ids)), lambda: subject.gradients(loss(run(False), ids))
        )


def _checkpointed(subject: Subject, reentrant: bool) -> Iterator[Comparison]:
    ids = subject.tokens(2, 7)
    subject.model.train()
    want = subject.gradients(loss(subject.logits(ids), ids))
    with checkpointing(subject.base, reentrant):
        value = loss(forward(subject.model, ids).logits, ids)
        yield subject.same_gradient(lambda: backward(subject, value), lambda: want)


@contextmanager
def checkpointing(base: Any, reentrant: bool) -> Iterator[None]:
    """Within this context, the model computes its layers again in the backward pass."""
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise NotApplicable("the base model does not support gradient checkpointing")
    base.activation_checkpointing_enable({"use_reentrant": reentrant})
    try:
        yield
    finally:
        base.disable_input_require_grads()
        base.activation_checkpointing_disable()


def backward(subject: Subject, value: Tensor, name: str = ONE) -> Tensor:
    """The gradient as `gradients` gives it, but by a backward pass: reentrant checkpointing knows no other way."""
    subject.tuned.zero_grad()
    torch.autograd.backward(value)
    return torch.cat([layer.s0_state[name].grad.flatten() for layer in subject.layers])


CHECKS = (
    Check("slope", "the gradient = finite differences of the loss, in float64 where small", _slope, on_untouched=False),
    Check("eval = train", "logits and gradient in train mode = in eval mode", _in_train_mode),
    Check("cached gradient", "over a cache = without one", _with_a_cache, on_untouched=False),
    Check("one-token gradient", "of one token = of the first of two", _of_one_token, on_untouched=False),
    *(
        Check(f"checkpointing, {kind}", "the gradient = without", partial(_checkpointed, reentrant=reentrant), False)
        for kind, reentrant in (("reentrant", True), ("not reentrant", False))
    ),
)
