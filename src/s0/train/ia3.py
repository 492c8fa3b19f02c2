"""IA3 (Liu et al. 2022, arXiv 2205.05638): learned factors of keys, values, and what feedforward layers end with.

It is PEFT's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import IA3Config, PeftConfig
from peft.tuners.ia3 import IA3Layer
from torch import nn

from s0.train.baselines import BaselineSettings
from s0.train.placement import as_names, linear_modules, target_layers


@dataclass(frozen=True, kw_only=True)
class Ia3Tuning(BaselineSettings):
    """Settings of IA3. Nothing about it is random, whatever `seed` says.

    Attributes:
        targets: which outputs get factors, as `LoraTuning.targets`.
        feedforward: endings of the full names of the linear layers whose inputs get factors.
    """

    layer_kinds = (IA3Layer,)

    lr: float = 1e-2
    targets: tuple[str, ...] = ("k_proj", "v_proj")
    feedforward: tuple[str, ...] = ("down_proj",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", as_names(self.targets))
        object.__setattr__(self, "feedforward", as_names(self.feedforward))

    def adapter(self, model: nn.Module) -> PeftConfig:
        """These settings in PEFT's words.

        Returns:
            PEFT's config of an adapter with these settings on `model`.

        Raises:
            UnsupportedModelError: the model lacks a target.
        """
        endings = tuple(f".{ending}" for ending in self.feedforward)
        inputs = [name for name in linear_modules(model) if f".{name}".endswith(endings)]
        return IA3Config(
            task_type="CAUSAL_LM",
            target_modules=[*target_layers(model, self.targets), *inputs],
            feedforward_modules=inputs,
        )

    def describe(self, config: Any, n_layers: int) -> str:
        """The adapter in a few words: how many linear layers it is in."""
        return f"IA3 of {n_layers} linear layers" if config else "IA3"
