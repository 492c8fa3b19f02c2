"""How long work tells of its progress: to whatever shows it, or to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Told the number of items just finished, and how it goes in a few words where there is something to say.

    An item that takes long is told in parts of it, which may miss the whole by a rounding. Items that were finished
    `earlier`, before this process began, say nothing of how fast it is.
    """

    def __call__(self, count: float, note: str = "", *, earlier: bool = False) -> None:
        """Take down what was finished."""


def unheard(count: float, note: str = "", *, earlier: bool = False) -> None:
    """An `Advance` that nobody listens to."""


Stage = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Told a stage's name and size, None where that is not known; shows its progress within the context."""


def named(stage: Stage, name: str) -> Stage:
    """The same stages, each with a name behind its own: "train", of "s0", is "train s0"."""
    return lambda of_stage, total: stage(f"{of_stage} {name}", total)


@contextmanager
def silent(name: str, total: int | None) -> Iterator[Advance]:
    """A stage that shows nothing."""
    yield unheard
