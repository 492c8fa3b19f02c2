"""The adapter that holds one state, on its model: put on, switched and taken off; all else about the model stays.

One way of taking off does not leave the model as it was, and says so: `merge_gains`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from peft import PeftModel, get_peft_model
from torch import nn

from s0.adapter import state_files
from s0.adapter.config import S0AdapterConfig
from s0.adapter.fingerprint import fingerprint
from s0.adapter.model import unwrap
from s0.core import gains
from s0.core.flags import Flags
from s0.core.layer import TunedLayer, tuned_layers
from s0.core.states import StateLayer, state_layers
from s0.errors import ConfigError


def attach(
    model: nn.Module, layers: list[int] | None, deployment: Mapping[str, Any], name: str | None = None
) -> tuple[Any, str]:
    """Put a zero state, switched off, beside those that are on `model`.

    Args:
        model: a transformers model, or a PEFT model with states.
        layers: as in `S0Config`.
        deployment: alpha, normalize, kind and gains.
        name: the state's adapter name; None for one that is free.

    Returns:
        the PEFT model, and the state's adapter name on it.

    Raises:
        UnsupportedModelError: the model has no recurrent state to tune.
        ConfigError: a PEFT model of another kind, settings that cannot work, or a name that is taken.
    """
    if isinstance(model, PeftModel) and model.peft_type != "S0":
        raise ConfigError(
            f"expected a transformers model, or a PEFT model with S0 states, got one of {model.peft_type.value}; "
            "pass its base model, get_base_model(): adapters inside its layers, like LoRA's, stay in place"
        )
    taken = {name for layer in state_layers(model) for name in layer.s0_state}
    if name in taken:
        raise ConfigError(
            f"expected a new name, got {name!r}, under which a state is on this model; choose another name"
        )
    if name is None:
        name = next(free_names("s0_", taken))
    config = S0AdapterConfig(layers=layers, **deployment, inference_mode=True)
    put_back = _remembered(model)
    if isinstance(model, PeftModel):
        model.add_adapter(name, config)
        wrapped = model
    else:
        # A checkpointed model would get hooks that let gradients into its embeddings, which no state needs.
        vars(model)["enable_input_require_grads"] = lambda: None
        try:
            with warnings.catch_warnings():
                # PEFT warns about a second wrapper on one model, and uses a name that transformers warns about; two
                # trainers on one model are meant to work.
                warnings.filterwarnings("ignore", ".*(multiple adapters|second time|is_gradient_checkpointing).*")
                wrapped = get_peft_model(model, config, adapter_name=name)
        finally:
            del vars(model)["enable_input_require_grads"]
    put_back(wrapped)
    return wrapped, name


def free_names(start: str, taken: Collection[str], first: int = 0) -> Iterator[str]:
    """Names that are not taken: `start` with a number, counted from `first`."""
    numbered = (f"{start}{number}" for number in count(first))
    return (name for name in numbered if name not in taken)


def detach(model: Any, name: str) -> Any:
    """Take a state off its PEFT model, for good.

    Returns:
        the base model; with the last state gone, it is as it was before the first one came.
    """
    base = model.get_base_model()
    put_back = _remembered(base)
    model.delete_adapter(name)
    if model.active_adapter == name and base.peft_config:  # PEFT's wrapper goes on naming it (0.21)
        model.active_adapter = next(reversed(base.peft_config))
    put_back(base)
    if not any(layer.s0_state for layer in state_layers(base)):
        unwrap(base)
    if not base.peft_config:
        del base.peft_config
    return base


def switch_to(model: nn.Module, name: str | None) -> None:
    """Start every sequence of the model from this state; None for no state."""
    for layer in tuned_layers(model):
        _set_switch(layer, [] if name is None else [name], False)


def is_on(layers: Iterable[StateLayer], name: str) -> bool:
    """Whether all these layers start from this state alone."""
    return all(_switch(layer) == ([name], False) for layer in layers)


@contextmanager
def alone(model: nn.Module, name: str) -> Iterator[None]:
    """Within this context the model starts from this state; afterwards, as it did before."""
    with switches_kept(model):
        switch_to(model, name)
        yield


@contextmanager
def switches_kept(model: nn.Module) -> Iterator[None]:
    """After this context the model starts from the states that it started from before."""
    before = [(layer, *_switch(layer)) for layer in tuned_layers(model)]
    try:
        yield
    finally:
        for layer, active, disabled in before:
            _set_switch(layer, active, disabled)


def _remembered(model: nn.Module) -> Callable[[nn.Module], None]:
    """What adding and removing states must not change about a model: its modes, its gradients, which states are active.

    Returns:
        puts it back on the model, which may be wrapped, or have lost states, by then.
    """
    flags = Flags(model)
    switches = [(layer, *_switch(layer)) for layer in tuned_layers(model)]

    def put_back(model: nn.Module) -> None:
        flags.put_back(model)
        switch_to(model, None)
        for layer, active, disabled in switches:
            _set_switch(layer, [name for name in active if name in layer.raw], disabled)

    return put_back


def _switch(layer: TunedLayer) -> tuple[list[str], bool]:
    return list(layer.active_adapters), bool(layer._disable_adapters)


def _set_switch(layer: TunedLayer, active: list[str], disabled: bool) -> None:
    layer._active_adapter = list(active)
    layer._disable_adapters = disabled


def merge_gains(model: Any, name: str) -> None:
    """Put an adapter's gains into the weights of the model's norms, for good; what is left of it is its state.

    Afterwards the model is another one: save it (`model.get_base_model().save_pretrained(...)` once the state is
    unloaded), and the state for it.

    Args:
        model: a PEFT model with this adapter alone.
        name: the adapter's.

    Raises:
        ConfigError: other adapters are on the model, whose weights would no longer be theirs; or it has no gains.
        UnsupportedModelError: a norm does not multiply by its weight, or by 1 + its weight.
    """
    names = {adapter for layer in tuned_layers(model) for adapter in layer.raw}
    if names != {name} or not gains.gains_with(model, name):
        raise ConfigError(
            f"expected a model with the adapter {name!r} alone, which has gains, to merge them, got {sorted(names)}; "
            "delete the others, which the merged weights would change"
        )
    gains.multiply_norms(model, name)
    for layer in gains.gains_with(model, name).values():
        del layer.s0_state_gain[name]
    gains.take_off_unused_gain_layers(model)
    config = model.peft_config[name]
    config.gains, config.gain_shapes, config.format_version = False, None, state_files.format_version(False)
    config.fingerprint = fingerprint(model)
