"""States of low rank: after every step, whatever is kept, chosen, saved or gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s0 import S0Config, S0Trainer
from s0.core.low_rank import n_numbers, nearest_of_rank
from s0.core.states import state_layers
from s0.errors import ConfigError, DatasetError, StateMismatchError
from s0.serve.facts import facts_of
from s0.train import FitSettings, Grid, Splits, fit, load_tuned, read_tuned
from s0.train.modes import unscaled
from s0.train.settings import LowRankFitSettings
from tests import zoo
from tests.train.helpers import (
    EXAMPLES,
    PAIRS,
    assert_states_equal,
    every_family,
    in_batches,
    slow_losses,
    states,
    tokenizer,
    trainable,
    trained,
    trainer,
    tuned,
)
from tests.train.test_fit import poisoned, raising

SELECT = [("def q(z): zzz [%] 99 #!", 9), ("w{8}w{8}w{8}", 4)]
WHOLE = {"qwen3_5": 8, "falcon_h1": 8}
"""The rank of any matrix of a head, there (K, V) = (8, 16) and (P, N) = (16, 8)."""


def ranks(tensors: Sequence[Tensor]) -> set[int]:
    """The ranks of all heads' matrices, to what float32 can tell."""
    return {int(rank) for tensor in tensors for rank in torch.linalg.matrix_rank(tensor, rtol=1e-5).flatten()}


def ranks_of(made: S0Trainer) -> set[int]:
    return ranks(list(states(made).values()))


def low(rank: int, **settings: Any) -> LowRankFitSettings:
    return LowRankFitSettings(**{"n_steps": 3, "lr": 0.1, **settings}, state_rank=rank)


def test_the_nearest_matrix_is_the_sum_of_the_largest_parts() -> None:
    keys, values = (torch.linalg.qr(torch.randn(5, size, size, dtype=torch.float64)).Q for size in (6, 9))
    sizes = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    for rank in range(1, 7):
        parts = [size * keys[:, :, [i]] @ values[:, :, [i]].mT for i, size in enumerate(sizes)]
        torch.testing.assert_close(nearest_of_rank(sum(parts), rank), sum(parts[:rank]))
        torch.testing.assert_close(nearest_of_rank(sum(parts).mT, rank), sum(parts[:rank]).mT)
    assert not nearest_of_rank(torch.zeros(2, 3, 4), 1).any()


@every_family
@pytest.mark.parametrize("scale_in_training", [False, True])
def test_training_equals_a_plain_loop_with_a_cut_after_every_step(family: str, scale_in_training: bool) -> None:
    deployed: dict[str, Any] = {"alpha": 2.0, "normalize": True}
    settings = low(2, scale_in_training=scale_in_training)
    fitted, plain = tuned(family, **deployed), tuned(family, **deployed).eval()
    fit(fitted, Splits(in_batches()), trainable(fitted), settings)
    learned = trainable(plain)
    optimizer = torch.optim.Adam(learned, lr=settings.lr)
    with nullcontext() if scale_in_training else unscaled(plain):
        for _ in range(settings.n_steps):
            optimizer.zero_grad()
            mean = sum(slow_losses(plain)) / len(PAIRS)
            (mean + settings.l2_lambda * sum(state.pow(2).sum() for state in learned)).backward()
            nn.utils.clip_grad_norm_(learned, settings.grad_clip)
            optimizer.step()
            for state in learned:
                for matrix in state.data:  # of a head
                    u, s, v = torch.svd(matrix)
                    matrix.copy_(u[:, :2] @ s[:2].diag() @ v[:, :2].T)
    assert ranks(trainable(fitted)) == {2}
    assert_states_equal(trainable(fitted), learned, 1e-4)


@every_family
@pytest.mark.parametrize("kind", ["state", "offset"])
def test_every_way_to_learn_ends_with_a_state_of_that_rank(family: str, kind: str) -> None:
    made = trainer(family, kind=kind, n_steps=3, lr=0.1, state_rank=1, alpha="auto")
    made.train(PAIRS, select=SELECT)
    assert ranks_of(made) == {1}
    made.config = replace(made.config, patience=1, n_steps=20, lr=0.5, state_rank=2)
    made.train(PAIRS, select=SELECT)
    assert made.training["best_step"] < 20 and ranks_of(made) == {2}
    made.config = replace(made.config, patience=None, state_rank=3)
    made.train_auto(PAIRS, SELECT, grid=Grid((0.01, 0.1), (1, 3)))
    assert ranks_of(made) == {3}


def test_gains_beside_a_state_are_not_cut() -> None:
    made = trained(gains=True, lr=0.1, state_rank=1)
    gains = [tensor for tensor in made._parameters() if tensor.ndim == 1]
    assert ranks_of(made) == {1} and gains and all(gain.any() for gain in gains)
    n_gains = sum(gain.numel() for gain in gains)
    assert made.n_parameters == n_gains + sum(n_numbers(state.shape, 1) for state in states(made).values())


@every_family
def test_the_whole_rank_changes_nothing(family: str) -> None:
    made, whole = (trained(family, n_steps=3, lr=0.1, state_rank=rank) for rank in (None, WHOLE[family]))
    assert_states_equal(list(states(whole).values()), list(states(made).values()), 1e-4)
    assert whole.n_parameters == made.n_parameters
    assert ranks_of(made) == {WHOLE[family]}


