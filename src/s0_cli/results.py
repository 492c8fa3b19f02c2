"""The result of a command: as JSON for programs, or as text for people."""

from __future__ import annotations

import json
from typing import Any

from s0_cli.exits import put
from s0_cli.processes import is_speaker


def put_result(result: dict[str, Any], as_json: bool) -> None:
    """Print a result; among several processes, the first one does."""
    if not is_speaker():
        return
    if as_json:
        put(json.dumps(result, ensure_ascii=False))
        return
    from s0_cli.show import show

    show(result)
