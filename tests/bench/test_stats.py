import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from s0.bench.stats import compare, crossed, holm, mean_pass_at_k, paired_t, pass_at_k, rate, t_interval, welch
from s0.errors import ConfigError

VERDICTS = st.lists(st.booleans(), min_size=1, max_size=60)
COUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
MEASURED = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


def compared(gained, lost, rest):
    first, second = [False] * gained + [True] * lost + [True] * rest, [True] * gained + [False] * lost + [True] * rest
    return compare(first, second)


@given(VERDICTS)
def test_rate_lies_in_its_interval(passed):
    result = rate(passed)
    assert result.count == sum(passed) and result.n == len(passed)
    assert 0 <= result.low <= result.value <= result.high <= 1


def test_wilson_interval_of_a_textbook_case():
    result = rate([True] * 8 + [False] * 2)
    assert result.low == pytest.approx(0.4902, abs=1e-4)
    assert result.high == pytest.approx(0.9433, abs=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_comparison_counts_flips_both_ways(pairs):
    first, second = zip(*pairs, strict=True)
    result = compare(first, second)
    assert [i for i, pair in enumerate(pairs) if pair == (False, True)] == list(result.gained)
    assert [i for i, pair in enumerate(pairs) if pair == (True, False)] == list(result.lost)
    assert result.difference == pytest.approx(sum(second) / len(pairs) - sum(first) / len(pairs))
    assert -1 <= result.low <= result.difference <= result.high <= 1
    assert result.high - result.low > 0.01  # a point would claim to know


def test_mcnemar_is_the_exact_binomial_test_on_flips():
    first = [False] * 9 + [True] * 2 + [True] * 20
    second = [True] * 9 + [False] * 2 + [True] * 20
    assert compare(first, second).p_value == pytest.approx(stats.binomtest(9, 11, 0.5).pvalue)
    assert compare(first, first).p_value == 1.0


def test_paired_interval_of_a_published_example():
    # Fagerland, Lydersen, Laake 2014, Statistics in Medicine 33:2850, table V: airway hyper-responsiveness before and
    # after transplantation. Six digits from the R package ratesci: pairbinci(c(1, 1, 7, 12), skew = FALSE, bcf = FALSE)
    result = compared(gained=1, lost=7, rest=13)
    assert (result.low, result.high) == pytest.approx((-0.517232, -0.026003), abs=1e-6)


def test_paired_interval_is_the_differences_that_the_score_test_accepts():
    """Tango's test the slow way: the likelihood at each difference is maximised over a grid."""
    gained, lost, rest = 4, 1, 15
    result, n = compared(gained, lost, rest), gained + lost + rest
    for difference in (-0.95, result.low - 0.01, result.low + 0.01, 0.1, result.high - 0.01, result.high + 0.01, 0.95):
        losses = np.linspace(max(0, -difference), (1 - difference) / 2, 100_001)[1:-1]
        gains, others = losses + difference, 1 - 2 * losses - difference
        best = losses[np.argmax(gained * np.log(gains) + lost * np.log(losses) + rest * np.log(others))]
        variance = n * (2 * best + difference * (1 - difference))
        accepted = (gained - lost - n * difference) ** 2 <= stats.chi2.ppf(0.95, 1) * variance
        assert accepted == (result.low <= difference <= result.high)


@pytest.mark.parametrize("n", [1, 5, 240])
def test_paired_interval_without_flips_says_how_little_that_shows(n):
    z = 1.959964
    for result in (compare([True] * n, [True] * n), compare([False] * n, [False] * n)):
        assert -result.low == result.high == pytest.approx(z**2 / (n + z**2), rel=1e-5)
    all_lost = compare([True] * n, [False] * n)
    assert all_lost.low == -1 and -1 < all_lost.high < 1


@given(COUNTS)
def test_paired_interval_moves_with_the_counts(counts):
    gained, lost, rest = counts
    result, mirrored, better = compared(*counts), compared(lost, gained, rest), compared(gained + 1, lost, rest - 1)
    assert (mirrored.low, mirrored.high) == (-result.high, -result.low)
    assert better.low >= result.low - 1e-9 and better.high >= result.high - 1e-9


@pytest.mark.parametrize(("gain", "loss"), [(0.01, 0.01), (0.0, 0.02), (0.1, 0.02), (0.3, 0.0), (0.3, 0.3), (0.6, 0.1)])
@pytest.mark.slow
def test_paired_interval_covers_the_truth_as_often_as_it_says(gain, loss):
    n, covered = 30, 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            chance = stats.multinomial.pmf([gained, lost, n - gained - lost], n, [gain, loss, 1 - gain - loss])
            if chance > 1e-9:
                result = compared(gained, lost, n - gained - lost)
                covered += chance * (result.low <= gain - loss <= result.high)
    assert covered > 0.92  # score intervals hold 95% on average over all truths; a Wald interval falls to 45% here


def test_paired_interval_agrees_with_the_normal_approximation_on_many_problems():
    first, second = [i % 2 == 0 for i in range(2000)], [i % 5 != 0 for i in range(2000)]
    result = compare(first, second)
    gained, lost = len(result.gained) / 2000, len(result.lost) / 2000
    error = math.sqrt((gained + lost - (gained - lost) ** 2) / 2000)
    assert result.low == pytest.approx(result.difference - 1.96 * error, abs=2e-3)
    assert result.high == pytest.approx(result.difference + 1.96 * error, abs=2e-3)


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@example([0.02, 0.02, 1.0])
def test_holm_is_the_closure_of_bonferroni(p_values):
    """A hypothesis falls when Bonferroni rejects every set of hypotheses that holds it."""
    everyone = range(len(p_values))
    sets = [group for size in everyone for group in combinations(everyone, size + 1)]
    slow = [max(min(1, len(g) * min(p_values[j] for j in g)) for g in sets if i in g) for i in everyone]
    assert holm(p_values) == pytest.approx(slow)


@given(MEASURED, MEASURED)
def test_welch_agrees_with_scipy(first, second):
    result = welch(first, second)
    assert result.n == (len(first), len(second))
    assert result.sd == pytest.approx((np.std(first, ddof=1), np.std(second, ddof=1)), abs=1e-12)
    assert result.low <= result.difference <= result.high and 0 <= result.p_value <= 1
    if min(result.sd) > 1e-6:  # below, scipy loses the digits
        expected = stats.ttest_ind(second, first, equal_var=False)
        assert result.p_value == pytest.approx(expected.pvalue, abs=1e-9)
        assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=8))
