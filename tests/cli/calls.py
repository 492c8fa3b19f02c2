"""Calling the command line in this process."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from unittest import mock

from s0_cli import main


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def s0(*arguments, stdin=""):
    """The console script's own `main`, in this process: importing torch anew for every case would take minutes."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["s0", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, stdout.getvalue(), stderr.getvalue())


def result(*arguments, stdin=""):
    done = s0(*arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
