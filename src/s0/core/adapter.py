"""S0 as a PEFT method: importing this module registers it, and PEFT's whole interface works with it.

model = get_peft_model(model, S0AdapterConfig(alpha=0.5))
model.save_pretrained("my-state");  PeftModel.from_pretrained(base, "my-state")
model(**batch, adapter_names=["task-a", "__base__", "task-b"])       # one state per row
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import PeftType, register_peft_method
from torch import Tensor, nn

from s0.core import store
from s0.core.families import find_mixers, layer_index, plain_name, recurrence_of
from s0.core.fingerprint import check_base, fingerprint
from s0.core.states import (
    BASE,
    RowChoice,
    RowsUnderCheckpointing,
    StateLayer,
    effective_state,
    rows_choose,
    state_layers,
)
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


@dataclass
class S0AdapterConfig(PeftConfig):
    """Settings of one state.

    Attributes:
        alpha: scale of the effective state, applied in training and inference alike.
        normalize: divide each layer's state by its norm first.
        layers: indices of the layers to tune; None for every recurrent layer.
        init: "zeros", or the folder of a state to start from.
        allow_other_base: accept a state that was tuned on other weights of the same shape.
        target_modules: set by this library to the names of the tuned layers.
        format_version, family, state_shapes, fingerprint, checksum, training: see `s0.core.store`.
    """

    alpha: float = 1.0
    normalize: bool = False
    layers: list[int] | None = None
    init: str = "zeros"
    allow_other_base: bool = False
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    format_version: int = store.FORMAT_VERSION
    family: str | None = None
    state_shapes: dict[str, list[int]] | None = None
    fingerprint: str | None = None
    checksum: str | None = None
    training: dict[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = _S0
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float)) or not math.isfinite(self.alpha):
            raise ConfigError(f"expected alpha to be a finite number, got {self.alpha!r}")
        if self.layers is not None and (not self.layers or len(set(self.layers)) != len(self.layers)):
            raise ConfigError(f"expected layers to be distinct layer indices, got {self.layers!r}; None tunes them all")

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write the config; where PEFT has just written the tensors beside it, with their checksum."""
        described = copy.copy(self)
        if (Path(save_directory) / store.STATE_FILE).is_file():
            described.checksum = store.checksum_of_file(save_directory)
        super(S0AdapterConfig, described).save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> S0AdapterConfig:
        """Read a config, after checking the whole state beside it.

        Raises:
            StateMismatchError: as `s0.core.store.read`.
        """
        where = Path(pretrained_model_name_or_path) / subfolder if subfolder else pretrained_model_name_or_path
        store.read(where)
        config: S0AdapterConfig = super().from_pretrained(pretrained_model_name_or_path, subfolder, **kwargs)
        # The checksum speaks of the file, not of what training may make of it; trust in another base is the
        # caller's to give, not the file's; and the start of a finished training is history.
        config.checksum, config.allow_other_base, config.init = None, False, "zeros"
        return config


