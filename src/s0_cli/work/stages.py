"""What a command shows while it works: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from s0.progress import Advance, Stage, unheard
from s0_cli.processes import is_speaker

_LINE_EVERY_S = 60.0
"""Seconds between two lines in a log file: often enough to see that it goes on, and an hour is a screenful."""


class Pace:
    """How far a stage is and how fast, by the items that were not done earlier."""

    def __init__(self, total: int | None) -> None:
        self.total, self.note, self.done = total, "", 0.0
        self.per_second = 0.0
        """Items, from the beginning to the last that was done."""
        self._earlier = 0.0
        self._began = self._last = time.monotonic()
        self._ended: float | None = None

    def advance(self, count: float, note: str, earlier: bool) -> None:
        """Take in what an `Advance` is told."""
        self.note = note
        self.done += count
        self._earlier += count if earlier else 0
        self._last = time.monotonic()
        self.per_second = (self.done - self._earlier) / max(self._last - self._began, 1e-9)

    @property
    def how(self) -> str:
        """Items done of all, or what the stage has to say instead."""
        return self.note or (f"{self.done:.0f}" if self.total is None else f"{self.done:.0f}/{self.total}")

    @property
    def share(self) -> str:
        """How much of all items is done, in %."""
        return f"{math.floor(100 * self.done / self.total + 1e-6)}%" if self.total else ""

    @property
    def rate(self) -> str:
        """Items by the unit of time in which there is at least one."""
        for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
            items = self.per_second * seconds
            if items >= 1 or (unit == "h" and items):
                return f"{items:.0f}/{unit}" if items >= 100 else f"{items:.1f}/{unit}"
        return ""

    @property
    def clock(self) -> str:
        """Time until all are done, if it goes on like this; before that is known, and at the end, time spent."""
        now = time.monotonic() if self._ended is None else self._ended
        if self._ended is not None:
            return f"in {_clock(now - self._began)}"
        if self.total is None or not self.per_second:
            return _clock(now - self._began)
        return f"{_clock(max(0, (self.total - self.done) / self.per_second - (now - self._last)))} left"

    def end(self) -> None:
        """The stage has come to its end."""
        self._ended = time.monotonic()


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def stage(name: str, total: int | None) -> Iterator[Advance]:
    """The progress of a stage on stderr, by the first of several processes."""
    console = Console(stderr=True)
    if not is_speaker():
        yield unheard
        return
    with _bar(name, total, console) if console.is_terminal else _lines(name, total) as advance:
        yield advance


@contextmanager
def _bar(name: str, total: int | None, console: Console) -> Iterator[Advance]:
    pace = Pace(total)
    columns = (
        TextColumn("{task.description:<15}", markup=False),
        BarColumn(bar_width=8),  # leaves room for a note of 35 in 80 columns
        TextColumn("{task.fields[pace].how}", markup=False),
        TextColumn("{task.fields[pace].rate:>6}"),
        TextColumn("{task.fields[pace].clock:>12}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=total, pace=pace)

        def advance(count: float, note: str = "", *, earlier: bool = False) -> None:
            pace.advance(count, note, earlier)
            progress.update(task, advance=count)

        yield advance
        pace.end()
        progress.update(task, total=total or 1, completed=total or 1)


@contextmanager
def _lines(name: str, total: int | None) -> Iterator[Advance]:
    pace, last = Pace(total), time.monotonic()

    def tell() -> None:
        figures = (pace.share, pace.how, pace.rate, pace.clock)
        say(f"{name}: " + ", ".join(" ".join(figure.split()) for figure in figures if figure))

    def advance(count: float, note: str = "", *, earlier: bool = False) -> None:
        nonlocal last
        pace.advance(count, note, earlier)
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            tell()

    yield advance
    pace.end()
    tell()


def say(line: str) -> None:
    """One line on stderr, by the first of several processes."""
    if is_speaker():
        print(line, file=sys.stderr, flush=True)


def after(line: str) -> Stage:
    """`stage`, with a line before its first bar; a call that is refused ends with one line, that of the error."""
    lines = [line]

    def begun(name: str, total: int | None) -> AbstractContextManager[Advance]:
        while lines:
            say(lines.pop())
        return stage(name, total)

    return begun
