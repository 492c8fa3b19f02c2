"""Answers that are kept as they come, and taken again where everything that they depend on is the same.

    {"kind": "answers", ...}
    {"key": "3f...", "prompt": "a1...", "answer": {"problem": "mine/1", ...}, "of": {"base": ..., "tuned": ..., ...}}
    {"key": "3f...", "prompt": "77...", "answer": {"problem": "mine/2", ...}}

The key is a hash of what all answers of one model to one set of questions depend on, which the first answer with a key
tells in words (`of`). A prompt is known by its tokens. So one file serves the untouched model and whatever was tuned,
and no answer is given a second time: not after a kill, nor to compare with another state.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from torch import nn

from s0.adapter.fingerprint import UNKNOWN, fingerprint, weights_digest
from s0.bench.journal import Journal, origin_of
from s0.record import Answer
from s0.train.account import prompt_digest

UNTOUCHED = "base"
"""Stands for the checksum of what was tuned where nothing was."""
_ORIGIN = {
    "kind": "answers",
    "format_version": 1,
    "key": "hash of what answers depend on; the first answer with a key tells it as `of`",
}


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer with what it depends on.

    Attributes:
        key: hash of `of`.
        prompt: hash of the tokens that were shown.
        answer: with its verdicts.
        of: what all answers with this key depend on; told with one of them.
    """

    key: str
    prompt: str
    answer: Answer
    of: dict[str, Any] | UnsetType = UNSET


class AnswerJournal(Journal[StoredAnswer]):
    """Answers of any number of models to any questions."""

    kind = StoredAnswer
    what = "answer"

    def __init__(self, path: Path, base: str) -> None:
        """Open a file of answers, or make one; errors as of `Journal`.

        Args:
            path: of the file.
            base: tells the model apart whose answers are looked for and added, see `weights_digest`.
        """
        self._base = base
        self._answers: dict[tuple[str, str, str, int | None], Answer] = {}
        self._keys: set[str] = set()
        super().__init__(path, _ORIGIN)

    def of(self, facts: Mapping[str, Any]) -> StoredAnswers:
        """The answers that depend on just this, and on the base model."""
        return StoredAnswers(self, {"base": self._base, **facts})

    def find(self, key: str, prompt: str, problem: str, sample: int | None) -> Answer | None:
        """The answer to a problem's prompt; `sample` is its number among several."""
        return self._answers.get((key, prompt, problem, sample))

    def knows(self, key: str) -> bool:
        """Whether there is an answer with this key."""
        return key in self._keys

    def _keep(self, row: StoredAnswer) -> None:
        self._keys.add(row.key)
        self._answers[row.key, row.prompt, row.answer.problem, row.answer.sample] = row.answer


class StoredAnswers:
    """Those answers of a journal that depend on the same facts."""

    def __init__(self, journal: AnswerJournal, facts: Mapping[str, Any]) -> None:
        self._journal, self._facts = journal, dict(facts)
        self._key = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()[:32]

    def find(self, tokens: Sequence[int], problem: str, sample: int | None) -> Answer | None:
        """The answer to a problem whose prompt has these tokens."""
        return self._journal.find(self._key, prompt_digest(tokens), problem, sample)

    def add(self, answers: Sequence[tuple[Sequence[int], Answer]]) -> None:
        """Keep answers to prompts of these tokens."""
        rows = [StoredAnswer(self._key, prompt_digest(tokens), answer) for tokens, answer in answers]
        if rows and not self._journal.knows(self._key):
            rows[0] = msgspec.structs.replace(rows[0], of=self._facts)
        self._journal.add(rows)


def answers_file(record: str | Path) -> Path:
    """Where the answers of a record are kept: x.answers.jsonl for x.json."""
    return Path(record).with_suffix(".answers.jsonl")


def holds_answers(path: Path) -> bool:
    """Whether a file is a journal of answers."""
    return (origin_of(path) or {}).get("kind") == _ORIGIN["kind"]


def open_answers(path: Path | None, model: nn.Module) -> AnswerJournal | None:
    """The journal for answers of a model; None where there is to be none, or its weights cannot be told from others.

    Raises:
        ConfigError, DatasetError: as of `Journal`.
    """
    if path is None:
        return None
    if fingerprint(model) == UNKNOWN:
        warnings.warn(
            "answers are not kept: quantised and sharded weights cannot be told from others, so that no answer of "
            "theirs can be taken again",
            stacklevel=2,
        )
        return None
    return AnswerJournal(path, weights_digest(model))
