"""Records on disk: read whole or refused, and written as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s0.errors import DatasetError
from s0.record import FORMAT_VERSION, parsed, plain, read_record, write_record
from tests.report.records import demo_record, hostile_record, sampled_record


@pytest.mark.parametrize("made", [demo_record, sampled_record])
def test_what_is_written_is_read_again(made: Any, tmp_path: Path) -> None:
    record = parsed(made())
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json") == record
    assert json.loads((tmp_path / "record.json").read_text()) == json.loads(json.dumps(plain(record)))


def test_a_byte_order_mark_is_no_part_of_a_record(tmp_path: Path) -> None:
    record = parsed(demo_record(n=6))
    write_record(tmp_path / "record.json", record)
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "record.json").read_bytes())
    assert read_record(tmp_path / "marked.json") == record


def test_any_text_survives(tmp_path: Path) -> None:
    record = parsed(hostile_record())
    write_record(tmp_path / "record.json", record)
    read = read_record(tmp_path / "record.json")
    assert read.answers == record.answers and read.problems == record.problems


def test_a_record_of_before_versions_says_what_it_shows() -> None:
    record = demo_record()
    assert "format_version" not in record and "effect" not in record["comparisons"][0]
    assert [comparison.effect for comparison in parsed(record).comparisons] == [
        "helped",
        "no clear difference",
        "hurt",
    ]


def test_a_record_of_a_later_version_is_refused() -> None:
    with pytest.raises(DatasetError, match=f"format version {FORMAT_VERSION} at most, got {FORMAT_VERSION + 1}; read"):
        parsed({**demo_record(n=6), "format_version": FORMAT_VERSION + 1})


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "null", "{}", '{"kind": "demo"}', "[" * 5000, '{"format_version": "x"}', "\udcff"]
)
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match="expected"):
        read_record(path)
    with pytest.raises(DatasetError, match="expected"):
        read_record(tmp_path / "missing.json")


def test_what_a_record_claims_to_show_is_judged_by_the_rule() -> None:
    record = parsed(demo_record(n=40))
    claims = json.loads(json.dumps(plain(record)))
    for comparison in claims["comparisons"]:
        comparison["effect"] = "helped"
    assert parsed(claims).comparisons == record.comparisons


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r["sampled"]["final"]["s0"]["pass_at_k"]["paper"].pop("8"),
        lambda r: r["sampled"]["final"]["s0"]["pass_at_k"]["standard"].update(x={"value": 0, "low": 0, "high": 0}),
        lambda r: r["sampled"]["comparisons"][0].update(first="nobody"),
        lambda r: r["sampled"]["answers"]["s0"][0]["passed"].pop("paper"),
        lambda r: r["answers"]["s0"][0]["reason"].pop("standard"),
        lambda r: r["final"]["s0"]["pass_at_1"]["standard"].update(value=7.0),
        lambda r: r["final"]["s0"]["pass_at_1"]["paper"].update(high=float("nan")),
        lambda r: r["final"].pop("lora"),
        lambda r: r.update(format_version=-1),
        lambda r: r["answers"]["s0"].clear(),
        lambda r: r["answers"]["s0"].append(r["answers"]["s0"][0]),
        lambda r: r["answers"]["s0"].__setitem__(1, r["answers"]["s0"][0]),
        lambda r: r["answers"]["s0"][0].update(problem="no such"),
        lambda r: r["answers"]["s0"][0].update(sample=0),
        lambda r: r["answers"].update(another=r["answers"]["s0"]),
        lambda r: r["sampled"]["answers"]["s0"].pop(),
        lambda r: r["sampled"]["answers"]["s0"][0].update(sample=1),
        lambda r: r["sampled"]["answers"].pop("lora"),
        lambda r: r["sampled"].update(n=10**9),
        lambda r: r.update(of_problems=7),
        lambda r: r.update(of_problems=-1),
        lambda r: r["problems"].pop(next(iter(r["problems"]))),
    ],
)
def test_what_does_not_fit_together_is_refused(damage: Any) -> None:
    record = json.loads(json.dumps(plain(parsed(sampled_record(n=8)))))
    parsed(record)
    damage(record)
    with pytest.raises(DatasetError, match="expected a record"):
        parsed(record)
