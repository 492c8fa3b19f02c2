"""What to know of a training before its result is believed, each with what to do about it.

    the loss did not fall: 2.58 untouched, 2.83 after; take a lower learning rate

One rule for everybody who tells of a training: the command line, the report, Python's warnings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

FEWEST_SELECT = 10
"""So many select examples it takes for a choice that is more than luck."""

_CHOOSE = "choose the scale on select examples (s0 collect --split select, s0 train --select)"
_MOVED = 1e-3  # a share of the loss: less is no effect
_SHOWS = 1 / 4  # of what the loss fell by in training, at the deployed scale
_LARGE = 10.0  # well above the ladder's own end, 4


class Caution(UserWarning):
    """What `cautions` says, as a warning."""


def cautions(training: Mapping[str, Any]) -> list[str]:
    """What a training's own figures warn of.

    Args:
        training: its account, see `s0.train.account`.
    """
    return [*_of_select(training), *_of_losses(training), *_of_scale(training)]


def _of_select(training: Mapping[str, Any]) -> Iterator[str]:
    n_select, n_shared = training.get("n_select"), training.get("n_select_shared", 0)
    if n_shared:
        yield (
            f"{n_shared} of the {n_select} select examples ask what was learned from, so a choice on them favours what "
            "was learned by heart; take examples of other problems"
        )
    if n_select is not None and n_select < FEWEST_SELECT:
        yield (
            f"a choice on only {n_select} select example{'s' * (n_select != 1)} is mostly luck; take at least "
            f"{FEWEST_SELECT}"
        )


def _of_losses(training: Mapping[str, Any]) -> Iterator[str]:
    before, learned, after = (training.get(name) for name in ("initial_loss", "training_loss", "final_loss"))
    if before is None or learned is None or after is None:
        return  # the deployed scale was chosen by other means than a loss
    alpha = training.get("alpha")
    in_training = before - learned
    rate = "take a higher learning rate or more steps"
    if alpha is not None:
        rate += "; `s0 verify` tells whether states of this model can be learned"
    if "scale" in training:
        scale = (
            "the scale was chosen on select examples; learn from more examples, and look whether they resemble those"
        )
    else:
        scale = f"as trained it is {learned:.4g}: {_CHOOSE}"
    learned_something = in_training > _MOVED * before
    if alpha == 0:
        yield f"the scale (alpha) is 0, so the model answers as if untouched; {_CHOOSE}"
    elif after >= before and not math.isclose(after, before, rel_tol=_MOVED):
        remedy = scale if learned_something else "take a lower learning rate"
        yield f"the loss did not fall: {before:.4g} untouched, {after:.4g} as deployed; {remedy}"
    elif before - after < _MOVED * before:
        yield (
            f"the loss hardly moved: {before:.4g} untouched, {after:.4g} as deployed; "
            f"{scale if learned_something else rate}"
        )
    elif "scale" not in training and before - after < _SHOWS * in_training:
        yield (
            f"little of what was learned shows at the scale (alpha) {alpha:g}: the loss is {before:.4g} untouched, "
            f"{after:.4g} as deployed; {scale}"
        )


def _is_unmoved(training: Mapping[str, Any]) -> bool:
    """Whether a training has learned nothing, so that no scale can be told from another."""
    before, learned = training.get("initial_loss"), training.get("training_loss")
    return before is not None and learned is not None and abs(before - learned) < _MOVED * before


def _of_scale(training: Mapping[str, Any]) -> Iterator[str]:
    scale: Mapping[str, Any] | None = training.get("scale")
    if scale is None or _is_unmoved(training):  # of which `_of_losses` tells the cause
        return
    rungs = sorted(alpha for alpha in scale["alphas"] if alpha > 0)
    if scale["alpha"] == rungs[-1]:
        yield (
            f"the scale {scale['alpha']:g} is the largest that was tried, and the best may lie beyond; train longer, "
            "or at a higher learning rate"
        )
    elif scale["alpha"] > _LARGE:
        yield (
            f"the scale {scale['alpha']:g} is large: what was learned is small and has to be magnified; train longer, "
            "or at a higher learning rate"
        )
    elif scale["alpha"] == rungs[0]:
        yield (
            f"the scale {scale['alpha']:g} is the smallest that was tried: what was learned hardly helps on the select "
            "examples; learn from more examples, or at a lower learning rate"
        )
    if not scale["helps"]:
        yield (
            "no scale was better than the untouched model on the select examples; learn from more examples, and look "
            "whether they resemble the select ones"
        )
