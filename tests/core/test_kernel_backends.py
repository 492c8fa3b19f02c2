"""What runs the recurrences can be told and changed, and where a gradient is known to be wrong nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from s0.adapter.fingerprint import how_loaded, rounding_entry
from s0.core import kernel_backends
from s0.core.kernel_backends import (
    implementation_of,
    kernels_of,
    packages_of,
    refuse_wrong_gradients,
    take_torch_path,
    torch_path,
)
from s0.errors import ConfigError, EngineError
from s0.models import load_base_model
from s0.train import FitSettings, Splits, batches, fit
from s0.train.data import TokenizedExample
from tests import zoo
from tests.core.helpers import assert_same, logits, pad, tokens, tuned

GDN = "torch_chunk_gated_delta_rule"


@pytest.fixture
def bound_model() -> Iterator[nn.Module]:
    """A model with a state, for which another chunk kernel is bound: one that mixes up its channels."""
    model = tuned("qwen3_5")
    cells = kernel_backends._closure(kernel_backends._settled(kernels_of(model)[GDN]))
    own = cells["implementation"].cell_contents

    def chunk_gated_delta_rule(*args: Any, **kwargs: Any) -> Any:
        output, state = own(*args, **kwargs)
        return output.flip(-1), state

    chunk_gated_delta_rule.__module__ = "fla.ops.gated_delta_rule.chunk"
    before = {name: cell.cell_contents for name, cell in cells.items()}
    cells["implementation"].cell_contents = chunk_gated_delta_rule
    cells["is_new_implementation"].cell_contents = True
    yield model
    for name, value in before.items():
        cells[name].cell_contents = value


def test_kernels_are_those_of_the_models_mixers() -> None:
    kernels = kernels_of(tuned("qwen3_5"))
    assert {GDN, "torch_recurrent_gated_delta_rule"} <= kernels.keys()
    assert kernels_of(nn.Linear(2, 2)) == {}


@torch.no_grad()
def test_on_the_torch_path_no_package_runs_and_pads_still_touch_nothing(bound_model: nn.Module) -> None:
    rows = [tokens(1, 9), tokens(1, 4, seed=1)]
    ids, mask = pad(rows, "left")
    bad = logits(bound_model, ids, mask)
    with torch_path(bound_model):
        assert implementation_of(kernels_of(bound_model)[GDN]).__module__.startswith("transformers.")
        good, alone = logits(bound_model, ids, mask), logits(bound_model, rows[1])
    assert_same(good[1, 5:][None], alone, bad[1, 5:][None])
    assert torch.equal(logits(bound_model, ids, mask), bad)


@pytest.mark.parametrize("triton", [None, SimpleNamespace()])
def test_packages_are_told_and_recorded_where_they_run(
    bound_model: nn.Module, monkeypatch: pytest.MonkeyPatch, triton: object
) -> None:
    monkeypatch.setattr(kernel_backends, "find_spec", lambda package: triton)
    monkeypatch.setattr(kernel_backends, "_with_version", lambda package: package)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())  # imported by whatever uses it
    kernels = "fla" if triton is None else "fla, triton"
    packages = packages_of(bound_model)
    assert packages.pop(GDN) == "fla"
    assert {*packages.values()} == {"torch"}
    assert how_loaded(bound_model)["kernels"] == kernels == rounding_entry(bound_model)["kernels"]
    take_torch_path(bound_model)
    assert {*packages_of(bound_model).values()} == {"torch"}
    assert "kernels" not in how_loaded(bound_model) and not rounding_entry(bound_model)


def test_a_model_is_loaded_onto_the_torch_path(bound_model: nn.Module) -> None:
    assert packages_of(load_base_model("pocket:gdn"))[GDN] == "fla"
    model = load_base_model("pocket:gdn", kernels="torch")
    assert packages_of(model)[GDN] == "torch"
    with pytest.raises(ConfigError, match=r"expected `kernels` to be torch, .*'triton'"):
        load_base_model("pocket:gdn", kernels="triton")


@pytest.fixture(autouse=True)
def another_machine() -> Iterator[None]:
    """What is known of this machine's Triton is asked anew."""
    kernel_backends._triton_is_wrong.cache_clear()
    yield
    kernel_backends._triton_is_wrong.cache_clear()


TABLE = [
    # capability, triton, tilelang, refused
    ((9, 0), "3.6.0", False, True),
    ((9, 0), "3.7.0+git1", False, True),
    ((9, 0), "3.4", False, True),
    ((9, 0), "3.6.0", True, False),
    ((9, 0), "3.7.1", False, False),
    ((9, 0), "3.10.0", False, False),
    ((9, 0), "3.3.1", False, False),
    ((8, 0), "3.6.0", False, False),
    ((10, 0), "3.6.0", False, False),
]


@pytest.mark.parametrize(("capability", "triton", "tilelang", "refused"), TABLE)
def test_a_wrong_gradient_is_refused_before_anything_is_trained(
    bound_model: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    triton: str,
    tilelang: bool,
    refused: bool,
) -> None:
    monkeypatch.setattr(kernel_backends, "_capabilities", lambda model: {capability})
    monkeypatch.setattr(kernel_backends, "version", lambda package: triton)
    monkeypatch.setattr(kernel_backends, "find_spec", lambda package: SimpleNamespace() if tilelang else None)
    states = [parameter for parameter in bound_model.parameters() if parameter.requires_grad]
    before = [state.detach().clone() for state in states]
    data = batches([TokenizedExample([1, 2, 3, 4], 2, "only")], pad_token=0, max_tokens=16)
    if not refused:
        fit(bound_model, Splits(data), states, FitSettings(n_steps=1))
        return
    with pytest.raises(EngineError, match=r"triton>=3\.7\.1.*tilelang.*--kernels torch"):
        fit(bound_model, Splits(data), states, FitSettings(n_steps=1))
    with pytest.raises(EngineError, match=r"triton>=3\.7\.1.*tilelang.*--kernels torch"):  # whatever loop it is in
        logits(bound_model, tokens(1, 4))
    with torch.no_grad():
        logits(bound_model, tokens(1, 4))
    assert all(torch.equal(state, old) for state, old in zip(states, before, strict=True))
    with torch_path(bound_model):
        fit(bound_model, Splits(data), states, FitSettings(n_steps=1))
    assert not any(torch.equal(state, old) for state, old in zip(states, before, strict=True))


def test_a_card_of_amd_with_the_same_number_trains(bound_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_backends, "_capabilities", lambda model: {(9, 4)})
    monkeypatch.setattr(kernel_backends, "version", lambda package: "3.6.0")
    monkeypatch.setattr(kernel_backends, "find_spec", lambda package: None)
    with pytest.raises(EngineError, match="on a Hopper GPU"):
        refuse_wrong_gradients(bound_model)
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")
    refuse_wrong_gradients(bound_model)


def test_models_without_that_kernel_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_backends, "_capabilities", lambda model: {(9, 0)})
    monkeypatch.setattr(kernel_backends, "version", lambda package: "3.6.0")
    monkeypatch.setattr(kernel_backends, "find_spec", lambda package: None)
    for model in (zoo.make("qwen3_5"), zoo.make("falcon_h1"), nn.Linear(2, 2)):
        refuse_wrong_gradients(model)
