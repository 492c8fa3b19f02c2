"""Data parallel training: two processes, really launched, come to what one comes to, or say why they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from s0.errors import ConfigError
from s0.train import FitSettings, LoraTuning, Splits, fit, make_trainer
from tests import zoo
from tests.train import two_processes
from tests.train.helpers import EXAMPLES, PAIRS, assert_states_equal, in_batches, tokenizer, trainable, tuned

ROOT = Path(__file__).resolve().parents[2]
Told = dict[str, Any]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Told, dict[str, Tensor]]]:
    """What each of two processes told of every case, and the tensors it ended with."""
    folder = tmp_path_factory.mktemp("two")
    launcher = "accelerate.commands.accelerate_cli launch --multi_gpu --num_processes 2 --num_machines 1"
    chosen = "--mixed_precision no --dynamo_backend no --main_process_port 0"
    done = subprocess.run(
        [sys.executable, "-m", *launcher.split(), *chosen.split(), "-m", "tests.train.two_processes", str(folder)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        (json.loads((folder / f"{rank}.json").read_text()), load_file(folder / f"{rank}.safetensors"))
        for rank in range(2)
    ]


def alone(case: str, folder: Path) -> tuple[Any, list[Tensor]]:
    """The same case in this process."""
    outcome = two_processes.cases(folder)[case]()
    return outcome["told"], [one.detach() for one in outcome["tensors"]]


def flat(told: Any) -> list[float]:
    """Every number of what was told, in order."""
    if isinstance(told, dict):
        return [number for key in sorted(told) for number in flat(told[key])]
    if isinstance(told, (list, tuple)):
        return [number for one in told for number in flat(one)]
    return [float(told)]


@pytest.mark.parametrize(
    "case", ["uneven shares", "an idle process", "patience", "search", "trainer", "baseline", "curve", "little memory"]
)
@pytest.mark.slow
def test_two_processes_equal_one(
    case: str, launched: list[tuple[Told, dict[str, Tensor]]], tmp_path: Path, monkeypatch: Any
) -> None:
    told, tensors = alone(case, tmp_path)
    assert len(flat(told)) >= 3
    for theirs, their_tensors in launched:
        assert not isinstance(theirs[case], dict) or "error" not in theirs[case], theirs[case]
        assert flat(theirs[case]) == pytest.approx(flat(told), abs=1e-5, nan_ok=True)
        if tensors:
            assert_states_equal([their_tensors[f"{case}/{i}"] for i in range(len(tensors))], tensors)
    first, second = (held for _, held in launched)
    for i in range(len(tensors)):
        assert torch.equal(first[f"{case}/{i}"], second[f"{case}/{i}"])


@pytest.mark.slow
def test_one_that_is_asked_to_end_ends_both_and_they_resume(
    launched: list[tuple[Told, dict[str, Tensor]]], tmp_path: Path
) -> None:
    whole = two_processes.learned_from_zero()
    for told, tensors in launched:
        ended, kept, again = told["interrupted"]
        assert (ended, kept) == (128 + 15, True)
        assert again["losses"] == pytest.approx(list(whole["told"]["losses"]), abs=1e-5)
        assert_states_equal(
            [tensors[f"interrupted/{i}"] for i in range(len(whole["tensors"]))], [t.detach() for t in whole["tensors"]]
        )


@pytest.mark.parametrize(
    ("case", "error", "text"),
    [
        ("other data", ["ConfigError", "ConfigError"], "the same settings, examples, base model and checkpoint"),
        ("bad row", ["DatasetError", "DatasetError"], "is nan at step 0"),
        ("unforeseen", ["EngineError", "RuntimeError"], "the card fell out"),
        ("DDP", ["ConfigError", "ConfigError"], "got DistributedDataParallel"),
        ("FSDP1", ["ConfigError", "ConfigError"], "got FSDP1"),
        ("FSDP2", ["ConfigError", "ConfigError"], "got FSDP2"),
        ("tensor parallelism", ["ConfigError", "ConfigError"], "got tensor parallelism"),
    ],
)
@pytest.mark.slow
def test_what_goes_wrong_is_told_by_both(
    case: str, error: list[str], text: str, launched: list[tuple[Told, dict[str, Tensor]]]
) -> None:
    told = [one[case] for one, _ in launched]
    assert [one["error"] for one in told] == error
    assert all(text in one["text"] for one in told), told


def attempt() -> Any:
    model = tuned()
    return fit(model, Splits(in_batches()), trainable(model), FitSettings(n_steps=2, lr=0.02)), trainable(model)


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("ACCELERATE_USE_FSDP", "true", "FSDP1"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "1", "Megatron-LM"),
        ("PARALLELISM_CONFIG_TP_SIZE", "2", "tensor parallelism"),
        ("PARALLELISM_CONFIG_CP_SIZE", "2", "context parallelism"),
    ],
)
def test_a_launcher_that_is_to_split_the_model_is_refused(
    variable: str, value: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"expected the whole model in each process, got {name}"):
        attempt()


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: an Accelerator that an earlier test has left would speak before the environment."""
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})


@pytest.mark.usefixtures("no_accelerator")
def test_bf16_computes_in_bf16_and_keeps_the_state_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, _ = attempt()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    rounded, parameters = attempt()
    assert rounded.losses != exact.losses
    assert rounded.losses == pytest.approx(exact.losses, rel=0.02)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.filterwarnings("ignore::s0.cautions.Caution")
def test_bf16_computes_the_losses_before_and_after_in_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    made = make_trainer(zoo.make("qwen3_5"), tokenizer(), LoraTuning(n_steps=1, lr=1e-12))
    report = made.train(EXAMPLES, select=EXAMPLES)
    assert report["initial_loss"] == report["final_loss"] == made.training["losses"][0]
    assert report["select_initial_loss"] == report["select_final_loss"]


@pytest.mark.usefixtures("no_accelerator")
def test_fp16_is_refused_because_small_gradients_would_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match="use bf16"):
        attempt()


def test_deepspeed_zero_3_is_refused() -> None:
    model = tuned()
    next(iter(model.parameters())).ds_id = 0  # how DeepSpeed marks a tensor that it has taken apart
    with pytest.raises(ConfigError, match="got DeepSpeed ZeRO-3"):
        fit(model, Splits(in_batches(PAIRS)), trainable(model), FitSettings(n_steps=1))
