"""The three streams that a process begins with, also where its caller has closed some of them (`s0 ... >&-`)."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def complete_streams() -> None:
    """Put /dev/null in the place of streams that are closed, and escape what a terminal has no letter for.

    A file that is opened later would get the number of a closed stream, and with it whatever is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
