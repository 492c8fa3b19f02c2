"""Parts of a task, and samples of a tuned model, asked for on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s0.adapter import state_files
from s0.decode import batcher
from s0.examples import read_examples
from tests.cli.calls import result
from tests.cli.calls import s0 as call

GOLDEN = Path(__file__).parents[1] / "golden"
ASKED = ("--model", "pocket:gdn", "--task", "pocket-code", "--data", GOLDEN / "problems.jsonl")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows batchers have decoded at once, step by step."""
    seen: list[int] = []
    decode = batcher.Batcher._decode

    def counted(self: batcher.Batcher) -> list[batcher.Event]:
        seen.append(len(self._rows))
        return decode(self)

    monkeypatch.setattr(batcher.Batcher, "_decode", counted)
    return seen


@pytest.mark.slow
def test_a_look_at_some_problems_says_so_and_the_whole_split_asks_none_of_them_again(
    tmp_path: Path, rows: list[int]
) -> None:
    out = tmp_path / "out"
    some = result("eval", *ASKED, "--limit", 2, "--batch-rows", 1, "--out", out)
    assert {*rows} == {1}
    assert some["of_problems"] > 2 and [*some["problems"]] == [one["problem"] for one in some["answers"]["base"]]
    lines = (out / "record.answers.jsonl").read_text().splitlines()
    shown = call("report", out / "record.json", "--out", tmp_path / "page").stderr
    assert f"2 of {some['of_problems']} problems" in shown
    refused = call("eval", *ASKED, "--out", out)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    rows.clear()
    every = result("eval", *ASKED, "--out", out, "--overwrite")
    assert "of_problems" not in every and len(every["problems"]) == some["of_problems"] and max(rows) > 1
    assert every["answers"]["base"][:2] == some["answers"]["base"]
    assert (out / "record.answers.jsonl").read_text().splitlines()[: len(lines)] == lines
    (tmp_path / "some.json").write_text(json.dumps({name: some[name] for name in some.keys() - {"out", "report"}}))
    apart = call("report", out / "record.json", tmp_path / "some.json", "--out", tmp_path / "both")
    assert apart.returncode == 1 and "expected records of the same problems" in apart.stderr


def test_a_limit_beyond_the_split_is_the_split(tmp_path: Path) -> None:
    assert "of_problems" not in result("eval", *ASKED, "--limit", 1000, "--max-new-tokens", 1)


def test_examples_are_collected_of_the_first_problems(tmp_path: Path) -> None:
    out = tmp_path / "e.jsonl"
    some = result("collect", *ASKED, "--limit", 2, "--samples", 4, "--out", out)
    first = [json.loads(line)["task_id"] for line in (GOLDEN / "problems.jsonl").read_text().splitlines()][:2]
    assert some["problems"] == 2 and {example.provenance["problem"] for example in read_examples(out)} <= {*first}
    assert "--limit" not in some["next"]


def test_examples_are_collected_from_a_tuned_model(tmp_path: Path, rows: list[int]) -> None:
    out = tmp_path / "e.jsonl"
    told = result("collect", *ASKED, "--state", GOLDEN / "state", "--samples", 2, "--batch-rows", 3, "--out", out)
    assert max(rows) == 3
    (tuned,) = {example.provenance["tuned"] for example in read_examples(out)}
    assert tuned == json.loads((GOLDEN / "state" / state_files.CONFIG_FILE).read_text())["checksum"]
    assert f"--state {GOLDEN / 'state'}" in told["next"]
    other = call("collect", *ASKED, "--samples", 2, "--out", out)
    assert other.returncode == 2 and "got other tuned; choose another --out" in other.stderr


def test_a_state_of_another_model_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    asked = ("--model", "pocket:mamba2", "--task", "pocket-code", "--data", GOLDEN / "problems.jsonl")
    done = call("collect", *asked, "--state", GOLDEN / "state", "--out", tmp_path / "e.jsonl")
    assert done.returncode == 1 and "expected" in done.stderr
    assert not [*tmp_path.iterdir()]
