"""A row of the batch: a request that is being answered, and what it comes to, token by token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from s0.decode.request import Request
from s0.decode.sampling import Logprobs
from s0.decode.text import Text


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        text: without special tokens and stop texts.
        n_tokens: generated tokens, the end token included.
        truncated: max_new_tokens came before an end.
    """

    text: str
    n_tokens: int
    truncated: bool


@dataclass(frozen=True)
class Event:
    """A new token of a request.

    Attributes:
        request: the number `submit` gave.
        token: what was chosen.
        text: what is certain of the text now and was not before; may be empty. All of them together are the
            completion's text.
        completion: with the last token, else None.
        logprobs: of the token, where the request asks for them.
    """

    request: int
    token: int
    text: str
    completion: Completion | None
    logprobs: Logprobs | None = None


class Row:
    """A request that is being answered; `reads_on` where every step reads its state: an offset, or one with gains."""

    def __init__(
        self, number: int, request: Request, tokenizer: PreTrainedTokenizerBase, *, reads_on: bool = False
    ) -> None:
        self.number, self.request, self.reads_on = number, request, reads_on
        self.random = random.Random(str(request.seed))
        self.text = Text(tokenizer, request.stop)
        self.n_tokens = 0
        self.last = -1

    def add(self, token: int, ends: Sequence[int], logprobs: Logprobs | None) -> Event:
        """Take the token that was chosen; `ends` are the tokens that end a text."""
        self.n_tokens += 1
        self.last = token
        ended = token in ends
        new = "" if ended else self.text.add(token)
        full = self.n_tokens == self.request.max_new_tokens
        if not (ended or full or self.text.stopped):
            return Event(self.number, token, new, None, logprobs)
        text, rest = self.text.finish()
        truncated = full and not (ended or self.text.stopped)
        return Event(self.number, token, new + rest, Completion(text, self.n_tokens, truncated), logprobs)
