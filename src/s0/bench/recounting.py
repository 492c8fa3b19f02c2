"""What a record says of its answers, counted again from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from s0.bench.asking import Samples
from s0.bench.evaluation import sampled_summary, summary
from s0.bench.record import Pairs, comparisons, sampled_comparisons
from s0.errors import DatasetError
from s0.record import Answer, Comparison, Record, Sampled, SampledComparison, SampledSummary, Summary

_ROUNDING = 1e-6
_NONE = 0.0  # what is not named: a form that no answer has may be named as well


def require_recounted(record: Record, name: str) -> None:
    """Refuse a record whose summaries or comparisons are not those of its answers, rounding aside.

    Args:
        record: whose answers are whole.
        name: what errors call it.

    Raises:
        DatasetError: names the first figure that differs.
    """
    pairs = [(comparison.first, comparison.second) for comparison in record.comparisons]
    not_compared = record.final.keys() - {record.untouched, *(second for _, second in pairs)}
    if not_compared:
        raise DatasetError(
            f"expected every variant compared with another, got {sorted(not_compared)!r:.80} compared with none in "
            f"{name}; evaluate again"
        )
    answers = {variant: in_order(stored, record.problems, 1, name) for variant, stored in record.answers.items()}
    final = {variant: summary(stored) for variant, stored in answers.items()}
    _require_equal(record.final, final, "final", name)
    _require_equal(_by_pair(record.comparisons), _by_pair(comparisons(answers, pairs)), "comparisons", name)
    if record.sampled is not None:
        _require_recounted_samples(record.sampled, record.problems, pairs, name)


def in_order(answers: Sequence[Answer], problems: Collection[str], n: int, of: str) -> list[Answer]:
    """A variant's answers in the order of the problems, `n` to each.

    Raises:
        DatasetError: there are others.
    """
    place = {problem: i for i, problem in enumerate(problems)}
    ordered = sorted(answers, key=lambda answer: place.get(answer.problem, -1))
    if [answer.problem for answer in ordered] != [problem for problem in problems for _ in range(n)]:
        raise DatasetError(
            f"expected the answers of every variant, {n} to each problem, got others in {of}; evaluate again"
        )
    return ordered


def _require_recounted_samples(sampled: Sampled, problems: Collection[str], pairs: Pairs, name: str) -> None:
    samples = Samples(sampled.n, sampled.temperature, sampled.top_p, sampled.seed)
    answers = {variant: in_order(stored, problems, samples.n, name) for variant, stored in sampled.answers.items()}
    final = {variant: sampled_summary(drawn, samples) for variant, drawn in answers.items()}
    _require_equal(sampled.final, final, "sampled.final", name)
    compared = _by_pair(sampled_comparisons(answers, samples, pairs))
    _require_equal(_by_pair(sampled.comparisons), compared, "sampled.comparisons", name)


def _by_pair(compared: Sequence[Comparison] | Sequence[SampledComparison]) -> dict[str, dict[str, Any]]:
    return {f"{comparison.second} against {comparison.first}": dict(comparison.items()) for comparison in compared}


Part = Mapping[str, Summary] | Mapping[str, SampledSummary] | Mapping[str, dict[str, Any]]


def _require_equal(recorded: Part, counted: Part, part: str, name: str) -> None:
    stated, true = (dict(_figures(part, to_builtins(figures))) for figures in (recorded, counted))
    for figure in {**true, **stated}:
        got, wanted = stated.get(figure, _NONE), true.get(figure, _NONE)
        if not _same(got, wanted):
            raise DatasetError(
                f"expected figures that are those of the answers, got {got!r:.60} as {figure!r:.120} in {name}, where "
                f"its answers give {wanted!r:.60}; take a copy that nobody has changed, or evaluate again"
            )


def _figures(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every figure with the names that lead to it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _figures(f"{where}.{key}", part)
    else:
        yield where, sorted(value) if isinstance(value, list | tuple) else value


def _same(recorded: Any, counted: Any) -> bool:
    if isinstance(recorded, float | int) and isinstance(counted, float | int):
        return math.isclose(recorded, counted, rel_tol=0.0, abs_tol=_ROUNDING)
    return bool(recorded == counted)
