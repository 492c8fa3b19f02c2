"""A few prompts to texts: what the trainers' `generate` and `s0 generate` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from s0.core.families import unwrapped
from s0.core.generate_arguments import GenerateArguments
from s0.decode.batcher import Batcher
from s0.decode.request import Prompt, Sampling
from s0.decode.row import Completion, Event
from s0.errors import ConfigError, DatasetError, UnsupportedModelError
from s0.models import check_tokens, encode_prompt, end_tokens


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    n: int = 1,
    on_text: Callable[[str], None] | None = None,
) -> list[list[Completion]]:
    """Continue prompts with a model as it is now, all of them in one batch.

    What a prompt gets depends on the prompt and the sampling alone, not on the prompts beside it; up to the rounding of
    the model's arithmetic (see `s0.decode.batcher`).

    Args:
        model: any causal language model, with or without adapters.
        tokenizer: its tokenizer.
        prompts: texts or message lists. Never cut.
        sampling: how to choose tokens.
        n: samples of each prompt.
        on_text: told the text of a single completion piece by piece, as it comes.

    Returns:
        for each prompt, in order, its n completions.

    Raises:
        ConfigError: what is no prompt, or leaves no room for max_new_tokens; `n` above 1 or `top_p` below 1 without a
            temperature; `on_text` with more than one completion; `n` that is no whole number.
        DatasetError: a prompt without tokens, or with tokens that the model does not know; messages for a tokenizer
            without a chat template.
        UnsupportedModelError: sampling, where the model keeps what it has read in a form that cannot be followed;
            greedily, it continues one prompt after the other.
    """
    require_possible(sampling, n)
    if on_text is not None and len(prompts) * n > 1:
        raise ConfigError(
            f"expected a single prompt and n=1 to tell the text of as it comes, got {len(prompts)} and n={n}; leave "
            "on_text out"
        )
    batcher = Batcher(model, tokenizer, sampling.batch_rows)
    numbers = []
    for i, prompt in enumerate(prompts):
        with _naming_prompt(i, len(prompts)):
            tokens = tuple(encode_prompt(tokenizer, prompt))
            seeds = seeds_of(sampling.seed, tokens, n)
            numbers.append([batcher.submit(sampling.request(tokens, seed)) for seed in seeds])
    try:
        done = batcher.finish(_telling(on_text))
    except UnsupportedModelError:  # of the cache that the first prompts have left: nothing was told of yet
        if sampling.temperature > 0 or sampling.stop:
            raise
        with _end_tokens_alone_configured(model, tokenizer):
            completions = generate_by_transformers(model, tokenizer, prompts, sampling.max_new_tokens)
        if on_text is not None:
            on_text(completions[0].text)
        return [[completion] for completion in completions]
    return [[done[number] for number in of_prompt] for of_prompt in numbers]


def seeds_of(seed: int, tokens: tuple[int, ...], n: int) -> list[str]:
    """The seed of each of n samples of a prompt, by which they differ from each other and from other prompts'."""
    return [f"{seed} {sample} {tokens}" for sample in range(n)]


def require_possible(sampling: Sampling, n: int) -> None:
    """Check what `generate` is asked for but the prompts, for those who load a model first.

    Raises:
        ConfigError: as `generate`.
    """
    if type(n) is not int or n < 1:
        raise ConfigError(f"expected a whole number for n, at least 1, got n={n!r:.20}")
    if sampling.temperature == 0 and (n > 1 or sampling.top_p < 1):
        raise ConfigError(
            "expected a `temperature` above 0 for several samples of a prompt, or for `top_p` below 1, got 0 or none, "
            "where the likeliest token is always taken; set one"
        )


def _telling(on_text: Callable[[str], None] | None) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if on_text is not None and event.text:
            on_text(event.text)

    return tell


