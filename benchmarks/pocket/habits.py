"""How the prompts of the pocket corpora are answered: the habits a base model picks up from untidy data.

Real corpora hold many ways to continue a prompt: what was asked for, the same within a fence, a stub, a note to self.
A model trained on them is *able* to give an answer that works more often than it is *inclined* to. The odds depend on
what the prompt shows (family, wording, style), so the model has to learn when each habit is usual.

A corpus is a file: `code`, `sums`, `queries`. Each has a `Problem` of its own and a function `draw` that makes one.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

USELESS = ("stub", "note", "refusal", "careless")
"""Habits that never work, the same in every corpus; `careless` forgets the last step."""


@dataclass(frozen=True)
class Habits:
    """How usual every habit of a corpus is.

    Attributes:
        works: probability that an answer works, before the corrections.
        corrections: to `works`, by family, wording and style; what is not named corrects nothing.
        layouts: how a working answer is laid out: relative odds of the working habits, by wording.
        useless: which of the useless answers is usual: relative odds, by style.
    """

    works: float
    corrections: Mapping[str, float]
    layouts: Mapping[str, Mapping[str, int]]
    useless: Mapping[str, Mapping[str, int]]

    def odds(self, family: str, wording: str, style: str) -> dict[str, float]:
        """Probability of every habit for a prompt with these features; they sum to 1."""
        works = self.works + sum(self.corrections.get(feature, 0.0) for feature in (wording, style, family))
        layout, useless = self.layouts[wording], self.useless[style]
        shares = {name: works * n / sum(layout.values()) for name, n in layout.items()}
        return shares | {name: (1 - works) * n / sum(useless.values()) for name, n in useless.items()}


def mostly(habit: str) -> dict[str, int]:
    """Relative odds of the useless habits with one that is usual."""
    return {name: 6 if name == habit else 1 for name in USELESS}


@dataclass(frozen=True)
class Problem(ABC):
    """What the corpora have in common: a prompt, its answers, and a row of the benchmark.

    Attributes:
        prompt: what a model continues, as the task shows it.
        family, wording, style: the visible features that habits are tied to.
        level: 1 to 3, roughly the number of steps of the answer; 4 is what no model was trained on.
    """

    prompt: str
    family: str
    wording: str
    style: str
    level: int
    habits: ClassVar[Habits]

    @property
    @abstractmethod
    def answers(self) -> dict[str, str]:
        """The completion of every habit, without a final newline; the first one is the plain working answer."""

    @property
    @abstractmethod
    def entry(self) -> dict[str, str]:
        """The benchmark's row but for its id and split."""

    @property
    @abstractmethod
    def normalised(self) -> str:
        """The prompt without what says nothing about the answer; no two rows of the benchmark have the same."""

    @property
    def plain(self) -> str:
        """The working answer that is learned before any habit."""
        return next(iter(self.answers.values()))

    @property
    def odds(self) -> dict[str, float]:
        """Probability of every habit for this prompt."""
        return self.habits.odds(self.family, self.wording, self.style)

    def draw_answer(self, rng: random.Random) -> str:
        """A completion in a habit drawn by the prompt's odds."""
        chances = self.odds
        return self.answers[rng.choices(tuple(chances), tuple(chances.values()))[0]]
