import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from s0.bench import compare, pass_at_k, rate, t_interval
from s0.errors import ConfigError

VERDICTS = st.lists(st.booleans(), min_size=1, max_size=60)


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
    assert result.low <= result.difference + 1e-9 and result.difference - 1e-9 <= result.high


def test_mcnemar_is_the_exact_binomial_test_on_flips():
    first = [False] * 9 + [True] * 2 + [True] * 20
    second = [True] * 9 + [False] * 2 + [True] * 20
    assert compare(first, second).p_value == pytest.approx(stats.binomtest(9, 11, 0.5).pvalue)
    assert compare(first, first).p_value == 1.0


def test_bootstrap_interval_agrees_with_the_normal_approximation_on_many_problems():
    first, second = [i % 2 == 0 for i in range(2000)], [i % 5 != 0 for i in range(2000)]
    result = compare(first, second)
    gained, lost = len(result.gained) / 2000, len(result.lost) / 2000
    error = math.sqrt((gained + lost - (gained - lost) ** 2) / 2000)
    assert result.low == pytest.approx(result.difference - 1.96 * error, abs=2e-3)
    assert result.high == pytest.approx(result.difference + 1.96 * error, abs=2e-3)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(n, data):
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_t_interval_over_seeds():
    mean, low, high = t_interval([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * 0.1 / math.sqrt(3), abs=1e-3)
    assert t_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: rate([]),
        lambda: compare([True], [True, False]),
        lambda: compare([], []),
        lambda: pass_at_k(4, 5, 1),
        lambda: pass_at_k(4, 1, 5),
        lambda: t_interval([0.1]),
    ],
)
def test_impossible_input_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        wrong()
