"""An offset is trained, scaled, saved and applied as a state is, by the same loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s0 import Example, S0Config
from s0.bench import tuned_facts
from s0.core.states import state_layers
from s0.errors import ConfigError, StateMismatchError
from s0.train import FitSettings, Grid, Splits, fit, load_tuned
from tests import zoo
from tests.train.helpers import (
    EXAMPLES,
    PAIRS,
    assert_states_equal,
    every_family,
    in_batches,
    logits,
    slow_fit,
    slow_losses,
    states,
    tokenizer,
    trainable,
    trained,
    trainer,
    tuned,
)

SELECT = [Example("def minus(a):\n", "    return -a\n"), Example("def two():\n", "    return 2\n")]


@every_family
def test_training_equals_a_plain_loop_over_single_examples(family: str) -> None:
    plain, fitted, other = tuned(family, kind="offset"), tuned(family, kind="offset"), tuned(family)
    settings, data = FitSettings(n_steps=3, lr=0.1, l2_lambda=1e-3), EXAMPLES[:3]
    losses = slow_fit(plain.eval(), trainable(plain), settings, data)
    result = fit(fitted, Splits(in_batches(data, 100)), trainable(fitted), settings)
    assert result.losses == pytest.approx(losses, abs=1e-5)
    assert_states_equal(trainable(fitted), trainable(plain))
    as_a_state = fit(other, Splits(in_batches(data, 100)), trainable(other), settings)
    assert as_a_state.losses[0] == pytest.approx(losses[0], abs=1e-5)
    assert abs(as_a_state.losses[-1] - losses[-1]) > 1e-3


@every_family
def test_what_is_reported_is_that_of_the_activated_offset(family: str) -> None:
    made = trainer(family, kind="offset", n_steps=3, lr=0.05)
    report = made.train(EXAMPLES)
    assert report["alpha"] == 1.0  # no scale is published for offsets
    assert report["final_loss"] < report["initial_loss"] - 1e-3
    made.activate()
    with torch.no_grad():
        assert torch.stack(slow_losses(made.model, EXAMPLES)).mean().item() == pytest.approx(
            report["final_loss"], abs=2e-6
        )


def test_candidates_are_trained_and_measured_as_offsets() -> None:
    made = trainer(kind="offset")
    report = made.train_auto(EXAMPLES, SELECT, grid=Grid((0.02, 0.1), (1, 2)))
    alone = trainer(kind="offset", lr=report["lr"], n_steps=report["n_steps"], alpha="auto")
    wanted = alone.train(EXAMPLES, select=SELECT)
    assert_states_equal([*states(made).values()], [*states(alone).values()])
    assert {name: report[name] for name in wanted} == pytest.approx(wanted, abs=1e-5)


def test_it_is_saved_and_loaded_as_what_it_is(tmp_path: Path) -> None:
    made = trained("falcon_h1", kind="offset")
    made.activate()
    want = logits(made.model)
    made.save(tmp_path / "offset")
    again = trainer("falcon_h1", kind="offset")
    again.load(tmp_path / "offset")
    again.activate()
    assert torch.equal(logits(again.model), want)
    found = load_tuned(zoo.make("falcon_h1"), tokenizer(), tmp_path / "offset")
    assert torch.equal(logits(found.model), want)
    assert tuned_facts(found)["method"] == "offset"
    assert made.training["settings"]["variant"] == "offset"


@pytest.mark.parametrize("kind", ["state", "offset"])
def test_a_trainer_of_the_other_kind_refuses_it(tmp_path: Path, kind: str) -> None:
    trained(kind=kind).save(tmp_path)
    other = trainer(kind="offset" if kind == "state" else "state")
    before = logits(other.model)
    with pytest.raises(StateMismatchError, match=f"got '{kind}'"):
        other.load(tmp_path)
    assert torch.equal(logits(other.model), before)


def test_the_kind_of_a_trainer_stays() -> None:
    made = trained()
    made.config = S0Config(kind="offset")
    with pytest.raises(ConfigError, match=r"this trainer was made with, got .offset.; make another"):
        made.train(PAIRS)
    with pytest.raises(ConfigError, match="state, offset"):
        trainer(kind="both")


def test_a_state_and_an_offset_share_a_model() -> None:
    first = trained("qwen3_5")
    second = trained("qwen3_5", model=first.model, kind="offset")
    first.activate()
    state = logits(first.model)
    second.activate()
    offset = logits(first.model)
    assert not torch.equal(state, offset)
    alone = trained("qwen3_5", kind="offset")
    alone.activate()
    torch.testing.assert_close(offset, logits(alone.model), atol=1e-4, rtol=0)
    second.detach()
    deployed = [deployment for layer in state_layers(first.model) for deployment in layer.deployments.values()]
    assert all(deployment.kind == "state" for deployment in deployed)
    first.activate()
    assert torch.equal(logits(first.model), state)


def test_the_last_trainer_to_go_leaves_nothing_behind() -> None:
    base = zoo.make("qwen3_5")
    stock = logits(base)
    made = trainer(model=base, kind="offset", lr=0.5, n_steps=1)
    made.train(PAIRS)
    made.activate()
    assert not torch.equal(logits(made.model), stock)
    made.detach()
    assert made.model is base and torch.equal(logits(base), stock)
    assert not any(module._forward_pre_hooks for module in base.modules())
