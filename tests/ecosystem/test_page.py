"""docs/partners.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from s0.core.states import state_layers

PAGE = Path(__file__).parents[2] / "docs" / "partners.md"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def test_the_code_of_the_page_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl", reason="needs trl: pip install trl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    names: dict[str, object] = {}
    learned = []
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
        if "trainer.train()" in block:
            learned.append([layer.s0_state["default"] for layer in state_layers(names["trainer"].model)])
    assert len(blocks) == 4 and len(learned) == 2
    assert all(bool(state.any()) for states in learned for state in states)
    lora, both = names["lora"], names["both"]
    assert set(lora.peft_config) == {"my-lora", "my-state"} == set(both.peft_config)
    assert torch.isfinite(both(torch.tensor([[3, 4, 5]])).logits).all()
