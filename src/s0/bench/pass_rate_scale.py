"""The scale of a state by what it is for: the share of select problems it solves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s0.bench.answering import Wanted, answered
from s0.bench.answers import StoredAnswers, open_answers
from s0.bench.asking import Answerer, Questions
from s0.progress import Stage, silent
from s0.train import S0Trainer, ScaleChoice, choose_scale, scales_as_rows

_DECIDES = "standard"
"""The scoring that a scale is chosen by: the only one that answers are judged by."""


def scale_by_pass_rate(
    trainer: S0Trainer,
    questions: Questions,
    *,
    answers: Path | None = None,
    stage: Stage = silent,
) -> ScaleChoice:
    """Choose the scale with the highest greedy pass@1, standard scoring; of equal ones the smallest.

    All scales answer side by side, as rows of the same batches.

    Args:
        trainer: with a trained state.
        questions: of the select split; their own `samples` are not looked at.
        answers: file in which answers are kept as they come, and from which those that are there are taken (see
            `s0.bench.answers`), so that a choice that was killed goes on; None keeps none.
        stage: shows progress.

    Raises:
        ConfigError: `answers` holds something else.
        SandboxError: there is no verdict to be had on this machine.
    """
    model, problems = trainer.model, questions.problems
    answerer = Answerer(model, trainer.tokenizer, journal=open_answers(answers, model))
    prompts = [questions.tokens(trainer.tokenizer, problem) for problem in problems]

    def stored_at(alpha: float) -> StoredAnswers | None:
        at_scale = replace(answerer, tuned=trainer.checksum_at(alpha))
        # So marked that no evaluation, which judges by both scorings, takes these answers.
        return at_scale.stored_answers(questions, scorings=[_DECIDES])

    def measure(alphas: Sequence[float]) -> list[float]:
        asked = []
        with (
            scales_as_rows(model, trainer.adapter_name, alphas) as names,
            stage("scale", len(alphas) * len(problems)) as advance,
        ):
            for alpha, name in zip(alphas, names, strict=True):
                stored = stored_at(alpha)
                asked += [
                    Wanted(problem, tokens, state=name, stored=stored)
                    for problem, tokens in zip(problems, prompts, strict=True)
                ]
            written = answered(
                answerer, questions.task, asked, questions.sampling(), scorings=[_DECIDES], on_done=advance
            )
        passed = [answer.passed[_DECIDES] for answer in written]
        n = len(problems)
        return [sum(passed[i * n : (i + 1) * n]) / n for i in range(len(alphas))]

    return choose_scale(measure, by="pass rate", higher_is_better=True)
