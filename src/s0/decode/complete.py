"""Many prompts to many completions: batches of similar length, padded on the left.

Left padding is exact with a tuned state as without one (`s0.core.kernels`), so a batch gives what single prompts give,
to the rounding of the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.core.states import RowChoice, rows_choose, state_layers
from s0.errors import ConfigError
from s0.models import encode_prompt, end_tokens

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens.

    Attributes:
        max_new_tokens: upper bound for a completion.
        temperature: 0 for the likeliest token at every step.
        top_p: sample among the likeliest tokens that hold this much probability.
        stop: texts at which a completion ends; they are cut off.
        batch_rows: prompts decoded together; changes speed and memory only (sampled texts depend on it).
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    batch_rows: int = 64

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.batch_rows < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"expected max_new_tokens and batch_rows >= 1, temperature >= 0 and 0 < top_p <= 1, got {self}"
            )


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        text: without special tokens and stop texts.
        n_tokens: generated tokens, the end token included.
        truncated: max_new_tokens came before an end.
    """

    text: str
    n_tokens: int
    truncated: bool


@torch.no_grad()
def complete(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    states: Sequence[str] | None = None,
    seed: int = 0,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Completion]:
    """Complete every prompt with the model as it is now, with or without an active state.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: texts or message lists; repeat one for several samples. Never cut.
        sampling: how to choose tokens.
        states: names on the model's state layers, one per prompt, from which its row starts; None: as the model is.
        seed: of the sampling; the global random state is left alone.
        on_done: told the number of prompts that were just finished.

    Returns:
        one completion per prompt, in order.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    ends = end_tokens(model, tokenizer)
    done: dict[int, Completion] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for group in _groups(encoded, sampling.batch_rows):
            with _rows_start_from(model, None if states is None else [states[i] for i in group]):
                rows = _generate(model, tokenizer, [encoded[i] for i in group], sampling, ends)
            done |= {i: _completion(tokenizer, row, sampling, ends) for i, row in zip(group, rows, strict=True)}
            on_done(len(group))
    return [done[i] for i in range(len(prompts))]


def _rows_start_from(model: nn.Module, states: Sequence[str] | None) -> AbstractContextManager[None]:
    if states is None:
        return nullcontext()
    return rows_choose(RowChoice(tuple(states), frozenset(map(id, state_layers(model)))))


def _groups(encoded: Sequence[Sequence[int]], rows: int) -> Iterator[list[int]]:
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    for start in range(0, len(by_length), rows):
        yield by_length[start : start + rows]


def _generate(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], sampling: Sampling, ends: list[int]
) -> list[list[int]]:
    longest = max(map(len, rows))
    device = next(model.parameters()).device
    tokens = torch.tensor([[ends[0]] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    chosen: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    if sampling.stop:
        chosen |= {"stop_strings": list(sampling.stop), "tokenizer": tokenizer}
    output = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=ends,
        pad_token_id=ends[0],
        **chosen,
    )
    generated: list[list[int]] = output[:, longest:].tolist()
    return generated


def _completion(tokenizer: PreTrainedTokenizerBase, row: list[int], sampling: Sampling, ends: list[int]) -> Completion:
    end = next((i for i, token in enumerate(row) if token in ends), None)
    text = str(tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False))
    cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=None)
    truncated = end is None and cut is None and len(row) >= sampling.max_new_tokens
    return Completion(text[:cut], len(row) if end is None else end + 1, truncated)
