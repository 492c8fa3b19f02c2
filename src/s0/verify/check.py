"""What a check is, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from s0.verify.subject import Comparison, Subject


@dataclass(frozen=True)
class Check:
    """One thing that has to hold for every model.

    Attributes:
        name: a few words, the same in every table and record.
        what: what is compared with what.
        run: makes the comparisons.
        on_untouched: whether the untouched model can be asked the same, to tell its faults from this library's.
        may_be_refused: whether a clear error is as good as an exact result.
    """

    name: str
    what: str
    run: Callable[[Subject], Iterator[Comparison]]
    on_untouched: bool = True
    may_be_refused: bool = False
