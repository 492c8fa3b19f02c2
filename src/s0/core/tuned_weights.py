"""Weights that have two sets of values, the untouched and the tuned ones, of which a model computes with one.

The values that are not in use wait beside the model. To switch is to exchange the two, so nothing is computed or
rounded, and what comes back is what went, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from s0.core.families import unwrapped
from s0.errors import ConfigError

_ATTRIBUTE = "s0_tuned_weights"


class TunedWeight:
    """A weight of a model with a second set of values.

    Attributes:
        is_on: whether the model computes with the tuned values.
    """

    def __init__(self, parameter: nn.Parameter, tuned: Tensor) -> None:
        """Keep tuned values beside the untouched ones, which the model goes on with.

        Args:
            parameter: the weight, as the model has it.
            tuned: of its shape; held, not copied.
        """
        self._parameter, self._waiting, self.is_on = parameter, tuned, False

    @property
    def tuned(self) -> Tensor:
        """The tuned values, not copied."""
        return self._parameter.detach() if self.is_on else self._waiting

    @property
    def untouched(self) -> Tensor:
        """The model's own values, not copied."""
        return self._waiting if self.is_on else self._parameter.detach()

    def switch(self, on: bool) -> None:
        """Let the model compute with the tuned values, or with its own."""
        if on != self.is_on:
            values = self._waiting.to(self._parameter.device, self._parameter.dtype)  # the model may have moved
            self._waiting, self._parameter.data, self.is_on = self._parameter.data, values, on


class TunedWeights(dict[str, TunedWeight]):
    """By name, the weights of a model that have a second set of values; empty while there are no such values."""

    def switch(self, on: bool) -> None:
        """Let the model compute with the tuned values of all of them, or with its own."""
        for weight in self.values():
            weight.switch(on)

    @property
    def is_on(self) -> bool:
        """Whether the model computes with tuned values."""
        return any(weight.is_on for weight in self.values())


def hold(model: nn.Module, weights: TunedWeights) -> None:
    """Have `model` hold weights with a second set of values, in place of those it held."""
    vars(model)[_ATTRIBUTE] = weights


def let_go(model: nn.Module) -> None:
    """Have `model`, which computes with its own values, hold no others."""
    del vars(model)[_ATTRIBUTE]


def untouched_values(model: nn.Module) -> Mapping[str, Tensor]:
    """The model's own values of those weights for which it has others, by name, whichever it computes with."""
    return {name: weight.untouched for name, weight in (_held_by(model) or {}).items()}


def refuse_tuned_weights(model: nn.Module) -> None:
    """Refuse a model whose own weights somebody tunes, for what is put on it besides.

    Raises:
        ConfigError: it is one.
    """
    if _held_by(model) is not None:
        raise ConfigError(
            "expected a model whose own weights are not tuned, got one on which a trainer tunes them all (method full);"
            " detach() that trainer first, or save the tuned model by itself, model.save_pretrained(path), and load it"
        )


def _held_by(model: nn.Module) -> TunedWeights | None:
    """What a model, or the one within PEFT's wrapper, holds; None where nobody tunes its weights."""
    weights: TunedWeights | None = vars(unwrapped(model)).get(_ATTRIBUTE)
    return weights
