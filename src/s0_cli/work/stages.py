"""What a command shows while it works."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from s0.progress import Advance, Stage


class _HowItGoes(MofNCompleteColumn):
    """Items done of all, or what the stage has to say instead."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"]) if task.fields["note"] else super().render(task)


@contextmanager
def stage(name: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr."""
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=12),  # leaves room for a note in 80 columns
        _HowItGoes(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, note="")
        yield lambda count, note="": progress.update(task, advance=count, note=note)
        progress.update(task, total=total or 1, completed=total or 1)


def say(line: str) -> None:
    """One line on stderr, by the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def after(line: str) -> Stage:
    """`stage`, with a line before its first bar; a call that is refused ends with one line, that of the error."""
    lines = [line]

    def begun(name: str, total: int | None) -> AbstractContextManager[Advance]:
        while lines:
            say(lines.pop())
        return stage(name, total)

    return begun
