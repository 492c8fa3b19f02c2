"""The padding square: every side pads can lie on, times every way of running a batch, equals its rows alone.

Rows of a batch start from states of their own, from none, or read an offset; all of them in one batch, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from s0.adapter.config import S0AdapterConfig
from s0.core.states import BASE
from s0.verify.check import Check
from s0.verify.learning import sum_of
from s0.verify.running import feed, fill, forward, loss
from s0.verify.subject import ALPHA, ONE, SIZE, TWO, Comparison, Subject

OFFSET = "s0-verify-offset"
NAMES = [TWO, BASE, ONE, OFFSET]
OTHERS = [ONE, OFFSET, BASE, TWO]  # a wrong state for each row

SIDES: Mapping[str, tuple[str, str, str, str]] = {
    "left": ("left",) * 4,
    "right": ("right",) * 4,
    "both": ("left", "right", "middle", "left"),
    "all": ("right", "left", "right", "left"),  # and the second row is nothing but pads at first
}
"""Where the tokens of four rows lie among their pads: pads on the ... (in the middle: on both sides of the tokens)."""

PROMPTS, TURN = (9, 6, 1, 4), (2, 5, 1, 3)  # tokens of each row
MODES: Mapping[str, tuple[tuple[int, ...], bool]] = {
    "decode": ((9, 1, 1, 1), False),
    "chunks": ((4, 3, 2, 1), False),
    "single tokens": ((1,) * 11, False),
    "second turn": ((9, 5, 1), True),
}
"""The columns of each call over one cache, and whether a second prompt, padded as well, follows the first one."""


@dataclass(frozen=True)
class Grid:
    """Rows of tokens among pads.

    Attributes:
        rows: (1, T) each, all tokens of a row.
        ids, mask: (B, columns), 0 at pads.
    """

    rows: list[Tensor]
    ids: Tensor
    mask: Tensor

    def real(self, output: Tensor) -> Tensor:
        """(tokens of all rows, V): what stands in `output` (B, columns, V) where tokens are, row by row."""
        return output[self.mask.bool()]


def _grid(subject: Subject, side: str, turn: bool = False, decoded: int = 0) -> Grid:
    """Prompts padded on `side`, then a second prompt each, then `decoded` tokens each."""
    prompts = PROMPTS if side != "all" else (PROMPTS[0], 0, *PROMPTS[2:])
    blocks = [_block(prompts, side), *([_block(TURN, side)] if turn else []), torch.ones(4, decoded, dtype=torch.long)]
    mask = torch.cat(blocks, dim=1).to(subject.device)
    tokens = [subject.tokens(1, int(row.sum()), seed=i + 1) for i, row in enumerate(mask)]
    ids = torch.zeros_like(mask)
    for i, row in enumerate(tokens):
        ids[i, mask[i].bool()] = row[0]
    return Grid(tokens, ids, mask)


def _block(lengths: Sequence[int], side: str) -> Tensor:
    """(B, longest) the mask of rows with so many tokens."""
    width = max(lengths)
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length, where in zip(mask, lengths, SIDES[side], strict=True):
        pads_before = {"left": width - length, "right": 0, "middle": (width - length) // 2}[where]
        row[pads_before : pads_before + length] = 1
    return mask


def _alone(subject: Subject, grid: Grid, names: Sequence[str]) -> Tensor:
    """The logits (tokens of all rows, V) of each row by itself, with the whole model set to the state it names."""
    outputs = []
    for row, name in zip(grid.rows, names, strict=True):
        if row.shape[1]:
            with subject.using(name):
                outputs.append(subject.logits(row)[0])
    return torch.cat(outputs)


def _each_in_calls(subject: Subject, grid: Grid, sizes: Sequence[int] | None) -> Tensor:
    """Outputs as of `_alone`, without states, and each row in the calls that its tokens fall in."""
    outputs = []
    for row, mask in zip(grid.rows, grid.mask, strict=True):
        counts = [int(piece.sum()) for piece in mask.split(list(sizes or [len(mask)]))]
        outputs.append(feed(subject.model, row, [count for count in counts if count])[0])
    return torch.cat(outputs)


def _compared(subject: Subject, grid: Grid, sizes: Sequence[int] | None) -> Iterator[Comparison]:
    """The batch in calls of so many columns over a cache, or in one call without any, against its rows alone."""

    def together(names: Sequence[str] | None = None) -> Tensor:
        chosen = {} if names is None else {"adapter_names": names}
        if sizes is None:
            output = subject.logits(grid.ids, grid.mask, **chosen)
        else:
            output = feed(subject.model, grid.ids, sizes, grid.mask, **chosen)
        finite.append(bool(output.isfinite().all()))
        return grid.real(output)

    finite: list[bool] = []
    if subject.is_untouched:  # which is often wrong with pads: what is its own fault shows without them
        yield subject.same(partial(_each_in_calls, subject, grid, sizes), partial(_alone, subject, grid, [BASE] * 4))
        return
    yield subject.same(together, partial(_alone, subject, grid, [ONE] * 4), partial(_alone, subject, grid, [BASE] * 4))
    _add_offset(subject)
    for names, others in ((NAMES, OTHERS), ([BASE] * 4, [ONE] * 4)):
        yield subject.same(
            partial(together, names), partial(_alone, subject, grid, names), partial(_alone, subject, grid, others)
        )
    yield Comparison(float(not all(finite)), 0.0)


def _forward(subject: Subject, side: str) -> Iterator[Comparison]:
    yield from _compared(subject, _grid(subject, side), None)


def _cached(subject: Subject, side: str, mode: str) -> Iterator[Comparison]:
    sizes, turn = MODES[mode]
    n_prompt = max(PROMPTS) + turn * max(TURN)
    yield from _compared(subject, _grid(subject, side, turn, sum(sizes) - n_prompt), sizes)


def _gradient(subject: Subject, side: str) -> Iterator[Comparison]:
    grid = _grid(subject, side)

    def together(name: str, names: Sequence[str] | None = None, use_cache: bool = False) -> Tensor:
        chosen = {} if names is None else {"adapter_names": names}
        output = forward(subject.model, grid.ids, grid.mask, use_cache=use_cache, **chosen)
        return subject.gradients(loss(output.logits, grid.ids, grid.mask), name)

    def alone(name: str, names: Sequence[str], used: str | None = None) -> Tensor:
        """The gradient of the rows that choose `name`, one by one, under it or under the state `used` in its place."""
        rows = [row for row, its in zip(grid.rows, names, strict=True) if its == name and row.shape[1] > 1]
        with subject.using(used or name):
            return sum_of([subject.gradients(loss(subject.logits(row), row), used or name) for row in rows])

    for use_cache in (False, True):  # a Trainer leaves the cache on
        yield subject.same_gradient(partial(together, ONE, use_cache=use_cache), partial(alone, ONE, [ONE] * 4))
    _add_offset(subject)
    names = [TWO, BASE, BASE, OFFSET]
    for name, other in ((TWO, ONE), (OFFSET, ONE)):
        want, without = alone(name, names), alone(name, names, other)
        subject.tuned.base_model.set_adapter([ONE, TWO, OFFSET])
        yield subject.same_gradient(partial(together, name, names), want.clone, without.clone)
        subject.tuned.set_adapter(ONE)


def _add_offset(subject: Subject) -> None:
    subject.tuned.add_adapter(OFFSET, S0AdapterConfig(kind="offset", alpha=ALPHA))
    fill(subject.tuned, OFFSET, seed=12, size=SIZE)


def _name(side: str) -> str:
    return {"both": "mixed-padded", "all": "row-of-pads"}.get(side, f"{side}-padded")


_OVER_A_CACHE = "over a cache = its rows alone"

CHECKS = (
    *(
        Check(_name(side), "a batch = its rows alone", partial(_forward, side=side), may_be_refused=True)
        for side in SIDES
    ),
    *(
        Check(f"{_name(side)} gradient", "= sum over the rows alone", partial(_gradient, side=side), False, True)
        for side in SIDES
    ),
    *(
        Check(f"{_name(side)} {mode}", _OVER_A_CACHE, partial(_cached, side=side, mode=mode), may_be_refused=True)
        for mode in MODES
        for side in SIDES
    ),
)
