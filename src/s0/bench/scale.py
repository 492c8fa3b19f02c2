"""The scale of a state by what it is for: the share of select problems it solves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s0.bench.answering import Wanted, answered
from s0.bench.answers import UNTOUCHED, depends_on, open_answers
from s0.bench.asking import sampling_for
from s0.models import encode_prompt
from s0.progress import Stage, silent
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Sandbox
from s0.train import S0Trainer, ScaleChoice, choose_scale, scales_as_rows

_DECIDES = "standard"
"""The scoring that a scale is chosen by: the only one that answers are judged by."""


def scale_by_pass_rate(
    trainer: S0Trainer,
    task: Task,
    problems: Sequence[Problem],
    *,
    answers: Path | None = None,
    stage: Stage = silent,
    sandbox: Sandbox | None = None,
) -> ScaleChoice:
    """Choose the scale with the highest greedy pass@1, standard scoring; of equal ones the smallest.

    All scales answer side by side, as rows of the same batches.

    Args:
        trainer: with a trained state.
        task: judges.
        problems: of the select split.
        answers: file in which answers are kept as they come, and from which those that are there are taken (see
            `s0.bench.answers`), so that a choice that was killed goes on; None keeps none.
        stage: shows progress.
        sandbox: None for the strongest of this machine.

    Raises:
        ConfigError: `answers` holds something else.
        SandboxError: there is no verdict to be had on this machine.
    """
    model, tokenizer, sampling = trainer.model, trainer.tokenizer, sampling_for(task)
    journal = open_answers(answers, model)
    facts: dict[str, Any] = {}
    if journal is not None:
        facts = depends_on(model, tokenizer, UNTOUCHED, task, sampling, seed=None, chat=False, sandbox=sandbox)
        facts["scorings"] = [_DECIDES]  # so that no evaluation, which judges by both, takes these answers
    prompts = [tuple(encode_prompt(tokenizer, problem.prompt)) for problem in problems]

    def measure(alphas: Sequence[float]) -> list[float]:
        asked = []
        with (
            scales_as_rows(model, trainer.adapter_name, alphas) as names,
            stage("scale", len(alphas) * len(problems)) as advance,
        ):
            for alpha, name in zip(alphas, names, strict=True):
                stored = journal.of({**facts, "tuned": trainer.checksum_at(alpha)}) if journal else None
                asked += [
                    Wanted(problem, tokens, state=name, stored=stored)
                    for problem, tokens in zip(problems, prompts, strict=True)
                ]
            written = answered(
                model, tokenizer, task, asked, sampling, scorings=[_DECIDES], sandbox=sandbox, on_done=advance
            )
        passed = [answer.passed[_DECIDES] for answer in written]
        n = len(problems)
        return [sum(passed[i * n : (i + 1) * n]) / n for i in range(len(alphas))]

    return choose_scale(measure, by="pass rate", higher_is_better=True)
