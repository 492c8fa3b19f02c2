"""Weights of examples: one that counts twice is as good as two of it, for every method and all that is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from s0 import Example, S0Config
from s0.train import LoraTuning, make_trainer, mean_loss
from s0.train.data import prepare
from tests import words, zoo
from tests.train.helpers import EXAMPLES, assert_states_equal, in_batches, tokenizer

WEIGHTED = [
    replace(example, weight=weight) for example, weight in zip(EXAMPLES, (2.0, 1.0, 3.0, 1.0, 1.0), strict=True)
]
REPEATED = [example for example in WEIGHTED for _ in range(int(example.weight))]
REPEATED = [replace(example, weight=1.0) for example in REPEATED]
SELECT = [Example("def mul(a, b):\n", "    return a * b\n", weight=3), Example("def two():\n", "    return 2\n")]
REPEATED_SELECT = [replace(SELECT[0], weight=1.0)] * 3 + SELECT[1:]
METHODS = {
    "s0": S0Config(n_steps=3, lr=0.02, alpha="auto", patience=3),
    "lora": LoraTuning(n_steps=3, lr=1e-2, rank=4, patience=3),
}


def learned(method: str, train: list[Example], select: list[Example]) -> tuple[list[torch.Tensor], dict[str, Any]]:
    trainer = make_trainer(zoo.make("qwen3_5"), tokenizer(), METHODS[method])
    report = trainer.train(train, select=select)
    return [parameter.detach().clone() for parameter in trainer._parameters()], report


@pytest.mark.parametrize("method", METHODS)
def test_an_example_of_weight_n_is_learned_and_chosen_by_as_n_of_it(method: str) -> None:
    tensors, report = learned(method, WEIGHTED, SELECT)
    wanted, wanted_report = learned(method, REPEATED, REPEATED_SELECT)
    plain, _ = learned(method, EXAMPLES, SELECT)
    assert_states_equal(tensors, wanted)
    assert report == pytest.approx(wanted_report, rel=1e-4)
    assert any(not torch.allclose(one, other, atol=1e-3) for one, other in zip(tensors, plain, strict=True))


@pytest.mark.parametrize("budget", [1, 4096])
def test_what_is_measured_is_the_mean_by_weight(budget: int) -> None:
    model = zoo.make("qwen3_5")
    got, want = (mean_loss(model, in_batches(data, budget)) for data in (WEIGHTED, REPEATED))
    assert got == pytest.approx(want, rel=1e-6)


def test_only_the_ratios_of_weights_count() -> None:
    tripled = [replace(example, weight=3 * example.weight) for example in WEIGHTED]
    tensors, report = learned("s0", WEIGHTED, SELECT)
    others, other_report = learned("s0", tripled, SELECT)
    assert_states_equal(tensors, others)
    assert report == pytest.approx(other_report, rel=1e-5)


def test_parts_of_a_batch_keep_their_rows_weights() -> None:
    (batch,) = in_batches(WEIGHTED, 4096)
    assert torch.cat([half.weights for half in batch.halves()]).tolist() == batch.weights.tolist()
    assert batch.rows(torch.tensor([3, 0])).weights.tolist() == batch.weights[[3, 0]].tolist()


def test_weights_are_part_of_what_identifies_training_data() -> None:
    model = zoo.make("qwen3_5")
    plain, same, other = (
        prepare(data, model, words.characters(), max_length=100, batch_tokens=100).tokens_sha256
        for data in (EXAMPLES, [replace(example, weight=1.0) for example in EXAMPLES], WEIGHTED)
    )
    assert plain == same != other