@torch.no_grad()
def generate_by_transformers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_new_tokens: int, **kwargs: Any
) -> list[Completion]:
    """Continue prompts one after the other by the model's own `generate`, with whatever transformers can do.

    Args:
        model: what generates.
        tokenizer: the model's.
        prompts: texts, or chat messages. They are never cut.
        max_new_tokens: upper bound; generation ends earlier at an end token.
        kwargs: passed to the model's `generate`. Where neither they nor their `generation_config` have `do_sample`, a
            temperature above 0 samples, and without one the likeliest token is taken.

    Raises:
        ConfigError: what is no prompt; arguments with which more comes back than a text, or that contradict each other.
        DatasetError: a prompt without tokens, or with tokens that the model does not know.
    """
    asked = GenerateArguments(model, (), kwargs)
    _require_single_texts(asked)
    device, own_ends = next(model.parameters()).device, asked.own("eos_token_id")
    ends = end_tokens(model, tokenizer) if own_ends is None else torch.as_tensor(own_ends).flatten().tolist()
    max_new_tokens = min(max_new_tokens, asked.own("max_new_tokens") or max_new_tokens)
    settings = {"pad_token_id": ends[0], **kwargs, **_sampled(asked)}
    settings |= {"max_new_tokens": max_new_tokens, "eos_token_id": ends}
    completions = []
    for i, prompt in enumerate(prompts):
        with _naming_prompt(i, len(prompts)):
            tokens = encode_prompt(tokenizer, prompt)
            check_tokens(model, tokenizer, tokens, "the prompt")
        ids = torch.tensor([tokens], device=device)
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        written = output[0, len(tokens) :].tolist()
        truncated = len(written) == max_new_tokens and written[-1] not in ends
        completions.append(
            Completion(str(tokenizer.decode(written, skip_special_tokens=True)), len(written), truncated)
        )
    return completions


def _require_single_texts(asked: GenerateArguments) -> None:
    if asked.setting("num_return_sequences") not in (None, 1) or asked.setting("return_dict_in_generate"):
        raise ConfigError(
            "expected arguments of transformers, and a generation config, with which a prompt gets one text, got "
            "num_return_sequences or return_dict_in_generate; take n of this function, or the model's own generate()"
        )


def _sampled(asked: GenerateArguments) -> dict[str, Any]:
    """Whether to sample: as the call says, or as its temperature does, whatever the model's own config says.

    Raises:
        ConfigError: the temperature, or `top_p`, would be ignored.
    """
    temperature, top_p, do_sample = (asked.own(name) for name in ("temperature", "top_p", "do_sample"))
    is_hot = temperature is not None and temperature > 0
    if do_sample is None:
        do_sample = is_hot
    is_narrow = top_p is not None and top_p < 1
    if (is_hot or is_narrow) and not do_sample:
        raise ConfigError(
            "expected sampling, by a `temperature` above 0 or do_sample=True, for a temperature or a `top_p` below 1, "
            f"got temperature={temperature} and top_p={top_p}, which would be ignored; ask for it, or leave these out"
        )
    return {"do_sample": True} if do_sample else {"do_sample": False, "temperature": 1.0, "top_p": 1.0}


@contextmanager
def _end_tokens_alone_configured(model: Any, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """A generation config of the end tokens alone; generate() fills in from the model's own what any other has open."""
    base = unwrapped(model)
    before = base.generation_config
    base.generation_config = GenerationConfig(eos_token_id=end_tokens(model, tokenizer))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        base.generation_config = before


def is_single(prompt: Any) -> bool:
    """Whether this is one prompt, a text or messages, and no list of prompts."""
    return isinstance(prompt, str) or (isinstance(prompt, list) and any(isinstance(part, Mapping) for part in prompt))


def prompts_in(prompt: Any) -> list[Prompt]:
    """One prompt, or several, as a list of prompts, none of which was looked at yet.

    Raises:
        ConfigError: there is none.
    """
    if is_single(prompt):
        return [prompt]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes) or not len(prompt):
        raise ConfigError(
            "expected a prompt (a text, or a list of messages with 'role' and 'content') or a list of prompts, at "
            f"least one, got {prompt!r:.60}"
        )
    return list(prompt)


@contextmanager
def _naming_prompt(i: int, n_prompts: int) -> Iterator[None]:
    """Says in errors which of several prompts they are about, counted from 1."""
    try:
        yield
    except (ConfigError, DatasetError) as error:
        if n_prompts == 1:
            raise
        raise type(error)(f"in prompt {i + 1}: {error}") from error