def test_paired_t_agrees_with_scipy(pairs):
    first, second = zip(*pairs, strict=True)
    result = paired_t(first, second)
    assert result.low <= result.difference <= result.high and 0 <= result.p_value <= 1
    if np.std(np.subtract(second, first)) > 1e-6:
        expected = stats.ttest_rel(second, first)
        assert result.p_value == pytest.approx(expected.pvalue, abs=1e-9)
        assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


@pytest.mark.parametrize("test", [welch, paired_t])
def test_sets_that_do_not_vary_have_an_answer(test):
    same, other = test([0.1] * 3, [0.1] * 3), test([0.25] * 3, [0.5] * 3)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert (other.difference, other.low, other.high, other.p_value) == (0.25, 0.25, 0.25, 0)


def test_welch_takes_its_freedom_from_the_set_that_varies():
    result = welch([0.1] * 7, [0.2, 0.3, 0.4])
    assert result.high - result.difference == pytest.approx(4.303 * 0.1 / math.sqrt(3), abs=1e-3)
    assert welch([0.1] * 2, [0.1] * 3).p_value == 1


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(n, data):
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("shape", [(0.5, 0.5), (2.0, 5.0), (0.1, 2.0)])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.slow
def test_pass_at_k_covers_the_truth_as_often_as_it_says(shape, k):
    """Problems of every difficulty, drawn anew each time: the interval is for the next problems, not for these."""
    rng = np.random.default_rng(0)
    n, problems, trials = 8, 60, 600
    easy = rng.beta(*shape, size=200_000)
    truth = float(np.mean(1 - (1 - easy) ** k))
    hits = 0
    for _ in range(trials):
        correct = rng.binomial(n, rng.choice(easy, problems))
        mean, low, high = mean_pass_at_k(n, [int(count) for count in correct], k)
        assert 0 <= low <= mean <= high <= 1
        hits += low <= truth <= high
    assert 0.92 <= hits / trials <= 0.99


