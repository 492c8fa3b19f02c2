"""Which of several processes that were launched together speaks: the first one."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Whether this process is alone, or the first of those launched together, which torchrun and its like number.

    Known from the start; `s0.train.distributed` knows it of processes that have found each other.
    """
    return os.environ.get("RANK", "0") == "0"