class S0Model(BaseTuner):
    """Wraps a model's recurrent mixers in `StateLayer`s. PEFT makes one; it is not called directly."""

    prefix = "s0_state"
    tuner_layer_cls = StateLayer
    target_module_mapping: Mapping[str, list[str]] = {}

    def _prepare_adapter_config(self, peft_config: S0AdapterConfig, model_config: dict[str, Any]) -> S0AdapterConfig:
        # Everything that can be refused is refused here, before the model is touched.
        mixers = _selected(find_mixers(self.model), peft_config.layers)
        shapes = {name: list(recurrence_of(mixer).state_shape(mixer)) for name, mixer in mixers.items()}
        if peft_config.state_shapes is not None and peft_config.state_shapes != shapes:
            raise StateMismatchError(
                f"expected a state for the layers {shapes} of {type(self.model).__name__}, got one for "
                f"{peft_config.state_shapes}; it was tuned on another model"
            )
        if peft_config.fingerprint is not None and not peft_config.allow_other_base:
            check_base(peft_config.fingerprint, self.model)
        peft_config.state_shapes = shapes
        peft_config.fingerprint = fingerprint(self.model)
        peft_config.family = recurrence_of(next(iter(mixers.values()))).name
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
        layer = target if isinstance(target, StateLayer) else StateLayer(target)
        if layer is not target:
            layer.train(target.training)
            self._replace_module(parent, target_name, layer, target)
        layer.add_state(adapter_name, peft_config, self._initial.get(plain_name(current_key)))
        BaseTunerLayer.set_adapter(layer, layer.active_adapters, inference_mode=peft_config.inference_mode)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        if adapter_name == BASE:
            raise ConfigError(f"expected an adapter name other than {BASE}, which means the untouched model")

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
        with rows_choose(RowChoice(tuple(adapter_names), frozenset(map(id, state_layers(self.model))))):
            yield

    def _remember_rows_under_checkpointing(self) -> None:
        for module in self.model.modules():
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            if checkpoint is not None and not isinstance(checkpoint, RowsUnderCheckpointing):
                module._gradient_checkpointing_func = RowsUnderCheckpointing(checkpoint)

    def add_weighted_adapter(self, adapters: Sequence[str], weights: Sequence[float], adapter_name: str) -> None:
        """Add an adapter whose effective state is the weighted sum of those of `adapters`.

        Raises:
            ConfigError: no adapters, unknown ones, a taken name, or not one finite weight per adapter.
        """
        unknown = sorted(set(adapters) - set(self.peft_config))
        if unknown or not adapters or len(adapters) != len(weights) or not all(map(math.isfinite, weights)):
            raise ConfigError(
                f"expected one finite weight for each of some adapters among {sorted(self.peft_config)}, got "
                f"{list(adapters)} with weights {list(weights)}"
            )
        if adapter_name in (BASE, *self.peft_config):
            raise ConfigError(f"expected a new adapter name, got {adapter_name!r}, which exists")
        covered = [layer for layer in state_layers(self.model) if any(name in layer.s0_state for name in adapters)]
        combined = {
            id(layer): sum((w * layer.effective(name) for w, name in zip(weights, adapters, strict=True)), 0.0)
            for layer in covered
        }
        self.peft_config[adapter_name] = S0AdapterConfig(
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
        tensors = {store.layer_name(key): tensor for key, tensor in state_dict.items()}
        store.check_tensors(tensors, config.state_shapes or {}, f"the tensors for adapter {adapter_name!r}")
        remapped: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(
            model=model, config=config, adapter_name=adapter_name, state_dict=state_dict
        )
        return remapped


def initial_state(config: S0AdapterConfig, model: nn.Module) -> dict[str, Tensor]:
    """The tensors that `config.init` names, by layer name; empty for zeros.

    A stored state enters with its own scale folded in, so that training starts where that state would have been
    deployed: raw = effective / alpha of the new config.
    """
    if config.init == "zeros":
        return {}
    stored = store.read(config.init)
    if config.normalize or config.alpha == 0:
        raise ConfigError("expected a non-zero alpha and normalize=False with a state to start from; set them after")
    if stored.alpha is None:
        raise ConfigError(f"expected {config.init} to say its alpha; export it with one first")
    scale = S0AdapterConfig(alpha=stored.alpha, normalize=stored.normalize)
    matched = store.match(stored, model, allow_other_base=config.allow_other_base)
    return {name: effective_state(raw, scale) / config.alpha for name, raw in matched.items()}


def _selected(mixers: dict[str, nn.Module], layers: Sequence[int] | None) -> dict[str, nn.Module]:
    if layers is None:
        return mixers
    recurrent = {layer_index(mixer): name for name, mixer in mixers.items()}
    unknown = sorted(set(layers) - set(recurrent))
    if unknown:
        raise ConfigError(f"expected layers among the recurrent ones {sorted(recurrent)}, got {unknown}")
    return {recurrent[index]: mixers[recurrent[index]] for index in sorted(layers)}


register_peft_method(name="s0", config_cls=S0AdapterConfig, model_cls=S0Model, prefix="s0_state")
