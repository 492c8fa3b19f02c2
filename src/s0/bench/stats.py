"""Rates with intervals, paired comparisons, pass@k. Every function says which test or interval it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from s0.errors import ConfigError
from s0.record import Rate

_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class PairedRates:
    """Two answers to each of the same problems, compared pair by pair.

    Attributes:
        n: problems.
        difference: second pass rate minus first.
        low, high: 95% interval of the difference, Tango's score interval for paired proportions (`compare` says how).
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


def compare(first: Sequence[bool], second: Sequence[bool]) -> PairedRates:
    """Compare two sets of verdicts on the same problems, in the same order.

    The interval holds every difference that the score test does not reject at 5% (Tango 1998, Statistics in Medicine
    17:891). It lies in [-1, 1] and is never a point: where no verdict flips it is +-z^2 / (n + z^2), for agreement on n
    problems does not show agreement on all. At 0 its test is McNemar's by the normal approximation, so with few flips
    it can exclude 0 by a little while the exact p-value is above 0.05.
    """
    if len(first) != len(second) or not first:
        raise ConfigError(f"expected verdicts on the same problems, got {len(first)} and {len(second)}")
    gained = tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if b and not a)
    lost = tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a and not b)
    n, flips = len(first), len(gained) + len(lost)
    p_value = float(stats.binomtest(len(gained), flips, 0.5).pvalue) if flips else 1.0
    low, high = -_score_bound(len(lost), len(gained), n), _score_bound(len(gained), len(lost), n)
    return PairedRates(n, (len(gained) - len(lost)) / n, low, high, p_value, gained, lost)


def _score_bound(gained: int, lost: int, n: int) -> float:
    """The largest difference, gained minus lost over n, that the score test accepts; the smallest is its mirror."""
    estimate = (gained - lost) / n

    def excess(difference: float) -> float:
        # q is the likeliest share of losses if `difference` holds: 2n q^2 + b q = lost * difference * (1 - difference).
        b = (2 * n - gained + lost) * difference - gained - lost
        root = math.sqrt(max(0.0, b * b + 8 * n * lost * difference * (1 - difference)))
        return n * (difference - estimate) ** 2 - _Z**2 * ((root - b) / (2 * n) + difference * (1 - difference))

    # The estimate itself is a false root where nothing would vary: no flips, or all lost. The true one lies above it.
    return 1.0 if gained == n else float(optimize.brentq(excess, estimate + 1e-9, 1.0, xtol=1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: those below 0.05 hold together with a 5% chance of any false one.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65. No assumption on how the tests depend on each other.

    Raises:
        ConfigError: a value is no probability.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ConfigError(f"expected p-values between 0 and 1, got {p_value}; correct the test that gave it")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021)."""
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ConfigError(f"expected 0 <= correct <= n and 1 <= k <= n, got n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def mean_pass_at_k(n: int, correct: Sequence[int], k: int) -> tuple[float, float, float]:
    """pass@k over problems with n samples each, `correct` of them right: mean, and its 95% interval for other problems.

    Wilson's interval at the effective number of problems, as for surveys (Franco et al. 2019, Journal of Survey
    Statistics and Methodology 7:334): as many as, had each been a single verdict, would leave the mean as uncertain as
    the problems' estimates are seen to. At least their number and at most that of the samples. Unlike a resampled
    interval it is never a point, also where no problem or every one is solved.

    Raises:
        ConfigError: no problems, or counts that cannot be.
    """
    if not correct:
        raise ConfigError("expected at least one problem, got none")
    estimates = [pass_at_k(n, count, k) for count in correct]
    problems, mean = len(estimates), statistics.fmean(estimates)
    spread = statistics.variance(estimates) if problems > 1 else 0.0
    as_single = mean * (1 - mean)
    effective = problems * as_single / spread if spread and as_single else problems if not as_single else math.inf
    effective = min(max(effective, problems), problems * n)
    centre = (mean + _Z**2 / (2 * effective)) / (1 + _Z**2 / effective)
    reach = _Z * math.sqrt(as_single / effective + (_Z / (2 * effective)) ** 2) / (1 + _Z**2 / effective)
    return mean, max(0.0, min(mean, centre - reach)), min(1.0, max(mean, centre + reach))  # rounding aside


@dataclass(frozen=True)
class MeanDifference:
    """Two sets of measurements, one per seed, compared by their means.

    Attributes:
        n: measurements, (first, second).
        mean, sd: mean and standard deviation (n - 1) of each, (first, second).
        difference: second mean minus first.
        low, high: 95% t-interval of the difference.
        p_value: of the t-test, two-sided.
    """

    n: tuple[int, int]
    mean: tuple[float, float]
    sd: tuple[float, float]
    difference: float
    low: float
    high: float
    p_value: float


def welch(first: Sequence[float], second: Sequence[float]) -> MeanDifference:
    """Compare two independent sets of measurements by Welch's t-test: the variances may differ.

    Degrees of freedom by Welch and Satterthwaite. Where neither set varies at all the answer is the limit of small
    variances: the interval is the difference itself, p is 1 if it is zero and 0 if it is not. That says what was
    measured, not that another seed could not differ.

    Raises:
        ConfigError: fewer than two measurements in a set, or one that is no finite number.
    """
    first, second = _measured(first), _measured(second)
    errors = [statistics.stdev(values) / math.sqrt(len(values)) for values in (first, second)]
    if error := math.hypot(*errors):
        freedom = 1 / sum(
            (own / error) ** 4 / (len(values) - 1) for own, values in zip(errors, (first, second), strict=True)
        )
    else:
        freedom = 1.0
    return _by_t(first, second, statistics.mean(second) - statistics.mean(first), error, freedom)


def paired_t(first: Sequence[float], second: Sequence[float]) -> MeanDifference:
    """Compare two sets of measurements that belong together pair by pair (one seed, two variants).

    Student's t-test on the differences. Where they do not vary, the answer is the limit that `welch` describes.

    Raises:
        ConfigError: the sets differ in length, fewer than two pairs, or a value that is no finite number.
    """
    if len(first) != len(second):
        raise ConfigError(f"expected measurements in pairs, got {len(first)} and {len(second)}; pair them by seed")
    first, second = _measured(first), _measured(second)
    changes = [b - a for a, b in zip(first, second, strict=True)]
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    return _by_t(first, second, statistics.mean(changes), error, len(changes) - 1)


def _by_t(first: list[float], second: list[float], difference: float, error: float, freedom: float) -> MeanDifference:
    """The answer, given the standard error of the difference and its degrees of freedom."""
    reach = error * float(stats.t.ppf(0.975, freedom))
    return MeanDifference(
        n=(len(first), len(second)),
        mean=(statistics.mean(first), statistics.mean(second)),
        sd=(statistics.stdev(first), statistics.stdev(second)),
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p_value=2 * float(stats.t.sf(abs(difference) / error, freedom)) if error else float(difference == 0),
    )


def _measured(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        raise ConfigError(f"expected at least two measurements to compare, got {len(values)}; run more seeds")
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"expected finite measurements, got {list(values)}; leave failed runs out, and say so")
    return [float(value) for value in values]


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% t-interval over seeds: (mean, low, high)."""
    if len(values) < 2:
        raise ConfigError(f"expected at least two values for an interval, got {len(values)}")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0.0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    return mean, float(low), float(high)


