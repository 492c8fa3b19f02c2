"""Scales as rows equal scales one by one, leave nothing behind, and the best of them is found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from s0 import S0Trainer
from s0.core.states import state_layers
from s0.errors import ConfigError, DatasetError
from s0.train import mean_loss
from s0.train.scale import (
    LADDER,
    FixedDeployment,
    ScaleChoice,
    choose_scale,
    passing_states,
    rows_start_from,
    scale_curve,
    scales_as_rows,
)
from tests import zoo
from tests.train.helpers import (
    PAIRS,
    every_family,
    in_batches,
    logits,
    shared,
    snapshot,
    states,
    tokenizer,
    trained,
    trainer,
)

ALPHAS = [0.0, 0.07, 0.65, 1.0, 4.0]


def one_by_one(made: S0Trainer, alphas: Sequence[float], **settings: Any) -> list[float]:
    """The same curve by setting one scale after the other."""
    made.activate()
    losses = []
    for alpha in alphas:
        made.set_scale(alpha)
        made.activate()
        losses.append(mean_loss(made.model, in_batches(**settings)))
    made.deactivate()
    return losses


@pytest.fixture
def counted() -> Iterator[Callable[[nn.Module], list[torch.Size]]]:
    """Watches the shapes of the batches that a model is given."""
    handles = []

    def watch(model: nn.Module) -> list[torch.Size]:
        shapes: list[torch.Size] = []
        inner = model.get_base_model().model

        def note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            shapes.append(kwargs["input_ids"].shape)

        handles.append(inner.register_forward_pre_hook(note, with_kwargs=True))
        return shapes

    yield watch
    for handle in handles:
        handle.remove()


# --- The curve ---


@every_family
@pytest.mark.parametrize("normalize", [False, True])
def test_scales_as_rows_equal_one_scale_after_the_other(family: str, normalize: bool) -> None:
    made = trained(family, normalize=normalize)
    got = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
    wanted = one_by_one(made, ALPHAS)
    assert got == pytest.approx(wanted, abs=2e-6)
    made.deactivate()
    assert got[0] == pytest.approx(mean_loss(made.model, in_batches()), abs=2e-6)
    assert min(abs(a - b) for i, a in enumerate(got) for b in got[:i]) > 1e-4


@every_family
def test_the_curve_is_exact_in_float64(family: str) -> None:
    made = trained(family, zoo.make(family, torch.float64))
    got = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
    # Losses are float32, whatever the model computes in.
    assert got == pytest.approx(one_by_one(made, ALPHAS), abs=1e-6)


@pytest.mark.parametrize(("batch_tokens", "rows"), [(1, 1), (100, 2), (250, 5), (4096, 25)])
def test_a_forward_holds_no_more_tokens_than_asked(
    batch_tokens: int, rows: int, counted: Callable[[nn.Module], list[torch.Size]]
) -> None:
    made = shared("qwen3_5")
    wanted = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
    for budget in (100, 4096):  # of the batches that are given
        shapes = counted(made.model)
        got = scale_curve(made.model, made.adapter_name, in_batches(budget=budget), ALPHAS, batch_tokens=batch_tokens)
        assert got == pytest.approx(wanted, abs=2e-6)
        assert all(shape[0] == 1 or shape.numel() <= batch_tokens for shape in shapes)
        assert sum(shape[0] for shape in shapes) == len(ALPHAS) * len(PAIRS)
    assert max(shape[0] for shape in shapes) >= rows


@pytest.mark.parametrize("of", ["active", "inactive", "disabled", "another active", "train mode"])
def test_the_curve_does_not_depend_on_what_is_switched_on(of: str) -> None:
    made = trained()
    wanted = one_by_one(made, ALPHAS)
    other = trained(model=made.model, lr=0.3, layers=[0])
    if of == "another active":
        other.activate()
    elif of == "active":
        made.activate()
    elif of == "train mode":
        made.model.train()
        made.model.get_base_model().model.layers[1].self_attn.attention_dropout = 0.9
    before = snapshot(made.model)
    if of == "disabled":
        made.activate()
        with made.model.disable_adapter():
            got = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
    else:
        got = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
        assert snapshot(made.model) == before
    assert got == pytest.approx(wanted, abs=2e-6)


def test_a_state_on_some_layers_is_measured_alone() -> None:
    made = trained(layers=[2])
    other = trained(model=made.model, layers=[0])
    other.activate()
    got = scale_curve(made.model, made.adapter_name, in_batches(), ALPHAS)
    other.deactivate()
    assert got == pytest.approx(one_by_one(made, ALPHAS), abs=2e-6)


def test_a_scale_without_a_finite_loss_stands_alone() -> None:
    made = shared("qwen3_5")
    wanted = scale_curve(made.model, made.adapter_name, in_batches(), [1.0])
    got = scale_curve(made.model, made.adapter_name, in_batches(), [1.0, math.nan, 1.0])
    assert math.isnan(got[1])
    assert [got[0], got[2]] == pytest.approx(wanted * 2, abs=2e-6)


# --- Generation ---


@every_family
def test_prompts_by_scales_generate_what_each_generates_alone(family: str) -> None:
    made = trained(family)
    prompts, alphas = ["def add(", "x = [1, "], [0.0, 0.5, 1.0]
    ids = torch.tensor([tokenizer()(prompt)["input_ids"] for prompt in prompts])

    def told(ids: torch.Tensor, **kwargs: Any) -> list[list[int]]:
        tokens = made.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, min_new_tokens=8, do_sample=False,
            eos_token_id=1, pad_token_id=0, **kwargs,
        )  # fmt: skip
        return tokens[:, ids.shape[1] :].tolist()

    with scales_as_rows(made.model, made.adapter_name, alphas) as names:
        chosen = [name for name in names for _ in prompts]
        with rows_start_from(made.model, chosen):
            got = told(ids.repeat(len(alphas), 1))
        with rows_start_from(made.model, chosen, copies=True):
            beams = told(ids.repeat(len(alphas), 1), num_beams=2)
        with pytest.raises(ConfigError, match="one adapter name per row"), rows_start_from(made.model, chosen):
            told(ids.repeat(len(alphas), 1), num_beams=2)
    alone, alone_beams = [], []
    for alpha in alphas:
        made.set_scale(alpha)
        made.activate()
        alone += [told(row[None])[0] for row in ids]
        alone_beams += [told(row[None], num_beams=2)[0] for row in ids]
    assert got == alone
    assert beams == alone_beams
    assert len(set(map(tuple, got))) > len(prompts)


# --- Nothing is left behind ---


@pytest.mark.parametrize("how", ["ends", "raises"])
@pytest.mark.parametrize("disabled", [False, True])
def test_the_model_is_left_as_it_was(how: str, disabled: bool) -> None:
    made = trained()
    made.activate()
    if disabled:
        made.model.disable_adapter_layers()
    before, tuned = snapshot(made.model), logits(made.model)
    configs, keys = dict(made.model.peft_config), list(made.model.state_dict())
    flags = {name: parameter.requires_grad for name, parameter in made.model.named_parameters()}
    try:
        with scales_as_rows(made.model, made.adapter_name, ALPHAS) as names:
            assert made.model.peft_config == configs
            assert {name: p.requires_grad for name, p in made.model.named_parameters()} == flags
            assert torch.equal(logits(made.model), tuned)
            if how == "raises":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert snapshot(made.model) == before
    assert list(made.model.state_dict()) == keys
    assert made.model.peft_config == configs
    assert all(not set(names) & set(layer.deployments) for layer in state_layers(made.model))
    assert torch.equal(logits(made.model), tuned)


def test_scales_of_two_states_can_be_on_a_model_together() -> None:
    one = trained()
    other = trained(model=one.model, lr=0.3)
    alphas = [0.3, 1.0]
    wanted = [scale_curve(one.model, made.adapter_name, in_batches(), alphas) for made in (one, other)]
    with scales_as_rows(one.model, one.adapter_name, alphas) as names:
        assert scale_curve(one.model, other.adapter_name, in_batches(), alphas) == pytest.approx(wanted[1], abs=2e-6)
        with scales_as_rows(one.model, other.adapter_name, alphas) as more:
            assert not set(names) & set(more)
    assert states(one).keys() == states(other).keys()


def test_a_measurement_cut_short_while_it_begins_leaves_nothing() -> None:
    made = trained(n_steps=1)
    keys = list(made.model.state_dict())
    layers = {layer: layer.s0_state[made.adapter_name] for layer in state_layers(made.model)}
    with pytest.raises(AttributeError), passing_states(made.model, [(layers, FixedDeployment(1.0)), (None, None)]):  # type: ignore[list-item]
        pass
    assert list(made.model.state_dict()) == keys


def test_a_name_without_a_state_is_refused() -> None:
    made = trainer()
    with pytest.raises(ConfigError, match=r"s0_0.*got 'none'"):
        scale_curve(made.model, "none", in_batches(), ALPHAS)


# --- The choice ---


def chosen(loss: Callable[[float], float], **settings: Any) -> tuple[ScaleChoice, list[int]]:
    asked: list[int] = []

    def measure(alphas: Sequence[float]) -> list[float]:
        asked.append(len(alphas))
        return [loss(alpha) for alpha in alphas]

    return choose_scale(measure, **settings), asked


@pytest.mark.parametrize("best", [0.07, 0.4, 2.5])
def test_the_bottom_of_the_valley_is_chosen(best: float) -> None:
    choice, asked = chosen(lambda alpha: 2.0 + (math.log(alpha / best) ** 2 if alpha else 1.0))
    assert (choice.alpha, choice.helps, choice.by) == (best, True, "loss")
    assert choice.alphas == LADDER
    assert choice.values[LADDER.index(best)] == 2.0
    assert asked == [len(LADDER)]  # side by side


@pytest.mark.parametrize(("best", "rounds"), [(9.0, 1), (0.0075, 1), (45.0, 2), (0.0019, 2)])
def test_a_ladder_that_ends_too_early_is_lengthened(best: float, rounds: int) -> None:
    choice, asked = chosen(lambda alpha: abs(math.log((alpha or 1e-9) / best)))
    assert asked == [len(LADDER), *[3] * rounds]
    assert abs(math.log(choice.alpha / best)) <= math.log(1.6) / 2 + 0.01
    assert choice.alpha not in (min(choice.alphas[1:]), max(choice.alphas))
    assert list(choice.alphas) == sorted(choice.alphas)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ladder_has_an_end(sign: int) -> None:
    choice, asked = chosen(lambda alpha: sign * alpha)
    assert asked == [len(LADDER), 3, 3, 3]
    assert choice.alpha == (min(choice.alphas[1:]) if sign == 1 else max(choice.alphas))
    assert choice.helps == (sign == -1)
    assert 200 < choice.alphas[-1] < 300 if sign == -1 else 0.0002 < choice.alpha < 0.0004


def test_no_scale_that_helps_is_said_so_and_zero_is_never_chosen() -> None:
    choice, _ = chosen(lambda alpha: 1.0 if alpha == 0 else 1.5 + (alpha - 1) ** 2)
    assert (choice.alpha, choice.helps) == (1.0, False)


def test_of_equal_rates_the_smallest_scale_is_chosen() -> None:
    rates = {0.13: 0.5, 0.4: 0.7, 0.65: 0.7, 1.0: 0.6}
    choice, _ = chosen(lambda alpha: rates.get(alpha, 0.2), by="pass rate", higher_is_better=True)
    assert (choice.alpha, choice.helps, choice.by) == (0.4, True, "pass rate")
    assert choice.values[LADDER.index(0.4)] == 0.7


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins(broken: float) -> None:
    for higher_is_better in (False, True):
        choice, _ = chosen(lambda alpha: broken if alpha > 0.5 else abs(alpha - 0.4), higher_is_better=higher_is_better)
        assert choice.alpha <= 0.4
        assert choice.values[choice.alphas.index(4.0)] is None
    with pytest.raises(DatasetError, match="finite"):
        chosen(lambda alpha: broken)
