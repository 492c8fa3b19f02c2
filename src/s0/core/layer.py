"""What PEFT asks of a layer that is put around a mixer, and has nothing to do with the method."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from s0.errors import ConfigError


class MixerLayer(nn.Module, BaseTunerLayer):
    """A layer around a recurrent mixer, with adapters that are no weights."""

    active_adapters: list[str]
    _active_adapter: str | list[str]

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.base_layer = mixer
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

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
        """The mixer without adapters: PEFT calls this where another method's wrapper is unloaded with all inside it."""
        if merge:
            self.merge()
        for name, module in reversed(list(self.base_layer.named_modules())):
            if isinstance(module, BaseTunerLayer):
                self.base_layer.set_submodule(name, module.get_base_layer())
        return self.base_layer

    def state_device(self) -> torch.device:
        """Where its states are: beside the mixer's weights."""
        device = next(self.base_layer.parameters()).device
        return torch.device("cpu") if device.type == "meta" else device  # offloaded weights are elsewhere
