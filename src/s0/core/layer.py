"""What PEFT asks of a layer that is put around a module of the model, and has nothing to do with the method."""

from __future__ import annotations

from abc import abstractmethod

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from s0.core.raw_states import RawStates
from s0.core.sharding import refuse_rounded
from s0.errors import ConfigError


class TunedLayer(nn.Module, BaseTunerLayer):
    """A layer around a module, with adapters that are no weights of it: around a mixer, or around a norm."""

    active_adapters: list[str]
    _active_adapter: str | list[str]

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.base_layer = module
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    @property
    @abstractmethod
    def raw(self) -> RawStates:
        """What is learned here, by adapter; zero changes nothing."""

    @abstractmethod
    def zero(self) -> Tensor:
        """A new such tensor, float32, of zeros."""

    def raw_of(self, name: str) -> Tensor:
        """What adapter `name` has learned here, in float32 again where a trainer has rounded it."""
        raw = self.raw(name)
        if raw.dtype != torch.float32:  # TRL rounds what it trains on quantised models
            refuse_rounded(raw.dtype)
            raw.data = raw.data.float()
        tensor: Tensor = raw
        return tensor

    def add_raw(self, name: str, initial: Tensor | None = None) -> None:
        """Add a trainable tensor for adapter `name`, zero or a copy of `initial`."""
        raw = self.zero()
        if initial is not None:
            raw.copy_(initial)
        # PEFT's low_cpu_mem_usage makes `raw` a meta tensor here, to be filled from a file.
        self.raw[name] = nn.Parameter(raw if raw.is_meta else raw.to(self.state_device()))

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: there is nothing to merge into."""
        raise ConfigError(
            "an initial state is not a weight, so it cannot be merged into the model's weights, and it costs nothing "
            "at inference as it is; save the adapter, or `s0 export` it for a serving engine; to merge other adapters, "
            "unload() the state first"
        )

    unmerge = merge

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """The module without adapters: PEFT calls this where another method's wrapper goes, with all inside it."""
        if merge:
            self.merge()
        for name, module in reversed(list(self.base_layer.named_modules())):
            if isinstance(module, BaseTunerLayer):
                self.base_layer.set_submodule(name, module.get_base_layer())
        return self.base_layer

    def state_device(self) -> torch.device:
        """Where what is learned is: beside the module's weights."""
        device = next(self.base_layer.parameters()).device
        return torch.device("cpu") if device.type == "meta" else device  # offloaded weights are elsewhere


def tuned_layers(model: nn.Module) -> list[TunedLayer]:
    """Every layer that this library has put around a module of `model`."""
    return [module for module in model.modules() if isinstance(module, TunedLayer)]
