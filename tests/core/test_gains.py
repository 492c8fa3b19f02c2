"""Gains beside a state: what they do against hooks on the norms of an untouched model, in every way of running it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.adapter.attach import merge_gains
from s0.core.families import kernel_globals
from s0.core.gains import GainLayer, gains_with
from s0.core.states import BASE, state_layers
from s0.errors import ConfigError, UnsupportedModelError
from tests import zoo
from tests.core.helpers import (
    assert_same,
    assert_same_gradient,
    feed,
    fill,
    generate,
    logits,
    loss,
    pad,
    tokens,
)

ONE, TWO, PLAIN = "one", "two", "plain"
NAMES = [TWO, BASE, ONE, PLAIN]


def tuned(family: str, **settings: Any) -> PeftModel:
    """A tiny model with two adapters that have gains, and one that has none."""
    model = get_peft_model(zoo.make(family), S0AdapterConfig(alpha=0.5, gains=True, **settings), ONE)
    model.add_adapter(TWO, S0AdapterConfig(alpha=2.0, gains=True, **settings))
    model.add_adapter(PLAIN, S0AdapterConfig())
    for seed, name in enumerate((ONE, TWO, PLAIN)):
        fill(model, name, seed=seed)
    return model.eval()


def raw_gains(model: PeftModel, name: str) -> dict[str, nn.Parameter]:
    """The raw gains of an adapter, by the norms' names in the untouched model."""
    layers = gains_with(model, name).items()
    return {path.replace(".base_layer", ""): layer.s0_state_gain[name] for path, layer in layers}


def reference(family: str, model: PeftModel, name: str, gains: Mapping[str, Tensor] | None = None) -> nn.Module:
    """An untouched model whose norms' outputs are multiplied by hooks, and which starts from the states of `name`."""
    base = zoo.make(family)
    for path, gain in (raw_gains(model, name) if gains is None else gains).items():
        base.get_submodule(path).register_forward_hook(lambda module, args, output, gain=gain: output * (1 + gain))
    if name == BASE:
        return base
    plain = get_peft_model(base, S0AdapterConfig(alpha=model.peft_config[name].alpha)).eval()
    for layer, like in zip(state_layers(plain), state_layers(model), strict=True):
        layer.s0_state["default"].data.copy_(like.s0_state[name])
    return plain


@zoo.every_family
@torch.no_grad()
def test_norms_give_more_or_less_in_every_way_of_running(family: str) -> None:
    model, stock = tuned(family), zoo.make(family)
    plain, ids = reference(family, model, ONE), tokens(2, 7)
    want = logits(plain, ids)
    assert_same(logits(model, ids), want, logits(stock, ids))
    with model.disable_adapter():
        torch.testing.assert_close(logits(model, ids), logits(stock, ids), atol=1e-5, rtol=0)
    without = get_peft_model(zoo.make(family), S0AdapterConfig(alpha=0.5)).eval()
    for layer, like in zip(state_layers(without), state_layers(model), strict=True):
        layer.s0_state["default"].data.copy_(like.s0_state[ONE])
    assert_same(logits(model, ids), want, logits(without, ids))  # and the gains themselves show
    assert_same(feed(model, ids, (4, 1, 2)), want, logits(stock, ids))
    rows = [tokens(1, length, seed=length) for length in (8, 3, 5)]
    for side in ("left", "right"):
        padded, mask = pad(rows, side)
        together = logits(model, padded, mask)
        for i, row in enumerate(rows):
            assert_same(together[i, mask[i].bool()][None], logits(plain, row), logits(stock, row))


