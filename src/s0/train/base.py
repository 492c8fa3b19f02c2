"""What the trainers of all methods share: the flow of a training, and what can be done with what was learned."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.core.families import unwrapped
from s0.core.tuned_weights import refuse_tuned_weights
from s0.errors import ConfigError, DatasetError
from s0.progress import Stage, silent
from s0.train.account import account, warn
from s0.train.checkpoint import Checkpoint
from s0.train.data import TrainingData, TrainingSet, TrainingSets, prepare
from s0.train.distributed import is_first_process
from s0.train.fitting import FitResult, fit
from s0.train.generating import Generating


class BaseTrainer(Generating, ABC):
    """Learns, holds and applies what one method tunes of one model.

    Attributes:
        model: what to call forward and generate on.
        tokenizer: the model's.
    """

    _training: dict[str, Any] | None = None  # the account of what was learned; None while it is untrained
    _unsaved_checkpoint: Checkpoint | None = None  # what a finished training can be had again from, until it is saved

    def __repr__(self) -> str:
        base = unwrapped(self.model)
        model = " ".join(filter(None, (type(base).__name__, vars(base).get("name_or_path"))))
        interrupted = ", interrupted" if "interrupted" in self.training else ""
        trained = "untrained" if self._training is None else f"trained{interrupted}"
        use = ("active" if self.is_active else "inactive") if self._is_attached else "detached"
        return f"{type(self).__name__}({self._description}, {model}, {trained}, {use})"

    @property
    @abstractmethod
    def is_active(self) -> bool:
        """Whether generation and forward passes of `model` use what was tuned."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """Identifies what was tuned: its tensors, and what else its effect depends on."""

    @property
    def n_parameters(self) -> int:
        """How many numbers it is that were tuned, as they are saved."""
        return sum(parameter.numel() for parameter in self._parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def training(self) -> Mapping[str, Any]:
        """How what was tuned came to be, as saved with it: settings, hashes, versions, losses, choices; may be empty.

        `interrupted` stands in it while training has not come to its end.
        """
        return dict(self._training or {})

    def train(
        self,
        data: TrainingData,
        *,
        select: TrainingData | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10,
        stage: Stage = silent,
    ) -> dict[str, float]:
        """Learn from scratch; whether what is learned is active afterwards is as before.

        In several processes (accelerate launch), call it in each, with the same arguments.

        Args:
            data: `(text, prompt length in tokens)` pairs, taken as they are; or `Example`s, or rows with `prompt` and
                `completion`, after which the end-of-turn token is learned too.
            select: the same of other problems: measured, and chosen on where settings ask for it (`patience`, and
                `alpha="auto"` of a state).
            checkpoint: file from which an interrupted training goes on (see `s0.train.checkpoint`); `save` removes it.
            checkpoint_every: steps between two writes of it.
            stage: shows progress; nothing is shown without.

        Returns:
            initial_loss: of the untouched model; training_loss: after training, at the scale used in training;
            final_loss: after training, of what `activate` switches on. With `select`, also select_initial_loss and
            select_final_loss. Losses are in nats per completion token. What else there is, the trainer's class says.

        Raises:
            DatasetError: a row that cannot be learned from, or a loss that is not finite.
            ConfigError: settings or a model that cannot be trained like this, no `select` where it is chosen on, or a
                checkpoint of another training.
            StateMismatchError, CheckpointError: a checkpoint that is damaged, or cannot be written or read.
            UnsupportedModelError, EngineError: as `s0.train.fitting.fit`.
        """
        settings = self._settings.fit_settings()
        self._require_select(select)
        self._require_ready()
        sets = self._training_sets(data, select)
        checkpoint_file = self._checkpoint(checkpoint, checkpoint_every, sets)
        with self._session(sets, checkpoint_file) as training:
            splits = sets.splits(with_select=settings.patience is not None)
            result = fit(self.model, splits, self._parameters(), settings, checkpoint=checkpoint_file, stage=stage)
            training.update(result.series())
            report = self._report(result, sets)
            training.update(report)
        warn(training)
        return report

    @contextmanager
    def _session(self, sets: TrainingSets, checkpoint_file: Checkpoint | None) -> Iterator[dict[str, Any]]:
        """`_fresh_tensors` to train, of which the account says that they were interrupted until all is done.

        The checkpoint stays until what was learned is saved, unless the training has broken down.
        """
        try:
            with self._fresh_tensors(sets) as training:
                self._unsaved_checkpoint = None  # it is of other tensors, and stays until somebody removes it
                yield training
        except DatasetError:
            if checkpoint_file is not None:
                checkpoint_file.remove()
            raise
        del training["interrupted"]
        self._unsaved_checkpoint = checkpoint_file

    def activate(self) -> None:
        """Use what was tuned in every forward pass and generation of `model`, in place of another trainer's.

        Raises:
            ConfigError: it is untrained, or was detached.
        """
        self._require_trained()
        self._switch(True)

    def deactivate(self) -> None:
        """Give the untouched model back, unless what another trainer has tuned is active."""
        self._switch(False)

    def save(self, path: str | Path) -> None:
        """Write what was tuned as an adapter folder, and how it was trained.

        Among several processes, the first one does.

        Args:
            path: the folder; made if need be. What an earlier `save` has written there is replaced.

        Raises:
            ConfigError: it is untrained, or was detached.
        """
        self._require_trained()
        if is_first_process():
            self._write(path)
            self._forget_checkpoint()

    def load(self, path: str | Path, *, allow_other_base: bool = False) -> None:
        """Take over from a folder what this method has tuned. Nothing changes unless all of it fits.

        Args:
            path: the folder, or a Hub repository.
            allow_other_base: accept what was tuned on another set of weights of the same shape.

        Raises:
            StateMismatchError: damaged, of another method, or tuned on another model.
            ConfigError: the trainer was detached, or its settings have been changed to another method's.
        """
        self._require_ready()
        self.take(self._read(path, allow_other_base))

    @abstractmethod
    def take(self, stored: Any) -> None:
        """Take over what was read for this model; see `load`.

        The trainer's settings become a copy with what the file says of the adapter itself.

        Args:
            stored: as `s0.train.read_tuned` reads it.

        Raises:
            StateMismatchError: it is of another method.
            ConfigError: as `load`.
        """

    def reuse(self, stored: Any, data: TrainingData, select: TrainingData | None = None) -> bool:
        """Take over what was read for this model, where training now would only repeat it.

        That is so where it tells of a training that came to its end, with these settings, data and versions, in this
        model's dtype.

        Args:
            stored: as of `take`.
            data, select: as of `train`.

        Returns:
            whether it was taken.

        Raises:
            DatasetError: a row that cannot be learned from.
            StateMismatchError, ConfigError: as `take`.
        """
        begun = account(self._settings, self.model, self._training_sets(data, select))
        del begun["interrupted"]
        as_stored = json.loads(json.dumps(begun))
        compared = {*begun, "dtype"}  # which an account in float32 does not tell
        is_same = all(stored.training.get(name) == as_stored.get(name) for name in compared)
        if "interrupted" in stored.training or not is_same:
            return False
        self.take(stored)
        assert self._training is not None
        self._training.update(begun)  # equal, but for the order in which a file has it
        return True

    def detach(self) -> None:
        """Take what was tuned off the model, for good; `model` is the base model then.

        With the last trainer gone, the base model is as it was before the first: it has no layer or attribute of
        PEFT's, and a new trainer or adapter finds nothing. Save before; of this trainer, only `generate` and what it
        tells of its training are of use afterwards.

        Raises:
            ConfigError: something attached since, of another method, has to be detached first.
        """
        if self._is_attached:
            self._take_off()

    # --- What a method adds ---

    @property
    @abstractmethod
    def _settings(self) -> Any:
        """How to train: a dataclass with `fit_settings`, `max_length` and `batch_tokens`."""

    @property
    @abstractmethod
    def _description(self) -> str:
        """What is tuned, in a few words: the method, and while it is on its model, of how many layers at what scale."""

    @property
    @abstractmethod
    def _is_attached(self) -> bool:
        """Whether what is tuned is on the model, active or not; no longer after `detach`."""

    @abstractmethod
    def _parameters(self) -> list[nn.Parameter]:
        """The tensors on the model that are trained."""

    @abstractmethod
    def _origin(self, sets: TrainingSets) -> dict[str, Any]:
        """How the trained tensors begin, in which two trainings must agree to share a checkpoint; see `Checkpoint`."""

    @abstractmethod
    def _fresh_tensors(self, sets: TrainingSets) -> AbstractContextManager[dict[str, Any]]:
        """For the length of this context, fresh tensors alone on the model, and the account of what becomes of them.

        What goes wrong before anything was learned leaves what was there before.
        """

    @abstractmethod
    def _report(self, result: FitResult, sets: TrainingSets) -> dict[str, float]:
        """What `train` reports of the training that has just come to its last step."""

    @abstractmethod
    def _switch(self, on: bool) -> None:
        """Let the model use what was tuned, or no longer."""

    @abstractmethod
    def _write(self, path: str | Path) -> None:
        """Write the folder."""

    @abstractmethod
    def _read(self, path: str | Path, allow_other_base: bool) -> Any:
        """Read for this model what `take` takes."""

    @abstractmethod
    def _take_off(self) -> None:
        """Take what was tuned off the model."""

    # --- Parts of the flow ---

    def _training_sets(self, data: TrainingData, select: TrainingData | None) -> TrainingSets:
        train = self._training_set(data, "the training data")
        return TrainingSets(train, None if select is None else self._training_set(select, "the select data"))

    def _training_set(self, data: TrainingData, name: str) -> TrainingSet:
        """`data` as micro-batches; errors say `name` of it."""
        lengths = {"max_length": self._settings.max_length, "batch_tokens": self._settings.batch_tokens}
        try:
            return prepare(data, self.model, self.tokenizer, **lengths)
        except DatasetError as error:
            raise DatasetError(f"in {name}: {error}") from error

    def _checkpoint(self, path: str | Path | None, every: int, sets: TrainingSets) -> Checkpoint | None:
        return None if path is None else Checkpoint(Path(path), every, self._origin(sets))

    def _chosen_by_select(self) -> str | None:
        """The setting for which select examples are needed, if there is any."""
        patience = self._settings.patience
        return None if patience is None else f"patience={patience}"

    def _require_select(self, select: TrainingData | None) -> None:
        setting = self._chosen_by_select()
        if setting is not None and select is None:
            raise ConfigError(
                f"expected select examples with `{setting}`, got none; collect some (s0 collect --split select) and "
                "pass `select=...`, or leave that out"
            )

    def _require_attached(self) -> None:
        if not self._is_attached:
            raise ConfigError("expected a trainer on its model, but this one was detached; make a new one")

    def _require_ready(self) -> None:
        """Refuse to learn or take over anything where it could not be put on the model."""
        self._require_attached()

    def _require_trained(self) -> dict[str, Any]:
        self._require_attached()
        if self._training is None:
            raise ConfigError("expected a trained trainer, but this one is untrained; call train() or load() first")
        return self._training

    def _forget_checkpoint(self) -> None:
        """Remove the checkpoint of what is safe on disk now: it has done its work."""
        if self._unsaved_checkpoint is not None:
            self._unsaved_checkpoint.remove()
            self._unsaved_checkpoint = None


def require_bare(model: nn.Module) -> None:
    """Check that nothing is attached to a model that a trainer is made for.

    Raises:
        ConfigError: something is, or it is a PEFT model.
    """
    if isinstance(model, PeftModel):
        raise ConfigError("expected a transformers model, got a PEFT model; pass its base model, get_base_model()")
    refuse_tuned_weights(model)
    require_alone(model)


def require_alone(model: nn.Module, own: tuple[type[BaseTunerLayer], ...] = ()) -> None:
    """Check that a model has no layers of adapters but those of a trainer's own kinds.

    Raises:
        ConfigError: it has.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    others = sorted({type(layer).__name__ for layer in layers if not isinstance(layer, own)})
    if others:
        raise ConfigError(
            f"expected a model with nothing else attached, got one with {', '.join(others)}; detach() the other "
            "trainer first, or unload() the PEFT model"
        )


def require_pair(model: Any, tokenizer: Any) -> None:
    """Check what a trainer is made of.

    Args:
        model: should be a torch module.
        tokenizer: should be transformers' tokenizer, not a processor.

    Raises:
        ConfigError: no model, or no tokenizer.
    """
    if not isinstance(model, nn.Module) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ConfigError(
            f"expected a model and its tokenizer, got {type(model).__name__} and {type(tokenizer).__name__}; "
            "s0.load_model(name) gives both (of a processor, pass its tokenizer)"
        )
