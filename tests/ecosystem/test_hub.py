"""A state on the Hugging Face Hub: what is uploaded, and a card that tells what it is. Nothing leaves the machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers.utils.hub
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import LoraConfig, PeftModel, get_peft_model

from s0 import S0AdapterConfig, S0Trainer
from s0.adapter.card import card
from s0.record import parsed
from tests import words, zoo
from tests.core.helpers import logits, tokens, tuned
from tests.report.records import verdicts

FAMILY = "qwen3_5"
PAIRS = [("def add(a, b):\n    return a + b\n", 15), ("def one():\n    return 1\n", 10)]
EDITED = "---\nlibrary_name: peft\n---\n# My state\n\nIt speaks like a pirate.\n"


HALF = [i % 2 == 0 for i in range(40)]
RECORD = parsed(verdicts(base=([False] * 40, HALF), state=(HALF, HALF)))


class Hub:
    """Stands in for the Hub: keeps what is uploaded in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def create_repo(self, repo_id: str, **_: Any) -> Any:
        self.asked.append(repo_id)
        self.folder.mkdir(exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id: str, operations: list[Any], **_: Any) -> str:
        for one in operations:
            target = self.folder / one.path_in_repo
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(Path(one.path_or_fileobj).read_bytes())
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, **_: Any) -> str:
        for file in Path(folder_path).iterdir():
            (self.folder / file.name).write_bytes(file.read_bytes())
        return f"https://hub/{repo_id}"

    def file_exists(self, repo_id: str, name: str, **_: Any) -> bool:
        return (self.folder / name).is_file()

    def hf_hub_download(self, repo_id: str, name: str, **_: Any) -> str:
        return str(self.folder / name)

    def load_card(self, repo_id: str, **_: Any) -> ModelCard:
        if not self.file_exists(repo_id, "README.md"):
            raise LocalEntryNotFoundError("no card")
        return ModelCard((self.folder / "README.md").read_text())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    for name in ("create_repo", "create_commit", "upload_folder", "file_exists", "hf_hub_download"):
        answer = getattr(made, name)
        monkeypatch.setattr(HfApi, name, lambda self, *args, _answer=answer, **kwargs: _answer(*args, **kwargs))
    monkeypatch.setattr(transformers.utils.hub, "hf_api", lambda: made)
    monkeypatch.setattr(
        transformers.utils.hub,
        "ModelCard",
        SimpleNamespace(load=made.load_card, from_template=ModelCard.from_template),
    )
    return made


@pytest.fixture(scope="module")
def trainer() -> S0Trainer:
    model = zoo.make(FAMILY)
    model.name_or_path = "someone/tiny-hybrid"
    made = S0Trainer(model, words.characters())
    made.config.n_steps, made.config.lr = 2, 0.5
    made.train(PAIRS)
    return made


def text_of(hub: Hub) -> str:
    return (hub.folder / "README.md").read_text()


def header(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---")[1]))


def test_a_trainer_uploads_a_state_that_loads_and_a_card_that_tells_how_it_came_to_be(
    hub: Hub, trainer: S0Trainer
) -> None:
    assert trainer.push_to_hub("someone/state").endswith("someone/state")
    assert hub.asked == ["someone/state"]
    assert sorted(file.name for file in hub.folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    told, trained = text_of(hub), trainer.training
    for fact in (
        "someone/tiny-hybrid",
        "gated_delta_net",
        "alpha = 0.07",
        "| examples | 2 |",
        trained["tokens_sha256"],
        f"{trained['final_loss']:.4g}",
        "| lr | 0.5 |",
        'load_model("someone/tiny-hybrid")',
        "PeftModel.from_pretrained",
    ):
        assert fact in told
    assert "pass@1" not in told and "More Information Needed" not in told
    assert header(told)["base_model"] == "someone/tiny-hybrid" and header(told)["library_name"] == "peft"
    assert {"s0", "base_model:adapter:someone/tiny-hybrid"} <= set(header(told)["tags"])
    trainer.activate()
    loaded = PeftModel.from_pretrained(zoo.make(FAMILY), hub.folder)
    assert torch.equal(logits(loaded, tokens(1, 5)), logits(trainer.model, tokens(1, 5)))


def test_figures_come_from_a_record_alone(hub: Hub, trainer: S0Trainer) -> None:
    trainer.push_to_hub("someone/state", record=RECORD)
    told = text_of(hub)
    assert "| state | 50.0% (35.2% to 64.8%) |" in told and "pocket-code" in told and RECORD.task.data_sha256 in told
    trainer.push_to_hub("someone/state")
    assert "50.0%" not in text_of(hub)


@pytest.mark.parametrize("by", ["trainer", "peft"])
def test_a_card_that_somebody_has_written_on_the_hub_stays(by: str, hub: Hub, trainer: S0Trainer) -> None:
    hub.folder.mkdir()
    (hub.folder / "README.md").write_text(EDITED)
    (trainer if by == "trainer" else tuned(FAMILY)).push_to_hub("someone/state")
    assert "pirate" in text_of(hub) and "How to load it" not in text_of(hub)
    assert (hub.folder / "adapter_model.safetensors").is_file()


def test_a_peft_model_uploads_the_same_card(hub: Hub) -> None:
    model = tuned(FAMILY, alpha=0.5)
    model.push_to_hub("someone/state")
    assert "alpha = 0.5" in text_of(hub) and "How to load it" in text_of(hub)
    assert "More Information Needed" not in text_of(hub)
    loaded = PeftModel.from_pretrained(zoo.make(FAMILY), hub.folder)
    assert torch.equal(logits(loaded, tokens(1, 5)), logits(model, tokens(1, 5)))


def test_the_card_of_another_method_is_as_peft_makes_it(hub: Hub) -> None:
    get_peft_model(zoo.make(FAMILY), LoraConfig(target_modules=["q_proj"])).push_to_hub("someone/lora")
    assert "How to load it" not in text_of(hub)


def test_a_saved_folder_has_a_card_which_follows_the_state_until_somebody_edits_it(tmp_path: Path) -> None:
    model = tuned(FAMILY, alpha=0.5)
    model.save_pretrained(tmp_path)
    assert "alpha = 0.5" in (tmp_path / "README.md").read_text()
    model.peft_config["default"].alpha = 0.25
    model.save_pretrained(tmp_path)
    assert "alpha = 0.25" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(EDITED)
    model.save_pretrained(tmp_path)
    assert "pirate" in (tmp_path / "README.md").read_text()
    assert "How to load it" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("base", [None, "pocket:gdn", "/some/folder/model"])
def test_a_base_that_is_not_on_the_hub_is_told_but_not_linked(base: str | None) -> None:
    text = card({**S0AdapterConfig().to_dict(), "base_model_name_or_path": base})
    assert "base_model" not in header(text)
    assert (base or "not recorded") in text and "Not recorded." in text
    assert "None" not in text


def test_an_interrupted_training_is_told() -> None:
    assert "interrupted" in card({"training": {"interrupted": True, "n_examples": 3}})


def test_an_offset_is_not_told_as_a_state() -> None:
    text = card(S0AdapterConfig(kind="offset").to_dict())
    assert "# A state offset" in text and "costs a little at every token" in text
    assert "absorbs it" not in text
