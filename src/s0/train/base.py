"""What the trainers of all methods share: generating, and the account of how a training went."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, overload

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.adapter.fingerprint import dtype_entry
from s0.cautions import Caution, cautions
from s0.core.families import unwrapped
from s0.decode import Prompt, Sampling, generate, generate_by_transformers, is_single, prompts_in
from s0.errors import ConfigError, DatasetError
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
        base = unwrapped(self.model)
        model = " ".join(filter(None, (type(base).__name__, vars(base).get("name_or_path"))))
        interrupted = ", interrupted" if "interrupted" in self.training else ""
        trained = "untrained" if self._trained is None else f"trained{interrupted}"
        use = ("active" if self.is_active else "inactive") if self._is_attached else "detached"
        return f"{type(self).__name__}({self._what}, {model}, {trained}, {use})"

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
    def _what(self) -> str:
        """What is tuned, in a few words: the method, and while it is on its model, of how many layers at what scale."""

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

    @overload
    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 512,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        n: None = None,
        on_text: Callable[[str], None] | None = None,
        **kwargs: Any,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 512,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        n: int,
        on_text: Callable[[str], None] | None = None,
        **kwargs: Any,
    ) -> list[str]: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        max_new_tokens: int = 512,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        n: None = None,
        on_text: Callable[[str], None] | None = None,
        **kwargs: Any,
    ) -> list[str]: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        max_new_tokens: int = 512,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        n: int,
        on_text: Callable[[str], None] | None = None,
        **kwargs: Any,
    ) -> list[list[str]]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        max_new_tokens: int = 512,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        n: int | None = None,
        on_text: Callable[[str], None] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continue one prompt or several, with what was tuned if it is active.

            trainer.generate("def add(a, b):")                                      # a text
            trainer.generate(["def add(a, b):", "def sub(a, b):"])                  # a list of two texts
            trainer.generate("def add(a, b):", temperature=0.8, n=4)                # a list of four texts
            trainer.generate("def add(a, b):", on_text=partial(print, end=""))      # prints as it comes

        What a prompt gets depends on it, the seed and the sampling, not on the prompts beside it. Without arguments of
        transformers' own, only the end tokens of the model's generation config count: without a temperature the
        likeliest token is taken.

        Args:
            prompt: a text, or chat messages; or a list of such prompts. None is ever cut.
            max_new_tokens: upper bound for a text; it ends earlier at an end token.
            temperature: of the sampling; None or 0 for the likeliest token at every step.
            top_p: sample among the likeliest tokens that hold this much probability; None for 1, all of them.
            seed: of the sampling, a whole number; None for 0. The same seed gives the same texts.
            n: samples of each prompt; None for one, in no list of its own.
            on_text: told the text of a single prompt piece by piece, as it comes.
            kwargs: transformers' own (`do_sample`, `num_beams`, `adapter_names`, ...). With any of them, the model's
                own `generate` continues one prompt after the other; it gets them with `temperature` and `top_p`, draws
                from torch's global random state, and takes what is left open from the generation config, but for
                `do_sample`: where that is left open, a temperature above 0 samples. Of two bounds of new tokens, one
                of them in a `generation_config` given here, the lower counts.

        Returns:
            the text that continues the prompt, without it; with `n`, a list of n texts. For a list of prompts, a list
            with this for each, in order.

        Raises:
            ConfigError: what is no prompt, or too long for the model; impossible sampling; `top_p` below 1 or `n` above
                1 without a temperature; or, beside transformers' own arguments, `seed`, `n`, `on_text`, a temperature
                that they leave without effect, or what gives a prompt more than a text.
            DatasetError: a prompt without tokens, or with tokens that the model does not know; or messages, where the
                tokenizer has no chat template.
            UnsupportedModelError: sampling, where the model's cache cannot be followed; with `do_sample=True`,
                transformers does it.
        """
        prompts = prompts_in(prompt)
        asked: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
        choosing = {name: value for name, value in asked.items() if value is not None}
        texts: list[Any]
        if kwargs:
            _require_none_beside(kwargs, seed=seed, n=n, on_text=on_text)
            texts = self._by_transformers(prompts, {"max_new_tokens": max_new_tokens, **choosing}, kwargs)
        else:
            sampling = Sampling(max_new_tokens, **choosing)
            own = {name: value for name, value in (("seed", seed), ("n", n)) if value is not None}
            answers = generate(self.model, self.tokenizer, prompts, sampling, on_text=on_text, **own)
            texts = [[completion.text for completion in of_prompt] for of_prompt in answers]
            if n is None:
                texts = [text for (text,) in texts]
        return texts[0] if is_single(prompt) else texts

    def _by_transformers(
        self, prompts: Sequence[Prompt], sampling: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> list[str]:
        """A text for each prompt, by the model's own `generate`, with `theirs`: what only transformers knows."""
        answers = generate_by_transformers(self.model, self.tokenizer, prompts, **sampling, **theirs)
        return [completion.text for completion in answers]

    @abstractmethod
    def take(self, stored: Any) -> None:
        """Take over what was read for this model; see `load`."""

    def take_again(self, stored: Any, data: TrainingData, select: TrainingData | None = None) -> bool:
        """Take over what was read for this model, where training now would only repeat it.

        That is so where it tells of a training that came to its end, with these settings, data and versions, in this
        model's dtype.

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
        begun = account(self._settings, self.model, learned, chosen_on)
        del begun["interrupted"]
        as_stored = json.loads(json.dumps(begun))
        compared = {*begun, "dtype"}  # which an account in float32 does not tell
        is_same = all(stored.training.get(name) == as_stored.get(name) for name in compared)
        if "interrupted" in stored.training or not is_same:
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


def require_pair(model: Any, tokenizer: Any) -> None:
    """Check what a trainer is made of.

    Raises:
        ConfigError: no model, or no tokenizer.
    """
    if not isinstance(model, nn.Module) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ConfigError(
            f"expected a model and its tokenizer, got {type(model).__name__} and {type(tokenizer).__name__}; "
            "s0.load_model(name) gives both (of a processor, pass its tokenizer)"
        )


def _require_none_beside(kwargs: Mapping[str, Any], **own: Any) -> None:
    beside = [name for name, value in own.items() if value is not None]
    if beside:
        raise ConfigError(
            f"expected {' and '.join(beside)} without transformers' own arguments, got {sorted(kwargs)} beside; leave "
            "these out (a temperature above 0 samples), or ask transformers for all of it"
        )


def account(settings: Any, model: nn.Module, learned: TrainingSet, chosen_on: TrainingSet | None) -> dict[str, Any]:
    """The account of a training that begins: with what, on what. It counts as interrupted until that is taken out."""
    begun = {
        "settings": asdict(settings),
        **dtype_entry(model),
        "n_examples": learned.n_examples,
        "prompts": sorted({prompt_digest(prompt) for prompt in learned.prompts[:_MOST_PROMPTS]}),
        **hashes(learned, chosen_on),
        "versions": {name: version(name) for name in ("s0-tuning", "torch", "transformers", "peft")},
        "interrupted": True,
    }
    if chosen_on is None:
        return begun
    prompts = set(learned.prompts)
    shared = sum(prompt in prompts for prompt in chosen_on.prompts)
    return {**begun, "n_select": chosen_on.n_examples, "n_select_shared": shared}


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
