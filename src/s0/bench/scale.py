"""The scale of a state by what it is for: the share of select problems it solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s0.bench.asking import sampling_for
from s0.decode import complete
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Sandbox
from s0.train import S0Trainer, ScaleChoice, choose_scale, scales_as_rows


def scale_by_pass_rate(
    trainer: S0Trainer,
    task: Task,
    problems: Sequence[Problem],
    *,
    sandbox: Sandbox | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> ScaleChoice:
    """Choose the scale with the highest greedy pass@1, standard scoring; of equal ones the smallest.

    All scales answer side by side, as rows of the same batches.

    Args:
        trainer: with a trained state.
        task: judges.
        problems: of the select split.
        sandbox: None for the strongest of this machine.
        on_done: told the number of answers that were just written.
    """

    def measure(alphas: Sequence[float]) -> list[float]:
        with scales_as_rows(trainer.model, trainer.adapter_name, alphas) as names:
            asked = [(problem, name) for name in names for problem in problems]
            written = complete(
                trainer.model,
                trainer.tokenizer,
                [problem.prompt for problem, _ in asked],
                sampling_for(task),
                states=[name for _, name in asked],
                on_done=on_done,
            )
        replies = [(problem, one.text) for (problem, _), one in zip(asked, written, strict=True)]
        passed = [verdict.passed for verdict in task.verdicts(replies, sandbox=sandbox)]
        n = len(problems)
        return [sum(passed[i * n : (i + 1) * n]) / n for i in range(len(alphas))]

    return choose_scale(measure, by="pass rate", higher_is_better=True)
