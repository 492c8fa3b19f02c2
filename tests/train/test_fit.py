"""The training loop: the right loss and update, whatever the batches, and a model that is left as it was found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from s0.errors import ConfigError, DatasetError
from s0.progress import Advance
from s0.train import FitResult, FitSettings, Splits, fit, mean_loss
from s0.train.checkpoint import Checkpoint
from s0.train.modes import unscaled
from tests import zoo
from tests.train.helpers import (
    BUDGETS,
    EXAMPLES,
    PAIRS,
    assert_states_equal,
    every_family,
    in_batches,
    slow_fit,
    slow_losses,
    snapshot,
    trainable,
    tuned,
)

SETTINGS = FitSettings(n_steps=3, lr=0.02)  # Adam turns rounding in a tiny gradient into a part of lr: keep lr small


def with_lora(family: str = "qwen3_5") -> PeftModel:
    torch.manual_seed(5)
    targets = ["in_proj_qkv", "q_proj"] if family == "qwen3_5" else ["q_proj", "v_proj"]
    return get_peft_model(zoo.make(family), LoraConfig(r=2, lora_dropout=0.3, target_modules=targets))


def run(model: nn.Module, settings: FitSettings = SETTINGS, data: Any = PAIRS, budget: int = 100) -> FitResult:
    return fit(model, Splits(in_batches(data, budget)), trainable(model), settings)


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainable(model)]


# --- The loss and the update ---


@every_family
@pytest.mark.parametrize("make", [tuned, with_lora])
def test_training_equals_a_plain_loop_over_single_examples(family: str, make: Callable[[str], nn.Module]) -> None:
    plain, fitted = make(family), make(family)
    plain.eval()  # no dropout
    with unscaled(plain):
        losses = slow_fit(plain, trainable(plain), SETTINGS, EXAMPLES[:3])
    result = run(fitted, data=EXAMPLES[:3])
    assert result.losses == pytest.approx(losses, abs=1e-5)
    assert_states_equal(values(fitted), values(plain))


@every_family
def test_the_result_does_not_depend_on_the_micro_batches(family: str) -> None:
    results, finals = [], []
    for budget in BUDGETS:
        model = tuned(family)
        results.append(run(model, budget=budget))
        finals.append(values(model))
    for result, final in zip(results[1:], finals[1:], strict=True):
        assert result.losses == pytest.approx(results[0].losses, abs=1e-5)
        assert_states_equal(final, finals[0])


@pytest.mark.parametrize(
    ("change", "normalize"),
    [
        pytest.param({"l2_lambda": 3.0}, False, id="strong L2"),
        pytest.param({"grad_clip": 1e-8}, True, id="strong clip"),
        pytest.param({"scale_in_training": True}, False, id="deployed scale"),
        pytest.param({"scale_in_training": True}, True, id="deployed scale, normalised"),
    ],
)
def test_every_setting_acts_as_in_a_plain_loop(change: dict[str, Any], normalize: bool) -> None:
    plain, fitted, other = (tuned(alpha=0.07, normalize=normalize) for _ in range(3))
    settings, data = replace(SETTINGS, **change), PAIRS[:3]
    with nullcontext() if settings.scale_in_training else unscaled(plain):
        slow_fit(plain, trainable(plain), settings, data)
    run(fitted, settings, data)
    assert_states_equal(values(fitted), values(plain))
    run(other, data=data)
    assert max((a - b).abs().max().item() for a, b in zip(values(fitted), values(other), strict=True)) > 1e-3


def gradients_at_each_step(act: Callable[[], Any]) -> list[list[Tensor]]:
    """The gradients that the optimiser is given while `act` runs."""
    seen: list[list[Tensor]] = []
    watch = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([p.grad.clone() for p in optimizer.param_groups[0]["params"]])
    )
    try:
        act()
    finally:
        watch.remove()
    return seen


def test_a_tensor_without_influence_feels_the_l2_term_only() -> None:
    idle = nn.Parameter(torch.ones(3))
    model, settings = tuned(), FitSettings(n_steps=1, l2_lambda=0.25, grad_clip=1e9)
    ((*_, of_idle),) = gradients_at_each_step(
        lambda: fit(model, Splits(in_batches()), [*trainable(model), idle], settings)
    )
    torch.testing.assert_close(of_idle, torch.full((3,), 2 * 0.25))


def test_gradients_are_clipped_to_their_common_norm() -> None:
    model = tuned()
    steps = gradients_at_each_step(lambda: run(model, FitSettings(n_steps=2, grad_clip=0.01)))
    for gradients in steps:
        assert torch.cat([one.flatten() for one in gradients]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_training_at_the_deployed_scale_from_zero_survives_normalisation() -> None:
    model = tuned(alpha=0.5, normalize=True)
    result = run(model, FitSettings(n_steps=5, lr=0.1, scale_in_training=True))
    assert all(math.isfinite(loss) for loss in result.losses)
    assert result.loss_deployed == result.loss_after < result.losses[0] - 0.01


# --- What is reported ---


@every_family
@pytest.mark.parametrize("scale_in_training", [False, True])
def test_the_reported_losses_are_those_of_the_states(family: str, scale_in_training: bool) -> None:
    model = tuned(family, alpha=0.3)
    with torch.no_grad():
        before = torch.stack(slow_losses(model)).mean().item()
    result = run(model, FitSettings(n_steps=3, lr=0.1, scale_in_training=scale_in_training))
    with torch.no_grad():
        deployed = torch.stack(slow_losses(model)).mean().item()
        with unscaled(model):
            raw = torch.stack(slow_losses(model)).mean().item()
    assert abs(raw - deployed) > 1e-3
    assert result.losses[0] == pytest.approx(before, abs=1e-5)
    assert result.loss_deployed == pytest.approx(deployed, abs=1e-5)
    assert result.loss_after == pytest.approx(deployed if scale_in_training else raw, abs=1e-5)
    assert result.loss_deployed == pytest.approx(mean_loss(model, in_batches(budget=1)), abs=1e-5)
    norms = [parameter.norm().item() for parameter in trainable(model)]
    assert result.norms[-1] == pytest.approx(sum(norms) / len(norms))
    assert len(result.losses) == len(result.norms) == 3


def test_a_training_run_repeats_exactly() -> None:
    one, other = tuned(), tuned()
    assert run(one) == run(other)
    assert all(torch.equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def test_progress_is_told_to_the_stage_that_is_given(tmp_path: Path) -> None:
    told: list[Any] = []

    @contextmanager
    def stage(name: str, total: int | None) -> Iterator[Advance]:
        told.append((name, total))
        yield lambda count, note="", **_: told.append((count, note))

    def watched() -> FitResult:
        model, checkpoint, splits = tuned(), Checkpoint(tmp_path / "run", 1), Splits(in_batches(PAIRS[:3], 1))
        return fit(model, splits, trainable(model), SETTINGS, checkpoint=checkpoint, stage=stage)

    result = watched()
    series = zip((1, 2, 3), result.losses, result.norms, strict=True)
    notes = ["0/3", *(f"{step}/3  loss {loss:.4f}  norm {norm:.3f}" for step, loss, norm in series)]
    steps = [[*[(pytest.approx(1 / 3), notes[n])] * 3, (0, notes[n + 1])] for n in range(3)]
    assert told == [("training", 3), (0, ""), *chain.from_iterable(steps)]
    told.clear()
    watched()
    assert told == [("training", 3), (3, "")]  # resumed at its end


# --- Gradient checkpointing ---


def calls_per_layer(model: nn.Module, act: Callable[[], Any]) -> int:
    """How often the first decoder layer runs while `act` does."""
    calls: list[None] = []
    norm = model.get_base_model().model.layers[0].input_layernorm
    handle = norm.register_forward_pre_hook(lambda *_: calls.append(None))
    act()
    handle.remove()
    return len(calls)


@every_family
@pytest.mark.parametrize("make", [tuned, with_lora])
def test_gradient_checkpointing_recomputes_and_changes_nothing(family: str, make: Callable[[str], nn.Module]) -> None:
    plain, thrifty = make(family), make(family)
    saving = replace(SETTINGS, gradient_checkpointing=True)
    stored = calls_per_layer(plain, lambda: run(plain))
    recomputed = calls_per_layer(thrifty, lambda: run(thrifty, saving))
    assert recomputed - stored == 3 * len(in_batches(budget=100))
    assert_states_equal(values(thrifty), values(plain))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_is_off_while_training(checkpointing: bool) -> None:
    settings = replace(SETTINGS, gradient_checkpointing=checkpointing)
    plain, dropping = tuned(), tuned()
    for module in dropping.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.9
    dropping.train()
    assert run(dropping, settings).losses == pytest.approx(run(plain, settings).losses, abs=1e-6)


def test_a_model_without_checkpointed_layers_is_refused_before_anything_changes() -> None:
    model = tuned()
    model.get_base_model().model.layers = nn.ModuleList()
    before = snapshot(model)
    with pytest.raises(ConfigError, match="gradient checkpointing"):
        fit(model, Splits(in_batches()), [nn.Parameter(torch.zeros(1))], FitSettings(gradient_checkpointing=True))
    assert snapshot(model) == before


# --- The model is left as it was found ---


def mixed_up(checkpointed: bool) -> PeftModel:
    """A model in no mode in particular: training here, eval there, some weights trainable, perhaps checkpointed."""
    model = tuned(alpha=0.07, normalize=True)
    if checkpointed:
        model.get_base_model().activation_checkpointing_enable()
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    for i, parameter in enumerate(model.get_base_model().model.layers[1].parameters()):
        parameter.requires_grad_(i % 2 == 0)
    return model


@contextmanager
def raising(model: nn.Module, error: BaseException, at_call: int) -> Iterator[None]:
    """The model's `at_call`-th forward pass from now ends in `error`."""
    calls: list[None] = []

    def hook(*_: Any) -> None:
        calls.append(None)
        if len(calls) == at_call:
            raise error

    handle = model.get_base_model().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(("was_checkpointed", "checkpointing"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("error", [None, RuntimeError("boom"), KeyboardInterrupt(), DatasetError("bad row")], ids=repr)
def test_flags_modes_and_scales_are_restored(was_checkpointed: bool, checkpointing: bool, error: Any) -> None:
    model = mixed_up(was_checkpointed)
    states = [parameter for name, parameter in model.named_parameters() if "s0_state" in name]
    settings = FitSettings(n_steps=3, gradient_checkpointing=checkpointing)
    before = snapshot(model)
    if error is None:
        fit(model, Splits(in_batches(budget=100)), states, settings)
    else:
        with raising(model, error, at_call=6), pytest.raises(type(error)):
            fit(model, Splits(in_batches(budget=100)), states, settings)
    assert snapshot(model) == before
    assert any(state.norm() > 0 for state in states)


def test_only_the_given_parameters_get_gradients() -> None:
    model = tuned()
    model.requires_grad_(True)
    frozen = {name: weight.detach().clone() for name, weight in model.named_parameters() if "s0_state" not in name}
    first = next(parameter for name, parameter in model.named_parameters() if "s0_state" in name)
    seen: list[set[str]] = []

    def note(*_: Any) -> None:
        seen.append({name for name, parameter in model.named_parameters() if parameter.grad is not None})

    watch = register_optimizer_step_pre_hook(note)
    fit(model, Splits(in_batches()), [first], FitSettings(n_steps=2))
    watch.remove()
    assert [{name.rsplit(".", 2)[0] for name in names} for names in seen] == [
        {"base_model.model.model.layers.0.linear_attn"}
    ] * 2
    assert all(torch.equal(weight, frozen[name]) for name, weight in model.named_parameters() if name in frozen)


def test_training_warns_of_nothing() -> None:
    model = tuned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, FitSettings(n_steps=1, gradient_checkpointing=True))


# --- When a loss is not finite ---


@contextmanager
def poisoned(model: nn.Module, row: int, at_call: int) -> Iterator[None]:
    """The logits of one row are NaN in the model's `at_call`-th forward pass from now."""
    calls: list[None] = []

    def hook(_: Any, __: Any, output: Tensor) -> Tensor:
        calls.append(None)
        if len(calls) != at_call:
            return output
        return output.index_fill(0, torch.tensor(row), math.nan)

    handle = model.get_base_model().lm_head.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("step", [0, 1, 2, 3], ids=["first", "second", "third", "evaluation"])
@pytest.mark.parametrize("batch", [0, 1])
def test_a_row_that_explodes_is_named_and_the_last_good_values_are_kept(step: int, batch: int) -> None:
    made = in_batches(budget=100)
    model, reference = tuned(), tuned()
    start = values(model)
    row = len(made[batch].names) - 1
    with (
        poisoned(model, row, at_call=step * len(made) + batch + 1),
        pytest.raises(DatasetError, match=f"{made[batch].names[row]} is nan") as error,
    ):
        run(model)
    assert ("evaluation" if step == 3 else f"step {step}") in str(error.value)
    if step > 1:
        run(reference, FitSettings(n_steps=step - 1, lr=SETTINGS.lr))
    assert all(torch.equal(a, b) for a, b in zip(values(model), values(reference) if step > 1 else start, strict=True))


def test_a_gradient_that_explodes_keeps_the_values_that_gave_it() -> None:
    model, reference = tuned(), tuned()
    run(reference, FitSettings(n_steps=1, lr=SETTINGS.lr))
    state, seen = trainable(model)[0], []

    def hook(gradient: Tensor) -> Tensor:
        seen.append(None)
        return gradient * math.inf if len(seen) > 2 * len(in_batches(budget=100)) - 1 else gradient

    state.register_hook(hook)
    with pytest.raises(DatasetError, match="gradient of step 1 is not finite"):
        run(model)
    assert all(torch.equal(a, b) for a, b in zip(values(model), values(reference), strict=True))


def test_an_absurd_learning_rate_ends_in_an_error_and_finite_values() -> None:
    model = tuned()
    with pytest.raises(DatasetError, match="lower `lr`"):
        run(model, FitSettings(n_steps=5, lr=1e30))
    assert all(torch.isfinite(state).all() for state in values(model))


# --- Patience ---


def judged(n_steps: int, **settings: Any) -> tuple[FitResult, list[Tensor], float]:
    """Training on the first pair for so many steps, and the loss of the last one, all without patience."""
    model, asked = tuned(alpha=0.4), FitSettings(n_steps=n_steps, lr=0.3, **settings)
    result = run(model, asked, PAIRS[:1])
    with nullcontext() if asked.scale_in_training else unscaled(model):
        return result, values(model), mean_loss(model, in_batches(PAIRS[4:]))


def with_patience(model: nn.Module, settings: FitSettings) -> FitResult:
    select = in_batches(PAIRS[4:])
    return fit(model, Splits(in_batches(PAIRS[:1]), select), trainable(model), settings)


@pytest.mark.parametrize("scale_in_training", [False, True])
def test_training_stops_when_patience_ends_and_keeps_the_best_step(scale_in_training: bool) -> None:
    model = tuned(alpha=0.4)
    result = with_patience(model, FitSettings(50, lr=0.3, patience=2, scale_in_training=scale_in_training))
    n_steps, best = len(result.losses), result.best_step
    assert 1 < best == n_steps - 2 and n_steps < 20 and len(result.norms) == n_steps
    courses = {n: judged(n, scale_in_training=scale_in_training) for n in (1, best, n_steps)}
    assert all(result.select_losses[n - 1] == loss for n, (_, _, loss) in courses.items())
    assert result.select_losses.index(min(result.select_losses)) == best - 1
    at_best, states, _ = courses[best]
    assert result.losses[:best] == at_best.losses
    assert (result.loss_after, result.loss_deployed) == (at_best.loss_after, at_best.loss_deployed)
    assert all(torch.equal(a, b) for a, b in zip(values(model), states, strict=True))


def test_where_patience_never_ends_the_best_step_is_kept_all_the_same() -> None:
    model = tuned(alpha=0.4)
    result = with_patience(model, FitSettings(12, lr=0.3, patience=12))
    assert len(result.losses) == 12 > result.best_step
    assert result.best_step == result.select_losses.index(min(result.select_losses)) + 1
    assert all(torch.equal(a, b) for a, b in zip(values(model), judged(result.best_step)[1], strict=True))


def test_without_patience_the_last_step_is_kept() -> None:
    result = run(tuned())
    assert result.best_step == SETTINGS.n_steps and result.select_losses == ()


@pytest.mark.parametrize(("patience", "select"), [(3, ()), (None, PAIRS[3:])])
def test_patience_and_selection_examples_need_each_other(patience: int | None, select: Any) -> None:
    model = tuned()
    with pytest.raises(ConfigError, match="selection examples with patience"):
        splits = Splits(in_batches(), in_batches(select) if select else ())
        fit(model, splits, trainable(model), FitSettings(patience=patience))


# --- Settings ---


@pytest.mark.parametrize(
    "setting",
    [
        {"n_steps": 0},
        {"n_steps": -1},
        {"n_steps": 2.0},
        {"n_steps": True},
        {"lr": 0.0},
        {"lr": -1e-3},
        {"lr": math.nan},
        {"lr": math.inf},
        {"lr": "fast"},
        {"lr": True},
        {"l2_lambda": -1.0},
        {"l2_lambda": math.nan},
        {"l2_lambda": False},
        {"grad_clip": 0.0},
        {"grad_clip": math.inf},
        {"grad_clip": None},
        {"patience": 0},
        {"patience": 1.5},
        {"patience": True},
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        FitSettings(**setting)


def test_a_bound_is_told_as_it_is() -> None:
    for name in ("lr", "grad_clip"):
        with pytest.raises(ConfigError, match=f"expected `{name}` to be a finite number above 0, got -1"):
            FitSettings(**{name: -1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected `l2_lambda` to be a finite number of at least 0, got -1"):
        FitSettings(l2_lambda=-1)
    assert FitSettings(l2_lambda=0).l2_lambda == 0