@zoo.every_family
@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_rows_choose_gains_and_state_by_one_name(family: str, training: bool) -> None:
    model, stock, ids = tuned(family).train(training), zoo.make(family).train(training), tokens(4, 7)
    models = [reference(family, model, name).train(training) for name in NAMES]
    alone = torch.cat([logits(plain, row) for plain, row in zip(models, ids.split(1), strict=True)])
    together = logits(model, ids, adapter_names=NAMES)
    assert_same(together[[0, 2, 3]], alone[[0, 2, 3]], logits(stock, ids)[[0, 2, 3]])
    torch.testing.assert_close(together[1], alone[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(model, ids, adapter_names=[BASE] * 4), logits(stock, ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
@torch.no_grad()
def test_prompts_of_several_adapters_are_continued_as_each_alone(family: str) -> None:
    model = tuned(family)
    rows = [tokens(1, length, seed=length) for length in (6, 2, 4, 5)]
    ids, mask = pad(rows, "left")
    for search in ({}, {"num_beams": 2, "num_return_sequences": 2}):
        together = generate(model, ids, mask, adapter_names=NAMES, **search)
        alone = [generate(reference(family, model, name), row, **search) for name, row in zip(NAMES, rows, strict=True)]
        assert torch.equal(together, torch.cat(alone))


@torch.no_grad()
def test_packed_documents_have_the_gains_of_their_row() -> None:
    model, stock = tuned("qwen3_5"), zoo.make("qwen3_5")
    first, second = tokens(1, 5), tokens(1, 3, seed=1)
    ids, places = torch.cat([first, second], 1), torch.cat([torch.arange(5), torch.arange(3)])[None]
    for name in (ONE, TWO):
        packed = model(input_ids=ids, position_ids=places, use_cache=False, adapter_names=[name]).logits
        plain = reference("qwen3_5", model, name)
        want = torch.cat([logits(plain, first), logits(plain, second)], 1)
        assert_same(packed, want, torch.cat([logits(stock, first), logits(stock, second)], 1))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_gradients_of_mixed_rows_are_those_of_separate_runs(family: str, checkpointing: bool) -> None:
    model, ids = tuned(family).train(), tokens(4, 7)
    model.base_model.set_adapter([ONE, TWO])
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss(model(input_ids=ids, use_cache=False, adapter_names=NAMES).logits, ids).backward()
    for name, row in ((TWO, ids[:1]), (ONE, ids[2:3])):
        raw = raw_gains(model, name)
        gains = {path: nn.Parameter(gain.detach().clone()) for path, gain in raw.items()}
        value = loss(logits(reference(family, model, name, gains).train(), row), row)
        want = torch.autograd.grad(value, [*gains.values()])
        assert_same_gradient(torch.cat([gain.grad for gain in raw.values()]), torch.cat(want))
    assert all(gain.grad is None for gain in raw_gains(model, PLAIN).values())


@torch.no_grad()
def test_gains_of_active_adapters_multiply_while_their_states_add_up() -> None:
    model, ids = tuned("qwen3_5"), tokens(2, 6)
    model.base_model.set_adapter([ONE, TWO])
    first, second = raw_gains(model, ONE), raw_gains(model, TWO)
    both = {path: (1 + first[path]) * (1 + second[path]) - 1 for path in first}
    plain = reference("qwen3_5", model, ONE, both)
    for layer, like in zip(state_layers(plain), state_layers(model), strict=True):
        layer.s0_state["default"].data.copy_(like.s0_state[ONE] + 4 * like.s0_state[TWO])  # their alphas: 0.5 and 2
    assert_same(logits(model, ids), logits(plain, ids), logits(zoo.make("qwen3_5"), ids))


# --- In PEFT's interface ---


def everything(model: nn.Module) -> dict[str, Any]:
    return {name: type(module) for name, module in model.named_modules()}


@torch.no_grad()
def test_adapters_come_and_go() -> None:
    base, ids = zoo.make("falcon_h1"), tokens(2, 6)
    before, stock = everything(base), logits(base, ids)
    model = get_peft_model(base, S0AdapterConfig(), PLAIN).eval()
    fill(model, PLAIN)
    plain, without = logits(model, ids), everything(base)
    model.add_adapter(ONE, S0AdapterConfig(gains=True))
    assert torch.equal(logits(model, ids), plain)
    model.set_adapter(ONE)
    assert torch.equal(logits(model, ids), stock)  # it is zero
    fill(model, ONE)
    assert (logits(model, ids) - stock).abs().max() > 0.1
    for refused in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ConfigError, match="cannot be merged"):
            refused()
    with pytest.raises(ConfigError, match="no weighted sum"):
        model.base_model.add_weighted_adapter([ONE, PLAIN], [1.0, 1.0], "sum")
    model.delete_adapter(ONE)
    assert everything(base) == without
    assert torch.equal(logits(model, ids), plain)
    model.add_adapter(TWO, S0AdapterConfig(gains=True))
    assert everything(model.unload()) == before


def test_only_what_is_trained_asks_for_gradients() -> None:
    model = tuned("qwen3_5")
    model.set_adapter(TWO)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {
        name for name, _ in model.named_parameters() if name.endswith((f".s0_state.{TWO}", f".s0_state_gain.{TWO}"))
    }
    fresh = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(gains=True))
    assert all(gain.requires_grad for gain in raw_gains(fresh, "default").values())
    frozen = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(gains=True, inference_mode=True))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@torch.no_grad()
def test_layers_without_a_state_have_gains_too() -> None:
    settings = {"layers": [0]}
    model = get_peft_model(zoo.make("falcon_h1"), S0AdapterConfig(gains=True, **settings)).eval()
    fill(model)
    ids, stock = tokens(2, 6), zoo.make("falcon_h1")
    base = zoo.make("falcon_h1")
    for path, gain in raw_gains(model, "default").items():
        base.get_submodule(path).register_forward_hook(lambda module, args, output, gain=gain: output * (1 + gain))
    plain = get_peft_model(base, S0AdapterConfig(**settings)).eval()
    plain_layer, layer = state_layers(plain)[0], state_layers(model)[0]
    plain_layer.s0_state["default"].data.copy_(layer.s0_state["default"])
    for mode in (False, True):
        assert_same(logits(model.train(mode), ids), logits(plain.train(mode), ids), logits(stock, ids))


