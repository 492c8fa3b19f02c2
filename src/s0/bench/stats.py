"""Rates with intervals, paired comparisons, pass@k. Every function says which test or interval it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from s0.errors import ConfigError

_RESAMPLES, _BOOTSTRAP_SEED = 10_000, 0


@dataclass(frozen=True)
class Rate:
    """A share of problems with its 95% Wilson interval."""

    count: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two answers to each of the same problems, compared pair by pair.

    Attributes:
        n: problems.
        difference: second pass rate minus first.
        low, high: 95% interval of the difference, bootstrap over problems (percentile, 10,000 resamples, seeded).
        p_value: McNemar's exact test, two-sided: binomial on the problems whose verdict flipped.
        gained: indices that fail first and pass second.
        lost: indices that pass first and fail second.
    """

    n: int
    difference: float
    low: float
    high: float
    p_value: float
    gained: tuple[int, ...]
    lost: tuple[int, ...]


def rate(passed: Sequence[bool]) -> Rate:
    """The share of True, with a 95% Wilson interval."""
    if not passed:
        raise ConfigError("expected at least one verdict, got none")
    result = stats.binomtest(sum(passed), len(passed))
    interval = result.proportion_ci(0.95, method="wilson")
    return Rate(sum(passed), len(passed), sum(passed) / len(passed), float(interval.low), float(interval.high))


def compare(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """Compare two sets of verdicts on the same problems, in the same order."""
    if len(first) != len(second) or not first:
        raise ConfigError(f"expected verdicts on the same problems, got {len(first)} and {len(second)}")
    gained = tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if b and not a)
    lost = tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a and not b)
    n, flips = len(first), len(gained) + len(lost)
    p_value = float(stats.binomtest(len(gained), flips, 0.5).pvalue) if flips else 1.0
    # A resample of problems is a draw of (gained, lost, rest) counts: the difference needs no more.
    shares = [len(gained) / n, len(lost) / n, 1 - flips / n]
    draws = np.random.default_rng(_BOOTSTRAP_SEED).multinomial(n, shares, size=_RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / n, [2.5, 97.5])
    return Comparison(n, (len(gained) - len(lost)) / n, float(low), float(high), p_value, gained, lost)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ConfigError(f"expected 0 <= correct <= n and 1 <= k <= n, got n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% t-interval over seeds: (mean, low, high)."""
    if len(values) < 2:
        raise ConfigError(f"expected at least two values for an interval, got {len(values)}")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0.0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    return mean, float(low), float(high)
