"""What the trainers of all methods share: generating, and the account of how a training went."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from s0.cautions import Caution, cautions
from s0.core.families import unwrapped
from s0.errors import ConfigError, DatasetError
from s0.models import generate
from s0.train.checkpoint import Checkpoint
from s0.train.data import TrainingData, TrainingSet, prepare

_MOST_PROMPTS = 10_000  # of an account, which stands in a file of modest size


class BaseTrainer(ABC):
    """Holds and applies what one method has tuned of one model.

    Attributes:
        model: what to call forward and generate on.
        tokenizer: the model's.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    _trained: dict[str, Any] | None = None  # how what is held came to be; None while it is untrained
    _unsaved: Checkpoint | None = None  # what a finished training can be had again from, until it is saved

    def __repr__(self) -> str:
        trained = "untrained" if self._trained is None else "trained"
        active = "active" if self.is_active else "inactive"
        return f"{type(self).__name__}({self._method}, {type(unwrapped(self.model)).__name__}, {trained}, {active})"

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether the model uses what was tuned."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """Identifies what is held: its tensors, and what else its effect depends on."""

    @property
    @abstractmethod
    def _settings(self) -> Any:
        """How to train."""

    @property
    @abstractmethod
    def _method(self) -> str:
        """What is tuned, in a word or two."""

    @property
    @abstractmethod
    def _is_attached(self) -> bool:
        """Whether what is tuned is on the model, active or not; no longer after `detach`."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def training(self) -> Mapping[str, Any]:
        """How what is held came to be, as saved with it: settings, hashes, versions, losses, choices; may be empty.

        `interrupted` stands in it while training has not come to its end.
        """
        return dict(self._trained or {})

    def generate(self, prompt: str | list[dict[str, str]], max_new_tokens: int = 512, **kwargs: Any) -> str:
        """Continue a prompt, with what was tuned if it is active; arguments and errors as of `s0.models.generate`."""
        return generate(self.model, self.tokenizer, prompt, max_new_tokens, **kwargs)

    @abstractmethod
    def take(self, stored: Any) -> None:
        """Take over what was read for this model; see `load`."""

    def take_again(self, stored: Any, data: TrainingData, select: TrainingData | None = None) -> bool:
        """Take over what was read for this model, where training now would only repeat it.

        That is so where it tells of a training that came to its end, with these settings, data and versions.

        Args:
            stored: as of `take`.
            data, select: as of `train`.

        Returns:
            whether it was taken.

        Raises:
            StateMismatchError: it is of another method.
        """
        learned = self._prepare(data)
        chosen_on = None if select is None else self._prepare(select, "the select data")
        begun = account(self._settings, learned, chosen_on)
        del begun["interrupted"]
        as_stored = json.loads(json.dumps(begun))
        if "interrupted" in stored.training or any(stored.training.get(name) != as_stored[name] for name in begun):
            return False
        self.take(stored)
        assert self._trained is not None
        self._trained.update(begun)  # equal, but for the order in which a file has it
        return True

    def _prepare(self, data: TrainingData, name: str = "the training data") -> TrainingSet:
        """`data` as micro-batches; errors say `name` of it."""
        lengths = {"max_length": self._settings.max_length, "batch_tokens": self._settings.batch_tokens}
        try:
            return prepare(data, self.model, self.tokenizer, **lengths)
        except DatasetError as error:
            raise DatasetError(f"in {name}: {error}") from error

    def _require_attached(self) -> None:
        if not self._is_attached:
            raise ConfigError("expected a trainer on its model, but this one was detached; make a new one")

    def _saved(self) -> None:
        """What is held is on disk: its training's checkpoint has done its work."""
        if self._unsaved is not None:
            self._unsaved.remove()
            self._unsaved = None


def account(settings: Any, learned: TrainingSet, chosen_on: TrainingSet | None) -> dict[str, Any]:
    """The account of a training that begins: with what, on what. It counts as interrupted until that is taken out."""
    told = {
        "settings": asdict(settings),
        "n_examples": learned.n_examples,
        "prompts": sorted({prompt_digest(prompt) for prompt in learned.prompts[:_MOST_PROMPTS]}),
        **hashes(learned, chosen_on),
        "versions": {name: version(name) for name in ("s0-tuning", "torch", "transformers", "peft")},
        "interrupted": True,
    }
    if chosen_on is None:
        return told
    prompts = set(learned.prompts)
    shared = sum(prompt in prompts for prompt in chosen_on.prompts)
    return {**told, "n_select": chosen_on.n_examples, "n_select_shared": shared}


def warn(training: Mapping[str, Any], above: int = 1) -> None:
    """Say what `cautions` has to say, as Python's warnings of whoever has called `above` functions above this one's."""
    for caution in cautions(training):
        warnings.warn(caution, Caution, stacklevel=2 + above)


def prompt_digest(tokens: Sequence[int]) -> str:
    """A short name for a prompt, by which it is known whether it was learned from."""
    return hashlib.sha256(repr(list(tokens)).encode()).hexdigest()[:16]


def hashes(learned: TrainingSet, chosen_on: TrainingSet | None) -> dict[str, str]:
    """SHA-256, hexadecimal, of the tokens that are learned from and chosen on."""
    select = {} if chosen_on is None else {"select_tokens_sha256": chosen_on.tokens_sha256}
    return {"tokens_sha256": learned.tokens_sha256, **select}
