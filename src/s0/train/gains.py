"""Learned gains of a model's RMSNorms (Zhao et al. 2023, arXiv 2312.11420), by PEFT's LN tuning.

A gain is what a norm multiplies each number by: its weight, or 1 + weight. Merged into the model it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import LNTuningConfig, PeftConfig
from peft.tuners.ln_tuning.layer import LNTuningLayer
from torch import nn

from s0.core.norms import find_norms
from s0.errors import ConfigError
from s0.train.baselines import BaselineSettings


@dataclass(frozen=True, kw_only=True)
class GainsTuning(BaselineSettings):
    """Settings of learned gains: of all RMSNorms of the model. Nothing about them is random, whatever `seed` says."""

    layer_kinds = (LNTuningLayer,)

    n_steps: int = 20
    lr: float = 1e-2

    def adapter(self, model: nn.Module) -> PeftConfig:
        """These settings in PEFT's words.

        Returns:
            PEFT's config of an adapter with these settings on `model`.

        Raises:
            UnsupportedModelError: the model has no RMSNorm.
            ConfigError: its norms are not float32.
        """
        norms = find_norms(model)
        dtypes = {str(norm.get_parameter("weight").dtype) for norm in norms.values()} - {str(torch.float32)}
        if dtypes:
            raise ConfigError(
                f"expected RMSNorms in float32 to learn gains, got {', '.join(sorted(dtypes))}: PEFT's LN tuning keeps "
                "its copies of them in the model's dtype, which rounds small steps away; load the model in float32 "
                "(--dtype float32)"
            )
        return LNTuningConfig(task_type="CAUSAL_LM", target_modules=list(norms))

    def describe(self, config: Any, n_layers: int) -> str:
        """The adapter in a few words: how many norms it is in."""
        return f"gains of {n_layers} norms" if config else "gains"
