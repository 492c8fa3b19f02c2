"""macOS: the profile and command line of `sandbox-exec`.

Written from Apple's profile language and NOT RUN: no Mac was at hand. Nothing has to be believed, though: a backend
is used only after `backends.trouble_with` has tried it, and `s0 sandbox check` shows what held.

The kernel has no second wall here, so the profile must let the fork server fork; programs are kept from it by the
limit on processes, which counts all of the user's and is 1. They may start threads, which end with their process. The
address space cannot be limited, and there is no tmp. A program that sleeps when the library is killed is left behind.
"""

from __future__ import annotations

import json
from pathlib import Path

from s0.tasks.sandbox.readable_paths import Granted

_SANDBOX_EXEC = "/usr/bin/sandbox-exec"


def command(readable: Granted, interpreters: list[str]) -> list[str]:
    """What to put before the interpreter's own command line."""
    return [_SANDBOX_EXEC, "-p", profile(readable, interpreters)]


def profile(readable: Granted, interpreters: list[str]) -> str:
    """Reading what is granted, running `interpreters`, and what the system's own base profile grants every process."""
    # looking at the folders on the way is what resolving a path needs: their names and dates, not their lists
    parents = sorted({str(parent) for path in readable.paths for parent in Path(path).parents})
    return "\n".join(
        [
            "(version 1)",
            "(deny default)",
            '(import "system.sb")',
            "(deny network*)",
            "(deny mach-lookup)",
            "(deny file-write*)",
            "(allow process-fork)",
            "(allow signal (target self))",
            "(allow signal (target children))",
            *(f"(allow process-exec (literal {_quoted(path)}))" for path in interpreters),
            *(f"(allow file-read* (subpath {_quoted(path)}))" for path in readable.paths),
            *(f"(allow file-read* (literal {_quoted(folder)}))" for folder in readable.folders),
            *(f"(allow file-read-metadata (literal {_quoted(path)}))" for path in parents),
        ]
    )


def _quoted(path: str) -> str:
    return json.dumps(path, ensure_ascii=False)
