"""The process that compares formulas: one job per line in, one answer per line out, over the connection on stdin."""

from __future__ import annotations

import json
import math
import os
import resource
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one comparison may use.

    Attributes:
        cpu_s: seconds of processor time; the kernel ends the process soon after.
        wall_s: seconds by the clock, for a process that waits.
        memory_bytes: address space of the process.
    """

    cpu_s: float = 6.0
    wall_s: float = 60.0
    memory_bytes: int = 2 << 30


def main(limits: Limits) -> None:
    """Answer jobs {"pair": [right, answer]} with {"equal": bool} or {"failed": why} until the caller leaves."""
    from s0.tasks.math.comparing import equal

    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(0), "rb") as jobs:
        _say({"ready": True})
        for line in jobs:
            _allow_processor_time(limits.cpu_s)
            try:
                _say({"equal": equal(*json.loads(line)["pair"])})
            except Exception as error:  # recursion too deep, no memory, a library that trips
                _say({"failed": type(error).__name__})


def _allow_processor_time(cpu_s: float) -> None:
    allowed = math.ceil(time.process_time() + cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _say(message: dict[str, object]) -> None:
    os.write(0, json.dumps(message).encode() + b"\n")
