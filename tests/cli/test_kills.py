"""Commands that are killed again and again end as if they had not been."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s0.cautions import Caution
from s0_cli.app import app
from tests.kills import Job, report_of, require_same_end
from tests.study.runs import timeless

GOLDEN = Path(__file__).parents[1] / "golden"
ASKED = ("--model", "pocket:gdn", "--task", "pocket-code", "--data", GOLDEN / "problems.jsonl")
EXAMPLES = GOLDEN / "train.jsonl"
IMPORTED_LATE = ("s0.report.page", *(f"s0_cli.work.{name}" for name in ("collecting", "evaluating", "training")))
BY_PASS_RATE = ("--n-steps", 3, "--lr", 0.01, "--checkpoint-every", 1, "--alpha-by", "pass-rate")


def command(*arguments: object) -> Callable[[Path], None]:
    """Call a command; FOLDER stands for the folder that it works in."""

    def call(folder: Path) -> None:
        warnings.simplefilter("ignore", category=Caution)
        app([str(argument).replace("FOLDER", str(folder)) for argument in arguments])

    return call


def collected(folder: Path) -> str | None:
    """The examples, and every sample in the order of the problems."""
    if not (folder / "e.jsonl").exists():
        return None
    samples = sorted((folder / "e.samples.jsonl").read_text().splitlines())
    return (folder / "e.jsonl").read_text() + "\n".join(samples)


def trained(folder: Path) -> str | None:
    """The state, and the account of its training."""
    state = folder / "state"
    if not state.exists() or len([*folder.iterdir()]) > 1:  # what it goes on from is still beside it
        return None
    files = sorted(path for path in state.iterdir())
    return "\n".join(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)


def evaluated(folder: Path) -> str | None:
    """The record, but for times, where the report is there too."""
    out = folder / "out"
    return timeless(out / "record.json") if (out / "report.html").exists() else None


# With --overwrite: what was killed when the result was there, and before the rest was, is taken for finished otherwise.
JOBS = {
    "collect": Job(
        command("collect", *ASKED, "--samples", 4, "--keep", "shortest", "--out", "FOLDER/e.jsonl"), collected, 4
    ),
    "train": Job(
        command("train", *ASKED, "--examples", EXAMPLES, *BY_PASS_RATE, "--out", "FOLDER/state", "--overwrite"),
        trained,
        4,
    ),
    "eval": Job(
        command("eval", *ASKED, "--state", GOLDEN / "state", "--samples", 2, "--out", "FOLDER/out", "--overwrite"),
        evaluated,
        4,
    ),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report_of("tests.cli.test_kills", tmp_path_factory.mktemp("kills"), IMPORTED_LATE)


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_command_killed_again_and_again_ends_as_if_it_had_not_been(report: dict[str, Any], name: str) -> None:
    require_same_end(report[name], n_moments=2)
