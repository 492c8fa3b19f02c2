"""Gains beside a state, as one adapter: they hold at every token, in rows of their own, and in the norms' weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from s0.adapter.attach import merge_gains
from s0.adapter.config import S0AdapterConfig
from s0.core.norms import norms_of
from s0.core.states import BASE
from s0.verify.check import Check
from s0.verify.running import feed, fill, logits, pad
from s0.verify.subject import ALPHA, ONE, SIZE, TWO, Comparison, NotApplicable, Subject

GAINS = "s0-verify-gains"
NAMES = [GAINS, BASE, ONE, GAINS]


def _with_gains(subject: Subject) -> None:
    """Make an adapter with gains the active one."""
    if not norms_of(subject.base):
        raise NotApplicable("the model has no RMSNorm")
    subject.tuned.add_adapter(GAINS, S0AdapterConfig(alpha=ALPHA, gains=True))
    fill(subject.tuned, GAINS, seed=13, size=SIZE)
    subject.tuned.set_adapter(GAINS)


def _at_every_token(subject: Subject) -> Iterator[Comparison]:
    rows = [subject.tokens(1, length, seed=length) for length in (8, 3)]
    sizes = (4, 1, 1, 2)
    if not subject.is_untouched:
        _with_gains(subject)
    whole = partial(subject.logits, rows[0])
    yield subject.same(lambda: feed(subject.model, rows[0], sizes), whole)
    ids, mask = pad(rows, "left")
    yield subject.same(
        lambda: subject.logits(ids, mask)[mask.bool()], lambda: torch.cat([subject.logits(row)[0] for row in rows])
    )


def _by_rows(subject: Subject) -> Iterator[Comparison]:
    _with_gains(subject)
    ids = subject.tokens(4, 7)

    def alone(names: list[str]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            outputs = []
            for name, row in zip(names, torch.split(ids, 1), strict=True):
                with subject.using(name):
                    outputs.append(subject.logits(row))
            return torch.cat(outputs)

        return run

    others = [ONE, GAINS, BASE, ONE]  # a wrong one for each row
    yield subject.same(lambda: subject.logits(ids, adapter_names=NAMES), alone(NAMES), alone(others))


def _merged(subject: Subject) -> Iterator[Comparison]:
    _with_gains(subject)
    twin, ids = subject.copy(), subject.tokens(2, 6)
    for name in (ONE, TWO):
        twin.delete_adapter(name)
    merge_gains(twin, GAINS)
    yield subject.same(lambda: logits(twin, ids), partial(subject.logits, ids))


CHECKS = (
    Check("gains", "at every token: in pieces and padded = all at once", _at_every_token),
    Check("gains, rows", "4 rows, some with gains, some without = each alone", _by_rows, False),
    Check("gains, merged", "multiplied into the norms' weights: the same", _merged, False, may_be_refused=True),
)
