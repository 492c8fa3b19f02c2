"""The model under check, and what it means that two ways of running it come to the same.

An equality proves nothing where the state has no effect. So every comparison also measures by how much the untouched
model differs at the compared positions, and says nothing unless that is over `MARGIN` times its tolerance everywhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from s0.adapter.config import S0AdapterConfig
from s0.core.layer import TunedLayer
from s0.core.states import BASE, StateLayer, state_layers
from s0.errors import ConfigError
from s0.verify.running import fill, gradients, logits

MARGIN = 100.0
TOLERANCE = 1e-4
"""How far two results may differ: logits by this share of the largest one or of 1, gradients by this share of the
largest entry. Rounding stays below 2e-5."""
ONE, TWO = "s0-verify-one", "s0-verify-two"
SEEDS = {ONE: 10, TWO: 11}
ALPHA = 0.5
"""The scale of both states, so that a scale that is lost or applied twice shows."""
SIZE = 2.0
SMALL = 200_000_000
"""Up to so many parameters a model may be copied, in float64 too."""

Run = Callable[[], Tensor]


class NotApplicable(Exception):
    """The check has no meaning for this model; says why."""


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        error: the largest difference, in the unit of `tolerance`; NaN where something is not finite.
        tolerance: the largest error that holds.
        shows: how large it would be, at the compared position where that is smallest, without the state.
        is_of_tokens: whether it counts tokens that differ, which is no measure of how far they are off.
    """

    error: float
    tolerance: float
    shows: float = math.inf
    is_of_tokens: bool = False

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    @property
    def says_something(self) -> bool:
        """Whether a lost state would have shown."""
        return self.shows > MARGIN * self.tolerance


def recorded(value: Tensor) -> Tensor:
    """What a way of running gave before."""
    return value


