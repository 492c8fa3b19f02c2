"""Models by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from s0.errors import ConfigError
from s0.models import POCKET_MODELS, load_model
from s0.models import load as module


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
