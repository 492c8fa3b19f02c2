"""S0 as a PEFT method: `import s0` registers it (see `s0.adapter.patches`), and PEFT's whole interface works with it.

model = get_peft_model(model, S0AdapterConfig(alpha=0.5))
model.save_pretrained("my-state");  PeftModel.from_pretrained(base, "my-state")
model(**batch, adapter_names=["task-a", "__base__", "task-b"])       # one state per row

Another method on the same model has a wrapper and a name of its own, and comes first, when loading too:

lora = get_peft_model(model, LoraConfig(...), "lora")
state = get_peft_model(lora.get_base_model(), S0AdapterConfig(), "state")
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from s0.adapter import checks, state_files
from s0.adapter.config import S0AdapterConfig
from s0.adapter.fingerprint import check_base, fingerprint
from s0.adapter.gains import check_gains, gain_shapes
from s0.adapter.tensor_keys import file_key, states_and_gains
from s0.core import packing, padding
from s0.core.families import find_mixers, layer_index, plain_name, recurrence_of
from s0.core.gains import put_gain_layers, take_off_unused_gain_layers
from s0.core.layer import TunedLayer
from s0.core.quantised import keep_unpacked, let_pack
from s0.core.row_choice import RowsUnderCheckpointing, choose_in, forget_rows_under_checkpointing, rows_choose
from s0.core.sharding import refuse_sharded, whole
from s0.core.states import BASE, StateLayer, effective_state, layers_with, state_layers
from s0.core.tuned_weights import refuse_tuned_weights
from s0.errors import ConfigError, StateMismatchError

# To compare what it trains with what that was before, TRL (1.16) adds an adapter of this name and the same config, and
# copies every weight whose name holds a part that names of states lack: the new state would stay zero. So an adapter of
# this name starts as a copy of the first one, made here.
_TRL_REFERENCE = "ref"


class S0Model(BaseTuner):
    """Wraps a model's recurrent mixers in `StateLayer`s. PEFT makes one; it is not called directly."""

    prefix = "s0_state"
    tuner_layer_cls = TunedLayer
    target_module_mapping: Mapping[str, list[str]] = {}

    def __init__(
        self, model: nn.Module, peft_config: PeftConfig | dict[str, PeftConfig], adapter_name: str, **kwargs: Any
    ) -> None:
        # Refused before PEFT enters the new config in the account that all wrappers of one model share.
        if isinstance(model, PeftModel):
            raise ConfigError(
                "expected a model without a wrapper of PEFT's, got a PeftModel, under which states would be saved with "
                "names that no model has; pass its get_base_model(): adapters inside its layers stay in place"
            )
        if any(
            isinstance(module, BaseTunerLayer)
            and not isinstance(module, TunedLayer)
            and adapter_name in module._get_available_adapters()
            for module in model.modules()
        ):
            raise ConfigError(
                f"expected a new adapter name, got {adapter_name!r}, under which another method's adapter is on this "
                "model: only one of the two would be saved; choose another name"
            )
        super().__init__(model, peft_config, adapter_name, **kwargs)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put the states of adapter `adapter_name` on `model`; PEFT calls this for every new adapter.

        Raises:
            ConfigError: a name that is taken or cannot be one; a setting that does not fit the model; a model that is
                sharded over processes.
            StateMismatchError: the stored state, or the one to start from, belongs to another model.
            UnsupportedModelError: the model has no recurrent state to tune.
        """
        refuse_sharded(model)
        mixers = find_mixers(model)
        parts = {part for name in mixers for part in name.split(".")}
        # PEFT writes an adapter's name into its tensors' names, and nn.ParameterDict makes it an attribute.
        if (
            adapter_name in {BASE, "", self.prefix, *parts}
            or "." in adapter_name
            or adapter_name in dir(nn.ParameterDict)
        ):
            raise ConfigError(
                f"expected an adapter name that is no part of the model's module names, got {adapter_name!r} "
                f"({BASE} means the untouched model)"
            )
        holder = next((layer for layer in state_layers(model) if adapter_name in layer.s0_state), None)
        if holder is not None:
            self.peft_config[adapter_name] = holder.deployments[adapter_name]  # a second wrapper has replaced it by now
            raise ConfigError(
                f"expected a new adapter name, got {adapter_name!r}, which already has a state on this model; "
                "choose another name, or unload() the model first"
            )
        config = self.peft_config[adapter_name]
        starts_as_default = adapter_name == _TRL_REFERENCE and config is self.peft_config.get("default")
        if config._on_model[0]:
            config = self.peft_config[adapter_name] = copy.copy(config)  # it describes an adapter made before
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        _wrap_others(model, mixers)
        limits, has_packed_weights = padding.limits_of(model), keep_unpacked(model)
        for layer in state_layers(model):
            layer.limits, layer.has_packed_weights = limits, has_packed_weights
        new = layers_with(model, adapter_name)
        config._on_model = adapter_name, {name: layer.s0_state for name, layer in new.items()}
        if config.gains:
            self._add_gains(adapter_name, config)
        for module in model.modules():
            if isinstance(module, PreTrainedModel) and state_layers(module):
                padding.watch(module)
                packing.watch(module)
        if starts_as_default:
            for raw in config._on_model[1].values():
                raw[adapter_name].data.copy_(raw["default"])
        if config.checksum is not None:
            _check_at_first_use(next(iter(new.values())), adapter_name, config)

    def _add_gains(self, adapter_name: str, config: S0AdapterConfig) -> None:
        """After the states: norms are in mixers, too, which PEFT has wrapped by now where it looks for targets."""
        layers = put_gain_layers(self.model)
        first = state_layers(self.model)[0]
        learns = any(raw[adapter_name].requires_grad for raw in config._on_model[1].values())
        for name, layer in layers.items():
            layer._active_adapter, layer._disable_adapters = first._active_adapter, first._disable_adapters
            layer.add_raw(adapter_name, self._initial.get(name))
            layer.s0_state_gain[adapter_name].requires_grad_(learns)
            config._on_model[1][name] = layer.s0_state_gain
        for state_layer in state_layers(self.model):  # also those without a state of it (see `states_of_rows`)
            state_layer.deployments[adapter_name] = config

    def _prepare_adapter_config(self, peft_config: S0AdapterConfig, model_config: dict[str, Any]) -> S0AdapterConfig:
        # Everything that can be refused is refused here, before the model is touched.
        refuse_tuned_weights(self.model)
        recurrent = find_mixers(self.model)
        mixers = _selected(recurrent, peft_config.layers)
        shapes = {name: list(recurrence_of(mixer).state_shape(mixer)) for name, mixer in mixers.items()}
        recurrence = recurrence_of(next(iter(mixers.values()))).name
        if peft_config._is_from_file:
            state_files.check_recurrence(peft_config.recurrence, peft_config.base_model_name_or_path, self.model)
            if peft_config.state_shapes != shapes:
                raise StateMismatchError(_of_other_layers(peft_config.state_shapes or {}, shapes, self.model))
            check_gains(peft_config.gain_shapes or {}, self.model)
            if not peft_config.allow_other_base:
                check_base(str(peft_config.fingerprint), self.model)
        if len(mixers) == len(recurrent):
            peft_config.layers = None  # all of them: a file alone could not tell
        peft_config.state_shapes = shapes
        peft_config.gain_shapes = gain_shapes(self.model) if peft_config.gains else None
        peft_config.fingerprint = fingerprint(self.model)
        peft_config.recurrence = recurrence
        peft_config.target_modules = set(mixers)
        self._initial = initial_state(peft_config, self.model)
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: S0AdapterConfig, key: str) -> bool:
        return plain_name(key) in (peft_config.state_shapes or ()) and not key.endswith(".base_layer")

    def _create_and_replace(
        self,
        peft_config: S0AdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        layer = target if isinstance(target, StateLayer) else _wrapped(target)
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)
        layer.add_state(adapter_name, peft_config, self._initial.get(plain_name(current_key)))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    @contextmanager
    def _enable_peft_forward_hooks(
        self, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any
    ) -> Iterator[None]:
        if adapter_names is None:
            yield
            return
        unknown = sorted(set(adapter_names) - {BASE, *self.peft_config})
        if unknown:
            raise ConfigError(
                f"expected adapter names among {sorted(self.peft_config)} or {BASE!r}, got {unknown}; "
                "load the adapter first"
            )
        self._remember_rows_under_checkpointing()
        choice = choose_in(self.model, adapter_names)
        inputs = (*args[:1], *(kwargs.get(name) for name in ("input_ids", "inputs", "inputs_embeds")))
        prompts = next((value for value in inputs if isinstance(value, Tensor)), None)
        if prompts is not None:  # generate() copies them, forward() does not
            choice.copies(len(prompts))
            choice = replace(choice, repeats=True)
        with rows_choose(choice):
            yield

    def _remember_rows_under_checkpointing(self) -> None:
        for module in self.model.modules():
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            if checkpoint is not None and not isinstance(checkpoint, RowsUnderCheckpointing):
                module._gradient_checkpointing_func = RowsUnderCheckpointing(checkpoint)

    def unload(self) -> nn.Module:
        """The base model, with nothing of this library left on it; adapters of other methods stay where they are."""
        model: nn.Module = self.model
        for name in [name for name, config in self.peft_config.items() if isinstance(config, S0AdapterConfig)]:
            del self.peft_config[name]
        if not self.peft_config:
            del model.peft_config
        unwrap(model)
        return model

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter; if it was active, what is left active, or the first one left, becomes so on all layers."""
        was_active = any(adapter_name in layer.active_adapters for layer in state_layers(self.model))
        super().delete_adapter(adapter_name)
        for layer in state_layers(self.model):
            layer.deployments.pop(adapter_name, None)  # PEFT looks where there is a state only
        take_off_unused_gain_layers(self.model)
        # PEFT asks each layer by itself which adapter is active now, and that layer may have none left.
        if was_active and self.peft_config:
            self.set_adapter(self.active_adapters or next(iter(self.peft_config)))

    def add_weighted_adapter(self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str) -> None:
        """Add an adapter whose effective state is the weighted sum of those of `adapters`.

        Raises:
            ConfigError: no adapters, unknown ones, the same one twice, a name that is taken or cannot be one, or not
                one finite weight per adapter; a model that is sharded over processes.
        """
        refuse_sharded(self.model)
        shares = self._shares(adapters, weights)
        if not isinstance(adapter_name, str) or adapter_name in (BASE, *self.peft_config):
            raise ConfigError(f"expected a new adapter name, got {adapter_name!r}; choose another")
        kinds = {self.peft_config[name].kind for name in adapters}
        if len(kinds) != 1:
            raise ConfigError(f"expected adapters of one kind, got {sorted(kinds)}; combine each by itself")
        if any(self.peft_config[name].gains for name in adapters):
            raise ConfigError(
                "expected adapters without gains to combine, whose factors have no weighted sum; got some"
            )
        kind = kinds.pop()
        recurrent = state_layers(self.model)
        covered = [layer for layer in recurrent if any(name in layer.s0_state for name in adapters)]
        combined = {
            id(layer): sum((share * layer.effective(name, kind) for name, share in shares.items()), torch.tensor(0.0))
            for layer in covered
        }
        if not all(torch.isfinite(state).all() for state in combined.values()):
            raise ConfigError(f"expected weights whose sum of states float32 can hold, got {shares}; take smaller ones")
        self.peft_config[adapter_name] = S0AdapterConfig(
            kind=kind,
            layers=None if covered == recurrent else [layer.layer_idx for layer in covered],
            training={"combined": shares},
            base_model_name_or_path=self.peft_config[adapters[0]].base_model_name_or_path,
        )
        try:
            self.inject_adapter(self.model, adapter_name)
        except BaseException:  # as PEFT does it where it adds an adapter: a name that is listed has a state
            del self.peft_config[adapter_name]
            raise
        for layer in covered:
            layer.s0_state[adapter_name].data.copy_(combined[id(layer)])

    def _shares(self, adapters: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
        """The weight of each adapter, as a plain number."""
        try:
            are_known = not isinstance(adapters, str) and set(adapters) <= set(self.peft_config)
            shares = {name: _number(weight) for name, weight in zip(adapters, weights, strict=True)}
        except (TypeError, ValueError):
            are_known, shares = False, {}
        are_different = len(shares) > 0 and len(shares) == len(adapters)
        if not (are_known and are_different and all(map(checks.is_finite_number, shares.values()))):
            raise ConfigError(
                f"expected one finite weight for each of some different adapters among {sorted(self.peft_config)}, got "
                f"{adapters!r} with weights {weights!r}"
            )
        return shares

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: S0AdapterConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # PEFT only warns about missing layers and accepts extra ones and NaN.
        state_dict = {file_key(key): tensor for key, tensor in state_dict.items()}
        states, gains = states_and_gains(state_dict)
        checks.check_tensors(states, config.state_shapes or {}, f"the tensors for adapter {adapter_name!r}")
        if gains or config.gains:
            checks.check_tensors(gains, config.gain_shapes or {}, f"the gains for adapter {adapter_name!r}")
        remapped: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(
            model=model, config=config, adapter_name=adapter_name, state_dict=state_dict
        )
        return remapped


def _number(weight: Any) -> float:
    """Also of numpy's and PyTorch's numbers."""
    if isinstance(weight, (str, bool)):
        raise TypeError(weight)
    return float(weight)


def unwrap(model: nn.Module) -> None:
    """Take the state and gain layers off `model`, and all else that this library has put on it."""
    for layer_name, module in reversed(list(model.named_modules(remove_duplicate=False))):  # norms before their mixers
        if isinstance(module, TunedLayer):
            model.set_submodule(layer_name, module.base_layer)
    forget_rows_under_checkpointing(model)
    let_pack(model)
    padding.unwatch(model)
    packing.unwatch(model)


def _wrapped(mixer: nn.Module) -> StateLayer:
    layer = StateLayer(mixer)
    layer.train(mixer.training)
    return layer


def _wrap_others(model: nn.Module, mixers: Mapping[str, nn.Module]) -> None:
    """Put layers without a state around the recurrent mixers that are not tuned: they keep pads out, too."""
    first, *_ = layers = state_layers(model)
    others = {*mixers.values()} - {layer.base_layer for layer in layers}
    for name, mixer in list(model.named_modules()):
        if mixer in others:
            layer = _wrapped(mixer)
            layer._active_adapter, layer._disable_adapters = first._active_adapter, first._disable_adapters
            model.set_submodule(name, layer)


def _check_at_first_use(first: StateLayer, adapter_name: str, config: S0AdapterConfig) -> None:
    """Check the tensors of a file whose config PEFT has read itself when they are there: before the first forward.

    That is how transformers loads adapters: it puts tensors into parameters without asking anyone, and missing ones
    stay as they are.

    Args:
        first: the layer of the adapter that runs first.
        adapter_name: its name.
        config: what the file says.
    """
    in_file = config.to_dict()  # the scale may be set to another one before the first forward

    def check(layer: StateLayer, *_: Any) -> None:
        described = layer.deployments.get(adapter_name)  # a deep copy's own, where it is the copy that runs
        if isinstance(described, S0AdapterConfig) and described.checksum is not None:
            # Copied because FSDP2 cannot free what NumPy has looked into.
            states = {name: whole(state).clone() for name, state in described._states().items()}
            if state_files.checksum(states, in_file) != in_file["checksum"]:
                raise StateMismatchError(
                    f"expected adapter {adapter_name!r} to be the state with checksum {in_file['checksum']}, got "
                    f"{state_files.checksum(states, in_file)}: its file is damaged or incomplete, or was not loaded; "
                    "load it with PeftModel.from_pretrained, which says more"
                )
            described.checksum = None  # it speaks of the file, and what is there now may learn
        if layer is first:
            handle.remove()

    handle = first.register_forward_pre_hook(check)


def initial_state(config: S0AdapterConfig, model: nn.Module) -> dict[str, Tensor]:
    """The tensors that `config.init` names, by layer name; empty for zeros.

    A stored state enters with its own scale folded in, so that training starts where that state would have been
    deployed: raw = effective / alpha of the new config.
    """
    if config.init == "zeros":
        return {}
    stored = state_files.read(config.init, kind=config.kind)
    if bool(stored.gains) > config.gains:
        raise ConfigError(f"expected gains=True to start from {config.init}, which has gains")
    if config.normalize or config.alpha == 0:
        raise ConfigError("expected a non-zero alpha and normalize=False with a state to start from; set them after")
    if stored.alpha is None:
        raise ConfigError(f"expected {config.init} to say its alpha; export it with one first")
    scale = S0AdapterConfig(alpha=stored.alpha, normalize=stored.normalize)
    matched = state_files.match(stored, model, allow_other_base=config.allow_other_base)
    left_out = sorted(set(matched) - set(_selected(find_mixers(model), config.layers)))
    if left_out:
        raise ConfigError(f"expected layers to include all those of {config.init}, but they leave out {left_out}")
    states = {name: effective_state(raw, scale) / config.alpha for name, raw in matched.items()}
    return {**states, **stored.gains}


def _of_other_layers(stored: Mapping[str, Sequence[int]], shapes: Mapping[str, Sequence[int]], model: nn.Module) -> str:
    """What to say of a state whose layers are not those of the model: the first one that differs."""
    first = next(name for name in sorted({*stored, *shapes}) if stored.get(name) != shapes.get(name))
    return (
        f"expected a state for {len(shapes)} layers of {type(model).__name__}, got one for {len(stored)}; at {first}, "
        f"expected {shapes.get(first, 'none')}, got {stored.get(first, 'none')}: it was tuned on another model"
    )


def _selected(mixers: dict[str, nn.Module], layers: Sequence[int] | None) -> dict[str, nn.Module]:
    if layers is None:
        return mixers
    recurrent = {layer_index(mixer): name for name, mixer in mixers.items()}
    unknown = sorted(set(layers) - set(recurrent))
    if unknown:
        raise ConfigError(f"expected layers among the recurrent ones {sorted(recurrent)}, got {unknown}")
    return {recurrent[index]: mixers[recurrent[index]] for index in sorted(layers)}
