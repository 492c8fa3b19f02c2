"""A request of the API becomes requests to the model: prompts as tokens, limits held to, seeds drawn."""

from __future__ import annotations

import asyncio
import copy
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.decode import Prompt, Request, seeds_of
from s0.errors import ConfigError, DatasetError
from s0.models import check_tokens, encode_prompt, end_tokens
from s0.serve.metrics import Metrics
from s0.serve.parameters import ChatBody, CompletionBody, Sampled
from s0.serve.refusals import RequestError
from s0.serve.registry import Registry
from s0.serve.runner import Runner, RunnerLimits, Stream

_TOKENS_OF_COMPLETIONS = 16
"""What OpenAI's completions end at where nothing is asked."""


@dataclass(frozen=True)
class RequestLimits:
    """What a request may ask for.

    Attributes:
        max_body_bytes: of its body.
        max_prompt_tokens: of a prompt; None for as many as the model has room for.
        max_new_tokens: of a completion.
        max_samples: completions of a request, those of all its prompts together.
    """

    max_body_bytes: int = 1 << 20
    max_prompt_tokens: int | None = None
    max_new_tokens: int = 4096
    max_samples: int = 16

    def __post_init__(self) -> None:
        counts = (self.max_body_bytes, self.max_prompt_tokens or 1, self.max_new_tokens, self.max_samples)
        if min(counts) < 1:
            raise ConfigError(f"expected limits of at least 1, got {self}")