def test_pass_at_k_is_never_a_point():
    assert mean_pass_at_k(4, [0] * 30, 4)[:2] == (0, 0) and 0.1 < mean_pass_at_k(4, [0] * 30, 4)[2] < 0.13
    mean, low, high = mean_pass_at_k(4, [4] * 30, 1)
    assert mean == high == 1 and 0.87 < low < 0.9
    everywhere_half = mean_pass_at_k(4, [2] * 30, 1)  # no spread: as many verdicts as samples
    assert everywhere_half[1:] == pytest.approx((rate([True, False] * 60).low, rate([True, False] * 60).high))
    single = mean_pass_at_k(1, [1, 0, 1], 1)  # one sample each: the plain rate, but for the spread's n - 1
    assert single[1:] == pytest.approx((rate([True, False, True]).low, rate([True, False, True]).high))


def test_t_interval_over_seeds():
    mean, low, high = t_interval([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * 0.1 / math.sqrt(3), abs=1e-3)
    assert t_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


def drawn(rng, n_seeds, n_problems, gain):
    """Verdicts of two variants; how good a seed is, and how hard a problem, is shared by its row or column."""
    level = 0.4 + rng.normal(0, 0.15, n_problems) + rng.normal(0, 0.05, (n_seeds, 1))
    own = gain + rng.normal(0, 0.08, n_problems) + rng.normal(0, 0.05, (n_seeds, 1))
    first, second = (rng.random((n_seeds, n_problems)) < np.clip(chance, 0, 1) for chance in (level, level + own))
    return first, second


def test_the_crossed_interval_is_that_of_resampling_rows_and_columns_one_by_one():
    rng = np.random.default_rng(1)
    first, second = drawn(rng, 6, 30, 0.1)
    changes = second.astype(float) - first
    slow = []
    for _ in range(4000):
        rows, columns = rng.integers(0, 6, 6), rng.integers(0, 30, 30)
        slow.append(np.mean([[changes[row, column] for column in columns] for row in rows]))
    result = crossed(first, second)
    assert result.difference == pytest.approx(changes.mean())
    assert [result.low, result.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.01)
    assert result.p_above(0) == pytest.approx(np.mean(np.array(slow) <= 0), abs=0.02)


@pytest.mark.slow
def test_the_crossed_interval_covers_the_truth_as_often_as_it_says_where_a_paired_one_does_not():
    rng, covered, covered_by_seeds = np.random.default_rng(0), 0, 0
    for _ in range(400):
        first, second = drawn(rng, 20, 60, 0.1)
        result = crossed(first, second, replicates=1000)
        covered += result.low <= 0.1 <= result.high
        by_seed = paired_t(first.mean(1).tolist(), second.mean(1).tolist())
        covered_by_seeds += by_seed.low <= 0.1 <= by_seed.high
    assert covered >= 0.93 * 400 > covered_by_seeds


def test_a_chance_is_never_told_to_be_none():
    always = crossed([[False] * 5] * 3, [[True] * 5] * 3, replicates=99)
    assert (always.difference, always.low, always.p_above(0)) == (1, 1, 0.01)
    never = crossed([[True] * 5] * 3, [[True] * 5] * 3)
    assert (never.difference, never.p_above(0)) == (0, 1) and never.p_above(-0.02) < 0.001


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: rate([]),
        lambda: compare([True], [True, False]),
        lambda: compare([], []),
        lambda: pass_at_k(4, 5, 1),
        lambda: pass_at_k(4, 1, 5),
        lambda: t_interval([0.1]),
        lambda: mean_pass_at_k(4, [], 1),
        lambda: mean_pass_at_k(4, [5], 1),
        lambda: holm([0.1, 1.1]),
        lambda: holm([math.nan]),
        lambda: welch([0.1], [0.1, 0.2]),
        lambda: welch([0.1, math.inf], [0.1, 0.2]),
        lambda: paired_t([0.1, 0.2], [0.1, 0.2, 0.3]),
        lambda: paired_t([0.1], [0.2]),
        lambda: crossed([[True, False]], [[True, True]]),
        lambda: crossed([[True], [False]], [[True], [True]]),
        lambda: crossed([[True, False]] * 2, [[True, True]] * 3),
        lambda: crossed([True, False], [True, True]),
    ],
)
def test_impossible_input_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        wrong()
