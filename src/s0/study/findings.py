"""What a comparison says, in words that claim no more than its test."""

from __future__ import annotations

from s0.study.tables import Contrast, Interval, Row

_LEVEL = 0.05

AHEAD, BEHIND, NOT_SHOWN, NOT_TESTED = "ahead", "behind", "no difference shown", ""
"""What can be said; of the first two also that it holds on these problems."""
ON_THESE = ", on these problems"


def finding(compared: Row | Contrast) -> str:
    """What can be said of a difference.

    Args:
        compared: a row beside its reference, or a contrast's second beside its first.

    Returns:
        `AHEAD` or `BEHIND` where the test says so after Holm's adjustment, and the crossed interval for other problems
        too; with `ON_THESE` where that one includes 0, or there is none; `NOT_SHOWN`, or `NOT_TESTED`.
    """
    difference = difference_of(compared)
    if difference is None or compared.p_holm is None or _says_nothing(difference):
        return NOT_TESTED
    if compared.p_holm >= _LEVEL:
        return NOT_SHOWN
    direction = AHEAD if difference[0] > 0 else BEHIND
    return direction if excludes_zero(compared.crossed) else direction + ON_THESE


def difference_of(compared: Row | Contrast) -> Interval | None:
    """Of a row over its reference, or of a contrast; None for the reference itself."""
    return compared.gain if isinstance(compared, Row) else compared.difference


def excludes_zero(interval: Interval | None) -> bool:
    """Whether an interval lies on one side of 0; none does not."""
    return interval is not None and (interval[1] > 0 or interval[2] < 0)


def _says_nothing(difference: Interval) -> bool:
    """Seeds that all agree leave a t-test nothing to go by."""
    _, low, high = difference
    return high - low < 1e-9
