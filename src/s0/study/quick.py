"""The same study in small: all its variants, models and tasks, on so few examples and problems that it is quick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from s0.study.spec import Amount, Study, VariantSpec

_SEEDS, _STEPS, _ASKED = 1, 2, 8
_TRAIN_PROBLEMS, _SELECT_PROBLEMS, _SAMPLES, _DRAWN = 12, 10, 4, 2
_ROUNDS, _ENTRIES = 1, 2
"""Of a variant in rounds, and of a grid: enough to choose from."""
_ASKED_ONCE = "-fresh"
"""Tasks whose final problems are asked for a claim and nothing else; their sisters stand in for them."""


def quickened(study: Study) -> Study:
    """The study in small. Its figures say nothing of what it is about; that it runs is what it shows."""
    collection = replace(
        study.collection,
        train_problems=_TRAIN_PROBLEMS,
        select_problems=_SELECT_PROBLEMS,
        samples=_SAMPLES,
        select_samples=_SAMPLES,
    )
    return replace(
        study,
        is_quick=True,
        seeds=study.seeds[:_SEEDS],
        limit=_ASKED,
        asked=tuple(task.removesuffix(_ASKED_ONCE) for task in study.asked),
        collection=collection,
        examples=_small_amounts(study),
        drawn=study.drawn and replace(study.drawn, n=min(study.drawn.n, _DRAWN)),
        variants={name: _small_variant(variant) for name, variant in study.variants.items()},
    )


def _small_amounts(study: Study) -> tuple[Amount, ...]:
    """One of few examples and one of all, where there are such."""
    few = [replace(amount, n=2, draws=min(amount.draws, 2)) for amount in study.examples if amount.n is not None][:1]
    return tuple(dict.fromkeys([*few, *(amount for amount in study.examples if amount.n is None)]))


def _small_variant(variant: VariantSpec) -> VariantSpec:
    if not variant.learns:
        return variant
    return replace(
        variant,
        rounds=variant.rounds and replace(variant.rounds, n=min(variant.rounds.n, _ROUNDS)),
        settings=_small_settings(variant.settings),
        on={model: _small_settings(settings) for model, settings in variant.on.items()},
        grid=_small_grid(variant.grid),
    )


def _small_grid(grid: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A few entries; those that differ in the number of steps alone are one now."""
    small = [_small_settings(settings) for settings in grid]
    return [settings for number, settings in enumerate(small) if settings not in small[:number]][:_ENTRIES]


def _small_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "n_steps": min(_STEPS, settings.get("n_steps", _STEPS))}
