"""How a report is known to be one of ours."""

from __future__ import annotations

from pathlib import Path

GENERATOR = "s0-tuning"
_TAG = f'<meta name="generator" content="{GENERATOR}">'
_HEAD_BYTES = 4096


def is_report(path: str | Path) -> bool:
    """Whether a page was written by `s0.report.page`."""
    try:
        with Path(path).open("rb") as file:
            return _TAG.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False
