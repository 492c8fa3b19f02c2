"""How every job asks a problem: the same limits, stop texts and seeds, so that their answers are the same."""

from __future__ import annotations

from s0.decode import BATCH_ROWS, Sampling
from s0.tasks import Problem, Task


def sampling_for(
    task: Task,
    chat: bool = False,
    max_new_tokens: int | None = None,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    batch_rows: int = BATCH_ROWS,
) -> Sampling:
    """How to choose the tokens of answers to a task.

    Args:
        task: has stop texts for its raw prompts.
        chat: asked through the chat template, whose end token is enough.
        max_new_tokens: None for the task's own limit.
        temperature, top_p: of the sampling; 0 for the likeliest token at every step.
        batch_rows: prompts decoded together.
    """
    stop = () if chat else tuple(task.stop)
    return Sampling(max_new_tokens or task.max_new_tokens, temperature, top_p, stop, batch_rows)


def seed_of(seed: int, problem: Problem, number: int | None) -> str:
    """The seed of a problem's sample with this number, None for a greedy answer; the same in every job."""
    return f"{seed} {problem.id} {number}"
