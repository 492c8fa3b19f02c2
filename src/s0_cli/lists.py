"""What there is to choose from: `--list` and `--families`."""

from __future__ import annotations

from typing import Any


def tasks() -> dict[str, Any]:
    """What `s0 eval --list` tells."""
    from s0.tasks import TASKS

    entries = [
        {"name": name, "what": entry.what, "version": entry.version, "source": entry.source}
        for name, entry in TASKS.items()
    ]
    return {"kind": "tasks", "tasks": entries}


def families() -> dict[str, Any]:
    """What `s0 inspect --families` tells."""
    from s0.core.families import REFUSED, family_facts

    refused = [{"family": name, "reason": reason} for name, reason in REFUSED.items()]
    return {"kind": "families", "families": family_facts(), "refused": refused}
