"""The padding square: each of its cells fails once what makes it hold is taken away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from torch import Tensor

from s0.core import states
from s0.core.padding import Padding
from s0.core.recurrences import gated_delta
from s0.core.states import StateLayer
from s0.verify import verify
from s0.verify.padding import CHECKS
from tests import zoo

Patch = pytest.MonkeyPatch
SIDES = ("left-padded", "right-padded", "mixed-padded", "row-of-pads")
CACHED = {f"{side} {mode}" for side in SIDES for mode in ("decode", "chunks", "single tokens", "second turn")}
ALL = {*SIDES, *(f"{side} gradient" for side in SIDES), *CACHED}


def test_the_square_is_whole() -> None:
    assert [check.name for check in CHECKS] == sorted(ALL, key=[check.name for check in CHECKS].index)
    assert len(CHECKS) == 4 * 6


# --- Taken away, one by one ---


def lets_pads_decay_the_state(patch: Patch) -> None:
    patch.setattr(states, "at_kernel", lambda mixer, padded, state: nullcontext())


def lets_pads_write(patch: Patch) -> None:
    patch.setattr(gated_delta, "_GATES", ("g",))


def keeps_the_last_columns_of_all(patch: Patch) -> None:
    patch.setattr(states, "OwnColumns", lambda cache, lengths: cache)


def leaves_tokens_where_they_are(patch: Patch) -> None:
    init = Padding.__init__

    def keeping(self: Padding, mask: Tensor, n_tokens: int) -> None:
        init(self, mask, n_tokens)
        self.front_mask = mask

    patch.setattr(Padding, "__init__", keeping)
    patch.setattr(Padding, "to_front", lambda self, hidden_states: hidden_states)
    patch.setattr(Padding, "back", lambda self, output: output)


def brings_pads_to_the_front(patch: Patch) -> None:
    init = Padding.__init__
    patch.setattr(Padding, "__init__", lambda self, mask, n_tokens: init(self, 1 - mask, n_tokens))


def is_told_nothing_of_single_tokens(patch: Patch) -> None:
    patch.setattr(states, "call_mask", lambda: None)


def leaves_rows_of_the_base_to_the_mixer(patch: Patch) -> None:
    run = StateLayer._begin_or_continue

    def leaving(self: StateLayer, hidden_states: Tensor, cache: Any, attention_mask: Any, **kwargs: Any) -> Any:
        choice = states.choice_for(self)
        if choice is not None and set(choice.names) == {states.BASE}:
            return self.run_mixer(hidden_states, cache, attention_mask, **kwargs)
        return run(self, hidden_states, cache, attention_mask, **kwargs)

    patch.setattr(StateLayer, "_begin_or_continue", leaving)


def of_modes(*modes: str) -> set[str]:
    return {f"{side} {mode}" for side in SIDES for mode in modes}


def of_side(side: str) -> set[str]:
    return {name for name in ALL if name.split()[0] == side}


def also_slowly(*case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("plant", "family", "broken"),
    [
        (lets_pads_write, "qwen3_5", CACHED),
        also_slowly(keeps_the_last_columns_of_all, "falcon_h1", CACHED),
        also_slowly(lets_pads_decay_the_state, "falcon_h1", CACHED),
        also_slowly(leaves_tokens_where_they_are, "qwen3_5", ALL - of_side("right-padded") - of_modes("single tokens")),
        also_slowly(brings_pads_to_the_front, "falcon_h1", ALL),
        also_slowly(is_told_nothing_of_single_tokens, "falcon_h1", of_modes("single tokens")),
        also_slowly(
            leaves_rows_of_the_base_to_the_mixer,
            "qwen3_5",
            CACHED - (of_side("left-padded") & of_modes("decode", "chunks", "single tokens")),  # those it does itself
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_cell_fails_without_what_it_needs(
    plant: Callable[[Patch], None], family: str, broken: set[str], monkeypatch: Patch
) -> None:
    model = zoo.make(family)
    plant(monkeypatch)
    failed = {result.name for result in verify(model, checks=CHECKS) if result.status != "holds"}
    assert failed == broken
