"""Many prompts to many completions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.decode.batcher import Batcher, Completion, Request
from s0.errors import ConfigError
from s0.models import encode_prompt

Prompt = str | list[dict[str, str]]

BATCH_ROWS = 64
"""Prompts decoded together, where nothing else is said."""


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; nothing but the end tokens is taken from the model's own generation config.

    Attributes:
        max_new_tokens: upper bound for a completion.
        temperature: 0 for the likeliest token at every step.
        top_p: sample among the likeliest tokens that hold this much probability.
        stop: texts at which a completion ends; they are cut off.
        batch_rows: prompts decoded together; changes speed and memory, and texts only where two tokens are so close
            that another rounding chooses the other one.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    batch_rows: int = BATCH_ROWS

    def __post_init__(self) -> None:
        counts, reals = (self.max_new_tokens, self.batch_rows), (self.temperature, self.top_p)
        are_whole = all(type(count) is int for count in counts)
        are_numbers = are_whole and all(isinstance(real, (int, float)) and type(real) is not bool for real in reals)
        if not are_numbers or min(counts) < 1 or not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ConfigError(
                "expected whole numbers >= 1 for `max_new_tokens` and `batch_rows`, a finite `temperature` >= 0 and "
                f"`top_p` above 0 and at most 1, got {self}"
            )

    def request(self, tokens: tuple[int, ...], seed: int | str = 0, state: str | None = None) -> Request:
        """A prompt's tokens to be completed in this way."""
        return Request(tokens, self.max_new_tokens, self.temperature, self.top_p, seed, self.stop, state)


def complete(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    states: Sequence[str] | None = None,
    seeds: Sequence[int | str] | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Completion]:
    """Complete every prompt with the model as it is now, with or without an active state.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: texts or message lists; repeat one for several samples. Never cut.
        sampling: how to choose tokens.
        states: names on the model's state layers, one per prompt, from which its row starts; None: as the model is.
        seeds: of the sampling, one per prompt, which draws the same numbers whatever the other prompts are; None takes
            their places in the list. The global random state is left alone.
        on_done: told the number of prompts that were just finished.

    Returns:
        one completion per prompt, in order.

    Raises:
        ConfigError: a prompt leaves no room for max_new_tokens, or a state is not there.
        DatasetError: a prompt without tokens, or with tokens that the model does not know; messages for a tokenizer
            without a chat template.
        UnsupportedModelError: the model keeps what it has read in a form that cannot be followed.
    """
    for what, given in (("state", states), ("seed", seeds)):
        if given is not None and len(given) != len(prompts):
            raise ConfigError(f"expected one {what} per prompt, got {len(given)} for {len(prompts)} prompts")
    batcher = Batcher(model, tokenizer, sampling.batch_rows)
    numbers = [
        batcher.submit(
            sampling.request(
                tuple(encode_prompt(tokenizer, prompt)),
                seed=i if seeds is None else seeds[i],
                state=None if states is None else states[i],
            )
        )
        for i, prompt in enumerate(prompts)
    ]
    done = batcher.finish(lambda event: None if event.completion is None else on_done(1))
    return [done[number] for number in numbers]
