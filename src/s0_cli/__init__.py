"""The `s0` command."""
