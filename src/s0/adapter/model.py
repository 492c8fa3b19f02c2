"""S0 as a PEFT method: importing this module registers it, and PEFT's whole interface works with it.

model = get_peft_model(model, S0AdapterConfig(alpha=0.5))
model.save_pretrained("my-state");  PeftModel.from_pretrained(base, "my-state")
model(**batch, adapter_names=["task-a", "__base__", "task-b"])       # one state per row

Another method on the same model has a wrapper and a name of its own, and comes first, when loading too:

lora = get_peft_model(model, LoraConfig(...), "lora")
state = get_peft_model(lora.get_base_model(), S0AdapterConfig(), "state")
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, PeftModelForCausalLM
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_target_module_exists
from peft.utils import WEIGHTS_NAME, PeftType, register_peft_method
from torch import Tensor, nn
from transformers import PreTrainedModel

from s0.adapter import state_files
from s0.adapter.card import write_card
from s0.adapter.fingerprint import check_base, fingerprint
from s0.core import packing, padding
from s0.core.families import find_mixers, layer_index, plain_name, recurrence_of
from s0.core.generation import refuse_pads
from s0.core.quantised import keep_unpacked, let_pack
from s0.core.raw_states import RawStates
from s0.core.rows import RowChoice, RowsUnderCheckpointing, forget_rows_under_checkpointing, rows_choose
from s0.core.split import refuse_shards, refuse_split, whole
from s0.core.states import BASE, StateLayer, effective_state, state_layers
from s0.errors import ConfigError, StateMismatchError


def _register_peft_type(name: str) -> PeftType:
    """Add a member to PEFT's enumeration of methods, which it offers no call for."""
    if name not in PeftType.__members__:
        member = str.__new__(PeftType, name)
        member._name_, member._value_ = name, name
        PeftType._member_names_.append(name)
        PeftType._member_map_[name] = member
        PeftType._value2member_map_[name] = member
        type.__setattr__(PeftType, name, member)
    return PeftType(name)


_S0 = _register_peft_type("S0")
# Whether PEFT is loading a state, so that a config alone will not do.
_loads_a_state: ContextVar[bool] = ContextVar("loads_a_state", default=False)
# TRL holds a trained adapter to what it was: under this name it adds a second one of the same config, and copies the
# weights by a part of their names that those of states lack.
_TRL_REFERENCE = "ref"


