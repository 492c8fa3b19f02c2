"""What is tried is what each training would have come to alone, and the best of them is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from s0 import Example, S0Config, S0Trainer
from s0.core.states import state_layers
from s0.errors import ConfigError, DatasetError
from s0.train import Grid
from tests import zoo
from tests.train.helpers import EXAMPLES, PAIRS, every_family, logits, slow_losses, snapshot, states, trained, trainer

SELECT = [Example("def mul(a, b):\n", "    return a * b\n"), Example("def two():\n", "    return 2\n")]
LRS, STEPS = (0.01, 0.3), (1, 3)
GRID = Grid(LRS, STEPS)


@cache
def tuned(family: str, normalize: bool = False) -> tuple[S0Trainer, dict[str, float]]:
    """A trainer that has chosen, for tests that leave it as it is."""
    made = trainer(family, normalize=normalize, l2_lambda=1e-3)
    return made, made.train_auto(EXAMPLES, SELECT, grid=GRID)


def alone(family: str, lr: float, n_steps: int, **settings: Any) -> S0Trainer:
    """What one candidate becomes without the others."""
    made = trainer(family, lr=lr, n_steps=n_steps, alpha="auto", l2_lambda=1e-3, **settings)
    made.train(EXAMPLES, select=SELECT)
    return made


def assert_alike(account: dict[str, Any], other: dict[str, Any]) -> None:
    for name in ("losses", "norms", "initial_loss", "training_loss", "final_loss", "avg_state_norm"):
        assert account[name] == pytest.approx(other[name], abs=1e-5)
    for name in ("select_initial_loss", "select_final_loss", "alpha", "best_step", "tokens_sha256", "n_examples"):
        assert account[name] == pytest.approx(other[name], abs=1e-5)
    assert account["settings"] == other["settings"]


@every_family
@pytest.mark.parametrize("normalize", [False, True])
def test_the_winner_is_what_it_would_have_become_alone(family: str, normalize: bool) -> None:
    made, report = tuned(family, normalize)
    one = alone(family, report["lr"], report["n_steps"], normalize=normalize)
    wanted = states(one)
    assert all(state.norm() > 1e-2 for state in wanted.values())
    for layer, state in states(made).items():
        torch.testing.assert_close(state, wanted[layer], atol=1e-5, rtol=0)
    assert made.config == one.config
    assert_alike(made.training, one.training)
    assert {name: report[name] for name in one.training if name in report} == pytest.approx(
        {name: made.training[name] for name in one.training if name in report}
    )
    for each in (made, one):
        each.activate()
    torch.testing.assert_close(logits(made.model), logits(one.model), atol=1e-4, rtol=0)
    for each in (made, one):
        each.deactivate()


@every_family
def test_the_table_equals_trainings_one_by_one(family: str) -> None:
    made, report = tuned(family)
    table = made.training["candidates"]
    assert [(row["lr"], row["n_steps"]) for row in table] == [(lr, n) for lr in LRS for n in STEPS]
    for row in table:
        told = alone(family, row["lr"], row["n_steps"]).training
        assert row["loss"] == pytest.approx(told["select_final_loss"], abs=1e-5)
        assert row["scale"]["alphas"] == told["scale"]["alphas"]
        assert list(row["scale"]["values"]) == pytest.approx(list(told["scale"]["values"]), abs=1e-5)
        assert row["scale"]["alpha"] == told["alpha"]
    best = min(table, key=lambda row: row["loss"])
    assert (report["lr"], report["n_steps"]) == (best["lr"], best["n_steps"])
    assert report["select_final_loss"] == pytest.approx(best["loss"], abs=1e-5)
    assert len({row["loss"] for row in table}) == len(table)


@every_family
def test_what_is_reported_is_that_of_the_activated_state(family: str, tmp_path: Path) -> None:
    made, report = tuned(family)
    made.activate()
    for data, loss in ((EXAMPLES, "final_loss"), (SELECT, "select_final_loss")):
        with torch.no_grad():
            assert torch.stack(slow_losses(made.model, data)).mean().item() == pytest.approx(report[loss], abs=2e-6)
    made.deactivate()
    made.save(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text(), parse_constant=pytest.fail)
    assert saved["alpha"] == report["alpha"]
    assert len(saved["training"]["candidates"]) == len(LRS) * len(STEPS)
    assert "interrupted" not in saved["training"]


def test_a_diverging_learning_rate_loses_and_stops_nothing() -> None:
    with_it, without = trainer(), trainer()
    wanted = without.train_auto(EXAMPLES, SELECT, grid=Grid((0.01, 0.3), (2,)))
    report = with_it.train_auto(EXAMPLES, SELECT, grid=Grid((0.01, 1e30, 0.3, 1e4), (2,)))
    assert report == pytest.approx(wanted, abs=1e-5)
    failed, diverged = with_it.training["candidates"][1], with_it.training["candidates"][3]
    assert (failed["scale"], failed["loss"]) == (None, None)
    assert diverged["loss"] is None or diverged["loss"] > report["select_final_loss"]
    json.dumps(with_it.training, allow_nan=False)


def test_nothing_with_a_finite_loss_leaves_the_trainer_as_it_was() -> None:
    made = trained()
    before, account, config, model = states(made), made.training, made.config, snapshot(made.model)
    for lrs in ((1e30,), (1e30, 2e30)):
        with pytest.raises(DatasetError, match="lr"):
            made.train_auto(EXAMPLES, SELECT, grid=Grid(lrs, (1, 2)))
        assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())
        assert (made.training, made.config) == (account, config)
        assert snapshot(made.model) == model
    assert [set(layer.s0_state) for layer in state_layers(made.model)] == [{made.adapter_name}] * 2


def test_the_states_on_the_model_neither_count_nor_change() -> None:
    model = zoo.make("qwen3_5")
    other, made = trained(model=model), trainer(model=model, layers=[2], alpha=0.5)
    other.activate()
    kept, tuned_logits = states(other), logits(model)
    fresh = trainer(layers=[2])
    wanted = fresh.train_auto(EXAMPLES, SELECT, grid=GRID)
    assert made.train_auto(EXAMPLES, SELECT, grid=GRID) == wanted
    assert list(states(made)) == [2]
    assert torch.equal(states(made)[2], states(fresh)[2])
    assert other.is_active
    assert torch.equal(logits(model), tuned_logits)
    assert all(torch.equal(state, kept[layer]) for layer, state in states(other).items())
    assert made.config == replace(fresh.config)


def test_micro_batches_grow_no_larger_than_for_one() -> None:
    made = trainer(batch_tokens=300)
    shapes: list[torch.Size] = []
    made.model.get_base_model().model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    made.train_auto(PAIRS, SELECT, grid=Grid((0.01, 0.03, 0.1), (1,)))
    assert all(shape.numel() <= 300 for shape in shapes)
    assert max(shape[0] for shape in shapes) > 6  # more than an example for each learning rate


def test_an_interrupted_choice_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, made, again = trainer(), trained(), trainer()
    before, account = states(made), made.training
    settings: dict[str, Any] = {"grid": Grid(LRS, (1, 4))}
    wanted = whole.train_auto(EXAMPLES, SELECT, **settings)
    made.config = S0Config()
    calls: list[None] = []

    def interrupt(*_: Any) -> None:
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    hook = made.model.get_base_model().register_forward_hook(interrupt)
    file = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        made.train_auto(EXAMPLES, SELECT, checkpoint=file, checkpoint_every=1, **settings)
    hook.remove()
    assert file.exists()
    assert made.training == account
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())
    assert again.train_auto(EXAMPLES, SELECT, checkpoint=file, checkpoint_every=1, **settings) == wanted
    assert all(torch.equal(state, states(whole)[layer]) for layer, state in states(again).items())
    again.save(tmp_path / "state")
    assert not file.exists()


@pytest.mark.parametrize(
    ("tried", "match"),
    [
        ({"lrs": ()}, "expected different `lrs`, at least one"),
        ({"lrs": (0.1, 0.1)}, "different `lrs`"),
        ({"lrs": (0.1, -0.1)}, "`lr`"),
        ({"lrs": (0.1, 0.0)}, "`lr`"),
        ({"lrs": (0.1, "0.2")}, "`lr`"),
        ({"steps": ()}, "different `steps`"),
        ({"steps": (2, 2)}, "different `steps`"),
        ({"steps": (0, 2)}, "at least 1"),
        ({"steps": (1.5,)}, "at least 1"),
    ],
    ids=str,
)
def test_a_grid_that_cannot_be_tried_is_refused(tried: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Grid(**tried)


def test_a_grid_takes_lists_and_keeps_no_hold_on_them() -> None:
    lrs = [0.1, 0.2]
    grid = Grid(lrs, [1, 2])
    lrs.append(0.1)
    assert grid == Grid((0.1, 0.2), (1, 2))


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"patience": 2}, "patience=None"), ({"scale_in_training": True}, "before training")],
    ids=str,
)
def test_settings_that_nothing_can_be_tried_with_are_refused(settings: dict[str, Any], match: str) -> None:
    made = trained(n_steps=1)
    before, account = states(made), made.training
    made.config = S0Config(**settings)
    config = replace(made.config)
    with pytest.raises(ConfigError, match=match):
        made.train_auto(EXAMPLES, SELECT)
    assert made.config == config
    assert made.training == account
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())


@pytest.mark.parametrize("select", [[], None])
def test_a_choice_needs_select_examples(select: Any) -> None:
    with pytest.raises(DatasetError, match="select data"):
        trainer().train_auto(EXAMPLES, select)
