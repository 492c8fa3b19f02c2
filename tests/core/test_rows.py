"""Rows of one batch choose their states, in every mode, under gradient checkpointing, and from many threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor

from s0 import S0AdapterConfig
from s0.core.row_choice import RowChoice, rows_choose
from s0.core.states import state_layers
from s0.errors import ConfigError
from tests import zoo
from tests.breadth import mostly_slow
from tests.core.helpers import (
    assert_same,
    assert_same_gradient,
    cache_of,
    feed,
    fill,
    forward,
    generate,
    gradients,
    logits,
    loss,
    pad,
    tokens,
)

BASE = "__base__"
FAMILIES = ["qwen3_5", "kimi_linear", "falcon_h1", "mamba2", "zamba", "minimax"]


def with_adapters(family: str, task_type: str | None = None, **layers: list[int] | None) -> PeftModel:
    """A tiny model with one random state for each name in `layers`."""
    names = iter(layers)
    first = next(names)
    model = get_peft_model(zoo.make(family), S0AdapterConfig(layers=layers[first], task_type=task_type), first)
    for name in names:
        model.add_adapter(name, S0AdapterConfig(layers=layers[name], task_type=task_type))
    for seed, name in enumerate(layers):
        fill(model, name, seed=10 + seed)
    return model


@pytest.fixture(params=mostly_slow(FAMILIES, ["qwen3_5", "falcon_h1", "minimax"]))
def model(request: pytest.FixtureRequest) -> PeftModel:
    return with_adapters(request.param, one=None, two=None)


@pytest.fixture
def qwen() -> PeftModel:
    return with_adapters("qwen3_5", one=None, two=None)


def alone(model: PeftModel, name: str, run: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """What `run` gives when the whole model is set to adapter `name`."""
    if name == BASE:
        with model.disable_adapter():
            return run(model, *args, **kwargs)
    before = model.active_adapter
    model.set_adapter(name)
    try:
        return run(model, *args, **kwargs)
    finally:
        model.set_adapter(before)


# --- Same as single runs ---


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_each_row_gets_the_logits_of_the_adapter_it_names(model: PeftModel, training: bool) -> None:
    model.train(training)
    names, ids = ["two", BASE, "one", "two"], tokens(4, 7)
    batch = logits(model, ids, adapter_names=names)
    for i, name in enumerate(names):
        want = alone(model, name, logits, ids[i : i + 1])
        other = alone(model, "one" if name == BASE else BASE, logits, ids[i : i + 1])
        assert_same(batch[i : i + 1], want, other)


@torch.no_grad()
def test_padded_rows_of_different_adapters_generate_what_they_generate_alone(model: PeftModel) -> None:
    names, rows = ["two", BASE, "one"], [tokens(1, 8, seed=1), tokens(1, 4, seed=2), tokens(1, 1, seed=3)]
    want = [alone(model, name, generate, row) for name, row in zip(names, rows, strict=True)]
    assert not torch.equal(want[0], alone(model, "one", generate, rows[0]))
    assert torch.equal(generate(model, *pad(rows, "left"), adapter_names=names), torch.cat(want))


@torch.no_grad()
def test_beams_and_returned_sequences_stay_with_their_prompts_adapter(model: PeftModel) -> None:
    # MiniMax without a state is no reference here: its own cache does not follow the beams.
    names, ids = ["two", "two" if model.config.model_type == "minimax" else BASE, "one"], tokens(3, 5)
    search = {"num_beams": 3, "num_return_sequences": 2}
    want = [alone(model, name, generate, ids[i : i + 1], **search) for i, name in enumerate(names)]
    assert not torch.equal(want[0], alone(model, "one", generate, ids[:1], **search))
    assert torch.equal(generate(model, ids, adapter_names=names, **search), torch.cat(want))


@torch.no_grad()
@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_both_of_pefts_model_classes_pass_the_names_on(task_type: str | None) -> None:
    model, ids, names = with_adapters("qwen3_5", task_type, one=None, two=None), tokens(2, 6), ["two", "one"]
    want = torch.cat([alone(model, name, generate, ids[i : i + 1]) for i, name in enumerate(names)])
    assert torch.equal(generate(model, ids, adapter_names=names), want)
    want = torch.cat([alone(model, name, logits, ids[i : i + 1]) for i, name in enumerate(names)])
    torch.testing.assert_close(logits(model, ids, adapter_names=names), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_adapters_that_tune_different_layers_share_a_batch() -> None:
    model, ids, names = (
        with_adapters("qwen3_5", one=[0], two=[2], three=None),
        tokens(4, 6),
        ["one", "two", "three", BASE],
    )
    batch = logits(model, ids, adapter_names=names)
    stock = alone(model, BASE, logits, ids)
    for i, name in enumerate(names[:3]):
        assert_same(batch[i : i + 1], alone(model, name, logits, ids[i : i + 1]), stock[i : i + 1])
    torch.testing.assert_close(batch[3], stock[3], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_of_the_base_alone_are_bit_identical_to_the_untouched_model(qwen: PeftModel) -> None:
    ids = tokens(2, 6)
    assert torch.equal(logits(qwen, ids, adapter_names=[BASE, BASE]), logits(zoo.make("qwen3_5"), ids))


@torch.no_grad()
def test_the_choice_of_rows_ends_with_the_call(qwen: PeftModel) -> None:
    ids = tokens(2, 6)
    before = logits(qwen, ids)
    logits(qwen, ids, adapter_names=["two", BASE])
    with pytest.raises(ConfigError):
        logits(qwen, ids, adapter_names=["two", "two", BASE])
    assert torch.equal(logits(qwen, ids), before)


@torch.no_grad()
def test_a_choice_of_rows_speaks_to_its_own_model_only(qwen: PeftModel) -> None:
    other, ids = with_adapters("qwen3_5", one=None, two=None), tokens(2, 6)
    fill(other, "one", seed=20)
    want = logits(qwen, ids, adapter_names=["two", "two"])
    other_before = logits(other, ids)
    with rows_choose(RowChoice(("two", "two"), frozenset(map(id, state_layers(qwen))))):
        assert torch.equal(logits(qwen, ids), want)
        assert torch.equal(logits(other, ids), other_before)
        assert torch.equal(logits(qwen, ids, adapter_names=["two", "two"]), want)


# --- Refusals ---


@pytest.mark.parametrize("run", [logits, generate])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_an_unknown_name_is_refused(run: Callable[..., Tensor], training: bool, task_type: str | None) -> None:
    model = with_adapters("qwen3_5", task_type, one=None).train(training)
    with pytest.raises(ConfigError, match=r"expected adapter names among \['one'\].*'nobody'.*load the adapter first"):
        run(model, tokens(2, 4), adapter_names=["one", "nobody"])


@pytest.mark.parametrize("names", [[], ["one"], ["one", "two"], ["one", "two", BASE], ["one"] * 5, [BASE], [BASE] * 3])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_a_wrong_number_of_names_is_refused(names: list[str], training: bool, task_type: str | None) -> None:
    model = with_adapters("qwen3_5", task_type, one=None, two=None).train(training)
    for run in (logits, generate):
        with pytest.raises(ConfigError, match="one adapter name per row"):
            run(model, tokens(4, 4), adapter_names=names)


# --- Gradients ---


def separate_gradients(model: PeftModel, ids: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The gradient of each trained adapter, summed over runs of the single rows that chose it."""
    sums = {}
    for name in ("one", "two"):

        def gradient(model: PeftModel, row: Tensor, name: str = name) -> Tensor:
            return gradients(model, loss(logits(model, row), row), name)

        rows = [ids[i : i + 1] for i, chosen in enumerate(names) if chosen == name]
        sums[name] = torch.stack([alone(model, name, gradient, row) for row in rows]).sum(0)
    return sums


