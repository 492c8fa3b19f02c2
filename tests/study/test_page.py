"""docs/studies.md runs as it stands, in small: the study that it shows, its commands, its Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from s0.study.executors import Processes, Slurm
from s0.study.plan import AnyUnit
from s0.study.spec import read_study
from tests.cli.calls import result, s0
from tests.study.small import Here

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "run", lambda self, units, folder: Here().run(units, folder))


def test_the_page_leads_from_a_file_to_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    in_this_process(monkeypatch)
    study, slurm = blocks("toml")
    Path("study.toml").write_text(study + slurm)
    assert read_study("study.toml").slurm["mem_gb"] == 32
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        done = s0(*arguments)
        assert program == "s0" and done.returncode == 0, done.stderr
    assert "| LoRA r24 |" in done.stdout and "## pocket:gdn, 2 examples of pocket-code" in done.stdout
    written = Path("study-report/report.md").read_text()
    assert re.sub(r"!\[.*\]\(examples.svg\)\n\n", "", written, count=1) == done.stdout.removesuffix("\n") != written
    assert Path("study-report/examples.svg").read_bytes().startswith(b"<?xml")
    (code,) = blocks("python")
    exec(compile(code, "studies.md", "exec"), {})
    assert "LoRA r24" in capsys.readouterr().out
    assert all_units_are_done()
    refused = s0("study", "report", "study.toml", "--quick", "--out", "study-report")
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    again = ("study", "report", "study.toml", "--quick", "--method-comparison")
    without = s0(*again)
    assert without.returncode == 2 and "expected --out" in without.stderr
    for _ in range(2):  # it knows its own
        assert s0(*again, "--out", "study-report", "--overwrite").returncode == 0
    assert any(Path("study-report", "method_comparison").glob("lora--*.json"))


def all_units_are_done() -> bool:
    listed = result("study", "list", "study.toml", "--quick")["listed"]
    again = result("study", "run", "study.toml", "--quick")["studies"]
    return {unit["standing"] for unit in listed} == {"done"} and again[0]["done"] == len(listed)


def test_a_failure_ends_the_command_with_status_1_and_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    in_this_process(monkeypatch)
    monkeypatch.setenv("COLUMNS", "300")
    text = blocks("toml")[0].replace("train_problems = 96", "train_problems = 96\ntemperature = 0.01\n")
    Path("study.toml").write_text(text.replace('[5, "all"]', "[5]"))
    monkeypatch.setattr("s0.study.quick._TRAIN_PROBLEMS", 1)
    done = s0("study", "run", "study.toml", "--quick")
    assert done.returncode == 1
    assert "failed: " in done.stderr and "expected" in done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("study run absent.toml", "absent.toml"),
        ("study run wrong.toml", "'modles'"),
        ("study list wrong.toml", "'modles'"),
        ("study run right.toml right.toml --slurm", "single study"),
        ("study run right.toml --jobs 0", "--jobs"),
        ("study report right.toml", "run it first"),
    ],
)
def test_wrong_calls_end_in_one_line(command: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("right.toml").write_text(blocks("toml")[0])
    Path("wrong.toml").write_text("modles = 1")
    done = s0(*command.split())
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


ELSEWHERE = 'loading = { device = "cuda:99" }\n'
"""As a study for a machine with a GPU says it, on the one that it is sent from."""


def test_a_study_for_another_machine_is_listed_and_tells_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    Path("study.toml").write_text(ELSEWHERE + blocks("toml")[0])
    listed = s0("study", "list", "study.toml")
    assert listed.returncode == 0 and "how long it takes is not known yet: expected `device`" in listed.stderr
    assert re.search(r"pocket:gdn needs [\d.]+ MiB for its weights, about .* at a row of 2048 tokens\n", listed.stderr)
    refused = s0("study", "run", "study.toml")
    assert refused.returncode == 2 and "got 'cuda:99'" in refused.stderr and not Path("runs").exists()


def test_jobs_of_slurm_judge_as_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(ELSEWHERE + "".join(blocks("toml")))
    asked: list[Slurm] = []

    def submit(self: Slurm, units: Sequence[AnyUnit], folder: Path) -> Iterator[str]:
        asked.append(self)
        return iter(())

    monkeypatch.setattr(Slurm, "run", submit)
    for unsafe in ([], ["--unsafe-no-sandbox"]):
        said = s0("study", "run", "study.toml", "--slurm", *unsafe).stderr
        assert "pocket:gdn needs " in said
    assert [slurm.unsafe for slurm in asked] == [False, False, True, True]  # collections, then variants
    assert asked[0].parameters["mem_gb"] == 32
