"""A server under a mixed load, killed and started again, every answer checked: what `make soak` does for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from benchmarks.soak.run import Size, soak
from tests import forking


def begun(words: Sequence[str], log: IO[bytes]) -> forking.Process:
    return forking.begun(forking.COMMAND, *words, stderr=log)


def soaked(size: Size, folder: Path) -> dict[str, Any]:
    record = asyncio.run(soak(size, folder, begun))
    assert record["wrong"] == [] and record["kills"] == 2
    assert set(record["at_the_end"]["metrics"].values()) == {0.0} and record["at_the_end"]["status"] == 143
    return record


def test_a_server_answers_rightly_under_a_mixed_load_for_a_moment(tmp_path):
    record = soaked(Size(seconds=3, clients=8, states=1, questions=5), tmp_path)
    assert record["answers"]["all"] > 10 and len(record["answers"]["by_state"]) > 5


@pytest.mark.slow
def test_a_server_answers_rightly_under_a_mixed_load_and_keeps_its_memory(tmp_path):
    record = soaked(Size(seconds=120), tmp_path)
    assert record["rss_mib"]["growth"] < 80  # it warms up; what half an hour may add stands in `benchmarks.soak.run`
    assert set(record["visits"]) == {
        "whole",
        "streamed",
        "several on a connection",
        "of a state that changes",
        "left while it came",
        "left before it came",
        "dropped within the request",
        "read slowly",
        "not read at all",
        "mistaken",
        "loaded and unloaded",
        "put into the folder and taken",
        "looked",
    }
