"""Answers to problems, judged by both scorings from the same completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.bench.answering import Wanted, answered
from s0.bench.answers import UNTOUCHED, AnswerJournal, depends_on
from s0.bench.asking import sampling_for, seed_of
from s0.bench.controls import shown_before
from s0.bench.stats import mean_pass_at_k, rate
from s0.decode import BATCH_ROWS
from s0.errors import ConfigError
from s0.examples import Example
from s0.models import encode_prompt
from s0.progress import Advance, unheard
from s0.record import Answer, Estimate, SampledSummary, Scored, Summary
from s0.tasks import SCORINGS, Problem, Task
from s0.tasks.sandbox import NOT_JUDGED, Sandbox


@dataclass(frozen=True)
class Samples:
    """How to sample several answers to every problem.

    Attributes:
        n: of each problem.
        temperature, top_p: of the sampling.
        seed: an answer depends on it, its problem and its number alone.
    """

    n: int
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"expected at least one sample and a finite `temperature` above 0, got {self.n} and {self.temperature}"
            )

    @property
    def ks(self) -> list[int]:
        """The k for which pass@k is told: powers of two up to n, and n."""
        return sorted({2**i for i in range(self.n.bit_length())} | {self.n})


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    *,
    chat: bool = False,
    max_new_tokens: int | None = None,
    shots: Sequence[Example] = (),
    samples: Samples | None = None,
    batch_rows: int = BATCH_ROWS,
    journal: AnswerJournal | None = None,
    tuned: str = UNTOUCHED,
    sandbox: Sandbox | None = None,
    on_done: Advance = unheard,
) -> list[Answer]:
    """Answer problems with the model as it is now, and judge each answer by both scorings.

    Args:
        model: with or without something tuned in it.
        tokenizer: the model's.
        task: judges.
        problems: to answer.
        chat: ask through the chat template.
        max_new_tokens: None for the task's own limit.
        shots: solved examples to show in front of every problem.
        samples: None for one greedy answer to every problem.
        batch_rows: prompts decoded together.
        journal: where answers are kept as they come, and taken from where they are there; None keeps none.
        tuned: the checksum of what is tuned in the model, by which its answers are known there.
        sandbox: None for the strongest of this machine.
        on_done: told the number of answers that are there, and of those that were just written.

    Returns:
        the answers, by problem in the order given, then by sample.

    Raises:
        SandboxError: there is no verdict to be had on this machine.
        OSError: an answer cannot be kept.
    """
    how = {"temperature": samples.temperature, "top_p": samples.top_p} if samples else {}
    sampling = sampling_for(task, chat, max_new_tokens, batch_rows=batch_rows, **how)
    seed = samples.seed if samples else None
    stored = None
    if journal is not None:
        stored = journal.of(depends_on(model, tokenizer, tuned, task, sampling, seed=seed, chat=chat, sandbox=sandbox))
    numbers: Sequence[int | None] = range(samples.n) if samples else [None]
    asked = []
    for problem in problems:
        tokens = tuple(encode_prompt(tokenizer, shown_before(shots, task.prompt(problem, chat))))
        luck = [0 if samples is None else seed_of(samples.seed, problem, number) for number in numbers]
        asked += [Wanted(problem, tokens, *drawn, stored=stored) for drawn in zip(numbers, luck, strict=True)]
    return answered(model, tokenizer, task, asked, sampling, sandbox=sandbox, on_done=on_done)


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
