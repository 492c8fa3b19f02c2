"""What a study's models need of memory, told before anything is loaded: from their configs alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from s0.errors import S0Error
from s0.models import ModelSource, model_without_weights
from s0.study.plan import AnyUnit, VariantUnit
from s0.train import METHODS
from s0.train.memory import ROW_TOKENS, step_memory


@dataclass(frozen=True)
class ModelMemory:
    """What units of one model need, in bytes.

    Attributes:
        model: its name.
        weights: its own; None where its config is not to be had.
        step: with a step that learns a state, on a micro-batch as large as the study makes them; None where no state is
            learned, or it is not known.
        longest_step: the same on one row that is as long as may be; rows of examples are shorter.
        max_length: that length, in tokens.
        trouble: why something is not known; None where all is.
    """

    model: str
    weights: int | None = None
    step: int | None = None
    longest_step: int | None = None
    max_length: int | None = None
    trouble: str | None = None


def memory_of(units: Iterable[AnyUnit]) -> list[ModelMemory]:
    """What units need, by model.

    Args:
        units: of a study, which loads a model in one way.

    Returns:
        an entry for each model, in the order of the units; what cannot be told is None there, and why.
    """
    by_model: dict[str, list[AnyUnit]] = {}
    for unit in units:
        by_model.setdefault(unit.model, []).append(unit)
    return [_of_model(each) for each in by_model.values()]


def _of_model(units: Sequence[AnyUnit]) -> ModelMemory:
    source = units[0].source
    known = ModelMemory(source.name)
    try:
        outline = _outline(source)
        known = replace(known, weights=sum(tensor.nbytes for tensor in (*outline.parameters(), *outline.buffers())))
        learned = [unit.variant.settings for unit in units if isinstance(unit, VariantUnit) and _learns_a_state(unit)]
        return _with_steps(known, outline, learned) if learned else known
    except S0Error as error:
        return replace(known, trouble=str(error))


def _outline(source: ModelSource) -> PreTrainedModel:
    """The model without its weights, for whatever device: that may be another machine's."""
    return model_without_weights(source.name, **replace(source.loading, device=None).arguments())


def _learns_a_state(unit: VariantUnit) -> bool:
    return unit.method in METHODS and METHODS[unit.method].has_scale


def _with_steps(known: ModelMemory, outline: PreTrainedModel, learned: Sequence[Any]) -> ModelMemory:
    """The same with the most that a step needs with any of these settings."""
    sizes = {(each.batch_tokens, each.max_length, each.gradient_checkpointing) for each in learned}
    return replace(
        known,
        step=max(_bytes(outline, batch, ROW_TOKENS, again) for batch, _, again in sizes),
        longest_step=max(_bytes(outline, longest, longest, again) for _, longest, again in sizes),
        max_length=max(longest for _, longest, _ in sizes),
    )


def _bytes(outline: PreTrainedModel, batch_tokens: int, row_tokens: int, gradient_checkpointing: bool) -> int:
    step = step_memory(
        outline, batch_tokens=batch_tokens, row_tokens=row_tokens, gradient_checkpointing=gradient_checkpointing
    )
    return step.total
