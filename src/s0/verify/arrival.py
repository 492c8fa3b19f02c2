"""The state enters exactly once, at the true start, whatever way the tokens arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import StaticCache

from s0.core.recurrences import LIGHTNING_ATTENTION, MAMBA1
from s0.core.releases import cache_of
from s0.verify.check import Check
from s0.verify.running import feed, forward, name_of_cache, pad, takes_positions
from s0.verify.subject import ALPHA, ONE, Comparison, Subject, recorded

# Nine tokens in calls that the untouched model, too, makes of them what it makes of the whole: transformers drops the
# state of Mamba-1 where several tokens continue a cache, and mistakes the length of MiniMax's.
_CONTINUED = {MAMBA1: (7, 1, 1), LIGHTNING_ATTENTION: (9,)}


def _zero_state(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 9)
    rows, mask = pad([ids[:1], ids[1:, :5]], "left")
    sizes = _CONTINUED.get(subject.layers[0].recurrence, (4, 3, 1, 1))
    runs: list[tuple[Callable[[], Tensor], float]] = [
        (lambda: subject.logits(ids), 0.0),
        (lambda: feed(subject.model, ids, sizes), 0.0),
        (lambda: subject.logits(rows, mask)[mask.bool()], 1e-5),  # decays differ at the pads: equal to rounding
    ]
    with torch.no_grad():
        with_states = [run() for run, _ in runs]
    for layer in subject.layers:
        layer.s0_state[ONE].data.zero_()
    for (run, tolerance), other in zip(runs, with_states, strict=True):
        yield subject.same(run, partial(subject.of_untouched, run), partial(recorded, other), tolerance=tolerance)


def _scale(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 9)
    with torch.no_grad():
        got = subject.logits(ids)
    subject.tuned.peft_config[ONE].alpha = 1.0
    for layer in subject.layers:
        layer.s0_state[ONE].data.mul_(ALPHA)
    yield subject.same(lambda: got, lambda: subject.logits(ids))


def _pieces(subject: Subject, sizes: Sequence[int]) -> Iterator[Comparison]:
    ids = subject.tokens(2, sum(sizes))
    yield subject.same(lambda: feed(subject.model, ids, sizes), lambda: subject.logits(ids))


def _default_positions(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 10)

    def run() -> Tensor:
        first = subject.model(input_ids=ids[:, :4], use_cache=True)
        name = name_of_cache(subject.model)
        second = subject.model(input_ids=ids[:, 4:], use_cache=True, **{name: cache_of(first)})
        return torch.cat([first.logits, second.logits], dim=1)

    yield subject.same(run, lambda: subject.logits(ids))


def _long_prompt(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(1, 70)
    yield subject.same(lambda: subject.logits(ids)[:, :10], lambda: subject.logits(ids[:, :10]))
    yield subject.same(lambda: feed(subject.model, ids, (33, 36, 1)), lambda: subject.logits(ids), shown=10)


def _one_token(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(1, 4)  # one row: a state expanded over more could not be overwritten
    before = [layer.s0_state[ONE].clone() for layer in subject.layers]
    yield subject.same(lambda: subject.logits(ids[:, :1]), lambda: subject.logits(ids)[:, :1])
    yield subject.same(lambda: feed(subject.model, ids, (1, 1, 1, 1)), lambda: subject.logits(ids))
    after = [layer.s0_state[ONE] for layer in subject.layers]
    changed = any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    yield Comparison(float(changed), 0.0)


def _reset(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(1, 6)

    def run(sizes: Sequence[int]) -> Tensor:
        cache = StaticCache(config=subject.base.config, max_cache_len=16)
        forward(subject.model, subject.tokens(1, 5, seed=4), cache=cache, use_cache=True)
        cache.reset()  # type: ignore[no-untyped-call]
        return feed(subject.model, ids, sizes, cache=cache)

    for sizes in [(6,), (1, 1, 4)]:
        yield subject.same(partial(run, sizes), lambda: subject.logits(ids))


def _packed(subject: Subject) -> Iterator[Comparison]:
    rows = [subject.tokens(1, 3, seed=1), subject.tokens(1, 5, seed=2)]
    borders = torch.tensor([0, 3, 8], dtype=torch.int32, device=subject.device)
    layout = dict(cu_seq_lens_q=borders, cu_seq_lens_k=borders, max_length_q=5, max_length_k=5)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]], device=subject.device)

    def row() -> Tensor:
        taken = {"position_ids": positions} if takes_positions(subject.model) else {}
        output: Tensor = subject.model(input_ids=torch.cat(rows, dim=1), use_cache=False, **taken, **layout).logits
        return output

    yield subject.same(row, lambda: torch.cat([subject.logits(document) for document in rows], dim=1))


CHECKS = (
    Check("zero state", "a zero state is bit-identical to the untouched model", _zero_state),
    Check("scale", "alpha times the state = that product as the state", _scale),
    Check("cached", "a prompt over a cache = without one", partial(_pieces, sizes=(10,))),
    Check("decode", "a prompt, then token by token = all at once", partial(_pieces, sizes=(5, 1, 1, 1, 1, 1))),
    Check("one at a time", "every token alone = all at once", partial(_pieces, sizes=(1,) * 10)),
    Check("chunked prefill", "a prompt in two pieces = all at once", partial(_pieces, sizes=(4, 6))),
    Check("token, then chunk", "one token, then a piece = all at once", partial(_pieces, sizes=(1, 9))),
    Check("second turn", "prompt, answer, prompt over one cache = all at once", partial(_pieces, sizes=(3, 1, 1, 5))),
    Check("default positions", "pieces at the model's own positions = all at once", _default_positions),
    Check("long prompt", "70 tokens, more than a kernel's chunk = their beginning, and in pieces", _long_prompt),
    Check("one-token prompt", "= the first of a longer one, and the state is not overwritten", _one_token),
    Check("reset cache", "a static cache that was reset starts from the state again", _reset),
    Check("packed", "documents packed into one row = alone, or refused", _packed, may_be_refused=True),
)
