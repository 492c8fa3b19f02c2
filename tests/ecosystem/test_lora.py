"""A state and a LoRA on one model: train, save, load and switch both; what PEFT allows, and what is refused.

PEFT lets adapters of one method only share a wrapper, so each method has a wrapper of its own around the same base
model, and a name of its own; or transformers holds both without a wrapper. The state comes last, in training and in
loading: PEFT enters nothing into a layer that a state is around already. A LoRA that is saved while a state is around
its layers has that in its tensors' names, which `key_mapping` takes out again; without it PEFT warns of missing keys.

Refused: two adapters of one name, of which one would be lost when saved; a LoRA that would be left out of the recurrent
layers, silently, be it the first or the second one; and a state's wrapper around LoRA's wrapper, whose names no model
has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from s0 import S0AdapterConfig, S0Trainer
from s0.core.families import plain_name
from s0.core.states import state_layers
from s0.errors import ConfigError
from tests import words, zoo
from tests.core.helpers import assert_same, fill, holds_no_state, logits, loss, tokens
from tests.installed import own_adapters

FAMILY = "qwen3_5"
IDS = tokens(2, 7)
UNWRAPPED = {r"\.base_layer\.": "."}
pytestmark = pytest.mark.filterwarnings("ignore:.*(multiple adapters|second time)")


def lora() -> LoraConfig:
    """On the projections around the recurrence and in the attention layer; not zero from the start."""
    return LoraConfig(target_modules=["in_proj_qkv", "out_proj", "q_proj"], r=2, init_lora_weights=False)


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return logits(model, IDS)


def far(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().amax(-1).min() > 0.01)


@pytest.fixture(scope="module")
def untouched() -> Tensor:
    return run(zoo.make(FAMILY))


def with_lora() -> PeftModel:
    base = zoo.make(FAMILY)
    torch.manual_seed(3)
    return get_peft_model(base, lora(), "lora")


def with_both() -> tuple[PeftModel, PeftModel]:
    """The wrappers of a state, which is zero, and of a LoRA inside the recurrent layers and outside of them."""
    other = with_lora()
    return get_peft_model(other.get_base_model(), S0AdapterConfig(alpha=0.5), "state"), other


def test_both_are_trained_saved_and_loaded(tmp_path: Path) -> None:
    state, other = with_both()
    trained = [(name, weight) for name, weight in other.named_parameters() if "s0_state" in name or "lora_" in name]
    for _, weight in trained:
        weight.requires_grad_(True)  # each wrapper has frozen what was not its own
    before = [weight.detach().clone() for _, weight in trained]
    optimiser = torch.optim.Adam([weight for _, weight in trained], lr=0.05)
    losses = []
    for _ in range(3):
        value = loss(logits(other, IDS), IDS)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]
    assert not any(torch.equal(weight, old) for (_, weight), old in zip(trained, before, strict=True))

    state.save_pretrained(tmp_path / "one", selected_adapters=["state"])
    other.save_pretrained(tmp_path / "two", selected_adapters=["lora"])
    with pytest.warns(UserWarning, match="missing adapter keys"):
        PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "two" / "lora", "lora")
    both = PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "two" / "lora", "lora", key_mapping=UNWRAPPED)
    again = PeftModel.from_pretrained(both.get_base_model(), tmp_path / "one" / "state", "state")
    assert torch.equal(run(both), run(state)) and torch.equal(run(again), run(other))
    assert again.peft_config["state"].alpha == 0.5


def by_hand(wrapper: PeftModel, *names: str) -> nn.Module:
    """The untouched model with these LoRAs of `wrapper` worked into its weights, W + scaling B A."""
    model = zoo.make(FAMILY)
    with torch.no_grad():
        for path, layer in wrapper.named_modules():
            for name in names if isinstance(layer, LoraLayer) else ():
                if name in layer.lora_A:
                    added = layer.lora_B[name].weight @ layer.lora_A[name].weight
                    weight = model.get_submodule(plain_name(path).removeprefix("base_model.model.")).weight
                    weight += layer.scaling[name] * added
    return model


def with_state(model: nn.Module, *, name: str = "state", seed: int = 0) -> PeftModel:
    state = get_peft_model(model, S0AdapterConfig(alpha=0.5), name)
    fill(state, name, seed=seed)
    return state


@pytest.mark.parametrize("active", [["lora"], ["second"], ["lora", "second"]])
def test_the_state_enters_a_model_with_these_loras_in_its_weights(active: list[str]) -> None:
    other = with_lora()
    other.add_adapter("second", lora())
    state = with_state(other.get_base_model())
    other.base_model.set_adapter(active)
    reference = by_hand(other, *active)
    without = run(reference)
    assert_same(run(other), run(with_state(reference)), without)
    state.base_model.set_adapter([])
    assert_same(run(other), without, run(zoo.make(FAMILY)))


def test_states_before_and_after_a_lora_add_up() -> None:
    first = with_state(zoo.make(FAMILY), name="first", seed=1)
    other = get_peft_model(first.get_base_model(), LoraConfig(target_modules=["q_proj"], r=2), "lora")
    for name, weight in other.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    second = with_state(other.get_base_model(), name="second", seed=2)
    second.base_model.set_adapter(["first", "second"])
    reference = with_state(by_hand(other, "lora"), name="first", seed=1)
    reference.add_adapter("second", S0AdapterConfig(alpha=0.5))
    fill(reference, "second", seed=2)
    only_first = run(reference)
    reference.base_model.set_adapter(["first", "second"])
    assert_same(run(second), run(reference), only_first)


def test_each_can_be_switched(untouched: Tensor) -> None:
    state, other = with_both()
    fill(state, "state")
    both = run(other)
    # Disabling through either wrapper gives the untouched model: PEFT speaks to every adapter layer inside.
    for wrapper in (state, other):
        with wrapper.disable_adapter():
            assert torch.equal(run(wrapper), untouched)
        assert torch.equal(run(wrapper), both)
    state.base_model.set_adapter([])
    only_lora = run(other)
    assert torch.equal(only_lora, run(with_lora()))
    other.base_model.set_adapter([])
    assert torch.equal(run(other), untouched)
    state.set_adapter("state")
    only_state = run(other)
    other.set_adapter("lora")
    assert torch.equal(run(other), both)
    assert far(both, only_lora) and far(both, only_state) and far(only_lora, only_state)


@own_adapters
def test_transformers_holds_both_without_a_wrapper(untouched: Tensor) -> None:
    model = zoo.make(FAMILY)
    torch.manual_seed(3)
    model.add_adapter(lora(), "lora")
    model.add_adapter(S0AdapterConfig(alpha=0.5), "state")
    fill(model, "state")
    model.set_adapter(["lora", "state"])
    state, other = with_both()
    fill(state, "state")
    assert far(run(model), untouched)
    assert torch.equal(run(model), run(other))
    model.set_adapter("state")
    other.base_model.set_adapter([])
    assert torch.equal(run(model), run(state))


def test_a_trainer_puts_a_state_beside_a_lora() -> None:
    model = get_peft_model(zoo.make(FAMILY), lora())
    before = run(model)
    trainer = S0Trainer(model.get_base_model(), words.characters())
    trainer.train([("def add(a, b):\n    return a + b\n", 15)])
    assert torch.equal(run(model), before)
    trainer.activate()
    assert far(run(model), before)
    with pytest.raises(ConfigError, match="get_base_model"):
        S0Trainer(model, words.characters())


# --- What PEFT refuses, and what would be silently wrong ---


def test_one_wrapper_holds_adapters_of_one_method() -> None:
    with pytest.raises(ValueError, match="different peft types"):
        get_peft_model(zoo.make(FAMILY), lora()).add_adapter("state", S0AdapterConfig())
    with pytest.raises(ValueError, match="different peft types"):
        get_peft_model(zoo.make(FAMILY), S0AdapterConfig()).add_adapter("lora", lora())
    with pytest.raises(ValueError, match="not compatible with the `PeftMixedModel`"):
        get_peft_model(zoo.make(FAMILY), S0AdapterConfig(), mixed=True)


def test_a_state_of_the_same_name_as_a_lora_is_refused_and_changes_nothing() -> None:
    other = get_peft_model(zoo.make(FAMILY), lora())
    before = run(other)
    with pytest.raises(ConfigError, match=r"'default'.*only one of the two would be saved"):
        get_peft_model(other.get_base_model(), S0AdapterConfig())
    assert isinstance(other.peft_config["default"], LoraConfig)
    assert holds_no_state(other) and torch.equal(run(other), before)


def test_a_lora_of_the_same_name_as_a_state_is_refused_and_changes_nothing() -> None:
    state = get_peft_model(zoo.make(FAMILY), S0AdapterConfig())
    fill(state)
    before = run(state)
    with pytest.raises(ConfigError, match=r"'default'.*only one of the two would be saved"):
        get_peft_model(state.get_base_model(), LoraConfig(target_modules=["q_proj"]))
    assert isinstance(state.peft_config["default"], S0AdapterConfig)
    assert torch.equal(run(state), before)


@pytest.mark.parametrize("targets", [["in_proj_qkv"], ["q_proj", "out_proj"], r".*\.in_proj_\w+", "all-linear", None])
def test_a_lora_that_would_be_left_out_of_the_recurrent_layers_is_refused(targets: Any) -> None:
    state = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(), "state")
    fill(state, "state")
    before = run(state)
    with pytest.raises(ConfigError, match=r"before any state.*linear_attn"):
        get_peft_model(state.get_base_model(), LoraConfig(target_modules=targets), "lora")
    assert set(state.peft_config) == {"state"} and torch.equal(run(state), before)


@own_adapters
def test_transformers_leaves_no_lora_out_of_the_recurrent_layers_either() -> None:
    state = with_state(zoo.make(FAMILY))
    with pytest.raises(ConfigError, match=r"before any state.*linear_attn"):
        state.get_base_model().add_adapter(LoraConfig(target_modules=["in_proj_qkv"]), "lora")
    assert set(state.peft_config) == {"state"}


@pytest.mark.parametrize(
    "settings",
    [{"target_parameters": ["in_proj_qkv.weight"]}, {"modules_to_save": ["norm"]}, {"modules_to_save": ["out_proj"]}],
    ids=str,
)
def test_what_a_lora_brings_along_into_the_recurrent_layers_is_refused(settings: dict[str, Any]) -> None:
    state = with_state(zoo.make(FAMILY))
    before, modules = run(state), dict(state.get_base_model().named_modules())
    with pytest.raises(ConfigError, match=r"before any state.*linear_attn"):
        get_peft_model(state.get_base_model(), LoraConfig(target_modules=["q_proj"], **settings), "lora")
    assert set(state.peft_config) == {"state"} and torch.equal(run(state), before)
    assert dict(state.get_base_model().named_modules()) == modules


def through_its_wrapper(other: PeftModel, folder: Path) -> None:
    other.add_adapter("second", lora())


def through_a_wrapper_of_its_own(other: PeftModel, folder: Path) -> None:
    get_peft_model(other.get_base_model(), lora(), "second")


def from_a_file(other: PeftModel, folder: Path) -> None:
    get_peft_model(zoo.make(FAMILY), lora()).save_pretrained(folder)
    other.load_adapter(folder, "second")


@pytest.mark.parametrize("add", [through_its_wrapper, through_a_wrapper_of_its_own, from_a_file])
def test_a_second_lora_after_the_state_is_refused_like_a_first_one(add: Any, tmp_path: Path) -> None:
    other = with_lora()
    state = with_state(other.get_base_model())
    before, modules = run(other), dict(other.named_modules())
    with pytest.raises(ConfigError, match=r"'second' on the model before any state.*linear_attn.*unload\(\)"):
        add(other, tmp_path)
    assert set(state.peft_config) == {"lora", "state"} and torch.equal(run(other), before)
    assert dict(other.named_modules()) == modules

    # What the message says to do:
    state.unload()
    add(other, tmp_path)
    state = with_state(other.get_base_model())
    other.base_model.set_adapter(["lora", "second"])
    assert_same(run(other), run(with_state(by_hand(other, "lora", "second"))), before)


def test_a_lora_outside_of_the_recurrent_layers_can_come_last() -> None:
    other = with_lora()
    state = with_state(other.get_base_model())
    before = run(state)
    config = LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    get_peft_model(state.get_base_model(), config, "last")
    after = run(state)
    assert far(after[:, 1:], before[:, 1:])  # at the first position, attention has nothing to choose from
    other.base_model.set_adapter(["lora", "last"])
    assert_same(run(other), run(with_state(by_hand(other, "lora", "last"))), run(by_hand(other, "lora", "last")))


def test_unloading_the_state_leaves_the_lora_on() -> None:
    other = with_lora()
    before = run(other)
    state = with_state(other.get_base_model())
    assert far(run(other), before)
    assert state.unload() is other.get_base_model()
    assert holds_no_state(other) and set(other.peft_config) == {"lora"}
    assert torch.equal(run(other), before)
    merged = other.merge_and_unload()
    torch.testing.assert_close(run(merged), before, atol=1e-4, rtol=0)


def test_unloading_the_lora_unloads_all(untouched: Tensor) -> None:
    other = with_lora()
    before = dict(zoo.make(FAMILY).named_modules())
    with_state(other.get_base_model())
    model = other.unload()
    assert [(name, type(module)) for name, module in model.named_modules()] == [
        (name, type(module)) for name, module in before.items()
    ]
    assert torch.equal(run(model), untouched)


def test_a_lora_under_a_state_is_not_merged() -> None:
    other = with_lora()
    with_state(other.get_base_model())
    before = run(other)
    with pytest.raises(ConfigError, match=r"not a weight.*to merge other adapters, unload\(\) the state first"):
        other.merge_and_unload()
    torch.testing.assert_close(run(other), before, atol=1e-4, rtol=0)


IN_THE_LAYERS = ["in_proj_qkv", "out_proj", "q_proj"]


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=IN_THE_LAYERS, feedforward_modules=["out_proj"], init_ia3_weights=False),
        LoHaConfig(target_modules=IN_THE_LAYERS, r=2, init_weights=False),
        LoraConfig(target_modules=IN_THE_LAYERS, r=2, init_lora_weights=False, use_dora=True),
        LoraConfig(target_modules=IN_THE_LAYERS, r=2, modules_to_save=["input_layernorm"]),
    ],
    ids=["ia3", "loha", "dora", "modules_to_save"],
)
def test_a_state_saved_beside_another_method_is_that_of_the_base_model(config: PeftConfig, tmp_path: Path) -> None:
    other = get_peft_model(zoo.make(FAMILY), config, "other")
    state = with_state(other.get_base_model())
    state.save_pretrained(tmp_path, selected_adapters=["state"])
    again = PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "state", "state")
    want = run(with_state(zoo.make(FAMILY)))
    assert_same(run(again), want, run(zoo.make(FAMILY)))
    assert len(state_layers(again)) == 2


def test_a_state_around_the_wrapper_of_a_lora_is_refused() -> None:
    other = get_peft_model(zoo.make(FAMILY), lora())
    with pytest.raises(ConfigError, match="get_base_model"):
        get_peft_model(other, S0AdapterConfig(), "state")
    assert holds_no_state(other)


def test_a_state_inside_the_wrapper_of_a_lora_is_used_and_saved(tmp_path: Path) -> None:
    state = get_peft_model(zoo.make(FAMILY), S0AdapterConfig(), "state")
    fill(state, "state")
    outer = get_peft_model(state, LoraConfig(target_modules=["q_proj"], r=2), "lora")  # zero, so the state shows alone
    assert torch.equal(run(outer), run(state))
    state.save_pretrained(tmp_path, selected_adapters=["state"])
    assert torch.equal(run(PeftModel.from_pretrained(zoo.make(FAMILY), tmp_path / "state", "state")), run(state))
