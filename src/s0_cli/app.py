"""The `s0` command: what it is for, and which commands it has."""

from __future__ import annotations

from typing import Annotated

import typer

from s0_cli.commands.asking import evaluate, generate
from s0_cli.commands.env import env, print_version
from s0_cli.commands.looking import export, inspect, verify
from s0_cli.commands.report import report
from s0_cli.commands.sandbox import sandbox
from s0_cli.commands.serving import serve
from s0_cli.commands.study import study
from s0_cli.commands.tuning import collect, demo, improve, train
from s0_cli.exits import EXIT_STATUS
from s0_cli.options import GroupedHelp

app = typer.Typer(
    name="s0",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Tune the initial recurrent state of hybrid language models.

    Start with `s0 demo`: it collects verified solutions from a small model that ships with the package, tunes its
    initial state on them, and tells on held-out problems whether that helped. `s0 collect`, `s0 train` and `s0 eval`
    are the same steps for any model, and `s0 improve` takes them again and again.

    Human text goes to stderr, results to stdout. """
    + EXIT_STATUS,
)

app.add_typer(sandbox, name="sandbox")
app.add_typer(study, name="study")


@app.callback()
def _s0(
    version: Annotated[
        bool,
        typer.Option("--version", help="Tell which s0-tuning this is and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """Options before the command."""


app.command(cls=GroupedHelp)(demo)
app.command(cls=GroupedHelp)(collect)
app.command(cls=GroupedHelp)(train)
app.command(cls=GroupedHelp)(improve)
app.command("eval", cls=GroupedHelp)(evaluate)
app.command(cls=GroupedHelp)(generate)
app.command(cls=GroupedHelp)(inspect)
app.command(cls=GroupedHelp)(verify)
app.command(cls=GroupedHelp)(export)
app.command(cls=GroupedHelp)(report)
app.command(cls=GroupedHelp)(serve)
app.command(cls=GroupedHelp)(env)
