"""Generating with a trainer's model, the same for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from transformers import PreTrainedTokenizerBase

from s0.decode import Prompt, Sampling, generate, generate_by_transformers, is_single, prompts_in
from s0.errors import ConfigError


class Generating:
    """What has a model and its tokenizer, and so can continue prompts."""

    model: Any
    tokenizer: PreTrainedTokenizerBase

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
        transformers' own, only the end tokens of the model's generation config count.

        Args:
            prompt: a text, or chat messages; or a list of such prompts. None is ever cut.
            max_new_tokens: upper bound for a text; it ends earlier at an end token.
            temperature: of the sampling; None or 0 for the likeliest token at every step.
            top_p: sample among the likeliest tokens that hold this much probability; None for 1, all of them.
            seed: of the sampling, a whole number; None for 0. The same seed gives the same texts.
            n: samples of each prompt; None for one, in no list of its own.
            on_text: called with the text of a single prompt piece by piece, as it comes.
            kwargs: transformers' own (`do_sample`, `num_beams`, `adapter_names`, ...). With any, the model's own
                `generate` continues one prompt after the other, draws from torch's global random state, and takes what
                is left open from the generation config, but for `do_sample`: where that is left open, a temperature
                above 0 samples. Of two bounds of new tokens, the other in a `generation_config`, the lower counts.

        Returns:
            the text that continues the prompt, without it; with `n`, a list of n texts. For a list of prompts, a list
            with this for each, in order.

        Raises:
            ConfigError: no prompt, or one too long for the model; impossible sampling; `top_p` below 1 or `n` above 1
                without a temperature; or, beside transformers' own arguments, `seed`, `n`, `on_text`, a temperature
                that they leave without effect, or what gives a prompt more than a text.
            DatasetError: a prompt without tokens, or with tokens that the model does not know; or messages, where the
                tokenizer has no chat template.
            UnsupportedModelError: sampling, where the model's cache cannot be followed; `do_sample=True` can.
        """
        prompts = prompts_in(prompt)
        sampling = {"max_new_tokens": max_new_tokens, **_asked(temperature=temperature, top_p=top_p)}
        if kwargs:
            _require_none_beside(kwargs, _asked(seed=seed, n=n, on_text=on_text))
            texts = self._by_transformers(prompts, sampling, kwargs)
        else:
            seeded = Sampling(**sampling, **_asked(seed=seed))
            texts = self._by_batcher(prompts, seeded, n, on_text)
        return texts[0] if is_single(prompt) else texts

    def _by_batcher(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        n: int | None,
        on_text: Callable[[str], None] | None,
    ) -> list[Any]:
        """For each prompt a text, or a list of n texts."""
        n_each = 1 if n is None else n
        answers = generate(self.model, self.tokenizer, prompts, sampling, n=n_each, on_text=on_text)
        texts = [[completion.text for completion in completions] for completions in answers]
        return [text for (text,) in texts] if n is None else texts

    def _by_transformers(
        self, prompts: Sequence[Prompt], sampling: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> list[Any]:
        """A text for each prompt, by the model's own `generate`, with `theirs`: what only transformers knows."""
        answers = generate_by_transformers(self.model, self.tokenizer, prompts, **sampling, **theirs)
        return [completion.text for completion in answers]


def _asked(**arguments: Any) -> dict[str, Any]:
    """Those that are not left open."""
    return {name: value for name, value in arguments.items() if value is not None}


def _require_none_beside(kwargs: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    if asked:
        raise ConfigError(
            f"expected {' and '.join(asked)} without transformers' own arguments, got {sorted(kwargs)} beside; leave "
            "these out (a temperature above 0 samples), or ask transformers for all of it"
        )