@pytest.mark.parametrize("checkpointing", [None, "reentrant", "non-reentrant"])
def test_gradients_of_mixed_rows_are_those_of_separate_runs(model: PeftModel, checkpointing: str | None) -> None:
    names, ids = ["two", "one", BASE, "two"], tokens(4, 7)
    want = separate_gradients(model, ids, names)
    assert (want["one"] - want["two"]).abs().max() > 1e-2
    model.base_model.set_adapter(["one", "two"])  # both are trained
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
        model.enable_input_require_grads()
    value = loss(forward(model, ids, adapter_names=names).logits, ids)
    value.backward()  # after the call that chose the rows has ended
    for name in ("one", "two"):
        got = torch.cat([layer.s0_state[name].grad.flatten() for layer in state_layers(model)])
        assert_same_gradient(got, want[name])


def test_checkpointed_batches_may_interleave(qwen: PeftModel) -> None:
    ids, choices = tokens(2, 6), [["one", "two"], ["two", "two"], None]
    qwen.base_model.set_adapter(["one", "two"])
    want = [gradients(qwen, loss(logits(qwen, ids, adapter_names=names), ids), "two") for names in choices]
    qwen.train()
    qwen.gradient_checkpointing_enable({"use_reentrant": False})
    values = [loss(forward(qwen, ids, adapter_names=names).logits, ids) for names in choices]
    for value, expected in reversed(list(zip(values, want, strict=True))):
        assert_same_gradient(gradients(qwen, value, "two"), expected)


# --- Threads ---


@pytest.mark.parametrize(
    ("family", "task_type"),
    mostly_slow([("qwen3_5", None), ("qwen3_5", "CAUSAL_LM"), ("nemotron_h", None)], [("qwen3_5", "CAUSAL_LM")]),
)
def test_threads_that_choose_different_states_do_not_mix(family: str, task_type: str | None) -> None:
    names = [*"bcdfghi", BASE]
    model = with_adapters(family, task_type, **dict.fromkeys(names[:-1]))
    rows = [tokens(1, 7, seed=1), tokens(1, 3, seed=2)]
    choices = [[names[i], names[(i + 3) % 8]] for i in range(8)]
    singles = {(name, i): alone(model, name, generate, row) for name in names for i, row in enumerate(rows)}
    assert len({tuple(tokens[0].tolist()) for tokens in singles.values()}) > 12
    together = Barrier(len(choices), timeout=60)

    def serve(chosen: list[str]) -> list[Tensor]:
        together.wait()
        return [generate(model, *pad(rows, "left"), adapter_names=chosen) for _ in range(3)]

    with ThreadPoolExecutor(len(choices)) as pool:
        for chosen, answers in zip(choices, pool.map(serve, choices), strict=True):
            want = torch.cat([singles[name, i] for i, name in enumerate(chosen)])
            assert all(torch.equal(answer, want) for answer in answers)


@torch.no_grad()
def test_a_second_turn_may_choose_other_adapters_without_touching_the_cache(qwen: PeftModel) -> None:
    # The state was absorbed by the first token; a later choice changes nothing.
    ids = tokens(1, 8)
    qwen.set_adapter("two")
    want = feed(qwen, ids, (5, 3))
    first = forward(qwen, ids[:, :5], use_cache=True, adapter_names=["two"])
    second = forward(qwen, ids[:, 5:], cache=cache_of(first), use_cache=True, adapter_names=["one"])
    torch.testing.assert_close(second.logits, want[:, 5:], atol=1e-5, rtol=1e-5)
