"""Gains beside a state: a learned factor for each number that an RMSNorm gives, at every token.

A state is absorbed by the first token; a gain stays, as a norm's own weight does:

    y = (1 + g) * norm(x)        g: (D,), zero at first, where D numbers come out of the norm

It costs a multiplication for each of these numbers, and no product of matrices. Gains of several active adapters
multiply; the scale of an adapter is its state's alone. Rows of a batch choose gains and state together, by one name.
Where one adapter serves a whole model, `s0.adapter.attach.merge_gains` puts its gains into the weights of the norms,
where they cost nothing.

`GainLayer` wraps a norm. It finds the numbers of a row by their order: whatever a model does between its layers, the
rows of a batch stay one after another, also where their tokens or heads have become rows themselves.
"""

from __future__ import annotations

import copy
import inspect
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from s0.core.families import find_mixers, unwrapped
from s0.core.layer import TunedLayer
from s0.core.norms import find_norms
from s0.core.raw_states import RawStates
from s0.core.row_choice import choice_for
from s0.core.sharding import expected_to_learn, refuse_sharded_layer
from s0.core.states import layers_with
from s0.errors import ConfigError, UnsupportedModelError


class GainLayer(TunedLayer):
    """A norm whose output is multiplied by learned factors, or by 1 where it has none.

    Holds one raw gain (D,) per adapter, float32 whatever the model's dtype is.
    """

    adapter_layer_names = ("s0_state_gain",)

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(norm)
        self.size = norm.get_parameter("weight").numel()
        self.s0_state_gain = RawStates()
        # Mixers ask their norm for its epsilon, by whatever name it has there.
        for name, value in vars(norm).items():
            if type(value) is float:
                setattr(self, name, value)

    @property
    def raw(self) -> RawStates:
        """The raw gains, by adapter."""
        return self.s0_state_gain

    def zero(self) -> Tensor:
        """(D,) float32, the gain that changes nothing."""
        return torch.zeros(self.size, dtype=torch.float32)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the norm, and multiply what it gives by the factors of the rows.

        Args:
            hidden_states: (N, ..., D), with the rows of the batch one after another along N.
            args, kwargs: whatever else the model passes to its norm, a gate for one.
        """
        output: Tensor = self.base_layer(hidden_states, *args, **kwargs)
        factors = None if self.disable_adapters else self.factors_of_rows(len(output))
        if factors is None:
            return output
        if factors.ndim == 1:
            return (output * factors).to(output.dtype)
        by_rows = output.reshape(len(factors), -1, output.shape[-1])
        return (by_rows * factors[:, None]).to(output.dtype).reshape(output.shape)

    def factors_of_rows(self, n: int) -> Tensor | None:
        """(D,) factors of the active adapters, or (B, D) where the rows of a batch have chosen; None where all are 1.

        Args:
            n: the length of the norm's output, of which each row has an equal part.
        """
        if not self.s0_state_gain:
            return None
        refuse_sharded_layer(self, self.s0_state_gain)
        choice = choice_for(self)
        if choice is None:
            active = [self.effective(name) for name in self.active_adapters if name in self.s0_state_gain]
            return reduce(torch.mul, active) if active else None
        choice.parts(n)
        # As for states: FSDP2 waits for a gradient of every gain that learns, chosen by a row or not.
        unchosen = expected_to_learn(self, self.s0_state_gain) - {*choice.names}
        if not unchosen and self.s0_state_gain.keys().isdisjoint(choice.names):
            return None
        factors = {name: self.effective(name) for name in {*choice.names}}
        rows = torch.stack([factors[name] for name in choice.names])
        return rows + sum(0 * self.effective(name) for name in sorted(unchosen)) if unchosen else rows

    def effective(self, name: str) -> Tensor:
        """The factors (D,) of adapter `name`; 1 for any that has none here."""
        if name not in self.s0_state_gain:
            return torch.ones(self.size, device=self.state_device())
        return 1 + self.raw_of(name)


def gain_places(model: nn.Module) -> dict[str, nn.Module]:
    """Every norm of `model` that can have a gain, by the name that its gain layer has where states are on the model.

    Raises:
        UnsupportedModelError: it has no RMSNorm.
        ConfigError: another method's adapter is around a norm.
    """
    mixers, norms = find_mixers(model), find_norms(model)
    ids = set(map(id, norms.values()))
    for path, module in model.named_modules():
        wrapper, _, child = path.rpartition(".")
        if child == "base_layer" and id(module) in ids and not isinstance(model.get_submodule(wrapper), GainLayer):
            raise ConfigError(
                f"expected norms without another method's adapter to give gains to, got one around {wrapper}; unload "
                "it first, or leave gains out"
            )

    def name_of_layer(norm: str) -> str:
        mixer = next((name for name in mixers if norm.startswith(f"{name}.")), None)  # a state layer is around it
        return norm if mixer is None else f"{mixer}.base_layer{norm.removeprefix(mixer)}"

    return {name_of_layer(name): norm for name, norm in norms.items()}


def gain_layers(model: nn.Module) -> dict[str, GainLayer]:
    """The gain layers of `model`, by their names in it without PEFT's wrapper."""
    named = model.named_modules()
    return {name.removeprefix("base_model.model."): layer for name, layer in named if isinstance(layer, GainLayer)}


