"""Rows of one batch that choose different states (`adapter_names`) get what a batch of their own would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from s0.core.states import BASE
from s0.verify.check import Check
from s0.verify.generation import decodes
from s0.verify.learning import backward, checkpointing, sum_of
from s0.verify.running import forward, generate, loss, pad
from s0.verify.subject import ONE, TWO, Comparison, Subject, recorded

NAMES = [TWO, BASE, ONE, TWO]
OTHERS = [ONE, TWO, BASE, ONE]  # a wrong state for each row


def _alone(subject: Subject, names: Sequence[str], run: Callable[[Tensor], Tensor], rows: Sequence[Tensor]) -> Tensor:
    """`run` of each row (1, T), with the whole model set to the state it names."""
    outputs = []
    for name, row in zip(names, rows, strict=True):
        with subject.using(name):
            outputs.append(run(row))
    return torch.cat(outputs)


def _row_logits(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(4, 7)

    def single(names: Sequence[str]) -> Tensor:
        return _alone(subject, names, subject.logits, torch.split(ids, 1))

    yield subject.same(
        lambda: subject.logits(ids, adapter_names=NAMES), partial(single, NAMES), partial(single, OTHERS)
    )


def _row_generation(subject: Subject, lengths: Sequence[int], search: dict[str, Any]) -> Iterator[Comparison]:
    if subject.is_untouched:
        yield from decodes(subject, lengths)
        return
    rows = [subject.tokens(1, length, seed=i) for i, length in enumerate(lengths)]

    def single(names: Sequence[str]) -> Tensor:
        # Without a cache: that of some untouched models has faults of its own.
        return _alone(subject, names, lambda row: generate(subject.model, row, use_cache=False, **search), rows)

    yield subject.same_tokens(
        lambda: generate(subject.model, *pad(rows, "left"), adapter_names=NAMES, **search),
        partial(single, NAMES),
        partial(single, OTHERS),
    )


def _row_gradient(subject: Subject, reentrant: bool | None) -> Iterator[Comparison]:
    ids = subject.tokens(4, 7)

    def single(name: str, chosen: str) -> Tensor:
        """The gradient of the rows that choose `chosen`, run one by one under the state `name`."""
        rows = [row for row, its in zip(torch.split(ids, 1), NAMES, strict=True) if its == chosen]
        with subject.using(name):
            return sum_of([subject.gradients(loss(subject.logits(row), row), name) for row in rows])

    def together(name: str) -> Tensor:
        return backward(subject, loss(forward(subject.model, ids, adapter_names=NAMES).logits, ids), name)

    subject.model.train()
    wanted = {ONE: (single(ONE, ONE), single(TWO, ONE)), TWO: (single(TWO, TWO), single(ONE, TWO))}
    subject.tuned.base_model.set_adapter([ONE, TWO])  # both are trained
    with nullcontext() if reentrant is None else checkpointing(subject.base, reentrant):
        for name, (want, without) in wanted.items():
            yield subject.same_gradient(partial(together, name), partial(recorded, want), partial(recorded, without))


def _rows_of_the_base(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 6)
    plain = partial(subject.logits, ids)
    yield subject.same(
        lambda: subject.logits(ids, adapter_names=[BASE, BASE]),
        partial(subject.of_untouched, plain),
        plain,
        tolerance=0.0,
    )


BEAMS = {"num_beams": 3, "num_return_sequences": 2}

CHECKS = (
    Check("rows", "4 rows of 3 states = each alone", _row_logits, on_untouched=False),
    Check("rows of the base", "bit-identical to the untouched model", _rows_of_the_base, on_untouched=False),
    Check(
        "rows, generating", "left-padded prompts of 3 states = each alone, without a cache",
        partial(_row_generation, lengths=(8, 4, 1, 6), search={}),
    ),
    Check(
        "rows, beams", "3 beams, 2 returned, of 3 states = each alone, without a cache",
        partial(_row_generation, lengths=(5, 5, 5, 5), search=BEAMS),
    ),
    *(
        Check(f"rows, gradient{mode}", "= sum over single rows", partial(_row_gradient, reentrant=reentrant), False)
        for mode, reentrant in (("", None), (", reentrant", True), (", not reentrant", False))
    ),
)  # fmt: skip