@dataclass(frozen=True, eq=False)
class CrossedDifference:
    """Two variants, trained with the same seeds and asked the same problems, compared for other seeds and problems.

    Attributes:
        n_seeds, n_problems: how many there are.
        difference: second pass rate minus first.
        low, high: 95% interval of the difference.
        replicates: the differences of the resampled seeds and problems.
    """

    n_seeds: int
    n_problems: int
    difference: float
    low: float
    high: float
    replicates: np.ndarray

    def p_above(self, threshold: float) -> float:
        """One-sided: how often resampled differences do not exceed `threshold`, the observed one counted with them."""
        return float((1 + (self.replicates <= threshold).sum()) / (1 + len(self.replicates)))


def crossed(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, replicates: int = 10_000, seed: int = 0
) -> CrossedDifference:
    """Compare verdicts by seed and problem, with seeds and problems both resampled.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1:386): rows and columns are drawn with
    replacement, apart from each other, so that what all problems of a seed and all seeds of a problem have in common
    counts as the chance that it is. It errs on the side of wide intervals. The interval is by percentiles.

    Args:
        first, second: verdicts, a row for each seed, a column for each problem, in the same order; or their means over
            what a seed has several of.
        replicates: how often is resampled.
        seed: of the resampling.

    Raises:
        ConfigError: verdicts that are no table of at least two seeds and two problems, or of different forms.
    """
    shape = np.shape(first)
    if shape != np.shape(second) or len(shape) != 2 or min(shape) < 2:
        raise ConfigError(
            f"expected verdicts of two or more seeds on the same problems, got tables of {shape} and "
            f"{np.shape(second)}; pair them by seed and problem"
        )
    changes = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    n_seeds, n_problems = shape
    seeds, problems = _drawn(n_seeds, n_problems, replicates, seed)
    means = ((problems @ changes.T) * seeds).sum(1) / changes.size
    low, high = np.quantile(means, [0.025, 0.975])
    return CrossedDifference(n_seeds, n_problems, float(changes.mean()), float(low), float(high), means)


@lru_cache(maxsize=4)  # a study has hundreds of comparisons of one size
def _drawn(n_seeds: int, n_problems: int, replicates: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each problem is drawn, a row for each replicate."""
    draw = np.random.default_rng(seed)
    seeds = draw.multinomial(n_seeds, [1 / n_seeds] * n_seeds, replicates)
    problems = draw.multinomial(n_problems, [1 / n_problems] * n_problems, replicates)
    return seeds.astype(float), problems.astype(float)