def gains_with(model: nn.Module, name: str) -> dict[str, GainLayer]:
    """Those of them that have a gain of adapter `name`."""
    return {path: layer for path, layer in gain_layers(model).items() if name in layer.s0_state_gain}


def tuned_with(model: nn.Module, name: str) -> dict[str, TunedLayer]:
    """The layers that have a state of adapter `name`, then those that have a gain of it, by their names."""
    return {**layers_with(model, name), **gains_with(model, name)}


def put_gain_layers(model: nn.Module) -> dict[str, GainLayer]:
    """Put a gain layer around every norm of `model` that has none, states being on it; returns all of them."""
    places = gain_places(model)
    there = {id(layer.base_layer) for layer in gain_layers(model).values()}
    new = {id(norm): GainLayer(norm) for norm in places.values() if id(norm) not in there}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in new:
            new[id(module)].train(module.training)
            model.set_submodule(path, new[id(module)])
    return gain_layers(model)


def take_off_unused_gain_layers(model: nn.Module) -> None:
    """Give the norms of `model` back to it if no adapter has gains any more."""
    if any(layer.s0_state_gain for layer in gain_layers(model).values()):
        return
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, GainLayer):
            model.set_submodule(path, module.base_layer)


@torch.no_grad()
def multiply_norms(model: nn.Module, name: str) -> None:
    """Multiply the weights of the norms by the factors of adapter `name`, for good.

    Raises:
        UnsupportedModelError: a norm does not multiply by its weight, or by 1 + its weight; or several share one.
    """
    layers, merged = gains_with(model, name), []
    if len({id(layer.base_layer.weight) for layer in layers.values()}) < len(layers):
        raise UnsupportedModelError(
            f"expected norms with weights of their own to merge gains into, got {type(unwrapped(model)).__name__}, of "
            "whose norms some share theirs and have gains that differ; serve the adapter as it is"
        )
    for layer in layers.values():
        weight, offset = layer.base_layer.get_parameter("weight"), _offset_of_weight(layer.base_layer)
        merged.append((weight, ((weight.float() + offset) * layer.effective(name) - offset).to(weight.dtype)))
    for weight, values in merged:
        weight.copy_(values)


def _offset_of_weight(norm: nn.Module) -> float:
    """0 where a norm multiplies by its weight, 1 where by 1 + its weight; tried on a copy, since no name tells."""
    twin = copy.deepcopy(norm)
    weight = twin.get_parameter("weight")
    ones = torch.ones(1, 1, weight.numel(), dtype=weight.dtype, device=weight.device)
    gates = {"gate": ones} if "gate" in inspect.signature(norm.forward).parameters else {}
    by_zero, by_one = (twin(weight.fill_(value).new_ones(ones.shape), **gates) for value in (0.0, 1.0))
    if not by_zero.any() and by_one.any():
        return 0.0
    if torch.equal(by_one, 2 * by_zero) and by_zero.any():
        return 1.0
    raise UnsupportedModelError(
        f"expected norms that multiply by their weight, or by 1 + it, to merge gains into, got {type(norm).__name__}; "
        "serve the adapter as it is"
    )
