"""How the pocket models are pretrained, and on which texts: those follow from a recipe alone, without a tensor.

So what a model has seen can be drawn again long after, to keep new problems away from it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.pocket.corpora import CORPORA
from benchmarks.pocket.habits import Problem

_BATCHES_AT_ONCE = 32  # rows are drawn and sorted by length this many batches at a time
Text = tuple[Problem, str]  # a problem and the answer that is learned


@dataclass(frozen=True)
class Recipe:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        batch_rows: rows per step.
        shares: of the rows that every corpus has; they sum to 1.
        peak_rate: AdamW learning rate after the warm-up; it falls to zero on a cosine.
        warmup_steps: steps of linear warm-up.
        habits_from, prompts_from: share of the steps after which phase 2 and phase 3 begin.
        seed: draws the rows and the first weights.
    """

    steps: int = 3600
    batch_rows: int = 32
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"pocket-code": 0.5, "pocket-math": 0.3, "pocket-sql": 0.2}
    )
    peak_rate: float = 3e-3
    warmup_steps: int = 100
    habits_from: float = 0.5
    prompts_from: float = 0.85
    seed: int = 0


RECIPES = {"gdn": Recipe(), "mamba2": Recipe(steps=4800), "transformer": Recipe(steps=4800)}
"""GatedDeltaNet learns the corpora fastest (benchmarks/pocket/log.md)."""


@dataclass(frozen=True)
class Block:
    """Texts that are sorted by length together, for several batches.

    Attributes:
        texts: corpus after corpus.
        order: in which the batches follow each other, by their place among the sorted ones.
        prompts: whether the prompts are learned too.
    """

    texts: list[Text]
    order: list[int]
    prompts: bool


def draw_texts(
    rng: random.Random, count: int, shares: Mapping[str, float], habits: bool, banned: Collection[str]
) -> list[Text]:
    """`count` texts, corpus after corpus; problems whose normalised prompt is in `banned` are drawn again."""
    texts: list[Text] = []
    for corpus, so_far in zip(shares, itertools.accumulate(shares.values()), strict=True):
        while len(texts) < round(count * so_far):
            problem = CORPORA[corpus](rng)
            if problem.normalised not in banned:
                texts.append((problem, problem.draw_answer(rng) if habits else problem.plain))
    return texts


def draw_blocks(recipe: Recipe, banned: Collection[str]) -> Iterator[Block]:
    """All that a recipe trains on. The last block has more batches in it than there are steps left."""
    rng = random.Random(recipe.seed)
    for start in range(0, recipe.steps, _BATCHES_AT_ONCE):
        habits = start >= recipe.habits_from * recipe.steps
        prompts = start >= recipe.prompts_from * recipe.steps
        texts = draw_texts(rng, _BATCHES_AT_ONCE * recipe.batch_rows, recipe.shares, habits, banned)
        order = [*range(_BATCHES_AT_ONCE)]
        rng.shuffle(order)
        yield Block(texts, order[: recipe.steps - start], prompts)


def trained_prompts(banned: Collection[str]) -> frozenset[str]:
    """Normalised prompts that at least one of `RECIPES` draws; about a minute.

    Args:
        banned: normalised prompts of the problems that were there when the models were trained.
    """
    recipes = [recipe for number, recipe in enumerate(RECIPES.values()) if recipe not in [*RECIPES.values()][:number]]
    return frozenset(
        problem.normalised for recipe in recipes for block in draw_blocks(recipe, banned) for problem, _ in block.texts
    )
