"""Models by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from s0.errors import ConfigError
from s0.models import POCKET_MODELS, load_base_model, load_model, load_tokenizer
from s0.models import load as module
from s0.train import S0Trainer
from tests import words, zoo
from tests.core.helpers import logits, tokens


@pytest.mark.parametrize("name", POCKET_MODELS)
def test_a_pocket_model_is_loaded_for_a_cpu_and_for_inference(name: str) -> None:
    model, tokenizer = load_model(name)
    assert model.dtype == torch.float32 and not model.training
    assert model.name_or_path == name
    assert model.config.vocab_size == len(tokenizer)


@pytest.mark.parametrize("name", ["pocket:nothing", "no/such-model-anywhere"])
def test_what_cannot_be_loaded_is_refused_with_what_can(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="pocket:gdn"):
        load_model(name)


def a_changed_config(**changes: Any) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return damage


def a_missing_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mamba.A_log"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "config.json").write_text("[1]"), "must be a mapping"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
        (a_changed_config(model_type="no_such"), "no_such"),
        (a_changed_config(hidden_size="many"), "hidden_size.*expected int"),
        (a_changed_config(hidden_size=0), "local model folder"),
        (a_changed_config(hidden_size=64), "mismatched"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage" * 10), "header"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "local model folder"),
        (a_missing_weight, r"all weights.*A_log and 0 more, which would stay random"),
    ],
)
def test_a_damaged_folder_is_refused_whatever_is_damaged(
    damage: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    zoo.make("falcon_h1").save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    load_model(str(tmp_path))
    damage(tmp_path)
    with pytest.raises(ConfigError, match=says):
        load_model(str(tmp_path))


@pytest.mark.parametrize("family", ["zamba2", "falcon_mamba", "qwen3_5_moe", "glm5_next"])
def test_weights_that_are_tied_or_renamed_are_not_missing(family: str, tmp_path: Path) -> None:
    zoo.make(family).save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    model, _ = load_model(str(tmp_path))
    for (name, got), want in zip(model.named_parameters(), zoo.make(family).parameters(), strict=True):
        assert torch.equal(got, want), name


@pytest.mark.parametrize("family", ["qwen3_5+vision", "glm5_next"])
def test_the_text_of_a_model_with_vision_is_read_and_tuned(family: str, tmp_path: Path) -> None:
    whole = zoo.make(family)
    whole.save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    trainer = S0Trainer(*load_model(str(tmp_path)))
    with torch.no_grad():
        assert torch.equal(logits(trainer.model, tokens(1, 6)), logits(whole, tokens(1, 6)))
    result = trainer.train([("def one():\n    return 1\n", 11)])
    assert result["final_loss"] < result["initial_loss"]
    trainer.activate()
    assert isinstance(trainer.generate("def one():\n", max_new_tokens=4), str)


@pytest.mark.parametrize(
    ("launched", "device_map"),
    [({}, "auto"), ({"WORLD_SIZE": "1"}, "auto"), ({"WORLD_SIZE": "4", "LOCAL_RANK": "2"}, {"": 2})],
)
def test_each_launched_process_loads_the_whole_model_on_a_device_of_its_own(
    launched: dict[str, str], device_map: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Loader:
        @staticmethod
        def from_pretrained(source: str, **kwargs: Any) -> Any:
            asked.update(kwargs)
            raise OSError("no such card here")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(module, "AutoModelForCausalLM", Loader)
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="no such card"):
        load_model("pocket:gdn")
    assert asked["device_map"] == device_map


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "mamba2"])  # some get an empty tokenizer, others none
def test_a_folder_without_a_tokenizer_says_so_and_its_model_loads_alone(family: str, tmp_path: Path) -> None:
    zoo.make(family).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"no tokenizer in .*copy tokenizer\.json"):
        load_model(str(tmp_path))
    assert type(load_base_model(tmp_path)) is type(zoo.make(family))
    words.characters().save_pretrained(tmp_path)
    assert len(load_tokenizer(tmp_path)) == len(load_model(tmp_path)[1]) == len(words.characters())


def test_code_of_a_models_own_is_run_only_with_the_argument_that_the_error_names(tmp_path: Path) -> None:
    zoo.make("falcon_h1").save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    a_changed_config(model_type="no_such", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"})(
        tmp_path
    )
    (tmp_path / "own.py").write_text("raise ValueError('this code has run')")
    for load in (load_model, load_base_model):
        with pytest.raises(ConfigError, match="trust_remote_code=True"):
            load(str(tmp_path))
        with pytest.raises(ConfigError, match="this code has run"):
            load(str(tmp_path), trust_remote_code=True)


@pytest.mark.parametrize("load", [load_model, load_base_model, load_tokenizer, S0Trainer.from_pretrained])
def test_a_model_that_is_loaded_already_is_no_name(load: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError, match=r"Qwen3_5ForCausalLM.*pass the model and tokenizer to S0Trainer\(model, tok"):
        load(zoo.make("qwen3_5"))
