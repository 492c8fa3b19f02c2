"""Problems and the sandbox that answers to them are judged in."""

from __future__ import annotations

from rich.console import Console

from s0.errors import SandboxError
from s0.tasks import Problem, Task
from s0.tasks import load as load_task
from s0.tasks.sandbox import UNSAFE, Limits, Sandbox
from s0_cli.groups import JudgingOptions, TaskOptions


def sandbox(judging: JudgingOptions) -> Sandbox:
    """The strongest sandbox of this machine, or none where the user insists."""
    limits = Limits() if judging.timeout_s is None else Limits(timeout_s=judging.timeout_s)
    if judging.unsafe:
        Console(stderr=True).print(
            "warning: no sandbox. What the model writes can read and change your files, use your network and start "
            "processes; only the verdicts are protected."
        )
        return Sandbox(UNSAFE, limits)
    try:
        return Sandbox(limits=limits)
    except SandboxError as error:
        raise SandboxError(f"{error}. Here that is the option --unsafe-no-sandbox") from error


def load_problems(options: TaskOptions) -> tuple[Task, list[Problem]]:
    """A task and its problems of the split, which may not be empty, or the first of them."""
    task = load_task(options.name, options.data)
    return task, task.require_split(options.split)[: options.limit]
