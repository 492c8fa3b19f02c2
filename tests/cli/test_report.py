"""`s0 report`: a record's page again, or that of several records, and nothing of anybody's is replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from s0.files import write_text
from s0.record import Record, read_record, write_record
from s0.report.marks import GENERATOR
from s0_cli.commands.report import _names
from tests.cli.calls import Done, result, s0

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """What `s0 demo` and `s0 eval` leave: a folder with a record among other things, and a record by itself."""
    (tmp_path / "demo").mkdir()
    shutil.copy(GOLDEN / "demo.json", tmp_path / "demo" / "record.json")
    (tmp_path / "demo" / "train.jsonl").write_text("")
    shutil.copy(GOLDEN / "eval.json", tmp_path / "eval.json")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done: Done, *says: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and done.stdout == ""
    for words in says:
        assert words in line, line


def test_the_report_of_a_folder_or_of_a_record_comes_again(here: Path) -> None:
    told = result("report", here / "demo", "--out", here / "again")
    assert told["report"] == str(here / "again" / "report.html") and told["kind"] == "demo"
    assert told["answers"] == json.loads((here / "demo" / "record.json").read_text())["answers"]
    files = {str(path.relative_to(here / "again")) for path in (here / "again").rglob("*") if path.is_file()}
    assert {"report.html", "plots/passrates.png"} <= files
    done = s0("report", here / "eval.json", "--out", here / "of-eval")
    assert done.returncode == 0 and done.stdout == ""
    assert "differences in points, pair by pair" in done.stderr and "look at" in done.stderr
    assert "greedy pass@1" in done.stderr and (here / "of-eval" / "report.html").is_file()


def test_several_records_are_compared_under_the_names_of_their_folders(here: Path) -> None:
    told = result("report", here / "demo", here / "eval.json", "--out", here / "both")
    assert [*told["final"]] == ["base", "s0 (demo)", "lora", "offset", "s0 (eval)"]
    assert ("s0 (demo)", "s0 (eval)") in [(each["first"], each["second"]) for each in told["comparisons"]]
    assert "s0 (eval)" in (here / "both" / "report.html").read_text(encoding="utf-8")


def test_records_that_cannot_be_compared_are_refused_and_nothing_is_written(here: Path) -> None:
    record = json.loads((here / "eval.json").read_text())
    record["task"]["version"] = "2"
    (here / "old.json").write_text(json.dumps(record))
    before = contents(here)
    said = ("expected records of one version of the task", "got '3' in demo and '2' in old", "evaluate both")
    refused(s0("report", here / "demo", here / "old.json", "--out", here / "both"), *said, status=1)
    refused(s0("report", here / "demo", here / "demo", "--out", here / "both"), "every record once")
    refused(s0("report", here / "no", "--out", here / "both"), "to be a record in JSON", status=1)
    refused(s0("report", here, "--out", here / "both"), "to be a record in JSON", status=1)
    assert contents(here) == before


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["", "overwrite"])
def test_neither_records_nor_what_is_foreign_is_replaced(here: Path, more: Any) -> None:
    (here / "foreign").mkdir()
    (here / "foreign" / "report.html").write_text("of somebody else")
    write_record(here / "results" / "record.json", read_record(here / "eval.json"))
    before = contents(here)
    refused(s0("report", here / "demo", "--out", here / "demo", *more), "none of what this command reads")
    refused(s0("report", here / "demo" / "record.json", "--out", here / "demo", *more), "train.jsonl")
    refused(s0("report", here / "demo", "--out", here / "foreign", *more), "report.html", "never replaces")
    refused(s0("report", here / "demo", "--out", here / "results", *more), "record.json", "never replaces")
    refused(s0("report", here / "demo", "--out", here / "eval.json", *more), "to be a folder")
    refused(s0("report", here / "demo", "--out", "", *more), "name")
    assert contents(here) == before


def test_an_earlier_report_is_replaced_only_where_that_is_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_report(record: Record, folder: Path) -> Path:
        page = folder / "report.html"
        write_text(page, f'<meta name="generator" content="{GENERATOR}">{record.kind}')
        return page

    monkeypatch.setattr("s0.report.page.write_report", write_report)
    result("report", here / "demo", "--out", here / "page")
    before = contents(here)
    refused(s0("report", here / "eval.json", "--out", here / "page"), "--overwrite")
    assert contents(here) == before
    result("report", here / "eval.json", "--out", here / "page", "--overwrite")
    assert contents(here)["page/report.html"] != before["page/report.html"]


def test_records_are_called_by_as_much_of_their_path_as_tells_them_apart() -> None:
    assert _names([Path("runs/a/record.json"), Path("b.json")]) == ["a", "b"]
    assert _names([Path("a/eval/record.json"), Path("b/eval/record.json")]) == ["a/eval", "b/eval"]
