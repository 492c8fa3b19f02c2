"""The text of a completion while its tokens come in."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # what a decoder writes for the first bytes of a character


class Text:
    """Decodes a growing list of tokens a few at a time, hands out what is certain, and finds where to stop.

    Held back are the first bytes of a character and what may become a stop text.

    Attributes:
        stopped: a stop text has come.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        self.stopped = False
        self._starts = tuple({text[:n] for text in self.stop for n in range(1, len(text))})
        self._overlap = max(map(len, self.stop), default=1) - 1  # how far one may reach back from new text
        self._tokens: list[int] = []
        self._settled = ""  # the text of the tokens before `_border`
        self._tail = ""  # of those behind it, as far as it is known
        # A tokenizer may write a token differently at the start of a text, so new ones are decoded behind old ones.
        self._from = self._border = 0
        self._n_sent = 0  # characters handed out

    def add(self, token: int) -> str:
        """Take the next token, and hand out the text that is certain now."""
        self._tokens.append(token)
        self._tail = self._decode(self._from)[len(self._decode(self._from, self._border)) :]
        recent = self._settled[max(0, len(self._settled) - self._overlap) :] + self._tail
        self.stopped = any(stop in recent for stop in self.stop)
        if self.stopped:
            return ""
        if self._tail and not self._tail.endswith(_INCOMPLETE):
            self._settled, self._tail = self._settled + self._tail, ""
            self._from, self._border = self._border, len(self._tokens)
        return self._give(self._settled[: len(self._settled) - self._undecided()])

    def finish(self) -> tuple[str, str]:
        """The whole text, without the stop text, and the part of it that was not handed out yet."""
        text = self._settled + self._tail
        text = text[: min((at for stop in self.stop if (at := text.find(stop)) >= 0), default=None)]
        return text, self._give(text)

    def _give(self, text: str) -> str:
        n_sent, self._n_sent = self._n_sent, len(text)
        return text[n_sent:]

    def _undecided(self) -> int:
        """How much of the settled text's end may be the beginning of a stop text."""
        if not self._settled.endswith(self._starts):
            return 0
        return max(len(start) for start in self._starts if self._settled.endswith(start))

    def _decode(self, start: int, end: int | None = None) -> str:
        tokens = self._tokens[start:end]
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
