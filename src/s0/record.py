"""Records of evaluations: the one rule for what a comparison shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEVEL = 0.05
HELPED, HURT, UNCLEAR = "helped", "hurt", "no clear difference"


def effect(comparison: Mapping[str, Any]) -> str:
    """What the standard scoring shows of the second variant: "helped", "hurt" or "no clear difference".

    Clear is a difference whose 95% interval (Tango's) leaves out 0 and whose p-value (McNemar's), adjusted by Holm for
    all comparisons of the record, is at most 0.05. Records say it themselves; those written before they did are judged
    by the same rule.

    Args:
        comparison: of two variants, see `s0.bench.record.comparisons`.
    """
    if "effect" in comparison:
        return str(comparison["effect"])
    standard = comparison["standard"]
    if not standard["p_holm"] <= LEVEL:  # nor NaN
        return UNCLEAR
    return HELPED if standard["low"] > 0 else HURT if standard["high"] < 0 else UNCLEAR
