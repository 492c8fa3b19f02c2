"""Which of several processes that were launched together speaks: the first one."""

from __future__ import annotations

import os


def is_speaker() -> bool:
    """Whether this process speaks: it is alone, or the first of those that a launcher has numbered.

    Known from the start, and before torch is loaded. Who writes is decided later, by processes that have found each
    other: `s0.train.distributed.is_first_process`.
    """
    return os.environ.get("RANK", "0") == "0"
