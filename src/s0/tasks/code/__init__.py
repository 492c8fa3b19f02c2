"""Functions to be written: from a completion to a program, and judging it (`scoring`).

`extraction` states the rule; `fences` cuts a reply, `parsing` reads its parts, `demonstration` tells what stays.
Whether tests can run at all is tried in `runnable`.
"""

from s0.tasks.code.runnable import require_runnable
from s0.tasks.code.scoring import KEPT, NAMED, CodeScorer

__all__ = ["KEPT", "NAMED", "CodeScorer", "require_runnable"]
