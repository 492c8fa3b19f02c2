"""Baselines: the settings of LoRA and prefix tuning, and which adapters they are on a model.

LoRA (Hu et al. 2021, arXiv:2106.09685) adds (alpha / rank) B A to the weights of linear layers, with A random and B
zero at first. Prefix tuning (Li and Liang 2021, arXiv:2101.00190) shows every attention layer the keys and values of a
few virtual tokens in front of the text; with a projection these come from a small MLP while they are learned, and are
plain tensors afterwards. Both are PEFT's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import _prepare_prompt_learning_config
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from s0.adapter import checks
from s0.core.releases import cache_name
from s0.errors import ConfigError, UnsupportedModelError
from s0.train.placement import as_names, target_layers
from s0.train.settings import TuningSettings, require_whole


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(TuningSettings, ABC):
    """Settings of a baseline that is an adapter of PEFT's: what a class for each adds.

    Attributes:
        seed: of the adapter's first values.
        layer_kinds: the kinds of layers that PEFT puts around the model's own; none of a prefix.
    """

    layer_kinds: ClassVar[tuple[type[BaseTunerLayer], ...]] = ()

    seed: int = 0

    def __post_init__(self) -> None:
        require_whole("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise ConfigError(f"expected `seed` below 2**63, got {self.seed}; take a smaller one")
        super().__post_init__()

    @abstractmethod
    def adapter(self, model: nn.Module) -> PeftConfig:
        """PEFT's config of an adapter with these settings on `model`.

        Raises:
            UnsupportedModelError: the model has no place for it.
            ConfigError: a setting that does not fit this model.
        """

    @abstractmethod
    def describe(self, config: Any, n_layers: int) -> str:
        """A few words on an adapter with this config around so many of the model's layers; of none, without either."""


@dataclass(frozen=True, kw_only=True)
class LoraTuning(BaselineSettings):
    """Settings of LoRA, without dropout; the defaults are those of the published comparison (Young 2026, Qwen3.5).

    Attributes:
        rank: of every update.
        alpha: the update is alpha / rank times B A; None for 2 x rank.
        targets: names of linear layers inside attention layers; a name with a dot (`mamba.in_proj`) is the ending of a
            full module name and reaches layers anywhere. Or "attention", "recurrent" or "all-linear", for the linear
            layers inside attention layers, inside recurrent mixers, or all but the head (see `s0.train.placement`).
    """

    layer_kinds = (LoraLayer,)

    rank: int = 24
    alpha: float | None = None
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("rank", self.rank, 1)
        if self.alpha is not None and (not checks.is_finite_number(self.alpha) or self.alpha <= 0):
            raise ConfigError(f"expected `alpha` to be a finite number above 0, or None, got {self.alpha!r}")
        object.__setattr__(self, "targets", as_names(self.targets))

    def adapter(self, model: nn.Module) -> PeftConfig:
        """These settings in PEFT's words.

        Returns:
            PEFT's config of an adapter with these settings on `model`.

        Raises:
            UnsupportedModelError: the model lacks a target.
            ConfigError: the rank is above the widest layer's.
        """
        layers = target_layers(model, self.targets)
        widest = max(max(layer.in_features, layer.out_features) for layer in layers.values())
        if self.rank > widest:
            raise ConfigError(f"expected `rank` of at most {widest}, the widest layer's, got {self.rank}; lower it")
        names = list(layers)
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        return LoraConfig(task_type="CAUSAL_LM", r=self.rank, lora_alpha=alpha, target_modules=names)

    def describe(self, config: Any, n_layers: int) -> str:
        """The adapter in a few words: its size, where its config is known, and in how many linear layers it is."""
        where = f" of {n_layers} linear layers, rank={config.r}, alpha={config.lora_alpha:.4g}" if config else ""
        return f"LoRA{where}"


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(BaselineSettings):
    """Settings of prefix tuning; tokens and projection are those of the published control (Young 2026, Qwen2.5).

    Attributes:
        virtual_tokens: length of the prefix.
        projection: learn the prefix through a small MLP, which is dropped afterwards.
    """

    lr: float = 1e-3
    virtual_tokens: int = 30
    projection: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("virtual_tokens", self.virtual_tokens, 1)
        if self.gradient_checkpointing:
            raise ConfigError(
                "expected `gradient_checkpointing=False` for prefix tuning: transformers gives layers that recompute "
                "their activations no cache, and a prefix is one; lower `batch_tokens` to save memory"
            )

    def adapter(self, model: nn.Module) -> PeftConfig:
        """These settings in PEFT's words.

        Returns:
            PEFT's config of an adapter with these settings on `model`.

        Raises:
            UnsupportedModelError: the model has other layers than attention to all tokens.
        """
        config = PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=self.virtual_tokens, prefix_projection=self.projection
        )
        return _fitted(config, model)

    def describe(self, config: Any, n_layers: int) -> str:
        """The prefix in a few words: its tokens and layers, where its config is known. It is in no linear layers."""
        where = f" of {config.num_virtual_tokens} tokens in {config.num_layers} layers" if config else ""
        return f"prefix{where}"


SHARED = frozenset(field.name for field in fields(BaselineSettings))
"""Settings that say how to train, not what the adapter is."""


_NO_PREFIX = {
    "LinearAttention": "the cache that PEFT fills with a prefix has no place for the states of its recurrent layers",
    "Sliding": "its attention windows count the pads between a prefix and a prompt, so that a row of a padded batch "
    "would see less of the prefix than the prompt alone",
}
"""Why a prefix cannot be exact beside a kind of cache layer."""


@torch.no_grad()
def _fitted(config: PeftConfig, model: Any) -> PeftConfig:
    """A prefix's config with the form of the cache, as PEFT guesses it, checked against the model's own cache."""
    cache: Any = DynamicCache(config=model.config)
    kinds = {type(layer).__name__ for layer in cache.layers}
    reason = next((why for kind, why in _NO_PREFIX.items() if any(kind in name for name in kinds)), None)
    if reason is None and kinds != {DynamicLayer.__name__}:
        reason = f"its cache has layers of the kinds {sorted(kinds)}, which PEFT does not fill"
    if reason is None:
        config = _prepare_prompt_learning_config(config, model.config)
        guess = (config.num_attention_heads, config.token_dim // config.num_attention_heads)
        inputs: dict[str, Any] = {str(cache_name(model.forward)): cache}
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True, **inputs)
        filled = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        forms = {None if tensor is None else (tensor.shape[1], tensor.shape[3]) for tensor in filled}
        if forms == {guess} and len(cache.layers) == config.num_layers:
            return config
        reason = f"PEFT takes its {len(cache.layers)} layers' keys and values for {guess} heads and dims, not {forms}"
    raise UnsupportedModelError(
        f"expected a Transformer that prefix tuning is exact on, got {type(model).__name__}: {reason}; use LoRA instead"
    )


def rank_matching(model: nn.Module, n_parameters: int, targets: Sequence[str] = LoraTuning.targets) -> int:
    """The LoRA rank whose parameter count comes closest to `n_parameters`, at least 1.

    Args:
        model: with or without states on it.
        n_parameters: to compare with, for example an S0Trainer's.
        targets: see `LoraTuning`.

    Returns:
        the rank.

    Raises:
        UnsupportedModelError: the model lacks a target.
        ConfigError: `n_parameters` is no whole number of at least 1.
    """
    require_whole("n_parameters", n_parameters, 1)
    each = sum(layer.in_features + layer.out_features for layer in target_layers(model, targets).values())
    return max(1, round(n_parameters / each))
