"""Where commands write: nothing that is not theirs is replaced, and all of it is seen before the work begins."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from s0.files import locked
from s0_cli.work import demo
from tests.breadth import mostly_slow
from tests.cli.calls import Done, result, s0
from tests.pocket_rows import write_rows

MODEL = ("--model", "pocket:gdn")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished result of every command, and what they were made from."""
    folder = tmp_path_factory.mktemp("made")
    data = write_rows(folder / "rows.jsonl", train=6, select=4, final=4)
    task = (*MODEL, "--task", "humaneval", "--data", data)
    result("collect", *task, "--samples", 4, "--out", folder / "train.jsonl")
    result("train", *MODEL, "--examples", folder / "train.jsonl", "--n-steps", 2, "--out", folder / "state")
    lora = ("--method", "lora", "--rank", 2)
    result("train", *MODEL, *lora, "--examples", folder / "train.jsonl", "--n-steps", 2, "--out", folder / "lora")
    result("eval", *task, "--out", folder / "record.json")
    result("eval", *task, "--out", folder / "results")
    result("export", folder / "state", "--out", folder / "published")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "here")
    return tmp_path / "here"


def command(name: str, folder: Path, out: object) -> list[object]:
    """A command that would take the results in `folder` as its inputs."""
    task = [*MODEL, "--task", "humaneval", "--data", folder / "rows.jsonl"]
    return {
        "collect": ["collect", *task, "--samples", 4, "--out", out],
        "train": ["train", *MODEL, "--examples", folder / "train.jsonl", "--n-steps", 2, "--out", out],
        "eval": ["eval", *task, "--out", out],
        "export": ["export", folder / "state", "--out", out],
        "improve": ["improve", *task, "--rounds", 2, "--n-steps", 2, "--samples", 4, "--out", out],
        "demo": ["demo", "--task", "humaneval", "--data", folder / "rows.jsonl", "--out", out],
    }[name]