class Service:
    """One model with its states, and the thread that runs it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        states: Registry,
        *,
        runner_limits: RunnerLimits | None = None,
        request_limits: RequestLimits | None = None,
    ) -> None:
        """Put the parts together; `runner.start()` begins.

        Raises:
            ConfigError: limits that contradict each other, or a tokenizer without an end token.
            UnsupportedModelError: no batch can be made of what the model remembers.
        """
        running, self.limits = runner_limits or RunnerLimits(), request_limits or RequestLimits()
        most = running.max_rows + running.max_waiting
        if self.limits.max_samples > most:
            raise ConfigError(
                f"expected `max_samples` <= `max_rows` + `max_waiting`, that is {most}, got {self.limits.max_samples}: "
                "such a request could never begin"
            )
        self.states, self.metrics = states, Metrics()
        self.ends = end_tokens(model, tokenizer)
        batcher = running.batcher(model, tokenizer)
        batcher.submit(Request((0,), 2))
        batcher.finish(lambda event: None)  # what cannot run is told now, not to the first client
        self.runner = Runner(batcher, states, running, self.metrics)
        self._model = model
        self._longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.tokenizer = copy.deepcopy(tokenizer)  # the runner's own may be busy
        self._encoding = ThreadPoolExecutor(1, "s0-encoding")  # a long prompt keeps nobody else waiting for the loop

    def close(self) -> None:
        """End all threads; what still runs ends with an error."""
        self.runner.stop()
        self._encoding.shutdown()

    async def completions(self, asked: CompletionBody) -> Answering:
        """Begin the completions that `POST /v1/completions` asks for.

        Raises:
            S0Error, RequestError: it cannot be answered; says why.
        """
        self.states.require(asked.model)
        prompts = _prompts_in(asked)
        max_tokens = _TOKENS_OF_COMPLETIONS if asked.max_tokens is None else asked.max_tokens
        return await self._begin(asked, prompts, max_tokens, asked.logprobs)

    async def chat(self, asked: ChatBody) -> Answering:
        """Begin the completions that `POST /v1/chat/completions` asks for.

        Raises:
            S0Error, RequestError: it cannot be answered; says why.
        """
        self.states.require(asked.model)
        if self.tokenizer.chat_template is None:
            raise RequestError(
                "expected a model with a chat template, got one whose tokenizer has none; ask POST /v1/completions "
                "with the prompt as text, or put a chat_template.jinja into the model's folder",
                "messages",
                code="no_chat_template",
            )
        if asked.top_logprobs is not None and not asked.logprobs:
            raise RequestError("expected `logprobs` true with `top_logprobs`, got none; set it", "top_logprobs")
        limits = {asked.max_tokens, asked.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise RequestError(
                "expected one of `max_tokens` and `max_completion_tokens`, got both; leave one out", "max_tokens"
            )
        messages: list[Prompt] = [[message.for_template() for message in asked.messages]]
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
        return await self._begin(asked, messages, next(iter(limits), None), logprobs)

    async def _begin(
        self, asked: Sampled, prompts: Sequence[Prompt | tuple[int, ...]], max_tokens: int | None, logprobs: int | None
    ) -> Answering:
        n = asked.n or 1
        self._require_possible(asked, len(prompts) * n, max_tokens)
        temperature = 1.0 if asked.temperature is None else asked.temperature
        stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._encoding, self._encoded, prompts, asked.asks_in)
        self._require_room(max(map(len, tokens)), max_tokens or 1)
        requests = [
            Request(
                prompt,
                max_tokens or self._room(prompt),
                float(temperature),
                float(1.0 if asked.top_p is None else asked.top_p),
                sample_seed,
                stop,
                logprobs=logprobs,
            )
            for prompt in tokens
            for sample_seed in seeds_of(seed, prompt, n)
        ]
        return Answering(self.runner.submit(asked.model, requests), sum(map(len, tokens)), logprobs is not None)

    def _require_possible(self, asked: Sampled, n_samples: int, max_tokens: int | None) -> None:
        if n_samples > self.limits.max_samples:
            raise RequestError(
                f"expected at most {self.limits.max_samples} completions of a request, got {n_samples}; ask for them "
                "in several",
                "n",
            )
        if max_tokens is not None and max_tokens > self.limits.max_new_tokens:
            raise RequestError(
                f"expected at most {self.limits.max_new_tokens} tokens of a completion, got {max_tokens}; ask for less",
                "max_tokens",
            )
        if (asked.n or 1) > 1 and asked.temperature == 0:
            raise RequestError("expected a `temperature` above 0 for several samples, got 0; set one", "n")
        if asked.stream_options is not None and not asked.stream:
            raise RequestError("expected `stream` true with `stream_options`, got none; set it", "stream_options")

    def _encoded(self, prompts: Sequence[Prompt | tuple[int, ...]], param: str) -> list[tuple[int, ...]]:
        try:
            return [self._tokens(prompt) for prompt in prompts]
        except DatasetError as error:
            raise RequestError(str(error), param) from None

    def _tokens(self, prompt: Prompt | tuple[int, ...]) -> tuple[int, ...]:
        tokens = prompt if isinstance(prompt, tuple) else tuple(encode_prompt(self.tokenizer, prompt))
        if not tokens:
            raise DatasetError("expected a prompt with at least one token, got none")
        most = self.limits.max_prompt_tokens
        if most is not None and len(tokens) > most:
            raise DatasetError(f"expected a prompt of at most {most} tokens, got {len(tokens)}; shorten it")
        check_tokens(self._model, self.tokenizer, tokens, "the prompt")
        return tokens

    def _require_room(self, n_prompt: int, max_tokens: int) -> None:
        if self._longest is not None and n_prompt + max_tokens > self._longest:
            raise RequestError(
                f"expected a prompt and `max_tokens` of at most {self._longest} tokens together, for which the model "
                f"was made, got {n_prompt} and {max_tokens}; ask for less, or shorten the prompt",
                "max_tokens",
            )

    def _room(self, prompt: tuple[int, ...]) -> int:
        """The most tokens that can follow a prompt."""
        return self.most_new_tokens if self._longest is None else min(self.most_new_tokens, self._longest - len(prompt))

    @property
    def most_new_tokens(self) -> int:
        """The most tokens that a completion can have."""
        most = self.limits.max_new_tokens
        return most if self._longest is None else min(most, self._longest - 1)


@dataclass(frozen=True)
class Answering:
    """A request that is being answered.

    Attributes:
        stream: of its tokens.
        prompt_tokens: of all its prompts.
        with_logprobs: whether its tokens come with log-probabilities.
    """

    stream: Stream
    prompt_tokens: int
    with_logprobs: bool


def _prompts_in(asked: CompletionBody) -> list[str | tuple[int, ...]]:
    """The prompts of a request, texts or tokens, at least one."""
    prompt = asked.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("expected at least one prompt, got none; add one", "prompt")
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [part if isinstance(part, str) else tuple(part) for part in prompt]
