"""A state's folder is read once, and put on a model under a name without anything that trains."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import s0
from s0 import S0Config, S0Trainer
from s0.adapter import checks, load, state_files
from s0.adapter.attach import switch_to
from s0.core.states import state_layers
from s0.errors import ConfigError, StateMismatchError
from s0.export import published
from s0.train import BaselineTrainer, LoraTuning, load_tuned
from tests import forking, zoo
from tests.breadth import mostly_slow
from tests.core.helpers import logits, tokens, tuned
from tests.train import helpers

IDS = tokens(2, 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a state of all layers, and what the model computes from it beside."""
    model = tuned("qwen3_5", alpha=0.5)
    model.peft_config["default"].training = {"n_examples": 48}
    model.save_pretrained(tmp_path / "state")
    torch.save(logits(model, IDS).detach(), tmp_path / "logits")
    return tmp_path / "state"


def want(folder: Path) -> torch.Tensor:
    expected: torch.Tensor = torch.load(folder.parent / "logits")
    return expected


def test_little_is_imported_to_load_a_state(folder: Path) -> None:
    code = (
        "import sys; needed = {*sys.modules, *sys.stdlib_module_names}; import s0;"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - needed));"
        "import s0.adapter.load as load; from tests import zoo;"
        f"model = load.load({str(folder)!r}, zoo.make('qwen3_5'), 'code');"
        "print([name for name in sys.modules if name.startswith(('s0.train', 's0.bench', 's0_cli'))])"
    )
    done = forking.run(code)
    assert done.stdout.splitlines() == ["['msgspec', 's0']", "[]"]  # beyond PEFT's; of those that train


def test_what_trains_is_there_when_it_is_asked_for() -> None:
    assert (s0.S0Trainer.__name__, s0.S0Config().alpha) == ("S0Trainer", None)
    with pytest.raises(AttributeError, match="module 's0' has no attribute 'nothing'"):
        s0.nothing  # noqa: B018


@torch.no_grad()
def test_a_state_is_on_the_model_under_its_name_switched_off(folder: Path) -> None:
    base = zoo.make("qwen3_5")
    untouched = logits(base, IDS)
    model = load.load(folder, base, "code")
    assert torch.equal(logits(model, IDS), untouched)
    rows = logits(model, IDS, adapter_names=["code", "__base__"])
    torch.testing.assert_close(rows[:1], want(folder)[:1])
    torch.testing.assert_close(rows[1:], untouched[1:])
    switch_to(model, "code")
    torch.testing.assert_close(logits(model, IDS), want(folder))
    config = model.peft_config["code"]
    assert (config.alpha, config.training) == (0.5, {"n_examples": 48})
    assert not any(state.requires_grad for layer in state_layers(model) for state in layer.s0_state.values())


@torch.no_grad()
def test_several_states_come_on_one_model(folder: Path, tmp_path: Path) -> None:
    some = tuned("qwen3_5", alpha=0.25, layers=[0], seed=2)
    some.save_pretrained(tmp_path / "some")
    model = load.load(folder, zoo.make("qwen3_5"), "all")
    assert load.load(tmp_path / "some", model, "some") is model
    rows = logits(model, IDS, adapter_names=["all", "some"])
    torch.testing.assert_close(rows[:1], want(folder)[:1])
    torch.testing.assert_close(rows[1:], logits(some, IDS)[1:])


@torch.no_grad()
def test_a_state_of_the_published_layout_is_at_its_familys_scale(folder: Path, tmp_path: Path) -> None:
    stored = state_files.read(folder)
    published.write(tmp_path / "published", stored, published.layer_indices(stored))
    model = load.load(tmp_path / "published", zoo.make("qwen3_5"), "code")
    switch_to(model, "code")
    torch.testing.assert_close(logits(model, IDS), want(folder))
    config = tmp_path / "published" / "config.json"
    config.write_text(config.read_text().replace('"alpha": 0.5', '"alpha": null'))
    assert load.load(tmp_path / "published", zoo.make("qwen3_5"), "code").peft_config["code"].alpha == 0.07


def test_what_does_not_fit_is_refused_and_leaves_the_model_as_it_was(folder: Path) -> None:
    other, model = zoo.make("falcon_h1"), load.load(folder, zoo.make("qwen3_5"), "code")
    with pytest.raises(StateMismatchError, match="tuned on another model"):
        load.load(folder, other, "code")
    assert not state_layers(other) and not hasattr(other, "peft_config")
    with pytest.raises(StateMismatchError, match="the kind 'offset'"):
        load.read(folder, other, kind="offset")
    with pytest.raises(ConfigError, match="expected a new name"):
        load.load(folder, model, "code")
    assert list(model.peft_config) == ["code"]


def test_a_trainer_takes_no_state_of_another_kind(folder: Path) -> None:
    trainer = S0Trainer(zoo.make("qwen3_5"), helpers.tokenizer(), S0Config(kind="offset"))
    with pytest.raises(StateMismatchError, match="expected the kind 'offset', got 'state'"):
        trainer.take(load.read(folder, trainer.model))


@pytest.mark.parametrize(
    "reader",
    mostly_slow(["load", "load_tuned", "S0Trainer", "BaselineTrainer", "load_tuned of a LoRA"], ["load", "S0Trainer"]),
)
def test_a_folder_is_read_checked_and_matched_once(
    reader: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = zoo.make("qwen3_5"), helpers.tokenizer()
    lora = BaselineTrainer(zoo.make("qwen3_5"), tokenizer, LoraTuning(rank=2))
    lora.train([("abc", 1)])
    lora.save(tmp_path / "lora")
    calls: Counter[str] = Counter()
    for owner, name in ((checks, "read_tensors"), (checks, "check_tensors"), (state_files, "match")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name), calls))
    if reader == "load":
        load.load(folder, model, "code")
    elif reader == "S0Trainer":
        S0Trainer(model, tokenizer).load(folder)
    elif reader == "BaselineTrainer":
        BaselineTrainer(model, tokenizer, LoraTuning(rank=2)).load(tmp_path / "lora")
    else:
        load_tuned(model, tokenizer, folder if reader == "load_tuned" else tmp_path / "lora")
    matched = {} if "LoRA" in reader or reader == "BaselineTrainer" else {"match": 1}
    assert calls == {"read_tensors": 1, "check_tensors": 1, **matched}


def counted(function, calls: Counter[str]):  # type: ignore[no-untyped-def]
    def counting(*args, **kwargs):  # type: ignore[no-untyped-def]
        calls[function.__name__] += 1
        return function(*args, **kwargs)

    return counting


@pytest.mark.parametrize(
    "edited",
    [
        {"versions": 3}, {"n_examples": 1.5}, {"interrupted": "yes"}, {"best_step": "4"}, {"candidates": 5},
        {"tokens_sha256": 7}, {"lr": "1"}, {"avg_state_norm": []}, {"losses": ["a"]},
        {"scale": {"alpha": 1.0, "alphas": [0.0, 1.0], "values": [1.0, 0.5], "helps": True, "by": 3}},
    ],
)  # fmt: skip
def test_an_account_that_no_record_could_hold_is_refused(edited: dict[str, Any], folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "training": {**config["training"], **edited}}))
    with pytest.raises(StateMismatchError, match="expected the account of the training"):
        load.read(folder, zoo.make("qwen3_5"))
