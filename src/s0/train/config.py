"""`S0Config`: the settings of S0 tuning, with the published package's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s0.adapter.config import S0AdapterConfig
from s0.errors import ConfigError
from s0.train.fit import FitSettings, require_whole


@dataclass
class S0Config:
    """Settings of S0 tuning; the first seven are the published ones.

    What cannot work is refused (ConfigError) when it is made, and where it is used if it was set later. Once a trainer
    has a state, `alpha`, `normalize` and `variant` of its config stay: the state's scale is `S0Trainer.alpha`.

    Attributes:
        n_steps: optimiser steps, each over all examples.
        lr: Adam's learning rate.
        l2_lambda: weight of the states' summed squares in the loss.
        alpha: scale of the state at deployment; None for the published value of the model's family; "auto" to choose it
            after training, by what `S0Trainer.train` is given to choose on.
        normalize: divide each layer's state by its norm before scaling.
        grad_clip: largest gradient norm.
        max_length: longest accepted training row, in tokens; longer ones are refused.
        layers: indices of the layers to tune; None for every recurrent layer.
        batch_tokens: size of a micro-batch, rows x longest row; changes memory and speed, not the result.
        gradient_checkpointing: less memory for about a third more time.
        scale_in_training: train at the deployed scale (the paper's Algorithm 1), not at 1 (the published code).
        patience: stop when the loss on the select examples has not improved for so many steps, and keep the best step's
            state; None trains all steps.
        variant: "state", or "offset": what is learned is not where sequences start but what every step reads beside
            its state, at a cost per step (see `s0.core.offset`); no scale is published for it, so None for alpha is 1.
    """

    n_steps: int = 20
    lr: float = 1e-3
    l2_lambda: float = 5e-4
    alpha: float | str | None = None
    normalize: bool = False
    grad_clip: float = 1.0
    max_length: int = 2048
    layers: list[int] | None = None
    batch_tokens: int = 1024
    gradient_checkpointing: bool = False
    scale_in_training: bool = False
    patience: int | None = None
    variant: str = "state"
    _is_of_a_state = False  # not annotated, so no field: a copy made by `dataclasses.replace` can be set again

    def __post_init__(self) -> None:
        self.fit_settings()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_of_a_state and name in ("alpha", "normalize", "variant"):
            raise ConfigError(
                f"expected `{name}` to stay as the state was trained or loaded with, got {value!r:.40}; deploy the "
                "state at another scale with trainer.set_scale(x), or set trainer.config = "
                f"dataclasses.replace(trainer.config, {name}=...) and train again"
            )
        super().__setattr__(name, value)

    def settle(self) -> None:
        """Refuse other values for what a state's scale is made of, from now on: a trainer has a state by it."""
        self._is_of_a_state = True

    def fit_settings(self) -> FitSettings:
        """The part of the settings that `fit` takes, after checking all of them: they may have been set since.

        Raises:
            ConfigError: a setting that cannot work; says which.
        """
        require_whole("max_length", self.max_length, 2)
        require_whole("batch_tokens", self.batch_tokens, 1)
        if isinstance(self.alpha, str) and self.alpha != "auto":
            raise ConfigError(f"expected `alpha` to be a number, None or 'auto', got {self.alpha!r}")
        if self.alpha == "auto" and self.scale_in_training:
            raise ConfigError(
                "expected a number or nothing for `alpha` with `scale_in_training=True`, got 'auto': training at the "
                "deployed scale needs it before training, and 'auto' chooses it afterwards; leave one of them out"
            )
        alpha = 1.0 if self.alpha is None or isinstance(self.alpha, str) else self.alpha
        S0AdapterConfig(variant=self.variant, alpha=alpha, normalize=self.normalize, layers=self.layers)  # checks them
        names = FitSettings.__dataclass_fields__
        return FitSettings(**{name: getattr(self, name) for name in names})
