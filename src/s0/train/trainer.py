"""`S0Trainer` and `S0Config`: the published package's interface, on top of the PEFT adapter and `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.core import store
from s0.core.adapter import S0AdapterConfig
from s0.core.families import find_mixers, plain_name, recurrence_of
from s0.core.states import StateLayer, state_layers
from s0.errors import ConfigError, UnsupportedModelError
from s0.models import encode_prompt, end_tokens, load_model
from s0.train.batches import TrainingData, prepare
from s0.train.fit import FitResult, FitSettings, fit


@dataclass
class S0Config:
    """Settings of S0 tuning; the first seven are the published ones.

    Attributes:
        n_steps: optimiser steps, each over all examples.
        lr: Adam's learning rate.
        l2_lambda: weight of the states' summed squares in the loss.
        alpha: scale of the state at deployment; None for the published value of the model's family.
        normalize: divide each layer's state by its norm before scaling.
        grad_clip: largest gradient norm.
        max_length: longest accepted training row, in tokens; longer ones are refused.
        layers: indices of the layers to tune; None for every recurrent layer.
        batch_tokens: size of a micro-batch, rows x longest row; changes memory and speed, not the result.
        gradient_checkpointing: less memory for about a third more time.
        scale_in_training: train at the deployed scale (the paper's Algorithm 1), not at 1 (the published code).
    """

    n_steps: int = 20
    lr: float = 1e-3
    l2_lambda: float = 5e-4
    alpha: float | None = None
    normalize: bool = False
    grad_clip: float = 1.0
    max_length: int = 2048
    layers: list[int] | None = None
    batch_tokens: int = 1024
    gradient_checkpointing: bool = False
    scale_in_training: bool = False

    def fit_settings(self) -> FitSettings:
        """The part of the settings that `fit` takes.

        Raises:
            ConfigError: a setting that cannot work; says which.
        """
        if self.max_length < 2 or self.batch_tokens < 1:
            raise ConfigError(
                f"expected max_length >= 2 and batch_tokens >= 1, got {self.max_length} and {self.batch_tokens}"
            )
        names = FitSettings.__dataclass_fields__
        return FitSettings(**{name: getattr(self, name) for name in names})


class S0Trainer:
    """Tunes, holds and applies one state of one model.

        trainer = S0Trainer.from_pretrained("Qwen/Qwen3.5-4B")
        trainer.train([Example(prompt, completion), ...])
        trainer.activate()
        print(trainer.generate("def add(a, b):"))
        trainer.save("my-state")

    The state is an adapter of its own on the model (`trainer.model` is the PEFT model), so several trainers can share a
    model. `activate` and `deactivate` are model-wide; for different states in one batch or in several threads, pass
    `adapter_names=[...]` to the model's `generate` or forward (see `trainer.adapter_name`).
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        config: S0Config | None = None,
    ) -> None:
        """Put a zero state, switched off, on `model`.

        Raises:
            UnsupportedModelError: the model has no recurrent state to tune.
            ConfigError: a setting that cannot work.
        """
        self.config = config or S0Config()
        self.config.fit_settings()
        self.tokenizer = tokenizer
        self._trained: dict[str, Any] | None = None  # how the state came to be; None while it is all zero
        self._attach(model)

    @classmethod
    def from_pretrained(cls, name: str, config: S0Config | None = None, **model_kwargs: Any) -> S0Trainer:
        """Load a model and its tokenizer (see `s0.load_model`) and make a trainer for them."""
        model, tokenizer = load_model(name, **model_kwargs)
        return cls(model, tokenizer, config)

    def _attach(self, model: nn.Module) -> None:
        if isinstance(model, PeftModel) and model.peft_type != "S0":
            raise ConfigError(
                f"expected a transformers model, or a PEFT model with S0 states, got one of {model.peft_type.value}; "
                "pass its base model, get_base_model(): adapters inside its layers, like LoRA's, stay in place"
            )
        taken = {name for layer in state_layers(model) for name in layer.s0_state}
        self.adapter_name = next(name for i in range(len(taken) + 1) if (name := f"s0_{i}") not in taken)
        config = S0AdapterConfig(layers=self.config.layers, **self._scale(model), inference_mode=True)
        modes = {module: module.training for module in model.modules()}
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        before = [(layer, *_switch(layer)) for layer in state_layers(model)]
        if isinstance(model, PeftModel):
            model.add_adapter(self.adapter_name, config)
            self.model = model
        else:
            with warnings.catch_warnings():
                # PEFT warns about a second wrapper on one model, and uses a name that transformers warns about; two
                # trainers on one model are meant to work.
                warnings.filterwarnings("ignore", ".*(multiple adapters|second time|is_gradient_checkpointing).*")
                self.model = get_peft_model(model, config, adapter_name=self.adapter_name)
        # Adding a state must change nothing about the model: not its mode, not its gradients, not the active state.
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module in self.model.modules():
            module.training = modes.get(module, model.training)
        for layer in state_layers(self.model):
            _set_switch(layer, [], False)
        for layer, active, disabled in before:
            _set_switch(layer, active, disabled)

    def _scale(self, model: nn.Module) -> dict[str, Any]:
        alpha = self.config.alpha
        if alpha is None:
            alpha = recurrence_of(next(iter(find_mixers(model).values()))).alpha
        return {"alpha": alpha, "normalize": self.config.normalize}

    def _apply_scale(self) -> S0AdapterConfig:
        """Let the adapter follow changes of `self.config`."""
        adapter: S0AdapterConfig = self.model.peft_config[self.adapter_name]
        scale = S0AdapterConfig(**self._scale(self.model))  # checks the values
        adapter.alpha, adapter.normalize = scale.alpha, scale.normalize
        return adapter

    def _layers(self) -> dict[str, StateLayer]:
        named = ((plain_name(name), module) for name, module in self.model.named_modules())
        return {
            name: module
            for name, module in named
            if isinstance(module, StateLayer) and self.adapter_name in module.s0_state
        }

    def _states(self) -> dict[str, nn.Parameter]:
        return {name: layer.s0_state[self.adapter_name] for name, layer in self._layers().items()}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def is_active(self) -> bool:
        """Whether generation and forward passes start from this trainer's state."""
        return all(_switch(layer) == ([self.adapter_name], False) for layer in self._layers().values())

    def train(self, data: TrainingData, *, progress: bool = True) -> dict[str, float]:
        """Learn a state from scratch; whether it is active afterwards is as before.

        Args:
            data: `(text, prompt length in tokens)` pairs, taken as they are; or `Example`s, or rows with `prompt` and
                `completion`, after which the end-of-turn token is learned too.
            progress: show a bar on stderr.

        Returns:
            initial_loss: of the untouched model; training_loss: after training, at the scale used in training;
            final_loss: after training, at the deployed scale: the loss of what `activate` switches on;
            avg_state_norm: mean over layers of the raw state's norm. Losses are in nats per completion token.

        Raises:
            DatasetError: a row that cannot be learned from: the state is as before the call. Or a loss that is not
                finite: it holds the last values with a finite loss.
            ConfigError, UnsupportedModelError: the model cannot be trained like this: the state is as before.
        """
        settings = self.config.fit_settings()
        learned = prepare(
            data,
            self.model,
            self.tokenizer,
            max_length=self.config.max_length,
            batch_tokens=self.config.batch_tokens,
        )
        adapter = self._apply_scale()
        states = list(self._states().values())
        before, history = [state.detach().clone() for state in states], self._trained
        for state in states:
            state.data.zero_()
        self._trained = {
            "settings": asdict(self.config),
            "n_examples": learned.n_examples,
            "tokens_sha256": learned.tokens_sha256,
            "versions": {name: version(name) for name in ("s0-tuning", "torch", "transformers", "peft")},
        }
        adapter.training = self._trained
        try:
            with self._alone():
                result = fit(self.model, learned.batches, states, settings, progress=progress)
        except (ConfigError, UnsupportedModelError):  # nothing was learned: keep what was there
            for state, kept in zip(states, before, strict=True):
                state.data.copy_(kept)
            self._trained = adapter.training = history
            raise
        self._trained |= {"initial_loss": result.losses[0], "final_loss": result.loss_deployed}
        return _summary(result)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        before = [(layer, *_switch(layer)) for layer in state_layers(self.model)]
        try:
            for layer, _, _ in before:
                _set_switch(layer, [self.adapter_name], False)
            yield
        finally:
            for layer, active, disabled in before:
                _set_switch(layer, active, disabled)

    def activate(self) -> None:
        """Start every sequence of the model from this state, at the deployed scale; replaces another active state.

        Raises:
            ConfigError: there is no state yet.
        """
        self._require_state()
        self._apply_scale()
        for layer in state_layers(self.model):
            _set_switch(layer, [self.adapter_name], False)

    def deactivate(self) -> None:
        """Give the untouched model back, unless another trainer's state is active."""
        if self.is_active:
            for layer in state_layers(self.model):
                _set_switch(layer, [], False)

    @torch.no_grad()
    def generate(self, prompt: str | list[dict[str, str]], max_new_tokens: int = 512, **kwargs: Any) -> str:
        """Continue a prompt, from the state if it is active.

        Args:
            prompt: text, or chat messages. It is never cut.
            max_new_tokens: upper bound; generation ends earlier at an end token.
            kwargs: passed to the model's `generate`.
        """
        if self.is_active:
            self._apply_scale()
        ids = torch.tensor([encode_prompt(self.tokenizer, prompt)], device=self.device)
        ends = end_tokens(self.model, self.tokenizer)
        kwargs = {"eos_token_id": ends, "pad_token_id": ends[0], **kwargs}
        output = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, **kwargs
        )
        return str(self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

    def save(self, path: str | Path) -> None:
        """Write the state as a PEFT adapter folder (see `s0.core.store`).

        Raises:
            ConfigError: there is no state yet.
        """
        self._require_state()
        adapter = self._apply_scale()
        store.write(path, self._states(), {**adapter.to_dict(), "target_modules": sorted(self._states())})

    def load(self, path: str | Path, *, allow_other_base: bool = False) -> None:
        """Take over a state from a folder, of this package or the published one, with its scale.

        Nothing changes unless all of it fits. `self.config` becomes a copy with the file's alpha and normalize.

        Raises:
            StateMismatchError: damaged, or tuned on another model (another set of weights of the same shape can be
                accepted with `allow_other_base=True`).
        """
        stored = store.read(path)
        tensors = store.match(stored, self.model, allow_other_base=allow_other_base)
        layers = None if stored.layers is None else sorted(stored.layers)
        config = replace(self.config, alpha=stored.alpha, normalize=stored.normalize, layers=layers)
        was_active = self.is_active
        if set(tensors) != set(self._states()):
            self.deactivate()
            self.model.delete_adapter(self.adapter_name)
            self.config = config
            self._attach(self.model)
        self.config, self._trained = config, dict(stored.training)
        for name, state in self._states().items():
            state.data.copy_(tensors[name])
        self._apply_scale().training = self._trained
        if was_active:
            self.activate()

    def _require_state(self) -> None:
        if self._trained is None:
            raise ConfigError("expected a trained state, but there is none yet; call train() or load() first")


def _switch(layer: StateLayer) -> tuple[list[str], bool]:
    return list(layer.active_adapters), bool(layer._disable_adapters)


def _set_switch(layer: StateLayer, active: list[str], disabled: bool) -> None:
    layer._active_adapter = list(active)
    layer._disable_adapters = disabled


def _summary(result: FitResult) -> dict[str, float]:
    return {
        "initial_loss": result.losses[0],
        "training_loss": result.loss_after,
        "final_loss": result.loss_deployed,
        "avg_state_norm": result.norms[-1],
    }
