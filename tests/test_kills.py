"""Commands, a demo and another experiment that are killed again and again end as if they had not been."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from s0.cautions import Caution
from s0.study import run_experiment
from s0.study.runner import opened, standing
from s0.study.runner import run as run_study
from s0.tasks.sandbox import Sandbox
from s0_cli.app import app
from s0_cli.outputs import claimed
from tests.kills import Job, report_of
from tests.study.runs import EXPERIMENT, demo, timeless
from tests.study.small import Here, written
from tests.study.small import timeless as timeless_units

GOLDEN = Path(__file__).parent / "golden"
ASKED = ("--model", "pocket:gdn", "--task", "pocket-code", "--data", GOLDEN / "problems.jsonl")
EXAMPLES = GOLDEN / "train.jsonl"
IMPORTED_LATE = ("s0.report.page", *(f"s0_cli.work.{name}" for name in ("collect", "eval", "train")))
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


def judged(run: Callable[[Path, Sandbox], object]) -> Callable[[Path], None]:
    """The same with a sandbox of its own, in a folder that is claimed for it, as the command does."""

    def in_a_folder(folder: Path) -> None:
        with Sandbox() as cells, claimed(folder, [], lambda: None):
            run(folder, cells)

    return in_a_folder


def recorded(folder: Path) -> str | None:
    """What a record says, but for times."""
    return timeless(folder / "record.json") if (folder / "record.json").exists() else None


def evaluated(folder: Path) -> str | None:
    """The record, but for times, where the report is there too."""
    out = folder / "out"
    return timeless(out / "record.json") if (out / "report.html").exists() else None


def studied(folder: Path) -> None:
    """A study, all in this process."""
    study, store = opened(written(folder), folder)
    run_study(standing(study, store), store, Here())


def all_units(folder: Path) -> str | None:
    """The records of a study, but for times, where all units have one."""
    records = timeless_units(folder)
    return json.dumps(records, sort_keys=True) if len(records) == 5 else None


# With --overwrite: what was killed when the result was there, and before the rest was, is taken for finished otherwise.
JOBS = {
    "demo": Job(judged(demo), recorded, n_kills=4),
    "experiment": Job(
        judged(lambda folder, cells: run_experiment(EXPERIMENT, folder, sandbox=cells)), recorded, n_kills=2
    ),
    "study": Job(studied, all_units, n_kills=4),
    "collect": Job(
        command("collect", *ASKED, "--samples", 4, "--keep", "shortest", "--out", "FOLDER/e.jsonl"),
        collected,
        n_kills=2,
    ),
    "train": Job(
        command("train", *ASKED, "--examples", EXAMPLES, *BY_PASS_RATE, "--out", "FOLDER/state", "--overwrite"),
        trained,
        n_kills=2,
    ),
    "eval": Job(
        command("eval", *ASKED, "--state", GOLDEN / "state", "--samples", 2, "--out", "FOLDER/out", "--overwrite"),
        evaluated,
        n_kills=2,
    ),
}


@pytest.mark.slow
def test_what_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """In one test: several would start the process that forks once for each of pytest's own."""
    report = report_of("tests.test_kills", tmp_path, IMPORTED_LATE)
    for name, seen in report.items():
        assert seen["equal"] and all(seen["equal"]) and all(seen["names"]), (name, seen)
    moments = {name: len(set(seen["sizes"])) for name, seen in report.items()}
    assert moments["demo"] >= 3 and sum(moments.values()) >= 8, report  # they hit many, if not all different ones
