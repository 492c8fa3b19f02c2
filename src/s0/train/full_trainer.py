"""The trainer of full fine-tuning: the same loop on the same batches, and the model's own weights learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter import state_files
from s0.adapter.fingerprint import fingerprint
from s0.adapter.kinds import FULL
from s0.core.tuned_weights import TunedWeight, TunedWeights, hold, let_go
from s0.errors import DatasetError, StateMismatchError
from s0.train.account import account
from s0.train.base import BaseTrainer, require_alone, require_bare, require_pair
from s0.train.baseline_files import StoredBaseline, read_baseline, write_baseline
from s0.train.data import TrainingSets
from s0.train.evaluator import mean_loss
from s0.train.fitting import FitResult
from s0.train.full import FullTuning, weights_to_tune


class FullTrainer(BaseTrainer):
    """Tunes, holds and applies all weights of one model; the interface is `S0Trainer`'s.

        trainer = FullTrainer(model, tokenizer, FullTuning())
        trainer.train([Example(prompt, completion), ...])
        trainer.activate()
        print(trainer.generate("def add(a, b):"))
        trainer.detach()

    The model has two sets of values from its first training or loading on: the untouched and the tuned ones. Switching
    exchanges them, so `deactivate` and `detach` give the untouched model back to the last bit, at the price of its size
    in memory once more, in float32. Training takes four to five times its size besides: gradients, Adam's two moments,
    the last good values, with patience the best ones; and again the values learned before, if there are any. None of
    this is in the estimate of `s0 inspect`, which is for a state (`s0.train.memory`).

    What `train` returns also has avg_norm, the mean norm of the trained tensors. Where a loss is not finite in
    training, the tuned values are the last ones with a finite loss; after whatever else goes wrong they are as before.

    `save` writes all tuned weights (see `s0.train.baseline_files`). For what knows whole models alone, save the model
    while it is active, `model.save_pretrained(path)`: that is a model of its own.

    Attributes:
        model: what to call forward and generate on: with the tuned weights while they are active, else the untouched.
        settings: how to train.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: FullTuning) -> None:
        """Make a trainer of `model`, which stays as it is.

        Args:
            model: in float32, with nothing attached.
            tokenizer: the model's.
            settings: how to train.

        Raises:
            ConfigError: the weights are not float32, or quantised, sharded or offloaded; something is attached to the
                model, or it is none, or there is no tokenizer.
        """
        require_pair(model, tokenizer)
        require_bare(model)
        weights_to_tune(model)
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self._weights: TunedWeights | None = None  # none once it is detached
        self._hold(TunedWeights())

    def _hold(self, weights: TunedWeights) -> None:
        self._weights = weights
        hold(self.model, weights)

    def _switch(self, on: bool) -> None:
        if self._weights is not None:
            self._weights.switch(on)

    @property
    def is_active(self) -> bool:
        """See `BaseTrainer`."""
        return self._weights is not None and self._weights.is_on

    @property
    def _is_attached(self) -> bool:
        return self._weights is not None

    @property
    def checksum(self) -> str:
        """Identifies the tuned weights."""
        self._require_attached()
        return state_files.checksum(self._tuned(), {})

    def _tuned(self) -> dict[str, Tensor]:
        """The tuned values, not copied; before there are any, the model's own."""
        own = {name: weight.detach() for name, weight in weights_to_tune(self.model).items()}
        return {**own, **{name: weight.tuned for name, weight in (self._weights or {}).items()}}

    @property
    def _settings(self) -> FullTuning:
        return self.settings

    @property
    def _description(self) -> str:
        return "all weights"

    def _parameters(self) -> list[nn.Parameter]:
        return list(weights_to_tune(self.model).values())

    def _origin(self, sets: TrainingSets) -> dict[str, Any]:
        return {"method": FULL}

    def _require_ready(self) -> None:
        super()._require_ready()
        require_alone(self.model)

    @contextmanager
    def _fresh_tensors(self, sets: TrainingSets) -> Iterator[dict[str, Any]]:
        before, history, was_active = self._weights or TunedWeights(), self._training, self.is_active
        try:
            self._switch(False)
            own = weights_to_tune(self.model)
            self._hold(TunedWeights({name: TunedWeight(each, each.detach().clone()) for name, each in own.items()}))
            training = self._training = account(self.settings, self.model, sets)
            self._switch(True)
            yield training
        except BaseException as error:
            has_begun = self._training is not history
            if not (has_begun and isinstance(error, DatasetError)):
                self._switch(False)
                self._hold(before)
                self._training = history
            raise
        finally:
            self._switch(was_active)

    def _report(self, result: FitResult, sets: TrainingSets) -> dict[str, float]:
        report = result.report()
        if sets.select is not None:
            self._switch(False)
            report["select_initial_loss"] = mean_loss(self.model, sets.select.batches)
            self._switch(True)
            report["select_final_loss"] = mean_loss(self.model, sets.select.batches)
        return {**report, "avg_norm": result.norms[result.best_step - 1]}

    def _take_off(self) -> None:
        require_alone(self.model)
        self._switch(False)
        self._weights = None
        let_go(self.model)

    def _write(self, path: str | Path) -> None:
        base = vars(self.model).get("name_or_path") or None
        config = {"peft_type": FULL, "base_model_name_or_path": base}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tuned().items()}
        write_baseline(Path(path), config, tensors, {**self.training, "fingerprint": fingerprint(self.model)})

    def _read(self, path: str | Path, allow_other_base: bool) -> StoredBaseline:
        return read_baseline(state_files.locate(path), self.model, allow_other_base)

    def take(self, stored: StoredBaseline) -> None:
        """See `BaseTrainer`."""
        self._require_ready()
        if not isinstance(stored.settings, FullTuning):
            raise StateMismatchError(
                f"expected weights for {type(self.settings).__name__}, got an adapter for "
                f"{type(stored.settings).__name__}; use load_tuned, which looks which it is"
            )
        was_active, tensors = self.is_active, stored.tensors
        own = weights_to_tune(self.model)
        weights = {name: TunedWeight(each, tensors[name].to(each.device, copy=True)) for name, each in own.items()}
        self._switch(False)
        self._hold(TunedWeights(weights))
        self._training, self._unsaved_checkpoint = dict(stored.training), None
        self._switch(was_active)
