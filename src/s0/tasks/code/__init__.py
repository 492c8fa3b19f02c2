"""Functions to be written: from a completion to a program (`extraction`, `needed`), and judging it (`scoring`).

Whether tests can run at all is tried in `runnable`.
"""

from s0.tasks.code.runnable import require_runnable
from s0.tasks.code.scoring import NAMED, CodeScorer

__all__ = ["NAMED", "CodeScorer", "require_runnable"]
