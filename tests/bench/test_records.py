"""Records keep their completions, and those can be judged again."""

from __future__ import annotations

import base64
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rejudge import differences, judged_in, record_in, records_in
from s0 import tasks
from s0.errors import DatasetError
from s0.record import compressed, compression, decompressed


@given(st.lists(st.text(st.characters(), max_size=30)))
def test_completions_are_compressed_and_read_again(completions: list[str]) -> None:
    line = compressed(completions)
    assert line.isascii() and decompressed(line) == completions


def test_packed_completions_take_little_room() -> None:
    completions = [f"    return x + {n % 7}\n" for n in range(2000)]
    assert len(compressed(completions)) < len(json.dumps(completions)) / 20


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no base64!",
        base64.b64encode(b"no lzma").decode(),
        compressed(["x" * 1000])[:40],
        base64.b64encode(lzma.compress(b"[1]")).decode(),
        base64.b64encode(lzma.compress(b"{")).decode(),
    ],
    ids=["empty", "base64", "lzma", "cut", "numbers", "json"],
)
def test_what_holds_no_completions_is_refused(line: str) -> None:
    with pytest.raises(DatasetError, match="expected the compressed completions of a record, got"):
        decompressed(line)


def test_no_more_is_decompressed_than_anybody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_MOST_BYTES", 1000)
    assert decompressed(compressed(["x" * 900])) == ["x" * 900]
    with pytest.raises(
        DatasetError, match="expected the compressed completions of a record, got more than anybody keeps"
    ):
        decompressed(compressed(["x" * 1100]))


def test_a_record_is_judged_again() -> None:
    task = tasks.load("pocket-math")
    right, wrong, other = (f"#### {problem.answer}" for problem in task.problems[:3])  # type: ignore[attr-defined]
    ids = [problem.id for problem in task.problems[:2]]
    record = {
        "task": {"name": task.name, "version": "0", "data_sha256": task.data_sha256},
        "problems": ids,
        "examples": {"train": {"problems": ids[:1], "completions": compressed([right])}},
        "greedy": {
            "base": {"verdicts": {"standard": "10", "paper": "11"}, "completions": compressed([right, other])},
        },
        "drawn": {
            "base": {
                "verdicts": dict.fromkeys(("standard", "paper"), "1010"),
                "completions": compressed([right, "no"] * 2),
            }
        },
        "sampled": None,
    }
    assert sum(len(judged.completions) for judged in judged_in(record)) == 7
    assert list(differences(record, None)) == [
        f"greedy base, paper, {ids[1]}: passed, now 'wrong answer': {other!r}",
        *(f"drawn base, {scoring}, {ids[1]}: passed, now 'wrong answer': {right!r}" for scoring in tasks.SCORINGS),
    ]
    same = {"verdicts": dict.fromkeys(tasks.SCORINGS, "11"), "completions": compressed([right, wrong])}
    assert list(differences({**record, "greedy": {"base": same}, "drawn": {}}, None)) == []
    gone = {**record, "problems": [ids[0], "gone"], "greedy": {"base": same}, "drawn": {}}
    assert list(differences(gone, None)) == [
        f"greedy base, {scoring}, gone: passed, now left out: {wrong!r}" for scoring in tasks.SCORINGS
    ]
    with pytest.raises(DatasetError, match="expected the problems that the record is of, got others"):
        next(differences({**record, "task": {**record["task"], "data_sha256": "0"}}, None))  # type: ignore[dict-item]


def test_the_units_of_a_study_are_judged_again() -> None:
    task = tasks.load("pocket-math")
    right, wrong, _ = (f"#### {problem.answer}" for problem in task.problems[:3])  # type: ignore[attr-defined]
    ids = [problem.id for problem in task.problems[:2]]
    facts = {"name": task.name, "version": "0", "data_sha256": task.data_sha256}
    answers = {"verdicts": dict.fromkeys(tasks.SCORINGS, "11"), "completions": compressed([right, "no"])}
    answered = {**answers, "task": facts, "problems": ids, "drawn": answers}
    variant = {"kind": "variant", "unit": {}, "run": {"method": "s0"}, "answered": {task.name: answered}}
    (record,) = records_in(variant)
    assert list(differences(record, None)) == [
        f"{place} s0, {scoring}, {ids[1]}: passed, now 'unparsable': 'no'"
        for place in ("greedy", "drawn")
        for scoring in tasks.SCORINGS
    ]
    asked = {"task": task.name, "version": "0", "data_sha256": task.data_sha256, "split": "train"}
    collected = {"kind": "collection", "unit": {"asked": asked, "limits": {"timeout_s": 9.0}}, "problems": ids}
    (record,) = records_in({**collected, "completions": compressed([right, wrong])})
    assert list(differences(record, None)) == [] and record["sandbox"] == {"timeout_s": 9.0}
    (record,) = records_in({**collected, "completions": compressed([right, right])})
    assert [line.partition(":")[0] for line in differences(record, None)] == [f"train examples, standard, {ids[1]}"]


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[1]", "{}", '{"benchmark": "families"}', '{"task": {"name": "gsm8k"}}']
)
def test_what_is_no_record_of_answers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"expected .*record\.json to be a record .*; name a record\.json"):
        record_in(path)
