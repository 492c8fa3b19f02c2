"""Records of variants that answered the same questions: how they are put together."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import msgspec
import torch
from msgspec import UNSET
from torch import nn

from s0.adapter.fingerprint import fingerprint, how_loaded
from s0.bench.asking import Questions, Samples
from s0.bench.evaluation import sampled_summary, solved, summary
from s0.bench.judging import judged_under
from s0.bench.stats import compare, holm, paired_t, pass_at_k
from s0.bench.variants import Outcome
from s0.models import ModelSource
from s0.record import (
    FORMAT_VERSION,
    Answer,
    Comparison,
    Difference,
    Model,
    Record,
    Run,
    Sampled,
    SampledComparison,
    SampledDifference,
    TaskFacts,
    effect_of,
)
from s0.tasks import SCORINGS

Pairs = Sequence[tuple[str, str]]

_PACKAGES = ("s0-tuning", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """When and on what a record was made: UTC time, package versions, Python, platform, device, threads."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu_threads": torch.get_num_threads(),
    }


def model_facts(source: ModelSource, model: nn.Module) -> Model:
    """Who is asked: the untouched model, loaded from its source."""
    return Model(source.name, fingerprint(model), **how_loaded(model), revision=source.loading.revision)


def evaluation_record(
    kind: str,
    model: Model,
    questions: Questions,
    outcomes: Mapping[str, Outcome],
) -> Record:
    """The record of variants that answered the same questions: facts, answers with verdicts, summaries, comparisons.

    Args:
        kind: of job, "demo" or "eval".
        model: who was asked.
        questions: what was asked.
        outcomes: by variant, the untouched model first.
    """
    task = questions.task
    n_asked, n_all = len(questions.problems), len(task.split(questions.split))
    answers = {name: tuple(outcome.answers) for name, outcome in outcomes.items()}
    return Record(
        format_version=FORMAT_VERSION,
        kind=kind,
        environment=environment(),
        model=model,
        task=TaskFacts(task.name, task.version, task.data_sha256, dict(task.scorer.notes), tuple(task.left_out)),
        sandbox=None if task.sandbox is None else judged_under(task.sandbox),
        split=questions.split,
        chat=questions.chat,
        seconds={
            f"{stage} {name}": spent for name, outcome in outcomes.items() for stage, spent in outcome.seconds.items()
        },
        variants={name: msgspec.convert(outcome.facts, Run) for name, outcome in outcomes.items()},
        final={name: summary(outcome.answers) for name, outcome in outcomes.items()},
        comparisons=comparisons(answers),
        sampled=sampled_part(questions.samples, outcomes),
        problems={problem.id: problem.prompt for problem in questions.problems},
        of_problems=n_all if n_asked < n_all else UNSET,
        max_new_tokens=questions.sampling().max_new_tokens,
        answers=answers,
    )


def sampled_part(
    samples: Samples | None, outcomes: Mapping[str, Outcome], pairs: Pairs | None = None
) -> Sampled | None:
    """The record of the answers that were drawn: settings, summaries, comparisons, and every answer."""
    if samples is None:
        return None
    answers = {name: tuple(outcome.sampled) for name, outcome in outcomes.items()}
    return Sampled(
        **asdict(samples),
        final={name: sampled_summary(drawn, samples) for name, drawn in answers.items()},
        comparisons=sampled_comparisons(answers, samples, pairs),
        answers=answers,
    )


def comparisons(answers: Mapping[str, Sequence[Answer]], pairs: Pairs | None = None) -> tuple[Comparison, ...]:
    """Every variant against the first, and every later one against the second, pair by pair, under both scorings.

    `p_holm` is McNemar's p adjusted for the number of comparisons under that scoring; `effect` what all that shows.

    Args:
        answers: by variant, all to the same problems in the same order.
        pairs: what is compared instead, as (first, second).
    """
    pairs = _pairs(answers) if pairs is None else pairs
    standard, paper = (_differences(answers, pairs, scoring) for scoring in SCORINGS)
    return tuple(
        Comparison(first, second, by_standard, by_paper, effect_of(by_standard))
        for (first, second), by_standard, by_paper in zip(pairs, standard, paper, strict=True)
    )


def _differences(answers: Mapping[str, Sequence[Answer]], pairs: Pairs, scoring: str) -> list[Difference]:
    passed = {name: [answer.passed[scoring] for answer in variant_answers] for name, variant_answers in answers.items()}
    results = [compare(passed[first], passed[second]) for first, second in pairs]
    problems = [answer.problem for answer in next(iter(answers.values()))]
    return [
        Difference(
            **{
                **asdict(result),
                "gained": tuple(problems[i] for i in result.gained),
                "lost": tuple(problems[i] for i in result.lost),
            },
            p_holm=p_holm,
        )
        for result, p_holm in zip(results, holm([result.p_value for result in results]), strict=True)
    ]


def sampled_comparisons(
    answers: Mapping[str, Sequence[Answer]], samples: Samples, pairs: Pairs | None = None
) -> tuple[SampledComparison, ...]:
    """The same pairs by pass@1 and pass@n of their samples: differences problem by problem with 95% t-intervals.

    None on a single problem, where there is nothing to tell luck by.

    `p_holm` is the paired t-test's p over problems, adjusted for the number of pairs under that scoring and k.
    """
    if len(solved(next(iter(answers.values())), SCORINGS[0])) < 2:
        return ()
    pairs = _pairs(answers) if pairs is None else pairs
    by_k: dict[str, list[dict[str, SampledDifference]]] = {scoring: [{} for _ in pairs] for scoring in SCORINGS}
    for scoring in SCORINGS:
        correct = {name: list(solved(variant_answers, scoring).values()) for name, variant_answers in answers.items()}
        for k in sorted({1, samples.n}):
            rates = {name: [pass_at_k(samples.n, count, k) for count in counts] for name, counts in correct.items()}
            results = [paired_t(rates[first], rates[second]) for first, second in pairs]
            adjusted = holm([result.p_value for result in results])
            for entry, result, p_holm in zip(by_k[scoring], results, adjusted, strict=True):
                figures = (result.difference, result.low, result.high, result.p_value)
                entry[str(k)] = SampledDifference(*figures, p_holm)
    return tuple(
        SampledComparison(first, second, *(by_k[scoring][i] for scoring in SCORINGS))
        for i, (first, second) in enumerate(pairs)
    )


def _pairs(answers: Mapping[str, Sequence[Answer]]) -> Pairs:
    first, *others = answers
    return [(first, other) for other in others] + [(others[0], other) for other in others[1:]]
