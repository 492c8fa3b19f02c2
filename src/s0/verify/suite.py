"""Every check on one model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from s0.core.families import find_mixers
from s0.core.states import state_layers
from s0.errors import ConfigError, S0Error
from s0.verify import adapters, arrival, gains, generation, learning, padding, row_choice
from s0.verify.check import Check
from s0.verify.subject import Comparison, NotApplicable, Subject, ordinary_tokens

CHECKS: tuple[Check, ...] = (
    *arrival.CHECKS,
    *learning.CHECKS,
    *generation.CHECKS,
    *padding.CHECKS,
    *row_choice.CHECKS,
    *adapters.CHECKS,
    *gains.CHECKS,
)

SAME_WAY = 10.0
"""A fault whose error is up to so many times the untouched model's is the untouched model's."""

SILENT_SHARE = 1 / 3
"""With more checks than this saying nothing, the model is the wrong one to ask."""

HOLDS, FAILS = "holds", "fails"
REFUSED = "refused"
STOCK_TOO = "stock too"
NOT_APPLICABLE = "not applicable"
SAYS_NOTHING = "says nothing"


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        name: the check's.
        what: the check's.
        status: "holds"; "fails"; "refused", with a clear error where that is as good; "stock too", it fails and the
            untouched model fails in the same way; "not applicable", the untouched model cannot do it at all; "says
            nothing", the state has no effect at a compared position, so equality would prove nothing.
        error: the largest error measured, None where nothing was: of logits as a share of the largest one, of
            gradients of the largest entry, of tokens the share that differs.
        tolerance: the largest error that holds; 0 for bit-identical.
        note: why, in words; empty where it holds.
    """

    name: str
    what: str
    status: str
    error: float | None = None
    tolerance: float | None = None
    note: str = ""


def verify(
    model: nn.Module,
    tokenizer: Any = None,
    *,
    checks: Sequence[Check] = CHECKS,
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Check that everything this library promises holds for `model`.

    The model is given two random states for the time being and is left as it was. Checks that need a copy of it are
    not applicable to models of over 200M parameters.

    Args:
        model: an untouched causal language model in float32 or float64, on any device.
        tokenizer: the model's; without it, every token that the model's config does not name is an ordinary one.
        checks: which, by default all.
        progress: called with every result.

    Raises:
        ConfigError: the model is wrapped already, or of lower precision, in which rounding would hide faults.
        UnsupportedModelError: the model has no recurrent state to tune.
    """
    find_mixers(model)
    if state_layers(model) or hasattr(model, "peft_config"):
        raise ConfigError("expected an untouched model, got one with adapters; unload() it, or load it anew")
    dtypes = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    if not dtypes <= {torch.float32, torch.float64}:
        raise ConfigError(
            f"expected a float32 model, in which rounding cannot hide a fault, got {sorted(map(str, dtypes))}; load it "
            "with dtype=torch.float32 (how the state fares in bfloat16 is checked on a copy)"
        )
    results = []
    with _left_as_it_was(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subject = Subject(model, ordinary_tokens(model, tokenizer))
        try:
            for check in checks:
                results.append(_result(check, subject))
                progress(results[-1])
        finally:
            subject.tuned.unload()
    return results


def advice(results: Sequence[Result]) -> str | None:
    """What to do where so many checks say nothing that the others prove little; None where they do not."""
    n_silent = sum(result.status == SAYS_NOTHING for result in results)
    if n_silent <= SILENT_SHARE * len(results):
        return None
    return (
        f"{n_silent} of {len(results)} checks say nothing: a state dies out in this model, or hardly reaches its "
        "logits, before anything is compared. So it is with most random weights: verify the trained ones; or slow the "
        "decay of a random model (A_log -2.5, dt_bias -2) and give it weights that make logits of size 1"
    )


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]
    required = [weight.requires_grad for weight in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in training:
            module.training = was_training
        for weight, was_required in zip(model.parameters(), required, strict=True):
            weight.requires_grad_(was_required)


def _result(check: Check, subject: Subject) -> Result:
    result = partial(Result, check.name, check.what)
    made = _attempt(check, subject)
    if isinstance(made, NotApplicable):
        return result(NOT_APPLICABLE, note=str(made))
    if isinstance(made, Exception):
        words = f"{type(made).__name__}: {str(made).partition(chr(10))[0]}"
        if check.may_be_refused and isinstance(made, S0Error):
            return result(REFUSED, note=words)
        if type(_on_untouched(check, subject)) is type(made):
            return result(NOT_APPLICABLE, note=f"the untouched model cannot do it either: {words}")
        return result(FAILS, note=words)
    worst = max(made, key=_excess)
    if worst.holds:
        if not all(comparison.says_something for comparison in made):
            return result(SAYS_NOTHING, worst.error, worst.tolerance, "the state has died out where it is compared")
        return result(HOLDS, worst.error, worst.tolerance)
    stock = _on_untouched(check, subject)
    if isinstance(stock, list):
        same = max(stock, key=_excess)
        is_as_far_off = worst.is_of_tokens or worst.error <= SAME_WAY * same.error
        if not same.holds and (is_as_far_off or not math.isfinite(same.error)):
            note = f"the untouched model fails in the same way: error {same.error:.1g}"
            return result(STOCK_TOO, worst.error, worst.tolerance, note)
    if not math.isfinite(worst.error):
        return result(FAILS, None, worst.tolerance, "not finite")
    return result(FAILS, worst.error, worst.tolerance)


def _attempt(check: Check, subject: Subject) -> list[Comparison] | Exception:
    try:
        return list(check.run(subject))
    except Exception as error:
        return error
    finally:
        subject.start_afresh()


def _on_untouched(check: Check, subject: Subject) -> list[Comparison] | Exception | None:
    if not check.on_untouched:
        return None
    with subject.untouched():
        return _attempt(check, subject)


def _excess(comparison: Comparison) -> float:
    """How far the error is over what is allowed; infinite where it is not finite."""
    if not math.isfinite(comparison.error):
        return math.inf
    if comparison.tolerance == 0:
        return math.inf if comparison.error > 0 else 0.0
    return comparison.error / comparison.tolerance
