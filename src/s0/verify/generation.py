"""generate() with a cache, of whatever kind, gives what it gives without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from s0.core.releases import cache_of
from s0.verify.check import Check
from s0.verify.running import feed, generate, name_of_cache, pad, takes_positions
from s0.verify.subject import Comparison, Subject

N_NEW = 5


def decodes(subject: Subject, lengths: Sequence[int]) -> Iterator[Comparison]:
    """Asks the untouched model alone: prompts of these lengths, then token by token over a cache = all at once.

    Where that does not hold, the tokens that it generates may differ, or by luck may not.
    """
    if subject.is_untouched:
        for length in lengths:
            ids = subject.tokens(1, length + N_NEW, seed=length)
            sizes = (length, *[1] * N_NEW)
            yield subject.same(lambda: feed(subject.model, ids, sizes), lambda: subject.logits(ids))  # noqa: B023


def _as_without_a_cache(
    subject: Subject, search: Mapping[str, Any], caching: Mapping[str, Any]
) -> Iterator[Comparison]:
    ids = subject.tokens(2, 5)

    def run(**how: Any) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return generate(subject.model, ids, **search, **how)

    yield subject.same_tokens(partial(run, **caching), partial(run, use_cache=False))
    yield from decodes(subject, [5])


def _left_padded_prompts(subject: Subject) -> Iterator[Comparison]:
    rows = [subject.tokens(1, length, seed=length) for length in (9, 5, 1)]
    yield subject.same_tokens(
        lambda: generate(subject.model, *pad(rows, "left"), n_new=8),
        lambda: torch.cat([generate(subject.model, row, n_new=8) for row in rows]),
    )
    yield from decodes(subject, [9, 5, 1])


def _conversation(subject: Subject) -> Iterator[Comparison]:
    for length in (5, 1):
        ids, more = subject.tokens(1, length), subject.tokens(1, 4, seed=7)

        def turns(ids: Tensor = ids, more: Tensor = more, over_one_cache: bool = True) -> Tensor:
            settings = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True)
            first = subject.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
            whole = torch.cat([first.sequences, more], dim=1)
            if not over_one_cache:
                return generate(subject.model, whole)
            # A cache without attention does not know how much it has read, which is all but the last new token.
            new = whole if takes_positions(subject.model) else whole[:, -(more.shape[1] + 1) :]
            return generate(subject.model, new, **{name_of_cache(subject.model): cache_of(first)})

        yield subject.same_tokens(turns, partial(turns, over_one_cache=False))
        yield from decodes(subject, [length])


def _check(name: str, what: str, search: Mapping[str, Any], caching: Mapping[str, Any]) -> Check:
    return Check(name, what, partial(_as_without_a_cache, search=search, caching=caching))


CHECKS = (
    _check("greedy", "tokens with a cache = without", {}, {}),
    _check("beams", "3 beams, 2 returned, with a cache = without", {"num_beams": 3, "num_return_sequences": 2}, {}),
    _check(
        "sampling",
        "3 samples by one seed, with a cache = without",
        {"do_sample": True, "num_return_sequences": 3, "top_k": 0},
        {},
    ),
    _check("static cache", "tokens with a static cache = without one", {}, {"cache_implementation": "static"}),
    _check("generate in chunks", "the prompt in chunks of 2 = without a cache", {}, {"prefill_chunk_size": 2}),
    Check("left-padded prompts", "tokens of a batch = of its rows alone", _left_padded_prompts),
    Check("conversation", "a second turn of generate() on the first one's cache = afresh", _conversation),
)
