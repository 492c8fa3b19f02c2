"""Tokens are drawn from exactly the distribution that transformers samples from."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from s0.decode.sampling import choose

DRAWS = 4000


def frequencies(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The share of evenly spaced draws that gives each token."""
    draws = [(i + 0.5) / DRAWS for i in range(DRAWS)]
    tokens = choose(logits.expand(DRAWS, -1), [temperature] * DRAWS, [top_p] * DRAWS, draws)
    return torch.bincount(torch.tensor(tokens), minlength=logits.shape[-1]) / DRAWS


def test_the_distribution_is_that_of_the_warpers_of_transformers():
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.3, 0.7, 1.0, 2.0):
        for top_p in (0.1, 0.5, 0.9, 1.0):
            logits = torch.randn(1, 50, generator=generator) * 3
            logits[0, 10:14] = logits[0, 20]  # ties, some of them on the border
            scores = TemperatureLogitsWarper(temperature)(None, logits)
            want = TopPLogitsWarper(top_p)(None, scores).softmax(-1)[0]
            got = frequencies(logits, temperature, top_p)
            assert (got - want).abs().max() <= 1.01 / DRAWS
            assert not got[want == 0].any()


def test_the_border_is_cut_as_transformers_cuts_it():
    for top_p, kept in ((0.5, 4), (0.55, 5), (1e-9, 1)):  # eight ties; the first border falls between two of them
        logits = torch.zeros(1, 8)
        want = TopPLogitsWarper(top_p)(None, logits).isfinite()[0]
        assert want.sum() == kept
        assert torch.equal(frequencies(logits, 1.0, top_p) > 0, want)


def test_rows_keep_their_own_settings():
    logits = torch.tensor([[0.0, 2.0, 1.0]] * 5, dtype=torch.float64)
    # 9%, 67% and 24% in the order of the vocabulary; the border between the first two is at 0.09.
    chosen = choose(logits, [0, 1, 1, 1, 1], [1, 1, 1, 0.5, 1], [0.99, 0.08, 0.99, 0.99, 0.0])
    assert chosen == [1, 0, 2, 1, 0]


def test_the_greatest_draw_still_gives_a_possible_token():
    logits = torch.full((1, 1000), -torch.inf)
    logits[0, :7] = torch.randn(7, generator=torch.Generator().manual_seed(1))
    assert choose(logits, [1.0], [1.0], [1 - 2**-53]) == [6]
    assert choose(logits.roll(3, -1), [1.0], [1.0], [0.0]) == [3]


@pytest.mark.parametrize("temperature", [1e-30, 1e-45, 1e-300, 5e-324])
def test_the_least_of_temperatures_leave_the_likeliest_token(temperature):
    logits = torch.tensor([[-7.0, 88.0, 0.0, 87.9], [0.0, -3.0, -torch.inf, -1e-3]])
    for top_p in (0.5, 1.0):
        assert choose(logits, [temperature] * 2, [top_p] * 2, [1 - 2**-53] * 2) == [1, 0]
    ties = torch.tensor([[5.0, 1.0, 5.0]] * 2)
    assert choose(ties, [temperature] * 2, [1.0] * 2, [0.49, 0.51]) == [0, 2]
