"""How much longer one thing takes than another, from pairs of measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence

from s0.bench import t_interval


def ratio(these: Sequence[float], those: Sequence[float]) -> dict[str, float]:
    """The geometric mean of these : those over pairs, with its 95% t-interval on the log scale."""
    logs = [math.log(this / that) for this, that in zip(these, those, strict=True)]
    mean, low, high = (math.exp(value) for value in t_interval(logs))
    return {"ratio": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