class Subject:
    """A model with two random states on it, `ONE`, which is active, and `TWO`.

    Within `untouched()`, `model` is the model without any of this library's modules and comparisons do not ask
    whether the state shows: so the same check tells whether the untouched model holds it.
    """

    def __init__(self, base: nn.Module, allowed: Tensor) -> None:
        self.base: Any = base
        self.allowed = allowed  # (n,) token ids that mean nothing special
        self.tuned: PeftModel = get_peft_model(base, S0AdapterConfig(alpha=ALPHA), ONE)
        self.tuned.add_adapter(TWO, S0AdapterConfig(alpha=ALPHA))
        self.is_untouched = False
        self.start_afresh()

    @property
    def model(self) -> Any:
        """What a check runs."""
        return self.base if self.is_untouched else self.tuned

    @property
    def device(self) -> torch.device:
        """Where its tokens go."""
        device: torch.device = self.base.get_input_embeddings().weight.device
        return torch.device("cpu") if device.type == "meta" else device  # accelerate has put the weights elsewhere

    @property
    def layers(self) -> list[StateLayer]:
        """Its state layers, in layer order."""
        return list(state_layers(self.tuned))

    def start_afresh(self) -> None:
        """Put everything back that a check may have changed or left behind."""
        for name in set(self.tuned.peft_config) - {ONE, TWO}:
            self.tuned.delete_adapter(name)
        for name, seed in SEEDS.items():
            self.tuned.peft_config[name].alpha = ALPHA
            fill(self.tuned, name, seed=seed, size=SIZE)
        self.tuned.set_adapter(ONE)
        self.tuned.zero_grad()
        self.tuned.eval()

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within this context, `model` is the model as it was before this library touched it."""
        places = [
            (name, layer)
            for name, layer in self.base.named_modules(remove_duplicate=False)
            if isinstance(layer, TunedLayer)
        ]
        before, self.is_untouched = self.is_untouched, True
        for name, layer in reversed(places):  # norms before the mixers that they are in
            self.base.set_submodule(name, layer.base_layer)
        try:
            yield
        finally:
            self.is_untouched = before
            for name, layer in places:
                self.base.set_submodule(name, layer)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Within this context, the whole model is set to state `name`, or to none for `BASE`."""
        if name == BASE:
            with self.untouched():
                yield
            return
        before = self.tuned.active_adapter
        self.tuned.set_adapter(name)
        try:
            yield
        finally:
            self.tuned.set_adapter(before)

    def copy(self, dtype: torch.dtype = torch.float32) -> Any:
        """A copy of `model`, with its states if it has any.

        Raises:
            NotApplicable: the model is too large.
        """
        size = sum(weight.numel() for weight in self.base.parameters())
        if size > SMALL:
            raise NotApplicable(f"a model of {size / 1e6:.0f}M parameters is not copied for it")
        twin = copy.deepcopy(self.model)
        if dtype == torch.float64:  # the grouped expert kernels know no float64
            for module in twin.modules():
                config = getattr(module, "config", None)
                configs: list[Any] = [config, getattr(config, "text_config", None)]
                for part in configs:
                    if hasattr(part, "_experts_implementation"):
                        part._experts_implementation = "eager"
        return twin.to(dtype)

    def tokens(self, rows: int, length: int, seed: int = 0) -> Tensor:
        """(rows, length) random token ids."""
        drawn = torch.randint(len(self.allowed), (rows, length), generator=torch.Generator().manual_seed(seed))
        return self.allowed[drawn].to(self.device)

    def logits(self, ids: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """(B, T, V) logits without a cache."""
        return logits(self.model, ids, mask, **kwargs)

    def gradients(self, value: Tensor, name: str = ONE) -> Tensor:
        """Flat gradient of `value` with respect to the states called `name`."""
        return gradients(self.tuned, value, name)

    # --- Comparing ---

    def same(
        self, got: Run, want: Run, other: Run | None = None, *, tolerance: float = TOLERANCE, shown: int | None = None
    ) -> Comparison:
        """Compare logits (..., V).

        Args:
            got: the way of running that is checked.
            want: the plain way.
            other: what a lost state would give; by default `want` on the untouched model.
            tolerance: as a share of the largest logit, or of 1 where all are smaller.
            shown: how many positions, counted along the last but one axis, must show the state; by default all.
        """
        with torch.no_grad():
            wanted = want()
            scale = max(1.0, wanted.abs().max().item())
            error = (got() - wanted).abs().max().item() / scale
            if self.is_untouched:
                return Comparison(error, tolerance)
            without = other() if other else self.of_untouched(want)
            shows = (without - wanted)[..., :shown, :].abs().amax(-1).min().item() / scale
        return Comparison(error, tolerance, shows)

    def same_tokens(self, got: Run, want: Run, other: Run | None = None) -> Comparison:
        """Compare generated tokens; the error is the share that differs. Arguments as for `same`."""
        with torch.no_grad():
            wanted = want()
            error = (got() != wanted).double().mean().item()
            if self.is_untouched:
                return Comparison(error, 0.0, is_of_tokens=True)
            without = other() if other else self.of_untouched(want)
            return Comparison(error, 0.0, (without != wanted).double().mean().item(), is_of_tokens=True)

    def same_gradient(self, got: Run, want: Run, other: Run | None = None) -> Comparison:
        """Compare flat gradients; without `other` it has to be clear of zero, which a lost state would give."""
        wanted = want()
        scale = wanted.abs().max().item()
        if scale < 1e-6:
            return Comparison(0.0, TOLERANCE, shows=0.0)
        error = (got() - wanted).abs().max().item() / scale
        shows = 1.0 if other is None else (other() - wanted).abs().max().item() / scale
        return Comparison(error, TOLERANCE, shows)

    def of_untouched(self, run: Run) -> Tensor:
        """What `run` gives on the untouched model."""
        with torch.no_grad(), self.untouched():
            return run()


def ordinary_tokens(model: Any, tokenizer: Any) -> Tensor:
    """(n,) the token ids that no config and no tokenizer calls special.

    Raises:
        ConfigError: fewer than 16.
    """
    size = model.get_input_embeddings().num_embeddings
    special: set[int] = set()
    if tokenizer is not None:
        size = min(size, len(tokenizer))
        special.update(tokenizer.all_special_ids)
    for config in (model.config, model.config.get_text_config()):
        for key, value in vars(config).items():
            if key.endswith("token_id"):
                special.update(value if isinstance(value, (list, tuple)) else [value])
    ids = torch.tensor([i for i in range(size) if i not in special])
    if len(ids) < 16:
        raise ConfigError(f"expected a model with at least 16 ordinary tokens, got {len(ids)}")
    return ids