@dataclass
class S0AdapterConfig(PeftConfig):
    """Settings of one state.

    Attributes:
        variant: "state", where sequences start from; or "offset", which every step reads beside its state, at a cost
            per step (see `s0.core.offset`).
        alpha: scale of the effective state, applied in training and inference alike.
        normalize: divide each layer's state by its norm first.
        layers: indices of the layers to tune; None for every recurrent layer.
        init: "zeros", or the folder of a state to start from.
        allow_other_base: accept a state that was tuned on other weights of the same shape.
        target_modules: set by this library to the names of the tuned layers.
        format_version, family, state_shapes, fingerprint, checksum, training: see `s0.adapter.state_files`.
    """

    variant: str = "state"
    alpha: float = 1.0
    normalize: bool = False
    layers: list[int] | None = None
    init: str = "zeros"
    allow_other_base: bool = False
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    format_version: int = state_files.FORMAT_VERSION
    family: str | None = None
    state_shapes: dict[str, list[int]] | None = None
    fingerprint: str | None = None
    checksum: str | None = None
    training: dict[str, Any] | None = field(default=None)
    _is_from_file = False  # whether family, state_shapes and fingerprint are claims to check, or to be filled in
    _held = ("", dict[str, RawStates]())  # the adapter's name, and where each layer keeps its state, once it has any

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:  # PEFT's check of task_type
            raise ConfigError(str(error)) from error
        self.peft_type = _S0
        if self.variant not in state_files.VARIANTS:
            raise ConfigError(f"expected variant to be one of {', '.join(state_files.VARIANTS)}, got {self.variant!r}")
        state_files.check_scale(self.alpha, self.normalize)
        if self.layers is not None and not state_files.are_distinct_indices(self.layers):
            raise ConfigError(f"expected layers to be distinct layer indices, got {self.layers!r}; None tunes them all")
        if not isinstance(self.init, str) or not self.init:
            raise ConfigError(f"expected init to be 'zeros' or the folder of a state, got {self.init!r}")
        if self.modules_to_save:
            raise ConfigError(
                f"expected no modules_to_save, got {self.modules_to_save!r}: a state file holds only states"
            )
        if self.format_version != state_files.FORMAT_VERSION:
            raise StateMismatchError(
                f"expected format_version {state_files.FORMAT_VERSION}, got {self.format_version!r}; use the s0-tuning "
                "version that wrote the state"
            )
        # Only a file tells a checksum. Trust in another base is the caller's to give, not the file's; and the start
        # of a finished training is history.
        if self.checksum is not None:
            self._is_from_file, self.allow_other_base, self.init = True, False, "zeros"

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write the config of a state that is being saved, with the checksum of its tensors, and a model card.

        Raises:
            ConfigError: PEFT has written the tensors as a pickle, which is never loaded; or this process holds only
                parts of them.
        """
        if (Path(save_directory) / WEIGHTS_NAME).is_file():
            raise ConfigError(
                f"expected no {WEIGHTS_NAME} in {save_directory}: pickles are never loaded; remove it and save with "
                "safe_serialization=True"
            )
        described, states = copy.copy(self), self._states()
        # PEFT has written the tensors by now, and gives this argument. transformers writes them next: what lies there
        # is of an earlier time.
        if "auto_mapping_dict" not in kwargs and states and self.checksum is None:
            described.checksum = state_files.checksum(states, vars(self))
        elif (Path(save_directory) / state_files.STATE_FILE).is_file():
            described.checksum = state_files.checksum_of_file(save_directory, vars(self))
        if described.checksum is not None:
            write_card(save_directory, vars(self))
        super(S0AdapterConfig, described).save_pretrained(save_directory, **kwargs)

    def _states(self) -> dict[str, Tensor]:
        """The adapter's raw states by layer name; none before it is on a model, or once it is deleted."""
        name, layers = self._held
        return {layer: raw(name) for layer, raw in layers.items() if name in raw}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> S0AdapterConfig:
        """Read a config, after checking the whole state beside it; one that was saved by itself has none.

        Raises:
            StateMismatchError: as `s0.adapter.state_files.read`.
        """
        hub = {name: kwargs[name] for name in state_files.HUB_SETTINGS if kwargs.get(name) is not None}
        folder = state_files.locate(pretrained_model_name_or_path, subfolder, **hub)
        if _loads_a_state.get() or not state_files.is_config_alone(folder):
            state_files.read(folder, variant=None)
        config: S0AdapterConfig = super().from_pretrained(pretrained_model_name_or_path, subfolder, **kwargs)
        config.checksum = None  # it speaks of the file, which is checked now, not of what training may make of it
        return config


