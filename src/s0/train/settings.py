"""Settings: of training by whatever method, and `S0Config`, those of S0 tuning with the published package's names.

`TuningSettings` are what all other methods can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from s0.adapter.checks import is_finite_number
from s0.adapter.config import S0AdapterConfig
from s0.adapter.names_on_disk import on_disk
from s0.core.low_rank import nearest_of_rank
from s0.errors import ConfigError


@dataclass(frozen=True)
class FitSettings:
    """How to train. The defaults are the published ones (Young 2026, arXiv:2604.01168).

    Attributes:
        n_steps: optimiser steps, each over all examples.
        lr: Adam's learning rate.
        l2_lambda: weight of the summed squares of the trained tensors in the loss.
        grad_clip: largest gradient norm.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        scale_in_training: train with the deployed scale (the paper's Algorithm 1) instead of 1 (the published code).
        patience: stop when the loss on the selection examples has not improved for so many steps, and keep the tensors
            of the best step; None trains all steps.
    """

    n_steps: int = 20
    lr: float = 1e-3
    l2_lambda: float = 5e-4
    grad_clip: float = 1.0
    gradient_checkpointing: bool = False
    scale_in_training: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        require_whole("n_steps", self.n_steps, 1)
        for name in ("lr", "grad_clip"):
            value = getattr(self, name)
            if not is_finite_number(value) or value <= 0:
                raise ConfigError(f"expected `{name}` to be a finite number above 0, got {value!r}")
        if not is_finite_number(self.l2_lambda) or self.l2_lambda < 0:
            raise ConfigError(f"expected `l2_lambda` to be a finite number of at least 0, got {self.l2_lambda!r}")
        if self.patience is not None:
            require_whole("patience", self.patience, 1, "None or ")
        for name in ("gradient_checkpointing", "scale_in_training"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"expected `{name}` to be True or False, got {getattr(self, name)!r}")

    def project(self, tensors: Sequence[Tensor]) -> None:
        """End a step: bring the trained tensors, in place, to where they have to be. Here they may be anywhere."""


@dataclass(frozen=True, kw_only=True)
class LowRankFitSettings(FitSettings):
    """How to train states of low rank: each step ends with the nearest ones (projected gradient descent).

    Adam's moments stay those of the whole matrices, so that a direction that was cut off can still win.

    Attributes:
        state_rank: of the matrix that each head has.
    """

    state_rank: int

    @torch.no_grad()
    def project(self, tensors: Sequence[Tensor]) -> None:
        """See `FitSettings`.

        Args:
            tensors: states (H, K, V), of which each head's matrix gets this rank; gains (D,), which stay. What is not
                finite stays, too: the next loss tells of it.
        """
        for tensor in tensors:
            is_state = tensor.ndim == 3
            if is_state and tensor.isfinite().all():
                tensor.copy_(nearest_of_rank(tensor, self.state_rank))


def require_whole(name: str, value: object, lowest: int, otherwise: str = "") -> None:
    """Check a setting that counts something.

    Args:
        name: the setting's.
        value: what it is set to.
        lowest: the smallest number that can work.
        otherwise: what else it may be, for the message.

    Raises:
        ConfigError: it is no whole number, or below `lowest`.
    """
    if type(value) is not int or value < lowest:
        raise ConfigError(f"expected `{name}` to be {otherwise}a whole number of at least {lowest}, got {value!r}")


def fit_settings_of(settings: Any) -> FitSettings:
    """The part of a method's settings that `fit` takes.

    Returns:
        that part, checked.

    Raises:
        ConfigError: it cannot work, or the sizes of rows and micro-batches cannot; says which.
    """
    require_whole("max_length", settings.max_length, 2)
    require_whole("batch_tokens", settings.batch_tokens, 1)
    names = FitSettings.__dataclass_fields__
    return FitSettings(**{name: value for name, value in vars(settings).items() if name in names})


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Settings of a method beside S0: what all of them can be told.

    Attributes:
        n_steps, lr, l2_lambda, grad_clip, gradient_checkpointing, patience: see `FitSettings`.
        max_length, batch_tokens: see `S0Config`.
    """

    n_steps: int = 50
    lr: float = 5e-4
    l2_lambda: float = 0.0
    grad_clip: float = 1.0
    max_length: int = 2048
    batch_tokens: int = 1024
    gradient_checkpointing: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        self.fit_settings()

    def fit_settings(self) -> FitSettings:
        """The part of the settings that `fit` takes.

        Raises:
            ConfigError: a setting that cannot work; says which.
        """
        return fit_settings_of(self)


def recorded(settings: Any) -> dict[str, Any]:
    """A method's settings, a dataclass, as files tell of them (see `s0.adapter.names_on_disk`)."""
    return on_disk(asdict(settings))


@dataclass
class S0Config:
    """Settings of S0 tuning; the first seven are the published ones.

    What cannot work is refused (ConfigError) when it is made, and where it is used if it was set later. Once a trainer
    has a state, `alpha`, `normalize`, `kind` and `gains` of its config stay: the state's scale is `S0Trainer.alpha`.

    Attributes:
        n_steps, lr, l2_lambda, grad_clip, gradient_checkpointing, scale_in_training, patience: see `FitSettings`.
        alpha: scale of the state at deployment; None for the value published for the model's recurrence; "auto" to
            choose it after training, by what `S0Trainer.train` is given to choose on.
        normalize: divide each layer's state by its norm before scaling.
        max_length: longest accepted training row, in tokens; longer ones are refused.
        layers: indices of the layers to tune; None for every recurrent layer.
        batch_tokens: size of a micro-batch, rows x longest row, in tokens; changes memory and speed, not the result.
        kind: "state", or "offset": what is learned is not where sequences start but what every step reads beside
            its state, at a cost per step (see `s0.core.offset`); no scale is published for it, so None for alpha is 1.
        gains: learn a factor for each number that the model's norms give, too (see `s0.core.gains`): at no scale.
        state_rank: of each head's matrix, in a state or an offset, after every step (see `LowRankFitSettings`): fewer
            numbers to learn from few examples. None for any; at most the smaller of the matrix's sides.
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
    kind: str = "state"
    gains: bool = False
    state_rank: int | None = None
    _is_of_a_state = False  # not annotated, so no field: a copy made by `dataclasses.replace` can be set again

    def __post_init__(self) -> None:
        self.fit_settings()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_of_a_state and name in ("alpha", "normalize", "kind", "gains"):
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

        Returns:
            that part.

        Raises:
            ConfigError: a setting that cannot work; says which.
        """
        fit_settings = fit_settings_of(self)
        if isinstance(self.alpha, str) and self.alpha != "auto":
            raise ConfigError(f"expected `alpha` to be a number, None or 'auto', got {self.alpha!r}")
        if self.alpha == "auto" and self.scale_in_training:
            raise ConfigError(
                "expected a number or nothing for `alpha` with `scale_in_training=True`, got 'auto': training at the "
                "deployed scale needs it before training, and 'auto' chooses it afterwards; leave one of them out"
            )
        alpha = 1.0 if self.alpha is None or isinstance(self.alpha, str) else self.alpha
        # checks them
        S0AdapterConfig(kind=self.kind, alpha=alpha, normalize=self.normalize, layers=self.layers, gains=self.gains)
        if self.state_rank is None:
            return fit_settings
        require_whole("state_rank", self.state_rank, 1, "None or ")
        return LowRankFitSettings(**vars(fit_settings), state_rank=self.state_rank)