OUTPUTS = {"collect": "train.jsonl", "train": "state", "eval": "results", "export": "published", "demo": "demo"}
OUTPUTS |= {"improve": "improved"}
COMMANDS = pytest.mark.parametrize("name", OUTPUTS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command refuses, it refuses before it loads a model."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("s0.models.load.ModelSource.load", load)


def refused(done: Done, *says: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and done.stdout == ""
    for words in says:
        assert words in line, line


@COMMANDS
@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_a_foreign_folder_is_never_written_into(name: str, overwrite: bool, here: Path, no_work: None) -> None:
    foreign = here / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    before = contents(here)
    done = s0(*command(name, here, foreign), *["--overwrite"] * overwrite)
    refused(done, str(foreign), "name a file" if name == "collect" else "thesis.tex")
    assert contents(here) == before


@COMMANDS
@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_a_foreign_file_is_never_replaced(name: str, overwrite: bool, here: Path, no_work: None) -> None:
    foreign = here / ("notes.json" if name == "eval" else "notes")
    foreign.write_text("mine")
    before = contents(here)
    refused(s0(*command(name, here, foreign), *["--overwrite"] * overwrite), str(foreign))
    assert contents(here) == before


@COMMANDS
@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_an_input_is_never_replaced(name: str, overwrite: bool, here: Path, no_work: None) -> None:
    taken = {"train": "train.jsonl", "export": "state"}.get(name, "rows.jsonl")
    before = contents(here)
    refused(s0(*command(name, here, here / taken), *["--overwrite"] * overwrite), taken)
    link = here / "link.json"
    os.link(here / "rows.jsonl", link)
    refused(s0(*command("eval", here, link), *["--overwrite"] * overwrite), "link.json")
    link.unlink()
    assert contents(here) == before


@pytest.mark.parametrize("name", ["train", "eval", "export"])
def test_an_earlier_result_is_replaced_only_where_that_is_asked_for(name: str, here: Path) -> None:
    out = here / OUTPUTS[name]
    before = contents(out)
    done = s0(*command(name, here, out))
    refused(done, str(out), "--overwrite")
    assert contents(out) == before
    assert s0(*command(name, here, out), "--overwrite").returncode == 0
    assert {*contents(out)} == {*before}


@pytest.mark.parametrize("name", ["train", "eval", "export", "demo"])
def test_the_result_of_another_command_is_never_replaced(name: str, here: Path, no_work: None) -> None:
    before = contents(here)
    for other in ("train.jsonl", "state", "results", "published"):
        if other != OUTPUTS[name]:
            refused(s0(*command(name, here, here / other), "--overwrite"), str(here / other))
    assert contents(here) == before


def test_a_record_beside_a_folder_of_another_kind_is_refused(here: Path, no_work: None) -> None:
    before = contents(here)
    refused(s0(*command("eval", here, here / "state.json")), "state", "adapter_config.json")
    refused(s0(*command("eval", here, here / "results.txt")), ".json")
    refused(s0(*command("eval", here, here / "record.json")), "record.json", "--overwrite")
    assert contents(here) == before


def test_a_training_of_another_method_leaves_nothing_of_the_first(here: Path) -> None:
    files = {"adapter_config.json", "adapter_model.safetensors"}
    assert s0(*command("train", here, here / "lora"), "--overwrite").returncode == 0
    assert {*contents(here / "lora")} == {*files, "README.md"}
    lora = ("--method", "lora", "--rank", 2, "--overwrite")
    assert s0(*command("train", here, here / "state"), *lora).returncode == 0
    assert {*contents(here / "state")} == {*files, "training.json"}
    assert result("inspect", here / "state")["method"] == "lora"


def test_an_adapter_that_peft_wrote_is_foreign(here: Path, no_work: None) -> None:
    (here / "lora" / "training.json").unlink()
    refused(s0(*command("train", here, here / "lora"), "--overwrite"), "never replaces")


@COMMANDS
def test_a_place_that_cannot_be_written_is_seen_before_the_work(name: str, here: Path, no_work: None) -> None:
    for out in (Path("/proc/nowhere/x.jsonl"), here / "rows.jsonl" / "x.jsonl"):
        out = out if name == "collect" else out.with_suffix("")
        refused(s0(*command(name, here, out)), str(out), status=1)
    refused(s0(*command(name, here, here / ("n" * 300 + ".jsonl" * (name == "collect")))), "name", status=1)


@COMMANDS
@pytest.mark.parametrize("out", ["", ".", ".."])
def test_a_name_that_is_none_is_refused(name: str, out: str, here: Path, no_work: None, monkeypatch: Any) -> None:
    monkeypatch.chdir(here / "state")
    refused(s0(*command(name, here, out)), "name")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_seen_before_the_work(here: Path, no_work: None) -> None:
    (here / "results").chmod(0o500)
    refused(s0(*command("eval", here, here / "results"), "--overwrite"), "ermission", status=1)


@pytest.mark.parametrize("state", ["nosuch", "published", "state"])
def test_a_state_that_cannot_be_used_is_seen_before_any_answer(
    state: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was answered")

    monkeypatch.setattr("s0.bench.saved_states.answer", never)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = ("--task", "humaneval", "--data", here / "rows.jsonl")
    if state == "published":
        (here / state / "states.safetensors").write_bytes(b"damaged")
    model = "pocket:mamba2" if state == "state" else "pocket:gdn"
    done = s0("eval", "--model", model, *task, "--state", here / "lora", "--state", here / state)
    refused(done, "state", status=1)


@pytest.mark.parametrize("name", ["collect", "eval", "demo", "improve"])
def test_problems_that_cannot_be_asked_are_seen_before_the_work(name: str, here: Path, no_work: None) -> None:
    data = here / "rows.jsonl"
    lines = data.read_text().splitlines()
    rows = [{**json.loads(line), "split": "select" if name == "eval" else "final"} for line in lines]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(s0(*command(name, here, here / "new")), "split", "got none", status=1)
    assert not (here / "new").exists()


@pytest.mark.parametrize("name", mostly_slow(["collect", "eval", "demo", "improve"], ["eval"]))
def test_tests_that_cannot_run_are_seen_before_the_work(name: str, here: Path, no_work: None) -> None:
    rows = [
        {
            "prompt": f'def f{i}(x):\n    """Return x."""\n',
            "entry_point": f"f{i}",
            "test": "def check(candidate):\n    assert helper(candidate(1)) == 1\n",
        }
        for i in range(10)
    ]
    data = here / "own.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = command(name, here, here / ("new.jsonl" if name == "collect" else "new"))
    asked[asked.index("humaneval")], asked[asked.index(here / "rows.jsonl")] = "own", data
    refused(s0(*asked), "expected a test that can run", "NameError", status=1)


def test_rounds_leave_the_best_one_and_go_on_and_make_room_only_where_they_may(here: Path) -> None:
    words, folder = command("improve", here, here / "improved"), here / "improved.rounds"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    refused(s0(*words), "thesis.tex", str(folder))
    (folder / "thesis.tex").unlink()
    first = result(*words)
    assert (first["problems"], first["out"]) == ({"train": 6, "select": 4}, str(here / "improved"))
    best = folder / f"round-{first['best']}" / "tuned" / "adapter_model.safetensors"
    assert (here / "improved" / best.name).read_bytes() == best.read_bytes()
    assert json.loads((folder / "rounds.json").read_text())["rounds"] == first["rounds"]
    refused(s0(*words), "--overwrite")
    again = result(*words, "--overwrite")  # nothing of it anew
    assert again["rounds"] == [
        {**each, "seconds": other["seconds"]} for each, other in zip(first["rounds"], again["rounds"], strict=True)
    ]
    assert result(*words, "--seed", 1, "--overwrite")["rounds"]  # other samples, in the place of the first
    assert str(here / "improved") in first["next"] and s0(*first["next"].split()[1:]).returncode == 0


def test_a_demo_goes_on_or_makes_room_only_where_it_may(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, calls = here / "demo", []

    def run(*_: Any, overwrite: bool) -> dict[str, Any]:
        calls.append(overwrite)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", run)
    out.mkdir()
    shutil.copy(here / "train.samples.jsonl", out)
    shutil.copytree(here / "state", out / "s0")
    (out / "lora.checkpoint").write_text("")
    assert s0(*command("demo", here, out)).returncode == 130
    (out / "record.json").write_text('{"kind": "demo"}')
    refused(s0(*command("demo", here, out)), "--overwrite")
    assert s0(*command("demo", here, out), "--overwrite").returncode == 130
    assert calls == [False, True]


def test_a_demo_without_a_place_goes_on_in_one_that_is_free_and_unfinished(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, runs = command("demo", here, "")[:-2], here / "runs"
    places: list[Path] = []

    def run(settings: Any, place: Path, *_: Any, **__: Any) -> dict[str, Any]:
        places.append(place)
        raise KeyboardInterrupt

    monkeypatch.chdir(here)
    monkeypatch.setattr(demo, "run_demo", run)
    monkeypatch.setattr(demo, "unfinished_demos", lambda *_: [runs / "foreign", runs / "busy", runs / "free"])
    for name in ("foreign", "busy", "free"):
        (runs / name).mkdir(parents=True)
        shutil.copy(here / "train.samples.jsonl", runs / name)
    (runs / "foreign" / "thesis.tex").write_text("years of work")
    with locked(runs / "busy"):
        done = s0(*asked)
        begun, line = done.stderr.splitlines()
        assert begun == f"going on in {runs / 'free'}, which was not finished; --new starts over"
        assert line.endswith(f"go on with: s0 {' '.join(map(str, asked))} --out {runs / 'free'}")
        done = s0(*asked, "--new")
        assert "go on with" in done.stderr and "--new" not in done.stderr
        assert s0(*asked, "--out", here / "own").returncode == 130
    assert places[0] == runs / "free" and places[2] == here / "own"
    assert places[1].parent == Path("runs") and places[1].name.startswith("demo-")
    refused(s0(*asked, "--new", "--out", here / "own"), "--new without --out")


def test_a_demo_that_cannot_begin_leaves_the_one_that_is_there(here: Path) -> None:
    out = here / "demo"
    out.mkdir()
    shutil.copy(here / "train.samples.jsonl", out)
    (out / "record.json").write_text('{"kind": "demo"}')
    before = contents(here)
    done = s0(*command("demo", here, out), "--model", "no/such-model", "--overwrite")
    assert done.returncode == 2 and contents(here) == before


def test_notes_in_a_folder_with_a_state_keep_it_from_being_replaced(here: Path, no_work: None) -> None:
    (here / "state" / "notes.txt").write_text("mine")
    before = contents(here)
    refused(s0(*command("train", here, here / "state"), "--overwrite"), "notes.txt")
    assert contents(here) == before


def test_an_evaluation_goes_on_from_its_answers_and_makes_them_serve_again(here: Path) -> None:
    for out, record in ((here / "record.json", here / "record.json"), (here / "results", here / "results/record.json")):
        answers = record.with_name("record.answers.jsonl")
        kept, before = answers.read_text(), json.loads(record.read_text())["answers"]
        record.unlink()
        shutil.rmtree(here / "record")
        assert s0(*command("eval", here, out)).returncode == 0  # unfinished, it goes on
        assert s0(*command("eval", here, out), "--overwrite").returncode == 0
        assert json.loads(record.read_text())["answers"] == before and answers.read_text() == kept
        (here / "record").mkdir(exist_ok=True)


def test_answers_never_replace_a_foreign_file(here: Path, no_work: None) -> None:
    (here / "new.answers.jsonl").write_text("mine")
    before = contents(here)
    refused(s0(*command("eval", here, here / "new.json"), "--overwrite"), "new.answers.jsonl")
    assert contents(here) == before


def test_a_state_that_peft_wrote_is_foreign(here: Path, no_work: None) -> None:
    config = json.loads((here / "state" / "adapter_config.json").read_text())
    (here / "state" / "adapter_config.json").write_text(json.dumps({**config, "training": None}))
    refused(s0(*command("train", here, here / "state"), "--overwrite"), "never replaces")


def test_a_record_and_its_report_are_replaced_where_that_is_asked_for(here: Path) -> None:
    before = contents(here / "record")
    assert s0(*command("eval", here, here / "record.json"), "--overwrite").returncode == 0
    after = contents(here / "record")
    assert {*after} == {*before} and after["report.html"] != before["report.html"]


def test_a_report_that_is_not_ours_is_not_replaced(here: Path, no_work: None) -> None:
    (here / "coverage").mkdir()
    (here / "coverage" / "report.html").write_text("<html>of somebody else</html>")
    before = contents(here)
    refused(s0(*command("eval", here, here / "coverage.json"), "--overwrite"), "report.html", "never replaces")
    assert contents(here) == before


def test_a_report_that_cannot_be_written_leaves_the_record(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("s0.report.page.write_report", full)
    done = s0(*command("eval", here, here / "new"))
    assert done.returncode == 1 and "The record is complete, in" in done.stderr
    assert f"s0 report {here / 'new' / 'record.json'} --out REPORT" in done.stderr
    assert json.loads((here / "new" / "record.json").read_text())["kind"] == "eval"


def test_few_problems_are_told_to_show_little(here: Path) -> None:
    task = (*MODEL, "--task", "humaneval", "--data", here / "rows.jsonl")
    done = s0("eval", *task, "--state", here / "state")
    assert "note: 4 problems cannot show any difference" in done.stderr