class S0Model(BaseTuner):
    """Wraps a model's recurrent mixers in `StateLayer`s. PEFT makes one; it is not called directly."""

    prefix = "s0_state"
    tuner_layer_cls = StateLayer
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
            and not isinstance(module, StateLayer)
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
                split over processes.
            StateMismatchError: the stored state, or the one to start from, belongs to another model.
            UnsupportedModelError: the model has no recurrent state to tune.
        """
        refuse_split(model)
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
            self.peft_config[adapter_name] = holder.scales[adapter_name]  # a second wrapper has replaced it by now
            raise ConfigError(
                f"expected a new adapter name, got {adapter_name!r}, which already has a state on this model; "
                "choose another name, or unload() the model first"
            )
        config = self.peft_config[adapter_name]
        starts_as_default = adapter_name == _TRL_REFERENCE and config is self.peft_config.get("default")
        if config._held[0]:
            config = self.peft_config[adapter_name] = copy.copy(config)  # it describes an adapter made before
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        _wrap_others(model, mixers)
        limits, has_packed_weights = padding.limits_of(model), keep_unpacked(model)
        for layer in state_layers(model):
            layer.limits, layer.has_packed_weights = limits, has_packed_weights
        layers = {plain_name(name): module for name, module in model.named_modules() if isinstance(module, StateLayer)}
        new = {name: layer for name, layer in layers.items() if adapter_name in layer.s0_state}
        config._held = adapter_name, {name: layer.s0_state for name, layer in new.items()}
        for module in model.modules():
            if isinstance(module, PreTrainedModel) and state_layers(module):
                padding.watch(module)
                packing.watch(module)
        if starts_as_default:
            for layer in new.values():
                layer.s0_state[adapter_name].data.copy_(layer.s0_state["default"])
        if config.checksum is not None:
            _check_at_first_use(next(iter(new.values())), adapter_name, config)

    def _prepare_adapter_config(self, peft_config: S0AdapterConfig, model_config: dict[str, Any]) -> S0AdapterConfig:
        # Everything that can be refused is refused here, before the model is touched.
        mixers = _selected(find_mixers(self.model), peft_config.layers)
        shapes = {name: list(recurrence_of(mixer).state_shape(mixer)) for name, mixer in mixers.items()}
        family = recurrence_of(next(iter(mixers.values()))).name
        if peft_config._is_from_file:
            state_files.check_recurrence(peft_config.family, peft_config.base_model_name_or_path, self.model)
            if peft_config.state_shapes != shapes:
                raise StateMismatchError(_of_other_layers(peft_config.state_shapes or {}, shapes, self.model))
            if not peft_config.allow_other_base:
                check_base(str(peft_config.fingerprint), self.model)
        peft_config.state_shapes = shapes
        peft_config.fingerprint = fingerprint(self.model)
        peft_config.family = family
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
        choice = RowChoice(tuple(adapter_names), frozenset(map(id, state_layers(self.model))))
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
        # PEFT asks each layer by itself which adapter is active now, and that layer may have none left.
        if was_active and self.peft_config:
            self.set_adapter(self.active_adapters or next(iter(self.peft_config)))

    def add_weighted_adapter(self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str) -> None:
        """Add an adapter whose effective state is the weighted sum of those of `adapters`.

        Raises:
            ConfigError: no adapters, unknown ones, a taken name, or not one finite weight per adapter; a model that is
                split over processes.
        """
        refuse_split(self.model)
        unknown = sorted(set(adapters) - set(self.peft_config))
        if unknown or not adapters or len(adapters) != len(weights) or not all(map(math.isfinite, weights)):
            raise ConfigError(
                f"expected one finite weight for each of some adapters among {sorted(self.peft_config)}, got "
                f"{list(adapters)} with weights {list(weights)}"
            )
        if adapter_name in (BASE, *self.peft_config):
            raise ConfigError(f"expected a new adapter name, got {adapter_name!r}, which exists")
        variants = {self.peft_config[name].variant for name in adapters}
        if len(variants) != 1:
            raise ConfigError(f"expected adapters of one variant, got {sorted(variants)}; combine each by itself")
        variant = variants.pop()
        covered = [layer for layer in state_layers(self.model) if any(name in layer.s0_state for name in adapters)]
        combined = {
            id(layer): sum((w * layer.effective(name, variant) for w, name in zip(weights, adapters, strict=True)), 0.0)
            for layer in covered
        }
        self.peft_config[adapter_name] = S0AdapterConfig(
            variant=variant,
            layers=sorted(layer.layer_idx for layer in covered),
            training={"combined": dict(zip(adapters, weights, strict=True))},
            base_model_name_or_path=self.peft_config[adapters[0]].base_model_name_or_path,
        )
        self.inject_adapter(self.model, adapter_name)
        for layer in covered:
            layer.s0_state[adapter_name].data.copy_(combined[id(layer)])

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: S0AdapterConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # PEFT only warns about missing layers and accepts extra ones and NaN.
        state_dict = {state_files.file_key(key): tensor for key, tensor in state_dict.items()}
        tensors = {state_files.layer_name(key): tensor for key, tensor in state_dict.items()}
        state_files.check_tensors(tensors, config.state_shapes or {}, f"the tensors for adapter {adapter_name!r}")
        remapped: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(
            model=model, config=config, adapter_name=adapter_name, state_dict=state_dict
        )
        return remapped


def unwrap(model: nn.Module) -> None:
    """Take the state layers off `model`, and all else that this library has put on it."""
    for layer_name, module in list(model.named_modules()):
        if isinstance(module, StateLayer):
            model.set_submodule(layer_name, module.base_layer)
    forget_rows_under_checkpointing(model)
    let_pack(model)
    padding.unwatch(model)
    packing.unwatch(model)


def _wrapped(mixer: nn.Module) -> StateLayer:
    kind = StateLayer
    if recurrence_of(mixer).name == "lightning_attention":
        from s0.core.minimax import LightningStateLayer  # loads transformers' MiniMax

        kind = LightningStateLayer
    layer = kind(mixer)
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
    told = dict(vars(config))  # the scale may be set to another one before the first forward

    def check(layer: StateLayer, *_: Any) -> None:
        own = layer.scales.get(adapter_name)  # a deep copy's own, where it is the copy that runs
        if isinstance(own, S0AdapterConfig) and own.checksum is not None:
            # Copied because FSDP2 cannot free what NumPy has looked into.
            states = {name: whole(state).clone() for name, state in own._states().items()}
            if state_files.checksum(states, told) != told["checksum"]:
                raise StateMismatchError(
                    f"expected adapter {adapter_name!r} to be the state with checksum {told['checksum']}, got "
                    f"{state_files.checksum(states, told)}: its file is damaged or incomplete, or was not loaded; load "
                    "it with PeftModel.from_pretrained, which says more"
                )
            own.checksum = None  # it speaks of the file, and what is there now may learn
        if layer is first:
            handle.remove()

    handle = first.register_forward_pre_hook(check)


def _minding_states(inject_adapter: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseTuner.inject_adapter` that refuses what PEFT does not see where another method meets a state.

    Refused are two methods' adapters of one name, of which one is saved; and adapters that would be left out inside
    the recurrent layers, where PEFT enters nothing once a state is around them.
    """

    @functools.wraps(inject_adapter)
    def minding(self: BaseTuner, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, S0Model):
            config = self.peft_config.pop(adapter_name)  # back in the account of all wrappers if it is not refused
            holder = next((layer for layer in state_layers(model) if adapter_name in layer.s0_state), None)
            if holder is not None:
                self.peft_config[adapter_name] = holder.scales[adapter_name]  # which PEFT has put the new one over
                raise ConfigError(
                    f"expected a new adapter name, got {adapter_name!r}, under which a state is on this model: only "
                    "one of the two would be saved; choose another name"
                )
            left_out = _left_out(config, model)
            if left_out is not None:
                raise ConfigError(
                    f"expected adapter {adapter_name!r} on the model before any state, got it afterwards: PEFT would "
                    f"leave out its targets inside the recurrent layers, such as {left_out}; add the state last "
                    "(unload() takes states off and leaves other adapters on), or name targets outside of them"
                )
            self.peft_config[adapter_name] = config
        return inject_adapter(self, model, adapter_name, *args, **kwargs)

    return minding


