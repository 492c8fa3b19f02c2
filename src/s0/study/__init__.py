"""Results to look at: a record as one page and its plots."""

from s0.study.report import write_report

__all__ = ["write_report"]
