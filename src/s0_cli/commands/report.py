"""`s0 report`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from s0_cli import options
from s0_cli.exits import in_one_line, put


@in_one_line
def report(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="A record.json, or the folder that `s0 eval` or `s0 demo` wrote; or several, on the same problems."
        ),
    ],
    out: options.ReportOut,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make the report of a record again, or one of several records, compared pair by pair.

    Nothing is asked or judged again. Records must agree in task, version, data, split, problems, limits and chat. The
    untouched model stands once where its answers are the same in all of them.

    Example: s0 report state-eval --out again
    """
    from s0.bench import join
    from s0.record import plain, read_record
    from s0.report.page import write_report
    from s0_cli.outputs import REPORT, claimed, require_free_folder
    from s0_cli.show import show

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its caches concerns nobody here
    files = [path / "record.json" if path.is_dir() else path for path in records]
    record = join(dict(zip(_names(files), map(read_record, files), strict=True)))
    with claimed(out, [*records, *files], lambda: require_free_folder(out, REPORT, overwrite)):
        result = {**plain(record), "out": str(out), "report": str(write_report(record, out))}
    if as_json:
        put(json.dumps(result, ensure_ascii=False))
    else:
        show(result)


def _names(files: Sequence[Path]) -> list[str]:
    """What tells records apart: the last part of where they lie, or as many parts as that takes."""
    from s0.errors import ConfigError

    places = [file.resolve() for file in files]
    places = [place.parent if place.name == "record.json" else place.with_suffix("") for place in places]
    for n_parts in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-n_parts:]) for place in places]
        if len({*names}) == len(names):
            return names
    raise ConfigError(f"expected every record once, got {', '.join(map(str, files))}; name each of them once")
