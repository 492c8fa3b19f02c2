"""Choosing the next token of every row.

A row's choice depends on its own logits and its own random numbers alone, so a text does not change with the batch
around it: one number in [0, 1) per token, looked up in the row's distribution in the order of the vocabulary, where
logits that differ by rounding move every border by as little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Logprobs:
    """How likely tokens were to the model itself, before temperature and `top_p`.

    Attributes:
        chosen: log-probability of the token that was taken, in nats.
        likeliest: tokens with theirs, the likeliest first.
    """

    chosen: float
    likeliest: tuple[tuple[int, float], ...]


def logprobs_of(logits: Tensor, chosen: Sequence[int], n_likeliest: Sequence[int]) -> list[Logprobs]:
    """The log-probabilities in rows of logits.

    Args:
        logits: (rows, vocabulary), of any dtype.
        chosen: by row, the token that was taken.
        n_likeliest: by row, how many of the likeliest tokens to tell of.
    """
    logprobs = logits.float().log_softmax(-1)
    of_chosen = logprobs.gather(1, torch.tensor(chosen, device=logits.device)[:, None]).squeeze(1).tolist()
    values, tokens = logprobs.topk(min(max(n_likeliest), logprobs.shape[1]))
    pairs = [list(zip(*row, strict=True)) for row in zip(tokens.tolist(), values.tolist(), strict=True)]
    return [Logprobs(own, tuple(row[:n])) for own, row, n in zip(of_chosen, pairs, n_likeliest, strict=True)]


def choose(logits: Tensor, temperatures: Sequence[float], top_ps: Sequence[float], draws: Sequence[float]) -> list[int]:
    """One token for every row.

    Args:
        logits: (rows, vocabulary), of any dtype.
        temperatures: by row; 0 for the likeliest token.
        top_ps: by row, in (0, 1]: sample among the likeliest tokens that hold this much probability.
        draws: by row, in [0, 1), independent and uniform; a row with temperature 0 needs none and ignores it.
    """
    logits = logits.float()
    chosen = logits.argmax(-1)
    rows = [row for row, temperature in enumerate(temperatures) if temperature > 0]
    if rows:

        def of_rows(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor([[values[row]] for row in rows], dtype=dtype, device=logits.device)

        below_the_likeliest = logits[rows] - logits[rows].amax(-1, keepdim=True)
        # Temperatures that are 0 in float32 count as its least number: all but the likeliest tokens go to -inf.
        scores = below_the_likeliest / of_rows(temperatures, torch.float32).clamp_min(_LEAST)
        scores = _likeliest(scores, of_rows([1 - top_p for top_p in top_ps], torch.float32))
        cumulated = scores.softmax(-1).double().cumsum(-1)
        # The first token whose sum exceeds the target: never one of probability 0, and there always is one.
        target = of_rows(draws, torch.float64) * cumulated[:, -1:]
        chosen[rows] = torch.searchsorted(cumulated, target, right=True).squeeze(1)
    return chosen.tolist()


def _likeliest(scores: Tensor, share_left_out: Tensor) -> Tensor:
    """Scores without the unlikeliest tokens that together hold no more than a share, (rows, 1); the top one stays."""
    ascending, order = scores.sort(dim=-1, stable=True)
    left_out = ascending.softmax(-1).cumsum(-1) <= share_left_out
    left_out[:, -1] = False
    return scores.masked_fill(torch.zeros_like(left_out).scatter(-1, order, left_out), -torch.inf)
