"""The GPU benchmark measures models of the published sizes, and its script runs from end to end on toy ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from s0.core.families import find_mixers, recurrence_of


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    import gpu

    return gpu


@pytest.mark.parametrize(
    ("name", "billions", "layers", "state_shape"),
    [("qwen3_5_4b", 4.2, 24, (32, 128, 128)), ("falcon_h1_7b", 7.6, 44, (24, 128, 256))],
)
def test_the_models_have_the_published_sizes(
    gpu: Any, name: str, billions: float, layers: int, state_shape: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(gpu.configs(tiny=False)[name])
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(billions * 1e9, rel=0.02)
    mixers = find_mixers(model).values()
    assert len(mixers) == layers
    assert {recurrence_of(mixer).state_shape(mixer) for mixer in mixers} == {state_shape}
    published = {"qwen3_5_4b": 12.6e6, "falcon_h1_7b": 34.6e6}[name]  # trainable numbers, Young 2026
    assert layers * math.prod(state_shape) == pytest.approx(published, rel=0.005)


@pytest.mark.slow
def test_the_script_runs_on_toy_models(gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--tiny", "--pairs", "3", "--kernels", "torch", "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert json.loads(capsys.readouterr().out) == record
    assert record["tiny"] and set(record["models"]) == {"qwen3_5_4b", "falcon_h1_7b"}
    for measured in record["models"].values():
        assert measured["state_parameters"] == measured["state_layers"] * math.prod(measured["state_shape"])
        training = measured["training"]
        assert training["ended"] == "whole" and training["kernels"]
        assert training["tokens"] == 48 and sum(rows for rows, _ in training["batches"]) == 4
        for part in ("floor", "step", "step_checkpointed"):
            assert training[part]["tokens_per_second"] != 0
        inference = measured["inference"]["rows_2"]
        assert inference["ended"] == "whole" and inference["kernels"] == training["kernels"]
        for phase in ("prefill", "decode"):
            figures = inference[phase]
            assert figures.pop("untouched_tokens_per_second") > 0
            assert all(side["low"] <= side["ratio"] <= side["high"] and side["pairs"] == 3 for side in figures.values())
        assert measured["swap"].pop("ended") == "whole"
        assert all(value > 0 for value in measured["swap"].values())


@pytest.mark.slow
def test_a_run_whose_time_is_over_ends_with_what_it_has(gpu: Any, tmp_path: Path) -> None:
    gpu.main(["--tiny", "--minutes", "0", "--model", "falcon_h1_7b", "--out", str(tmp_path / "record.json")])
    measured = json.loads((tmp_path / "record.json").read_text())["models"]["falcon_h1_7b"]
    assert measured["state_layers"] == 2
    for part in (measured["training"], measured["inference"]["rows_2"], measured["swap"]):
        assert part["ended"].startswith("out of time after")


@pytest.mark.slow
def test_a_part_that_fails_says_so_and_the_others_run(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("incorrect results")

    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(gpu, "fit", failing)
    monkeypatch.setattr(gpu, "write_record", lambda path, record: kept.append(json.loads(json.dumps(record))))
    gpu.main(["--tiny", "--model", "qwen3_5_4b", "--out", str(tmp_path / "record.json")])
    first, last = (record["models"]["qwen3_5_4b"] for record in (kept[0], kept[-1]))
    assert first["training"]["ended"] == "RuntimeError: incorrect results" and first["swap"] == {}
    assert last["training"]["floor"]["tokens_per_second"] > 0 and last["swap"]["ended"] == "whole"


def test_without_a_gpu_full_size_is_refused(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main([])
    assert ended.value.code == 2
    assert "expected a CUDA device" in capsys.readouterr().err
