"""What was written to disk, printed and offered before goes on being read, and stays as it was."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import s0
from s0 import S0Config, S0Trainer, load_model, tasks
from s0.bench import Answerer, CollectSettings, Questions, collect
from s0.examples import read_examples
from s0.record import plain, read_record
from s0.report.page import write_report
from s0.train import load_tuned
from tests.cli.calls import result
from tests.cli.calls import s0 as command

GOLDEN = Path(__file__).parent
OUTPUTS = load_file(GOLDEN / "outputs.safetensors")
SURFACE = json.loads((GOLDEN / "surface.json").read_text())
PROBLEMS = GOLDEN / "problems.jsonl"
ADDED_KEYS = {
    "eval": {"format_version", "max_new_tokens"},
    "sandbox check": {"packages"},
    "inspect MODEL": {"memory"},
    "inspect LORA": {"bytes"},
    "generate": {"model", "settings", "answers"},
}
"""To what a command answers, since then."""


def _close(new: Tensor, stored: Tensor) -> bool:
    return torch.allclose(new, stored, rtol=1e-4, atol=1e-4)  # other processors round in other places


def _logits(model: nn.Module, tokenizer: Any) -> Tensor:
    with torch.no_grad():
        return model(**tokenizer("def add_two(n):", return_tensors="pt")).logits[0, -1].float()


@pytest.mark.parametrize("folder", ["state", "published", "offset", "lora", "prefix"])
def test_what_was_tuned_loads_and_computes_the_same(folder: str) -> None:
    model, tokenizer = load_model("pocket:transformer" if folder == "prefix" else "pocket:gdn")
    untouched = _logits(model, tokenizer)
    trainer = load_tuned(model, tokenizer, GOLDEN / folder)
    assert _close(_logits(trainer.model, tokenizer), OUTPUTS[folder])
    assert not _close(untouched, OUTPUTS[folder])
    trainer.detach()
    assert torch.equal(_logits(model, tokenizer), untouched)


def test_a_state_of_a_recurrent_layer_of_torchs_loads_and_computes_the_same() -> None:
    gru = nn.GRU(4, 6, num_layers=2, batch_first=True)
    gru.load_state_dict(load_file(GOLDEN / "gru.safetensors"))
    layer = s0.rnn.InitialState(gru)
    layer.load(GOLDEN / "rnn")
    assert layer.alpha == 0.5
    outputs, _ = layer(torch.linspace(-1, 1, 12).view(1, 3, 4))
    assert _close(outputs.detach().flatten(), OUTPUTS["rnn"])


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    examples = read_examples(GOLDEN / "train.jsonl")
    model, tokenizer = load_model("pocket:gdn")
    config = S0Config(n_steps=6, lr=1e-2, alpha=0.5)
    resumed, whole = (S0Trainer(model, tokenizer, config) for _ in range(2))
    checkpoint = Path(shutil.copy(GOLDEN / "training.checkpoint", tmp_path))
    resumed.train(examples, checkpoint=checkpoint)
    whole.train(examples)
    steps_before = 4  # those that the file tells of were made on another processor
    assert list(resumed.training["losses"][:steps_before]) == SURFACE["losses"][:steps_before]
    assert resumed.training["losses"] == pytest.approx(SURFACE["losses"], rel=1e-4)
    for name, state in resumed._states().items():
        assert _close(state.detach(), OUTPUTS[f"trained.{name}"])
        assert _close(state.detach(), whole._states()[name].detach())


def test_a_collection_finds_its_samples_again(tmp_path: Path) -> None:
    for name in ("train.jsonl", "train.samples.jsonl"):
        shutil.copy(GOLDEN / name, tmp_path)
    model, tokenizer = load_model("pocket:gdn")
    task = tasks.load("pocket-code", PROBLEMS)
    settings = CollectSettings(samples=8)
    examples = collect(
        Answerer(model, tokenizer), Questions(task, task.split("train")), tmp_path / "train.jsonl", settings
    )
    assert examples == read_examples(GOLDEN / "train.jsonl")
    for name in ("train.jsonl", "train.samples.jsonl"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", ["demo", "eval"])
def test_a_record_is_read_and_nothing_of_it_lost(name: str) -> None:
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    read = json.loads(json.dumps(plain(read_record(GOLDEN / f"{name}.json"))))
    assert read == {"format_version": 0, **stored}


@pytest.mark.parametrize("name", ["demo", "eval"])
def test_a_record_is_reported(name: str, tmp_path: Path) -> None:
    page = write_report(read_record(GOLDEN / f"{name}.json"), tmp_path)
    assert "pocket:gdn" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SURFACE["help"])
def test_no_command_and_no_option_is_gone(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    listed, before = _listed(command(*path.split()[1:], "--help").stdout), _listed(SURFACE["help"][path])
    assert before and before <= listed


def _listed(text: str) -> set[str]:
    """The commands, arguments and options that a help has a line for."""
    lines = re.findall(r"^  (\S+(?:, --\S+)?)(?: {2,}| <)", text, re.MULTILINE)
    return {name.lower() for line in lines for name in line.split(", ")}


@pytest.mark.slow
def test_commands_answer_with_the_same_keys(tmp_path: Path) -> None:
    examples, state = GOLDEN / "train.jsonl", GOLDEN / "state"
    of_problems = ("--model", "pocket:gdn", "--task", "pocket-code", "--data", PROBLEMS)
    calls: dict[str, tuple[Any, ...]] = {
        "sandbox check": ("sandbox", "check"),
        "inspect MODEL": ("inspect", "pocket:gdn"),
        "inspect STATE": ("inspect", state),
        "inspect LORA": ("inspect", GOLDEN / "lora"),
        "inspect --families": ("inspect", "--families"),
        "eval --list": ("eval", "--list"),
        "eval": ("eval", *of_problems, "--state", state, "--samples", 2, "--out", tmp_path / "eval.json"),
        "collect": ("collect", *of_problems, "--samples", 4, "--out", tmp_path / "examples.jsonl"),
        "train": ("train", "--model", "pocket:gdn", "--examples", examples, "--n-steps", 1, "--out", tmp_path / "s"),
        "export": ("export", state, "--to", "published", "--out", tmp_path / "published"),
        "generate": ("generate", "--model", "pocket:gdn", "def add_two(n):"),
    }
    assert calls.keys() | {"demo"} == SURFACE["json"].keys()
    for name, call in calls.items():
        added = ADDED_KEYS.get(name, set())
        assert result(*call).keys() == added.union(SURFACE["json"][name]), name


def test_the_package_offers_the_same_names() -> None:
    assert sorted(s0.__all__) == SURFACE["all"]


def test_no_file_names_a_module_of_this_package() -> None:
    written = [path for path in GOLDEN.rglob("*") if path.suffix in (".json", ".jsonl", ".safetensors", ".checkpoint")]
    assert len(written) > 15
    for path in written:
        if path.name != "surface.json":
            assert b"s0." not in path.read_bytes(), path