def _left_out(config: PeftConfig, model: nn.Module) -> str | None:
    """The name of something within a state layer that `config` targets, if there is any."""
    targets = getattr(config, "target_modules", None)
    exact = [*(getattr(config, "target_parameters", None) or ()), *(getattr(config, "modules_to_save", None) or ())]
    for path, layer in model.named_modules():
        if not isinstance(layer, StateLayer):
            continue
        modules = [plain_name(f"{path}.{name}") for name, _ in layer.base_layer.named_modules() if name]
        parameters = [plain_name(f"{path}.{name}") for name, _ in layer.base_layer.named_parameters()]
        for name in modules:  # without targets, or with all linear layers, PEFT makes a choice of its own
            if targets in (None, "all-linear") or check_target_module_exists(config, name):
                return name
        for name in modules + parameters:
            if f".{name}".endswith(tuple(f".{target}" for target in exact)):
                return name
    return None


def _checking_states(load_adapter: Callable[..., Any]) -> Callable[..., Any]:
    """`PeftModel.load_adapter` that checks the file of a state that is loaded into an adapter that exists.

    PEFT reads the tensors alone then, not the scale and base model they were trained with: so when a Trainer goes on
    from a checkpoint or ends with its best one, and in `PeftModel.from_pretrained(..., config=...)`.
    """

    @functools.wraps(load_adapter)
    def checked(self: PeftModel, model_id: str | Path, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        config = self.peft_config.get(adapter_name)
        if isinstance(config, S0AdapterConfig):
            hub = {name: kwargs[name] for name in state_files.HUB_SETTINGS if kwargs.get(name) is not None}
            stored = state_files.read(model_id, kwargs.get("subfolder"), variant=config.variant, **hub)
            state_files.match(stored, self, allow_other_base=config.allow_other_base)
            if (stored.alpha, stored.normalize) != (config.alpha, config.normalize):
                raise StateMismatchError(
                    f"expected adapter {adapter_name!r} to have the scale that the state in {model_id} was saved with, "
                    f"alpha={stored.alpha} and normalize={stored.normalize}, got alpha={config.alpha} and "
                    f"normalize={config.normalize}; set these in its config, or load the state under a new name"
                )
        return load_adapter(self, model_id, adapter_name, *args, **kwargs)

    return checked


def _refusing_a_config_alone(load: Callable[..., Any]) -> Callable[..., Any]:
    """`PeftModel.from_pretrained` or `load_adapter` that asks for a state beside an S0 config, before all else."""

    @functools.wraps(load)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        before = _loads_a_state.set(True)
        try:
            return load(*args, **kwargs)
        finally:
            _loads_a_state.reset(before)

    return refusing


def _keeping_float32(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of `PeftModel` that refuses to give states the dtype of a model whose dtype is not theirs."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def keeping(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        told = signature.bind(self, *args, **kwargs).arguments
        if not told.get("autocast_adapter_dtype", True):
            config = told["peft_config"] if "peft_config" in told else self.peft_config.get(told["adapter_name"])
            if isinstance(config, S0AdapterConfig):
                _require_float32(told.get("model", self))
        return method(self, *args, **kwargs)

    return keeping


def _require_float32(model: nn.Module) -> None:
    others = {str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()} - {"torch.float32"}
    if others:
        raise ConfigError(
            f"expected autocast_adapter_dtype=True on a model with weights in {', '.join(sorted(others))}, got False: "
            "states are float32 in models of every dtype; leave the argument out"
        )


def _refusing_pads(generate: Callable[..., Any]) -> Callable[..., Any]:
    """`generate` of a PeftModel that looks at its prompts' pads first, while a state is on the model."""

    @functools.wraps(generate)
    def refusing(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        layers = [layer for layer in state_layers(self) if not layer.disable_adapters]
        if any(layer.active_adapters or kwargs.get("adapter_names") for layer in layers):
            refuse_pads(self.get_base_model(), layers[0].limits, args, kwargs)
        return generate(self, *args, **kwargs)

    return refusing


def _saving_whole_states(save: Callable[..., Any]) -> Callable[..., Any]:
    """`PeftModel.save_pretrained` that writes no shard of a state."""

    @functools.wraps(save)
    def saving(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("state_dict")
        held = dict(self.named_parameters()) if given is None else given
        refuse_shards(tensor for name, tensor in held.items() if f".{S0Model.prefix}." in name)
        return save(self, *args, **kwargs)

    return saving


def _uploading_the_card(upload: Callable[..., Any]) -> Callable[..., Any]:
    """The last step of `PeftModel.push_to_hub`, which has replaced the state's card by a template of transformers'."""

    @functools.wraps(upload)
    def uploading(self: PeftModel, working_dir: str | Path, *args: Any, **kwargs: Any) -> Any:
        config = self.peft_config.get("default")  # the one that lies in the folder itself
        if isinstance(config, S0AdapterConfig):
            write_card(working_dir, vars(config))
        return upload(self, working_dir, *args, **kwargs)

    return uploading


def initial_state(config: S0AdapterConfig, model: nn.Module) -> dict[str, Tensor]:
    """The tensors that `config.init` names, by layer name; empty for zeros.

    A stored state enters with its own scale folded in, so that training starts where that state would have been
    deployed: raw = effective / alpha of the new config.
    """
    if config.init == "zeros":
        return {}
    stored = state_files.read(config.init, variant=config.variant)
    if config.normalize or config.alpha == 0:
        raise ConfigError("expected a non-zero alpha and normalize=False with a state to start from; set them after")
    if stored.alpha is None:
        raise ConfigError(f"expected {config.init} to say its alpha; export it with one first")
    scale = S0AdapterConfig(alpha=stored.alpha, normalize=stored.normalize)
    matched = state_files.match(stored, model, allow_other_base=config.allow_other_base)
    left_out = sorted(set(matched) - set(_selected(find_mixers(model), config.layers)))
    if left_out:
        raise ConfigError(f"expected layers to include all those of {config.init}, but they leave out {left_out}")
    return {name: effective_state(raw, scale) / config.alpha for name, raw in matched.items()}


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


# PEFT offers no call for these; a model without states passes through them as before.
BaseTuner.inject_adapter = _minding_states(BaseTuner.inject_adapter)
PeftModel.save_pretrained = _saving_whole_states(PeftModel.save_pretrained)
PeftModel.__init__ = _keeping_float32(PeftModel.__init__)
PeftModel.add_adapter = _keeping_float32(PeftModel.add_adapter)
PeftModel.load_adapter = _refusing_a_config_alone(_keeping_float32(_checking_states(PeftModel.load_adapter)))
PeftModel.from_pretrained = classmethod(_refusing_a_config_alone(PeftModel.from_pretrained.__func__))
PeftModel.generate = _refusing_pads(PeftModel.generate)
PeftModelForCausalLM.generate = _refusing_pads(PeftModelForCausalLM.generate)
PeftModel._upload_modified_files = _uploading_the_card(PeftModel._upload_modified_files)
register_peft_method(name="s0", config_cls=S0AdapterConfig, model_cls=S0Model, prefix="s0_state")
