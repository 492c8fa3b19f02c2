"""Answers in OpenAI's two forms, whole or in chunks, made of the tokens that a stream brings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from s0.decode import Event
from s0.decode.text import Text

_LEAST_LOGPROB = -9999.0
"""What stands for the logarithm of 0, which JSON cannot write."""


@dataclass(frozen=True)
class Entry:
    """A token with its log-probability.

    Attributes:
        token: its text; U+FFFD stands for a part of a character.
        logprob: in nats.
        likeliest: (text, log-probability) of other tokens there.
        offset: of the token's first character in the completion's text.
    """

    token: str
    logprob: float
    likeliest: Sequence[tuple[str, float]]
    offset: int


@dataclass
class Choice:
    """A completion while it comes.

    Attributes:
        index: among the choices.
        text: so far.
        finish_reason: once it has ended.
        entries: of every token so far but an end token; None where nobody asks for them.
    """

    index: int
    text: str = ""
    finish_reason: str | None = None
    entries: list[Entry] | None = None
    n_tokens: int = 0


@dataclass(frozen=True)
class Piece:
    """What an event has added to a choice."""

    index: int
    text: str
    finish_reason: str | None
    entries: list[Entry] | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.text or self.entries or self.finish_reason)


class Choices:
    """All choices of an answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], n: int, *, with_logprobs: bool) -> None:
        self._tokenizer, self._ends = tokenizer, frozenset(ends)
        self.all = [Choice(i, entries=[] if with_logprobs else None) for i in range(n)]
        self._read = [Text(tokenizer, ()) for _ in range(n)]  # the same texts, but for what a stop text holds back
        self._offsets = [0] * n

    @property
    def n_tokens(self) -> int:
        """Tokens written, end tokens included."""
        return sum(choice.n_tokens for choice in self.all)

    def add(self, index: int, event: Event) -> Piece:
        """Take the next token of a choice."""
        choice = self.all[index]
        choice.n_tokens += 1
        choice.text += event.text
        if event.completion is not None:
            choice.finish_reason = "length" if event.completion.truncated else "stop"
        entries = None
        if choice.entries is not None:
            entries = [] if event.token in self._ends else [self._entry(index, event)]
            choice.entries += entries
        return Piece(index, event.text, choice.finish_reason, entries)

    def _entry(self, index: int, event: Event) -> Entry:
        assert event.logprobs is not None
        offset = self._offsets[index]
        self._offsets[index] += len(self._read[index].add(event.token))
        likeliest = [(self._text(token), _finite(logprob)) for token, logprob in event.logprobs.likeliest]
        return Entry(self._text(event.token), _finite(event.logprobs.chosen), likeliest, offset)

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB)


@dataclass(frozen=True)
class Usage:
    """Tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int

    def as_dict(self) -> dict[str, int]:
        """In OpenAI's form."""
        return {**vars(self), "total_tokens": self.prompt_tokens + self.completion_tokens}


@dataclass(frozen=True)
class Head:
    """What every part of an answer begins with.

    Attributes:
        id: of the answer.
        model: the name that was asked for.
        version: of the state that it starts from.
    """

    id: str
    model: str
    version: str
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, kind: str, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """A whole answer, or a chunk of one."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.version,
            "choices": list(choices),
            **more,
        }


class CompletionForm:
    """`/v1/completions`."""

    prefix, whole_kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def opening(self, index: int) -> dict[str, Any] | None:
        """What comes before the first piece of a choice."""
        return None

    def whole(self, choice: Choice) -> dict[str, Any]:
        """A choice that has ended."""
        return self.piece(Piece(choice.index, choice.text, choice.finish_reason, choice.entries))

    def piece(self, piece: Piece) -> dict[str, Any]:
        """A part of a choice."""
        logprobs = None if piece.entries is None else self._logprobs(piece.entries)
        return {"index": piece.index, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish_reason}

    def _logprobs(self, entries: Sequence[Entry]) -> dict[str, Any]:
        return {
            "tokens": [entry.token for entry in entries],
            "token_logprobs": [entry.logprob for entry in entries],
            # Of several tokens with one text, parts of characters say, the likeliest counts, or the one that was taken.
            "top_logprobs": [{**dict(reversed(entry.likeliest)), entry.token: entry.logprob} for entry in entries],
            "text_offset": [entry.offset for entry in entries],
        }


class ChatForm:
    """`/v1/chat/completions`."""

    prefix, whole_kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self, index: int) -> dict[str, Any] | None:
        """See `CompletionForm`."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def whole(self, choice: Choice) -> dict[str, Any]:
        """See `CompletionForm`."""
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return self._choice(choice, {"message": message})

    def piece(self, piece: Piece) -> dict[str, Any]:
        """See `CompletionForm`."""
        return self._choice(piece, {"delta": {"content": piece.text} if piece.text else {}})

    def _choice(self, part: Choice | Piece, text: dict[str, Any]) -> dict[str, Any]:
        logprobs = None if part.entries is None else {"content": [*map(_chat_entry, part.entries)], "refusal": None}
        return {"index": part.index, **text, "logprobs": logprobs, "finish_reason": part.finish_reason}


def _chat_entry(entry: Entry) -> dict[str, Any]:
    likeliest = [_chat_token(token, logprob) for token, logprob in entry.likeliest]
    return {**_chat_token(entry.token, entry.logprob), "top_logprobs": likeliest}


def _chat_token(token: str, logprob: float) -> dict[str, Any]:
    is_whole = "\ufffd" not in token
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()) if is_whole else None}


Form = CompletionForm | ChatForm
