"""One programming problem."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "select", "final")


@dataclass(frozen=True)
class Problem:
    """A function to be completed, in HumanEval's terms.

    Attributes:
        id: unique within its task.
        prompt: imports and helpers, then the signature and docstring of the function to complete.
        entry_point: that function's name.
        test: source that defines `check(candidate)`; it fails by raising.
        canonical_solution: a body that passes.
        split: one of `SPLITS`.
    """

    id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str
    split: str
