"""`s0 sandbox check`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from s0_cli import options
from s0_cli.exits import in_one_line, put

sandbox = typer.Typer(no_args_is_help=True, help="What keeps programs that models write from your machine.")


@sandbox.callback()
def _sandbox() -> None:
    """A command of its own beneath `s0 sandbox`, even where there is only one."""


@sandbox.command(cls=options.GroupedHelp)
@in_one_line
def check(as_json: options.Json = False) -> None:
    """Try every sandbox on this machine and attack the strongest one; takes up to a minute.

    Exit status 1 where none works: then programs run only with --unsafe-no-sandbox.

    Example: s0 sandbox check
    """
    from s0.tasks.sandbox.attempts import check as try_all

    report = try_all()
    if as_json:
        put(json.dumps(report, ensure_ascii=False))
    else:
        _show(report)
    if report["strongest"] is None:
        raise typer.Exit(1)


def _show(report: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, markup=False)
    for backend, trouble in report["backends"].items():
        state = "used" if backend == report["strongest"] else "works too" if trouble is None else f"no: {trouble}"
        console.print(f"{backend}: {state}", soft_wrap=True)
    if report["strongest"] is None:
        console.print("no sandbox works here; programs run only with --unsafe-no-sandbox")
        return
    table = Table(title=f"tried under {report['strongest']}, with small limits", box=SIMPLE)
    for column in ("what a program tried", "kept from it", "how it ended", "seconds"):
        table.add_column(column)
    for row in report["attempts"]:
        table.add_row(row["attempt"], "yes" if row["held"] else "NO", row["reason"], f"{row['seconds']:.2f}")
    console.print(table)
    console.print("beside computing, a program may:")
    for grant in report["grants"]:
        console.print(f"- {grant}")
    packages = ", ".join(f"{name} {number}" for name, number in report["packages"].items())
    console.print(f"packages that programs and tests can import beside the standard library: {packages or 'none'}")
    console.print(
        f"user: {report['user_inside']} as the program sees it, {report['user_outside']} as this machine does"
    )
    if report["user_outside"] == 0:
        console.print(
            "  that is root, since no other user may run the interpreter: put Python where all can read it, or run s0 "
            "as an ordinary user",
            soft_wrap=True,
        )
    limits = report["limits"]
    console.print(
        f"limits of a test: {limits['timeout_s']:g} s, {limits['memory_bytes'] >> 20} MiB of memory, "
        f"{limits['tmp_bytes'] >> 20} MiB of files where there is a tmp"
    )