def test_a_state_without_a_gradient_stays_zero() -> None:
    idle, model = nn.Parameter(torch.zeros(2, 4, 3)), tuned()
    fit(model, Splits(in_batches()), [*trainable(model), idle], low(1))
    assert not idle.any() and ranks(trainable(model)) == {1}


@pytest.mark.parametrize("explodes", ["a row", "the learning rate"])
def test_what_explodes_is_told_as_without_a_rank(explodes: str) -> None:
    lr = 1e30 if explodes == "the learning rate" else 0.1
    errors = []
    for settings in (FitSettings(n_steps=3, lr=lr), low(1, lr=lr)):
        model = tuned()
        with poisoned(model, 0, at_call=3 if explodes == "a row" else 0), pytest.raises(DatasetError) as caught:
            fit(model, Splits(in_batches()), trainable(model), settings)
        assert all(state.any() and state.isfinite().all() for state in trainable(model))  # the last good ones
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    broken, whole = torch.full((2, 4, 3), torch.inf), torch.randn(2, 4, 3)
    low(1).project([broken, whole])
    assert broken.isinf().all() and ranks([whole]) == {1}


def test_an_interrupted_training_goes_on_at_its_rank_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"n_steps": 3, "lr": 0.1, "state_rank": 1, "alpha": 1.0}
    want = states(trained(**settings))
    crashed, resumed = trainer(**settings), trainer(**settings)
    asked: dict[str, Any] = {"checkpoint": tmp_path / "run", "checkpoint_every": 1}
    with raising(crashed.model, RuntimeError("crash"), 3), pytest.raises(RuntimeError):
        crashed.train(PAIRS, **asked)
    for other in (None, 2):
        with pytest.raises(ConfigError, match=f"`state_rank` was 1, is {other}"):
            trainer(**{**settings, "state_rank": other}).train(PAIRS, **asked)
    resumed.train(PAIRS, **asked)
    assert all(torch.equal(states(resumed)[index], state) for index, state in want.items())


def test_the_account_tells_the_rank_and_a_folder_without_one_nothing(tmp_path: Path) -> None:
    made, usual = trained(state_rank=2), trained()
    for name, each in (("low", made), ("usual", usual)):
        each.save(tmp_path / name)
    texts = {path.name: (path / "adapter_config.json").read_text() for path in tmp_path.iterdir()}
    assert json.loads(texts["low"])["training"]["settings"]["state_rank"] == 2 and "rank" not in texts["usual"]
    assert "| state_rank | 2 |" in (tmp_path / "low" / "README.md").read_text()
    shape = next(iter(states(made).values())).shape
    n_layers = len(state_layers(made.model))
    assert made.n_parameters == n_layers * shape[0] * 2 * (shape[1] + shape[2]) < usual.n_parameters
    loaded = load_tuned(zoo.make("qwen3_5"), tokenizer(), tmp_path / "low")
    assert isinstance(loaded, S0Trainer)
    assert loaded.n_parameters == made.n_parameters == facts_of(tmp_path / "low")["parameters"]
    assert loaded.reuse(read_tuned(tmp_path / "low", loaded.model), PAIRS) is False
    assert made.reuse(read_tuned(tmp_path / "low", made.model), PAIRS)
    loaded.config = replace(loaded.config, n_steps=1)
    loaded.train(EXAMPLES)  # anew, by its own config
    assert ranks_of(loaded) == {8} and loaded.n_parameters == usual.n_parameters
    edited = texts["low"].replace('"state_rank": 2', '"state_rank": "2"')
    (tmp_path / "low" / "adapter_config.json").write_text(edited)
    with pytest.raises(StateMismatchError, match="edited"):
        load_tuned(zoo.make("qwen3_5"), tokenizer(), tmp_path / "low")


@pytest.mark.parametrize("rank", [0, -1, 1.0, True, "2"])
def test_what_is_no_rank_is_refused(rank: Any) -> None:
    with pytest.raises(ConfigError, match="`state_rank` to be None or a whole number of at least 1"):
        S0Config(state_rank=rank)


@pytest.mark.parametrize(
    ("family", "rank", "why"),
    [
        ("qwen3_5", 9, r"1 to 8 .*key dim.*\(4, 8, 16\), got 9"),
        ("falcon_h1", 9, r"1 to 8 .*state dim.*, got 9"),
        ("mamba", 1, r"MambaMixer.*\(64, 8\), no matrix per head"),
    ],
)
def test_a_rank_that_a_model_cannot_have_is_refused_and_leaves_nothing(family: str, rank: int, why: str) -> None:
    model = zoo.make(family)
    with pytest.raises(ConfigError, match=why):
        trainer(family, model, state_rank=rank)
    assert not state_layers(model)
    made = trainer(family, model)
    made.config = replace(made.config, state_rank=rank)
    with pytest.raises(ConfigError, match=why):
        made.train(PAIRS)
    assert not made.training


@pytest.mark.parametrize("family", ["kimi_linear", "minimax", "zamba"])
def test_heads_of_other_recurrences_are_cut_alike(family: str) -> None:
    made = trained(family, n_steps=2, lr=0.1, state_rank=1)
    assert ranks_of(made) == {1}
