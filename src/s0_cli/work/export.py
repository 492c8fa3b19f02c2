"""`s0 export`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from s0.adapter import state_files
from s0.adapter.kinds import advice_on
from s0.errors import ConfigError
from s0.export import published
from s0.train.baseline_files import baseline_kind
from s0_cli.groups import OutOptions
from s0_cli.outputs import EXPORTED, claimed, require_free_folder


def export(state: str, to: str, out: OutOptions) -> dict[str, Any]:
    """`s0 export`."""
    if to != "published":
        raise ConfigError(f"expected --to published, got {to!r}")
    kind = baseline_kind(Path(state))
    if kind is not None:
        raise ConfigError(
            f"expected the folder of a state, got {state} with an adapter of kind {kind}, which the layout {to!r} "
            f"cannot hold; {advice_on(kind)}"
        )
    stored = state_files.read(state)
    indices = published.layer_indices(stored)
    with claimed(out.path, [state], partial(require_free_folder, out.path, EXPORTED, out.overwrite)):
        published.write(out.path, stored, indices)
    return {"kind": "export", "to": to, "layers": len(indices), "out": str(out.path)}
