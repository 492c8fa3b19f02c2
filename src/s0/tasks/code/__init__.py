"""Functions to be written: from a completion to a program (`extraction`, `needed`), and judging it (`scoring`)."""

from s0.tasks.code.scoring import CodeScorer

__all__ = ["CodeScorer"]
