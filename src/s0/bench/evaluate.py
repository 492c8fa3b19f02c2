"""Answers to problems, judged by both scorings from the same completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.bench.controls import shown_before
from s0.bench.stats import rate
from s0.decode import Sampling, complete
from s0.examples import Example
from s0.tasks import SCORINGS, Problem, Task
from s0.tasks.sandbox import Sandbox


@dataclass(frozen=True)
class Answer:
    """One completion and its verdicts.

    Attributes:
        problem: the problem's id.
        completion: what the model wrote.
        n_tokens: its length.
        truncated: it hit the limit before an end.
        format: how the standard scoring read it, one of the task's `scorer.formats`.
        passed: verdict by scoring.
        reason: why, by scoring.
    """

    problem: str
    completion: str
    n_tokens: int
    truncated: bool
    format: str
    passed: Mapping[str, bool]
    reason: Mapping[str, str]


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    *,
    chat: bool = False,
    max_new_tokens: int | None = None,
    shots: Sequence[Example] = (),
    sandbox: Sandbox | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Answer]:
    """Answer problems greedily with the model as it is now, and judge each answer by both scorings.

    Args:
        model: with or without something tuned in it.
        tokenizer: the model's.
        task: judges.
        problems: to answer.
        chat: ask through the chat template.
        max_new_tokens: None for the task's own limit.
        shots: solved examples to show in front of every problem.
        sandbox: None for the strongest of this machine.
        on_done: told the number of problems that were just answered.

    Raises:
        SandboxError: there is no verdict to be had on this machine.
    """
    sampling = Sampling(max_new_tokens or task.max_new_tokens, stop=() if chat else tuple(task.stop))
    prompts = [shown_before(shots, task.prompt(problem, chat)) for problem in problems]
    completions = complete(model, tokenizer, prompts, sampling, on_done=on_done)
    replies = [(problem, completion.text) for problem, completion in zip(problems, completions, strict=True)]
    verdicts = {scoring: task.verdicts(replies, scoring, sandbox=sandbox) for scoring in SCORINGS}
    return [
        Answer(
            problem=problem.id,
            completion=completion.text,
            n_tokens=completion.n_tokens,
            truncated=completion.truncated,
            format=task.format_of(problem, completion.text),
            passed={scoring: verdicts[scoring][i].passed for scoring in SCORINGS},
            reason={scoring: verdicts[scoring][i].reason for scoring in SCORINGS},
        )
        for i, (problem, completion) in enumerate(zip(problems, completions, strict=True))
    ]


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Pass rates under both scorings with 95% Wilson intervals, and the rates of formats and truncations.

    Of the formats those that occur; "unparsable" and "empty" always, last.
    """
    failures = ("unparsable", "empty")
    forms = [*sorted({one.format for one in answers} - {*failures}), *failures]
    return {
        "pass_at_1": {scoring: asdict(rate([one.passed[scoring] for one in answers])) for scoring in SCORINGS},
        "truncated": sum(one.truncated for one in answers) / len(answers),
        "formats": {form: sum(one.format == form for one in answers) / len(answers) for form in forms},
        "mean_tokens": sum(one.n_tokens for one in answers) / len(answers),
    }
