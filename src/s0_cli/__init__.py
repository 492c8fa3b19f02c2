"""The `s0` command: `main` is the console script."""

from s0_cli.app import main

__all__ = ["main"]
