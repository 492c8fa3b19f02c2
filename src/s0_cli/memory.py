"""Memory in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def size(n_bytes: int) -> str:
    """So many bytes, in GiB or MiB."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"


def needed(facts: Mapping[str, Any]) -> str:
    """A line on what a model of a study needs.

    Args:
        facts: as of `s0.study.memory.ModelMemory`.
    """
    parts = []
    if facts["weights"] is not None:
        parts += [f"{size(facts['weights'])} for its weights"]
    if facts["step"] is not None:
        parts += [f"about {size(facts['step'])} in all while a state is learned"]
        parts += [f"{size(facts['longest_step'])} at a row of {facts['max_length']} tokens"]
    known = [f"{facts['model']} needs {', '.join(parts)}"] if parts else []
    what = "what else it needs" if parts else f"what memory {facts['model']} needs"
    unknown = [f"{what} is not known: {facts['trouble']}"] if facts["trouble"] else []
    return "; ".join(known + unknown)