@torch.no_grad()
def test_no_fused_kernel_takes_a_norms_weight_past_its_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    model = get_peft_model(zoo.make("falcon_h1"), S0AdapterConfig(gains=True, layers=[0])).train()
    calls: list[Any] = []
    namespace = kernel_globals(state_layers(model)[1].base_layer)
    monkeypatch.setitem(namespace, "mamba2_split_conv1d_scan_combined", lambda *args, **kwargs: calls.append(kwargs))
    for names in ({}, {"adapter_names": [BASE, "default"]}):
        logits(model, tokens(2, 6), **names)
    assert not calls
    with model.disable_adapter():
        logits(model, tokens(2, 6))
    assert len(calls) == 2  # both layers, as the untouched model


@zoo.every_family
@torch.no_grad()
def test_merged_into_the_norms_they_do_the_same(family: str) -> None:
    model, ids = tuned(family), tokens(2, 6)
    with pytest.raises(ConfigError, match="delete the others"):
        merge_gains(model, ONE)
    for name in (TWO, PLAIN):
        model.delete_adapter(name)
    model.set_adapter(ONE)
    want = logits(model, ids)
    if family == "zamba":  # runs one block in several layers
        with pytest.raises(UnsupportedModelError, match="share"):
            merge_gains(model, ONE)
        assert torch.equal(logits(model, ids), want)
        return
    merge_gains(model, ONE)
    assert not any(isinstance(module, GainLayer) for module in model.modules())
    assert_same(logits(model, ids), want, logits(zoo.make(family), ids))
    assert model.peft_config[ONE].format_version == 1 and not model.peft_config[ONE].gains
    with pytest.raises(ConfigError, match="has gains"):
        merge_gains(model, ONE)


# --- Beside other methods, and in copies ---


@torch.no_grad()
def test_a_lora_stays_where_it_is() -> None:
    base, ids = zoo.make("falcon_h1"), tokens(2, 6)
    lora = get_peft_model(
        base, LoraConfig(target_modules=["q_proj", "in_proj"], init_lora_weights=False), "lora"
    ).eval()
    alone, before = logits(lora, ids), everything(base)
    model = get_peft_model(lora.get_base_model(), S0AdapterConfig(gains=True), "state").eval()
    assert torch.equal(logits(model, ids), alone)
    fill(model, "state")
    assert (logits(model, ids) - alone).abs().max() > 0.1
    assert everything(model.unload()) == before
    assert torch.equal(logits(lora, ids), alone)


def test_norms_are_tuned_by_one_method_alone() -> None:
    base = zoo.make("falcon_h1")
    targets = LNTuningConfig(target_modules=["input_layernorm"])
    tuned_before = get_peft_model(base, targets, "norms")
    before = everything(base)
    with pytest.raises(ConfigError, match="another method's adapter"):
        get_peft_model(tuned_before.get_base_model(), S0AdapterConfig(gains=True), "state")
    assert everything(base) == before
    model = get_peft_model(zoo.make("falcon_h1"), S0AdapterConfig(gains=True), "state")
    with pytest.raises(ConfigError, match="before any state"):
        get_peft_model(model.get_base_model(), targets, "norms")


@torch.no_grad()
def test_copies_are_the_same_and_independent() -> None:
    model, ids = tuned("qwen3_5"), tokens(2, 6)
    want = logits(model, ids)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin, ids), want)
        assert torch.equal(
            logits(twin, ids, adapter_names=[TWO, ONE])[1], logits(model, ids, adapter_names=[TWO, ONE])[1]
        )
        fill(twin, ONE, seed=9)
        assert not torch.equal(logits(twin, ids), want)
        assert torch.equal(logits(model, ids), want)


@torch.no_grad()
def test_one_graph_can_be_compiled() -> None:
    model, ids = tuned("qwen3_5"), tokens(2, 6)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    try:
        got = compiled(input_ids=ids, use_cache=False).logits
    finally:
        torch._dynamo.reset()
    torch.testing.assert_close(got, logits(model, ids), atol=1e-5, rtol=0)


@torch.no_grad()
def test_gains_stay_float32_in_a_bfloat16_model() -> None:
    model, ids = tuned("qwen3_5"), tokens(2, 6)
    want, raw = logits(model, ids), {name: gain.clone() for name, gain in raw_gains(model, ONE).items()}
    model.to(torch.bfloat16)
    assert all(torch.equal(gain, raw[name]) for name, gain in raw_gains(model, ONE).items())
    got = logits(model, ids)
    assert got.dtype == torch.bfloat16
    assert (got.float() - want).abs().max() < 0.1 * want.abs().max()
