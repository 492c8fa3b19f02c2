"""The trainer of a baseline, an adapter of PEFT's: the same loop on the same batches as for a state."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter import state_files
from s0.adapter.fingerprint import fingerprint
from s0.core.flags import Flags
from s0.core.releases import drops_prefixes
from s0.core.tuned_weights import refuse_tuned_weights
from s0.decode import Prompt
from s0.errors import ConfigError, DatasetError, EngineError, StateMismatchError
from s0.train.account import account
from s0.train.base import BaseTrainer, require_alone, require_bare, require_pair
from s0.train.baseline_files import StoredBaseline, read_baseline, write_baseline
from s0.train.baselines import SHARED, BaselineSettings, PrefixTuning
from s0.train.data import TrainingSet, TrainingSets
from s0.train.evaluator import mean_loss
from s0.train.fitting import FitResult

_LEFTOVERS = ("peft_config", "prepare_inputs_for_generation", "generation_config")
"""Attributes that PEFT leaves on a model it wraps or generates with, and on the model's parts."""


class BaselineTrainer(BaseTrainer):
    """Tunes, holds and applies one adapter of PEFT's of one model, a LoRA for one; the interface is `S0Trainer`'s.

        trainer = BaselineTrainer(model, tokenizer, LoraTuning(rank=8))
        trainer.train([Example(prompt, completion), ...])
        trainer.activate()
        print(trainer.generate("def add(a, b):"))
        trainer.detach()

    What `train` returns also has avg_norm, the mean norm of the trained tensors. Where a loss is not finite in
    training, the adapter holds the last values with a finite loss; after whatever else goes wrong it is as before.

    `load` and `take` also read what PEFT wrote, where it is plain; `save` writes a plain PEFT adapter folder, and
    beside it how the adapter was trained (`training.json`).

    Attributes:
        model: what to call forward and generate on: with the adapter while it is active, else the untouched model.
        settings: how to train; after `load`, with the rank, alpha and targets, or the length, of what was loaded.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: BaselineSettings) -> None:
        """Put an untrained adapter, switched off, on `model`.

        Args:
            model: with nothing attached.
            tokenizer: the model's.
            settings: the method's; how to train, and what the adapter is.

        Raises:
            UnsupportedModelError: the model has no such layers, or prefix tuning cannot be exact on it.
            ConfigError: something is attached to the model, or it is none, or there is no tokenizer.
        """
        require_pair(model, tokenizer)
        require_bare(model)
        self.tokenizer = tokenizer
        self.settings = settings
        self.model = model
        self._base = model
        self._name: str | None = None  # PEFT's name of the adapter
        self._leftovers: list[tuple[nn.Module, str]] = []  # what to remove from the model in the end
        self._put(settings.adapter(model))

    def _put(self, config: PeftConfig, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Put an adapter with these tensors, or a fresh one, on the model, in place of the adapter before."""
        self._require_alone()
        self._require_no_checkpointing()
        before = self._contents() if self._is_attached else None
        with self._all_else_kept():
            try:
                self._make(config, tensors)
            except BaseException as error:
                self._strip()
                if before is not None:
                    self._make(*before)
                if isinstance(error, ValueError):
                    expected = f"expected an adapter that PEFT can put on {type(self._base).__name__}"
                    raise ConfigError(f"{expected}: {error}") from error
                raise

    @contextmanager
    def _all_else_kept(self) -> Iterator[None]:
        """An adapter that comes within this context changes nothing else; it is active if the one before was."""
        flags, was_active = Flags(self._base), self.is_active
        try:
            yield
        finally:
            flags.put_back(self.model)
            self._switch(was_active)

    def _make(self, config: PeftConfig, tensors: Mapping[str, Tensor] | None) -> None:
        """Make the adapter, and fill it; what goes wrong leaves a part of it."""
        config.base_model_name_or_path = vars(self._base).get("name_or_path") or None
        config.inference_mode = tensors is not None  # of a prefix: its tensors, without the MLP
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            self._name = self._replace(self._name, config) if self._name else self._begin(config)
            if tensors is not None:
                set_peft_model_state_dict(self.model, dict(tensors), adapter_name=self._name)

    def _begin(self, config: PeftConfig) -> str:
        """Wrap the model, with a first adapter; returns its name."""
        parts = (self._base, *self._base.children())
        self._leftovers = [(part, key) for part in parts for key in _LEFTOVERS if key not in vars(part)]
        name = "tuned_0"
        with warnings.catch_warnings():
            # A name PEFT should not use; and norms of classes it has not heard of, of which it makes copies that work.
            warnings.filterwarnings("ignore", ".*(is_gradient_checkpointing|Unsupported layer type).*")
            self.model = get_peft_model(self._base, config, adapter_name=name)
        return name

    def _replace(self, old: str, config: PeftConfig) -> str:
        """Put an adapter in another's place; returns its name."""
        name = f"tuned_{int(old.removeprefix('tuned_')) + 1}"
        self.model.add_adapter(name, config)
        self.model.set_adapter(name)
        self.model.delete_adapter(old)
        return name

    def _strip(self) -> None:
        for name, module in list(self._base.named_modules()):
            if isinstance(module, self.settings.layer_kinds):
                parent, _, child = name.rpartition(".")
                setattr(self._base.get_submodule(parent), child, module.get_base_layer())
        for part, key in self._leftovers:
            vars(part).pop(key, None)
        self.model, self._name = self._base, None

    def _require_alone(self) -> None:
        refuse_tuned_weights(self._base)
        require_alone(self._base, self.settings.layer_kinds if self._is_attached else ())

    def _require_no_checkpointing(self) -> None:
        if any(getattr(module, "gradient_checkpointing", False) for module in self._base.modules()):
            raise ConfigError(
                "expected a model without gradient checkpointing, got one with it on; call its "
                "gradient_checkpointing_disable(), and set gradient_checkpointing=True in the settings to train with it"
            )

    def _contents(self) -> tuple[PeftConfig, dict[str, Tensor]]:
        """What a file of the adapter holds."""
        tensors = get_peft_model_state_dict(self.model, adapter_name=self._name, save_embedding_layers=False)
        copies = {key.replace(".base_layer", ""): tensor.detach().cpu().clone() for key, tensor in tensors.items()}
        return self.model.peft_config[self._name], copies

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for key, parameter in self.model.named_parameters() if f".{self._name}." in f"{key}."]

    def _switch(self, on: bool) -> None:
        if self._name is None:
            return
        for module in self._base.modules():
            if isinstance(module, self.settings.layer_kinds):
                module.enable_adapters(on)
        for parameter in self._parameters():
            parameter.requires_grad_(False)
        if isinstance(self.settings, PrefixTuning):
            # As PEFT's disable_adapter does it for the length of a context.
            base_prepare = self.model.base_model_prepare_inputs_for_generation
            methods = {"forward": self._base.forward, "prepare_inputs_for_generation": base_prepare}
            for key in methods:
                vars(self.model).pop(key, None)
            vars(self.model).update({} if on else methods)
        self.model._adapters_disabled = not on

    @property
    def checksum(self) -> str:
        """Identifies the adapter: its tensors, and the scale of a LoRA."""
        self._require_attached()
        config, tensors = self._contents()
        return state_files.checksum(tensors, {"alpha": float(getattr(config, "lora_alpha", 0))})

    @property
    def _settings(self) -> BaselineSettings:
        return self.settings

    @property
    def _description(self) -> str:
        config: Any = self.model.peft_config[self._name] if self._is_attached else None
        n_layers = sum(isinstance(module, self.settings.layer_kinds) for module in self._base.modules())
        return self.settings.describe(config, n_layers)

    @property
    def _is_attached(self) -> bool:
        return self._name is not None

    @property
    def is_active(self) -> bool:
        """See `BaseTrainer`."""
        return self._is_attached and not self.model._adapters_disabled

    def _by_transformers(
        self, prompts: Sequence[Prompt], sampling: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> list[str]:
        behind_prefix = self.is_active and isinstance(self.settings, PrefixTuning)
        if behind_prefix and drops_prefixes(type(self._base).forward):
            raise EngineError(
                "expected transformers < 5.24, or peft from 0.22 on, for transformers to generate behind a prefix, got "
                "versions whose generate() leaves it out; pip install 'transformers<5.24', or leave transformers' own "
                f"arguments out, here {sorted(theirs)}"
            )
        return super()._by_transformers(prompts, sampling, theirs)

    @property
    def n_parameters(self) -> int:
        """How many numbers the adapter is; of a prefix, what is left of it without the MLP."""
        self._require_attached()
        return sum(tensor.numel() for tensor in self._contents()[1].values())

    def _origin(self, sets: TrainingSets) -> dict[str, Any]:
        settings = asdict(self.settings)
        return {name: value for name, value in settings.items() if name not in SHARED or name == "seed"}

    @contextmanager
    def _fresh_tensors(self, sets: TrainingSets) -> Iterator[dict[str, Any]]:
        config, was_active = self.settings.adapter(self._base), self.is_active
        before, history = self._contents(), self._training
        try:
            self._switch(False)
            untouched = {"initial_loss": self._loss(sets.train)}
            if sets.select is not None:
                untouched["select_initial_loss"] = self._loss(sets.select)
            self._put(config)
            training = self._training = {**account(self.settings, self.model, sets), **untouched}
            self._switch(True)
            yield training
        except BaseException as error:
            has_begun = self._training is not history
            if has_begun and isinstance(error, DatasetError):
                self._put(*self._contents())
            else:
                self._put(*before)
                self._training = history
            raise
        finally:
            self._switch(was_active)

    def _report(self, result: FitResult, sets: TrainingSets) -> dict[str, float]:
        self._put(*self._contents())  # of a prefix, what was learned without the MLP
        training = self._require_trained()
        report = {"initial_loss": training["initial_loss"]}
        report |= {"training_loss": result.loss_after, "final_loss": result.loss_deployed}
        if sets.select is not None:
            report["select_initial_loss"] = training["select_initial_loss"]
            report["select_final_loss"] = self._loss(sets.select)
        return {**report, "avg_norm": result.norms[result.best_step - 1]}

    def _loss(self, examples: TrainingSet) -> float:
        return mean_loss(self.model, examples.batches)

    def _take_off(self) -> None:
        self._require_alone()
        self._switch(False)
        self._strip()

    def _write(self, path: str | Path) -> None:
        config, tensors = self._contents()
        described = {**config.to_dict(), "inference_mode": True}
        described = {name: sorted(value) if isinstance(value, set) else value for name, value in described.items()}
        write_baseline(Path(path), described, tensors, {**self.training, "fingerprint": fingerprint(self._base)})

    def _read(self, path: str | Path, allow_other_base: bool) -> StoredBaseline:
        return read_baseline(state_files.locate(path), self._base, allow_other_base)

    def take(self, stored: StoredBaseline) -> None:
        """See `BaseTrainer`."""
        self._require_ready()
        if type(stored.settings) is not type(self.settings):
            raise StateMismatchError(
                f"expected an adapter for {type(self.settings).__name__}, got one for "
                f"{type(stored.settings).__name__}; use load_tuned, which looks which it is"
            )
        of_adapter = {name: value for name, value in vars(stored.settings).items() if name not in SHARED}
        self.settings = replace(self.settings, **of_adapter)
        self._put(self.settings.adapter(self._base), stored.tensors)
        self._training, self._unsaved_checkpoint = stored.training, None
