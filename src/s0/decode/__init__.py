"""Completions in bulk."""

from s0.decode.complete import Completion, Sampling, complete

__all__ = ["Completion", "Sampling", "complete"]
