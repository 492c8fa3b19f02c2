"""What is asked of a model: a prompt's tokens to continue, and how to choose the tokens that continue them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s0.errors import ConfigError

Prompt = str | list[dict[str, str]]

BATCH_ROWS = 64
"""Prompts decoded together, where nothing else is said."""


def _is_choice(temperature: float, top_p: float) -> bool:
    """Whether tokens can be chosen like this."""
    return 0 <= temperature < math.inf and 0 < top_p <= 1


@dataclass(frozen=True)
class Request:
    """One completion to write.

    Attributes:
        tokens: the prompt's, at least one; never cut.
        max_new_tokens: upper bound for the completion.
        temperature: 0 for the likeliest token at every step.
        top_p: sample among the likeliest tokens that hold this much probability.
        seed: of the sampling; any number or text.
        stop: texts at which the completion ends; they are cut off.
        state: the name on the model's state layers from which it starts, "__base__" for none of them; None: as the
            model is.
        logprobs: so many of the likeliest tokens are told of at every step, with their log-probabilities and the
            chosen one's; None for nothing of it.
    """

    tokens: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | str = 0
    stop: tuple[str, ...] = ()
    state: str | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not self.tokens or self.max_new_tokens < 1 or not _is_choice(self.temperature, self.top_p):
            raise ConfigError(
                "expected at least one prompt token, max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1, got "
                f"{len(self.tokens)} tokens, {self.max_new_tokens}, {self.temperature} and {self.top_p}"
            )
        if "" in self.stop:
            raise ConfigError("expected stop texts of at least one character, got an empty one; leave it out")
        if self.logprobs is not None and self.logprobs < 0:
            raise ConfigError(f"expected `logprobs` >= 0, got {self.logprobs}; leave it out for none")


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
        seed: a whole number, where a request is not given a seed of its own.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    batch_rows: int = BATCH_ROWS
    seed: int = 0

    def __post_init__(self) -> None:
        counts, reals = (self.max_new_tokens, self.batch_rows), (self.temperature, self.top_p)
        are_whole = all(type(whole) is int for whole in (*counts, self.seed))
        are_numbers = all(isinstance(real, (int, float)) and type(real) is not bool for real in reals)
        is_possible = are_whole and are_numbers and min(counts) >= 1
        if not is_possible or not _is_choice(*reals):
            raise ConfigError(
                "expected whole numbers for `max_new_tokens` and `batch_rows`, at least 1, and `seed`, a finite "
                f"`temperature` >= 0 and `top_p` above 0 and at most 1, got {self}"
            )

    def request(self, tokens: tuple[int, ...], seed: int | str | None = None, state: str | None = None) -> Request:
        """A prompt's tokens to be completed in this way, with a seed of its own or the common one."""
        seed = self.seed if seed is None else seed
        return Request(tokens, self.max_new_tokens, self.temperature, self.top_p, seed, self.stop, state)
