"""`S0Trainer`: the published package's interface, on top of the PEFT adapter and `fit`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter import load, save, state_files
from s0.adapter.attach import alone, attach, detach, is_on, switch_to
from s0.adapter.checks import are_distinct_indices
from s0.adapter.config import S0AdapterConfig
from s0.adapter.state_files import StoredState
from s0.core.families import recurrence_in
from s0.core.gains import tuned_with
from s0.core.low_rank import n_numbers, require_rank
from s0.core.states import StateLayer, layers_with
from s0.errors import ConfigError, DatasetError
from s0.models import load_model
from s0.progress import Stage, silent
from s0.record import Record
from s0.train.account import account, hashes, warn
from s0.train.base import BaseTrainer, require_pair
from s0.train.baseline_files import holds_baseline
from s0.train.data import TrainingData, TrainingSet, TrainingSets
from s0.train.fitting import FitResult
from s0.train.hub import upload
from s0.train.modes import unscaled
from s0.train.scale import ScaleChoice, choose_scale, scale_curve
from s0.train.search import Grid, Search
from s0.train.settings import S0Config, recorded


class S0Trainer(BaseTrainer):
    """Tunes, holds and applies a state of one model.

        trainer = S0Trainer.from_pretrained("Qwen/Qwen3.5-4B")
        trainer.train([Example(prompt, completion), ...])
        trainer.activate()
        print(trainer.generate("def add(a, b):"))
        trainer.save("my-state")

    The state is an adapter of its own on the model (`trainer.model` is the PEFT model), so several trainers can share a
    model. `activate` and `deactivate` are model-wide; for different states in one batch or in several threads, pass
    `adapter_names=[...]` to the model's `generate` or forward (see `trainer.adapter_name`).

    With `alpha="auto"` a state is trained at scale 1, then the scale with the lowest loss on the select examples is
    deployed (see `s0.train.scale.choose_scale`). If not even the best scale helps there, it is deployed all the same:
    select_final_loss is then above select_initial_loss, and `training["scale"]["helps"]` is False.

    What `train` returns also has avg_state_norm, the mean over layers of the raw state's norm, and alpha, the deployed
    scale. Where it is cut short after something was learned, the state holds the last values with a finite loss, and
    `training` says that it was interrupted.

    `load` and `take` also read the published package's layout; the config becomes a copy with the file's alpha,
    normalize, layers and gains. `save` writes what `s0.adapter.state_files` describes.

    Attributes:
        config: how to train.
        adapter_name: the state's name on the PEFT model.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        config: S0Config | None = None,
    ) -> None:
        """Put a zero state, switched off, on `model`.

        Args:
            model: with or without states and other adapters on it.
            tokenizer: the model's.
            config: how to train; None for the defaults.

        Raises:
            UnsupportedModelError: the model has no recurrent state to tune.
            ConfigError: a setting that cannot work, or no model or tokenizer.
        """
        require_pair(model, tokenizer)
        self.config = config or S0Config()
        self.config.fit_settings()
        require_rank(self.config.state_rank, model, self.config.layers)
        self.tokenizer = tokenizer
        self.model, self.adapter_name = attach(model, self.config.layers, self._deployment(model))

    @classmethod
    def from_pretrained(cls, name: str | Path, config: S0Config | None = None, **model_kwargs: Any) -> S0Trainer:
        """Load a model and its tokenizer and make a trainer for them.

        Args:
            name: a Hugging Face id, a local path, or `pocket:gdn` and the like.
            config: how to train; None for the defaults.
            model_kwargs: as `s0.load_model` takes them.

        Returns:
            the trainer, untrained and switched off.

        Raises:
            ConfigError: as `s0.load_model`, or as a trainer that is made of a model.
            UnsupportedModelError: the model has no recurrent state to tune.
        """
        model, tokenizer = load_model(name, **model_kwargs)
        return cls(model, tokenizer, config)

    def _deployment(self, model: nn.Module) -> dict[str, Any]:
        """The scale and kind that `config` asks for; 1 for a scale that will be chosen after training."""
        config, alpha = self.config, self.config.alpha
        if alpha is None:
            alpha = recurrence_in(model).alpha if config.kind == "state" else 1.0
        elif alpha == "auto":
            alpha = 1.0
        return {"alpha": alpha, "normalize": config.normalize, "kind": config.kind, "gains": config.gains}

    @property
    def _adapter(self) -> S0AdapterConfig:
        adapter: S0AdapterConfig = self.model.peft_config[self.adapter_name]
        return adapter

    def _take_deployment(self) -> None:
        """Give the adapter the scale that `config` asks for: a state is about to be learned, or has been read."""
        deployment = self._deployment(self.model)
        self._adapter.alpha, self._adapter.normalize = deployment["alpha"], deployment["normalize"]

    def _layers(self) -> dict[str, StateLayer]:
        return layers_with(self.model, self.adapter_name)

    def _states(self) -> dict[str, nn.Parameter]:
        return {name: layer.raw[self.adapter_name] for name, layer in self._layers().items()}

    def _tensors(self) -> dict[str, nn.Parameter]:
        """The raw states, then the raw gains, by layer name."""
        return {name: layer.raw[self.adapter_name] for name, layer in tuned_with(self.model, self.adapter_name).items()}

    @property
    def checksum(self) -> str:
        """Identifies the state: its tensors, scale and kind, by the hash that its file has, too."""
        return self.checksum_at(self.alpha)

    def checksum_at(self, alpha: float) -> str:
        """The `checksum` that it has at another scale."""
        self._require_attached()
        return state_files.checksum(self._tensors(), {**self._adapter.to_dict(), "alpha": alpha})

    @property
    def n_parameters(self) -> int:
        """How many numbers were tuned; of low rank, by the account of the training, those of each head's factors."""
        settings = recorded(self.config) if self._training is None else self._training.get("settings") or {}
        return sum(n_numbers(tensor.shape, settings.get("state_rank")) for tensor in self._parameters())

    @property
    def _settings(self) -> S0Config:
        return self.config

    @property
    def _description(self) -> str:
        if not self._is_attached:
            return self.config.kind
        alpha = "auto" if self._training is None and self.config.alpha == "auto" else f"{self.alpha:.4g}"
        normalized = " (normalized)" if self._adapter.normalize else ""
        gains = " and gains" if self._adapter.gains else ""
        return f"{self.config.kind}{gains} of {len(self._layers())} layers, alpha={alpha}{normalized}"

    @property
    def _is_attached(self) -> bool:
        return bool(self._layers())

    @property
    def is_active(self) -> bool:
        """See `BaseTrainer`."""
        layers = self._layers().values()
        return bool(layers) and is_on(layers, self.adapter_name)

    @property
    def alpha(self) -> float:
        """The scale at which the state is deployed; `set_scale` changes it.

        Raises:
            ConfigError: the trainer was detached.
        """
        self._require_attached()
        return self._adapter.alpha

    def _parameters(self) -> list[nn.Parameter]:
        return list(self._tensors().values())

    def _origin(self, sets: TrainingSets) -> dict[str, Any]:
        return {"config": recorded(self.config), **hashes(sets)}

    def _chosen_by_select(self) -> str | None:
        return "alpha=auto" if self.config.alpha == "auto" else super()._chosen_by_select()

    def _report(self, result: FitResult, sets: TrainingSets) -> dict[str, float]:
        report = result.report()
        if self.config.alpha == "auto" and sets.select is not None:
            choice = choose_scale(partial(self._curve, sets.select))
            report["final_loss"] = self._deploy(choice, sets.train)
        return self._completed_report(report, sets.select)

    def train_auto(
        self,
        data: TrainingData,
        select: TrainingData,
        *,
        grid: Grid = Grid(),  # noqa: B008 - it is frozen
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10,
        stage: Stage = silent,
    ) -> dict[str, float]:
        """Choose learning rate, number of steps and scale by the loss on `select`, and learn the state that they give.

        Every learning rate is trained, and its state after each number of steps is measured at a ladder of scales (see
        `s0.train.search`). The state, `config` and `training` end as after `train` with
        `S0Config(lr=..., n_steps=..., alpha="auto")` of the winner; `training["candidates"]` lists all of them.

        Args:
            data, select, checkpoint, checkpoint_every, stage: as in `train`.
            grid: the learning rates and numbers of steps to try.

        Returns:
            as `train`, and the winner's lr and n_steps.

        Raises:
            ConfigError: with `patience` or `scale_in_training`, too; otherwise as `train`. A learning rate whose loss
                is not finite loses and stops nothing, unless none is left.
        """
        if self.config.patience is not None:
            raise ConfigError(
                "expected `patience=None`: train_auto chooses among the numbers of steps that it is given"
            )
        config = replace(self.config, alpha="auto")
        self._require_ready()
        train, chosen_on = self._training_set(data, "the training data"), self._training_set(select, "the select data")
        sets = TrainingSets(train, chosen_on)
        checkpoint_file = self._checkpoint(checkpoint, checkpoint_every, sets)
        layers, splits = list(tuned_with(self.model, self.adapter_name).values()), sets.splits(with_select=True)
        result = Search(self.model, layers, splits, config, grid).choose(checkpoint_file, stage)
        best = result.best
        chosen = replace(config, lr=best.lr, n_steps=best.n_steps)
        with self._configured(chosen), self._session(sets, checkpoint_file) as training:
            for state, values in zip(self._parameters(), result.tensors, strict=True):
                state.data.copy_(values)
            training.update(losses=result.losses, norms=result.norms, best_step=best.n_steps)
            training["candidates"] = [asdict(candidate) for candidate in result.candidates]
            with unscaled(self.model):
                (training_loss,) = self._curve(sets.train, [1.0])
            report = {
                "lr": best.lr,
                "n_steps": best.n_steps,
                "initial_loss": result.losses[0],
                "training_loss": training_loss,
                "final_loss": self._deploy(result.scale, sets.train),
            }
            report = self._completed_report(report, sets.select)
            training.update(report)
        warn(training)
        return report

    @contextmanager
    def _configured(self, config: S0Config) -> Iterator[None]:
        """Other settings, for good where nothing goes wrong within this context."""
        before, self.config = self.config, config
        try:
            yield
        except BaseException:
            self.config = before
            raise

    @contextmanager
    def _fresh_tensors(self, sets: TrainingSets) -> Iterator[dict[str, Any]]:
        states, adapter = self._parameters(), self._adapter
        before = [state.detach().clone() for state in states]
        history, scale = self._training, (adapter.alpha, adapter.normalize)
        self._take_deployment()
        for state in states:
            state.data.zero_()
        training = self._training = adapter.training = account(self.config, self.model, sets)
        try:
            with alone(self.model, self.adapter_name):
                yield training
        except BaseException:  # out of memory, or interrupted
            if not any(state.any() for state in states):
                for state, values in zip(states, before, strict=True):
                    state.data.copy_(values)
                self._training = adapter.training = history
                adapter.alpha, adapter.normalize = scale
            raise
        finally:
            if self._training is not None:
                self.config.settle()

    def _curve(self, data: TrainingSet, alphas: Sequence[float]) -> list[float]:
        return scale_curve(self.model, self.adapter_name, data.batches, alphas, batch_tokens=self.config.batch_tokens)

    def _deploy(self, choice: ScaleChoice, train: TrainingSet) -> float:
        """Deploy the state at `choice`; returns the training loss there."""
        self._adapter.alpha = choice.alpha
        self._require_trained()["scale"] = asdict(choice)
        return self._curve(train, [choice.alpha])[0]

    def _completed_report(self, report: dict[str, float], select: TrainingSet | None) -> dict[str, float]:
        """`report` with what every training tells of its state."""
        norms = [state.detach().norm().item() for state in self._states().values()]
        whole = {**report, "avg_state_norm": sum(norms) / len(norms), "alpha": self.alpha}
        if select is not None:
            whole["select_initial_loss"], whole["select_final_loss"] = self._curve(select, [0.0, self.alpha])
        broken = {name: value for name, value in whole.items() if not math.isfinite(value)}
        if broken:
            raise DatasetError(f"expected finite losses, got {broken}; train with a lower lr, or set a smaller alpha")
        return whole

    def set_scale(self, alpha: float, choice: ScaleChoice | None = None) -> None:
        """Deploy the state at another scale, active or not; `config` keeps what it was trained with.

        What `training` says of the scale before goes: the final losses, and how that scale was chosen.

        Args:
            alpha: the scale.
            choice: what it was chosen from, for the account of the training.

        Raises:
            ConfigError: there is no state yet; or `alpha` is no finite number, or not the chosen one.
        """
        training = self._require_trained()
        S0AdapterConfig(alpha=alpha)  # checks it
        if choice is not None and choice.alpha != alpha:
            raise ConfigError(f"expected the scale that was chosen, {choice.alpha}, got {alpha}; pass choice.alpha")
        self._adapter.alpha = alpha = float(alpha)
        for name in ("final_loss", "select_final_loss", "scale"):
            training.pop(name, None)
        training.update({"alpha": alpha} if choice is None else {"alpha": alpha, "scale": asdict(choice)})

    def _switch(self, on: bool) -> None:
        if on:
            switch_to(self.model, self.adapter_name)
        elif self.is_active:
            switch_to(self.model, None)

    def _write(self, path: str | Path, record: Record | None = None) -> None:
        replaces_baseline = holds_baseline(Path(path))
        save.write(self.model, self.adapter_name, path, record)
        if replaces_baseline:
            (Path(path) / state_files.TRAINING_FILE).unlink(missing_ok=True)

    def push_to_hub(
        self, repo_id: str, *, record: Record | None = None, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload the state, with a model card, to the Hugging Face Hub; a card somebody has written there stays.

        Args:
            repo_id: the repository; made if need be.
            record: of an evaluation with this state, whose figures the card shall tell (`s0.record.read_record` reads
                the file that `s0 eval` writes).
            private: whether a new repository is; None as the account's settings say.
            token: of the Hub; None for the one that was logged in with.

        Returns:
            the address of the upload.

        Raises:
            ConfigError: there is no state yet.
        """
        self._require_trained()
        address = upload(partial(self._write, record=record), repo_id, private=private, token=token)
        self._forget_checkpoint()
        return address

    def _read(self, path: str | Path, allow_other_base: bool) -> StoredState:
        return load.read(path, self.model, kind=self.config.kind, allow_other_base=allow_other_base)

    def take(self, stored: StoredState) -> None:
        """See `BaseTrainer`."""
        self._require_ready()
        stored.require_kind(self.config.kind)
        layers = None if stored.layers is None else sorted(stored.layers)
        scale: dict[str, Any] = {"alpha": stored.alpha, "normalize": stored.normalize}
        config = replace(self.config, **scale, layers=layers, gains=bool(stored.gains))
        was_active, tensors = self.is_active, stored.all_tensors
        if set(tensors) != set(self._tensors()):
            self.deactivate()
            self.model.delete_adapter(self.adapter_name)
            self.config = config
            self.model, self.adapter_name = attach(self.model, config.layers, self._deployment(self.model))
        self.config, self._training, self._unsaved_checkpoint = config, dict(stored.training), None
        for name, tensor in self._tensors().items():
            tensor.data.copy_(tensors[name])
        self._take_deployment()
        self._adapter.training, self._adapter.layers = self._training, config.layers
        self.config.settle()
        if was_active:
            self.activate()

    def _take_off(self) -> None:
        self.model = detach(self.model, self.adapter_name)

    def _require_ready(self) -> None:
        super()._require_ready()
        for name in ("kind", "layers", "gains"):
            attached, asked = getattr(self._adapter, name), getattr(self.config, name)
            if attached != asked and not (name == "layers" and self._are_its_layers(asked)):
                raise ConfigError(
                    f"expected the {name} {attached!r} that this trainer was made with, got {asked!r}; make another"
                )
        require_rank(self.config.state_rank, self.model, self.config.layers)

    def _are_its_layers(self, indices: object) -> bool:
        return are_distinct_indices(indices) and {*indices} == {layer.layer_idx for layer in self._layers().values()}
