"""The methods: which settings and trainer a name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.errors import ConfigError
from s0.train.baseline_trainer import BaselineTrainer
from s0.train.baselines import LoraTuning, PrefixTuning
from s0.train.full import FullTuning
from s0.train.full_trainer import FullTrainer
from s0.train.gains import GainsTuning
from s0.train.ia3 import Ia3Tuning
from s0.train.settings import S0Config, TuningSettings
from s0.train.trainer import S0Trainer

Settings = S0Config | TuningSettings
Trainer = S0Trainer | BaselineTrainer | FullTrainer


@dataclass(frozen=True)
class Method:
    """What can be tuned.

    Attributes:
        settings: class of its settings.
        trainer: class of its trainer, made with a model, a tokenizer and settings.
        fixed: settings that make it this method, where others share the class.
    """

    settings: type[S0Config] | type[TuningSettings]
    trainer: type[S0Trainer] | type[BaselineTrainer] | type[FullTrainer]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_scale(self) -> bool:
        """Whether what is learned is deployed at a scale that can be chosen."""
        return issubclass(self.trainer, S0Trainer)

    def is_of(self, settings: Settings) -> bool:
        """Whether these are settings of this method."""
        fixed = all(getattr(settings, name, None) == value for name, value in self.fixed.items())
        return isinstance(settings, self.settings) and fixed

    def configure(self, **settings: Any) -> Settings:
        """Settings of this method.

        Returns:
            these settings, and the method's defaults for all others.

        Raises:
            ConfigError: a setting that cannot work; says which.
        """
        return self.settings(**self.fixed, **settings)


METHODS: dict[str, Method] = {
    "s0": Method(S0Config, S0Trainer, {"kind": "state", "gains": False}),
    "s0+gains": Method(S0Config, S0Trainer, {"kind": "state", "gains": True}),
    "offset": Method(S0Config, S0Trainer, {"kind": "offset"}),
    "lora": Method(LoraTuning, BaselineTrainer),
    "prefix": Method(PrefixTuning, BaselineTrainer),
    "gains": Method(GainsTuning, BaselineTrainer),
    "ia3": Method(Ia3Tuning, BaselineTrainer),
    "full": Method(FullTuning, FullTrainer),
}


def method_of(settings: Settings) -> str:
    """The name, in `METHODS`, of the method that these settings are of: of several, the closest.

    Raises:
        ConfigError: they are of none.
    """
    ancestors = type(settings).__mro__
    distances = {
        name: (ancestors.index(method.settings), -len(method.fixed))
        for name, method in METHODS.items()
        if method.is_of(settings)
    }
    if not distances:
        raise ConfigError(
            f"expected settings of one of the methods {', '.join(METHODS)}, got {settings!r:.80}; make them with "
            "METHODS[name].configure(...), or add a method (docs/add-a-method.md)"
        )
    return min(distances, key=lambda name: distances[name])


def make_trainer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> Trainer:
    """A trainer for these settings.

    Args:
        model: to put it on.
        tokenizer: the model's.
        settings: of any method.

    Returns:
        the trainer, untrained and switched off.

    Raises:
        UnsupportedModelError, ConfigError: as the trainer's class; settings of no method.
    """
    trainer: Any = METHODS[method_of(settings)].trainer
    attached: Trainer = trainer(model, tokenizer, settings)
    return attached
