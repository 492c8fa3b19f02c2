"""`s0 study run | list | report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s0_cli import options, study_options
from s0_cli.exits import in_one_line
from s0_cli.groups import ExecutorOptions, JudgingOptions, OutOptions, StudyOptions
from s0_cli.options import GroupedHelp
from s0_cli.results import put_result

study = typer.Typer(
    no_args_is_help=True,
    help="""Many variants, models, tasks and seeds from one file, each result kept and never made twice.

    A study file names models, tasks, variants and seeds; docs/studies.md shows one. Every variant of a seed learns from
    the same examples and answers the same problems.""",
)

_DEFAULT_RECORDS = Path("runs/studies")
Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Study files, in TOML; grids before their users.")]
File = Annotated[Path, typer.Argument(help="A study file, in TOML.")]


@study.command(cls=GroupedHelp)
@in_one_line
def run(
    files: Files,
    records: study_options.Records = _DEFAULT_RECORDS,
    jobs: study_options.Jobs = 1,
    slurm: study_options.Slurm = False,
    quick: study_options.Quick = False,
    retry_failed: study_options.RetryFailed = False,
    unsafe_no_sandbox: options.Unsafe = False,
    as_json: options.Json = False,
) -> None:
    """Do what is left of a study, after telling how long that will take.

    Each unit, a collection of examples or a variant that learns from it and answers, is kept in a file of its own as
    soon as it is done. Interrupted or killed, the same command goes on where it stopped. What fails is recorded with
    its error while the others go on; then the exit status is 1.

    Example: s0 study run study.toml --quick
    """
    from s0_cli.work.study import run as run_studies

    result = run_studies(
        [StudyOptions(file, records, quick=quick) for file in files],
        ExecutorOptions(jobs, slurm=slurm, retry_failed=retry_failed),
        JudgingOptions(unsafe=unsafe_no_sandbox),
    )
    put_result(result, as_json)
    if any(each["failed"] for each in result["studies"]):
        raise typer.Exit(1)


@study.command("list", cls=GroupedHelp)
@in_one_line
def list_units(
    file: File,
    records: study_options.Records = _DEFAULT_RECORDS,
    jobs: study_options.Jobs = 1,
    quick: study_options.Quick = False,
    as_json: options.Json = False,
) -> None:
    """Show the units of a study: which are done, failed or left, and how long those will take.

    Example: s0 study list study.toml --quick
    """
    from s0_cli.work.study import list_units as list_all

    put_result(list_all(StudyOptions(file, records, quick=quick), jobs), as_json)


@study.command(cls=GroupedHelp)
@in_one_line
def report(
    file: File,
    out: options.StudyReportOut = None,
    records: study_options.Records = _DEFAULT_RECORDS,
    quick: study_options.Quick = False,
    method_comparison: study_options.MethodComparison = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make the tables of a study from its records: means over seeds, gains with intervals, p-values by Holm.

    What is not done yet is named and left out. Nothing is asked or judged again.

    Example: s0 study report study.toml --quick --out study-report
    """
    from s0_cli.work.study import report as report_study

    place = OutOptions(out, overwrite=overwrite) if out else None
    put_result(report_study(StudyOptions(file, records, quick=quick), place, method_comparison), as_json)
