"""The table of methods: settings name their method, also those of a method that somebody has added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from s0.errors import ConfigError
from s0.train import METHODS, BaselineTrainer, LoraTuning, S0Config, S0Trainer, make_trainer, method_of
from s0.train.methods import Method
from tests import zoo
from tests.train.helpers import tokenizer


@dataclass(frozen=True, kw_only=True)
class NarrowTuning(LoraTuning):
    """A method whose settings are another's, and more."""

    targets: tuple[str, ...] = ("q_proj",)


class NarrowTrainer(BaselineTrainer):
    """Its trainer."""


class CarefulTrainer(S0Trainer):
    """A trainer of states."""


@pytest.mark.parametrize("name", sorted(METHODS))
def test_settings_name_the_method_that_made_them(name: str) -> None:
    assert method_of(METHODS[name].configure()) == name


def test_the_closest_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "narrow", Method(NarrowTuning, NarrowTrainer))
    monkeypatch.setitem(METHODS, "small", Method(LoraTuning, BaselineTrainer, {"rank": 1}))
    assert method_of(NarrowTuning()) == "narrow"
    assert method_of(LoraTuning(rank=1)) == "small"
    assert method_of(LoraTuning()) == "lora"
    assert type(make_trainer(zoo.make("qwen3_5"), tokenizer(), NarrowTuning())) is NarrowTrainer


def test_settings_of_no_method_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # A table of its own: what is taken out of the real one comes back behind all others.
    others = {name: method for name, method in METHODS.items() if name != "lora"}
    monkeypatch.setattr("s0.train.methods.METHODS", others)
    settings: Any
    for settings in (LoraTuning(), {"n_steps": 2}):
        with pytest.raises(ConfigError, match=r"the methods s0, s0\+gains, offset, prefix, gains, ia3, full, got"):
            method_of(settings)


def test_a_subclass_of_the_trainer_of_states_has_a_scale() -> None:
    assert Method(S0Config, CarefulTrainer).has_scale and METHODS["offset"].has_scale
    assert not any(METHODS[name].has_scale for name in ("lora", "prefix", "gains", "ia3", "full"))
