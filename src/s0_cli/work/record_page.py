"""The page of a record that a command has made."""

from __future__ import annotations

from pathlib import Path

from s0.record import Record
from s0_cli.exits import os_error_line, s0_command


def reported(record: Record, path: Path, folder: Path) -> str:
    """Write the report of a record that lies in `path`; where it is."""
    from s0.report.page import write_report  # brings matplotlib, which only a report needs

    try:
        return str(write_report(record, folder))
    except OSError as error:
        raise OSError(
            f"{os_error_line(error)}. The record is complete, in {path}; only its report is missing: "
            + s0_command("report", path, "--out", "REPORT")
        ) from error
