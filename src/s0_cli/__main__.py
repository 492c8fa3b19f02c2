"""`python -m s0_cli` is `s0`."""

from s0_cli import main

main()
