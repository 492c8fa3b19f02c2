"""Answers to problems, judged by both scorings from the same completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s0.bench.answering import Wanted, answered
from s0.bench.asking import Answerer, Questions, Samples, sampling_of, seed_of
from s0.bench.stats import mean_pass_at_k, rate
from s0.progress import Advance, unheard
from s0.record import Answer, Estimate, SampledSummary, Scored, Summary
from s0.tasks import SCORINGS
from s0.tasks.sandbox import NOT_JUDGED


def evaluate(
    answerer: Answerer,
    questions: Questions,
    *,
    samples: Samples | None = None,
    on_done: Advance = unheard,
) -> list[Answer]:
    """Answer problems with the model as it is now, and judge each answer by both scorings.

    Args:
        answerer: who is asked.
        questions: what; their own `samples` are not looked at.
        samples: None for one greedy answer to every problem.
        on_done: told the number of answers that are there, and of those that were just written.

    Returns:
        the answers, by problem in the order given, then by sample.

    Raises:
        SandboxError: there is no verdict to be had on this machine.
        OSError: an answer cannot be kept.
    """
    stored = answerer.stored_answers(questions, samples)
    numbers: Sequence[int | None] = range(samples.n) if samples else [None]
    asked = []
    for problem in questions.problems:
        tokens = questions.tokens(answerer.tokenizer, problem)
        seeds = [0 if samples is None else seed_of(samples.seed, problem, number) for number in numbers]
        asked += [Wanted(problem, tokens, *drawn, stored=stored) for drawn in zip(numbers, seeds, strict=True)]
    return answered(answerer, questions.task, asked, sampling_of(questions, samples), on_done=on_done)


def summary(answers: Sequence[Answer]) -> Summary:
    """Greedy answers: pass rates under both scorings with 95% Wilson intervals, and how the answers look."""
    rates = (rate([answer.passed[scoring] for answer in answers]) for scoring in SCORINGS)
    return Summary(Scored(*rates), **_looks(answers))


def sampled_summary(answers: Sequence[Answer], samples: Samples) -> SampledSummary:
    """Sampled answers: pass@k under both scorings with 95% intervals (`mean_pass_at_k`), and how the answers look."""
    estimates = []
    for scoring in SCORINGS:
        correct = list(solved(answers, scoring).values())
        estimates.append({str(k): Estimate(*mean_pass_at_k(samples.n, correct, k)) for k in samples.ks})
    return SampledSummary(Scored(*estimates), len(solved(answers, SCORINGS[0])), **_looks(answers))


def solved(answers: Sequence[Answer], scoring: str) -> dict[str, int]:
    """How many answers to each problem passed."""
    counts: dict[str, int] = {}
    for answer in answers:
        counts[answer.problem] = counts.get(answer.problem, 0) + answer.passed[scoring]
    return counts


def _looks(answers: Sequence[Answer]) -> dict[str, Any]:
    """The rates of formats and truncations, and which answers were not judged.

    Of the formats those that occur; "unparsable" and "empty" always, last.
    """
    failures = ("unparsable", "empty")
    forms = [*sorted({answer.format for answer in answers} - {*failures}), *failures]
    return {
        "truncated": sum(answer.truncated for answer in answers) / len(answers),
        "formats": {form: sum(answer.format == form for answer in answers) / len(answers) for form in forms},
        "mean_tokens": sum(answer.n_tokens for answer in answers) / len(answers),
        "not_judged": not_judged(answers),
    }


def not_judged(answers: Sequence[Answer]) -> dict[str, str]:
    """Why the standard scoring could not judge an answer, by problem. Those answers have not passed."""
    return {
        answer.problem: answer.reason["standard"].removeprefix(NOT_JUDGED)
        for answer in answers
        if answer.reason["standard"].startswith(NOT_JUDGED)
    }
