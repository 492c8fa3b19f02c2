"""What a comparison says, in words that claim no more than its test."""

from __future__ import annotations

from s0.study.tables import Contrast, Interval, Row

_LEVEL = 0.05

AHEAD, BEHIND, NOT_SHOWN, NOT_TESTED = "ahead", "behind", "no difference shown", "not tested"
ON_THESE, OF_THIS_TRAINING = ", on these problems", ", of this training"
"""What narrows the first two: to the problems that were asked, or to the one training that was done."""


def finding(compared: Row | Contrast) -> str:
    """What can be said of a difference.

    Args:
        compared: a row beside its reference, or a contrast's second beside its first.

    Returns:
        `AHEAD` or `BEHIND` where the test says so after Holm's adjustment, and the crossed interval for other problems
        too; with `ON_THESE` where that one includes 0, or there are too few seeds for one, with `OF_THIS_TRAINING`
        where there is one seed, and the test is over problems; `NOT_SHOWN`, or `NOT_TESTED`.
    """
    difference = difference_of(compared)
    if difference is None or compared.p_holm is None:
        return NOT_TESTED
    if compared.p_holm >= _LEVEL:
        return NOT_SHOWN
    direction = AHEAD if difference[0] > 0 else BEHIND
    if compared.seeds == 1:
        return direction + OF_THIS_TRAINING
    return direction if _excludes_zero(compared.crossed) else direction + ON_THESE


def difference_of(compared: Row | Contrast) -> Interval | None:
    """Of a row over its reference, or of a contrast; None for the reference itself."""
    return compared.gain if isinstance(compared, Row) else compared.difference


def _excludes_zero(interval: Interval | None) -> bool:
    return interval is not None and (interval[1] > 0 or interval[2] < 0)
