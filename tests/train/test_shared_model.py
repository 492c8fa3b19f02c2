"""Several trainers on one model: each has its own state, one at most is active, threads and rows choose freely."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from s0 import S0Config, S0Trainer
from tests import zoo
from tests.train.helpers import EXAMPLES, PAIRS, every_family, logits, states, tokenizer, trained, trainer


@pytest.fixture(params=["model", "other trainer's model"])
def two(request: pytest.FixtureRequest) -> tuple[S0Trainer, S0Trainer]:
    """Two trainers with different states on one model, none active."""
    model = zoo.make("qwen3_5")
    one = trained(model=model)
    return one, trained(model=model if request.param == "model" else one.model, lr=0.3, alpha=0.5)


def alone(like: S0Trainer) -> torch.Tensor:
    """The logits under a state like this one's, on a model of its own."""
    return _alone(like.config.lr, like.config.alpha)


@cache
def _alone(lr: float, alpha: float) -> torch.Tensor:
    made = trained(lr=lr, alpha=alpha)
    made.activate()
    return logits(made.model)


def test_activating_replaces_and_deactivating_gives_the_model_back(two: tuple[S0Trainer, S0Trainer]) -> None:
    one, other = two
    stock, of_one, of_other = logits(one.model), alone(one), alone(other)
    assert min((a - b).abs().amax(-1).min() for a, b in [(stock, of_one), (of_one, of_other), (stock, of_other)]) > 1e-2
    one.activate()
    assert torch.equal(logits(one.model), of_one)
    assert torch.equal(logits(other.model), of_one)
    other.activate()
    assert (one.is_active, other.is_active) == (False, True)
    assert torch.equal(logits(one.model), of_other)
    one.deactivate()
    assert torch.equal(logits(other.model), of_other)
    other.deactivate()
    other.deactivate()
    assert (one.is_active, other.is_active) == (False, False)
    assert torch.equal(logits(one.model), stock)


def test_training_one_leaves_the_other_alone(two: tuple[S0Trainer, S0Trainer]) -> None:
    one, other = two
    kept, scale = states(one), one.model.peft_config[one.adapter_name].alpha
    one.activate()
    tuned = logits(one.model)
    report = other.train(EXAMPLES)
    assert one.is_active
    assert torch.equal(logits(one.model), tuned)
    assert all(torch.equal(state, kept[layer]) for layer, state in states(one).items())
    assert one.model.peft_config[one.adapter_name].alpha == scale
    fresh = trainer(n_steps=2, lr=0.3, alpha=0.5)
    assert fresh.train(EXAMPLES) == report
    assert all(torch.equal(state, states(fresh)[layer]) for layer, state in states(other).items())


@every_family
def test_making_another_trainer_leaves_an_active_one_on(family: str) -> None:
    model = zoo.make(family)
    one = trained(family, model)
    one.activate()
    tuned = logits(model)
    for base in (model, one.model):
        another = trainer(family, base)
        assert (one.is_active, another.is_active) == (True, False)
        assert torch.equal(logits(another.model), tuned)
    one.deactivate()
    assert not torch.equal(logits(model), tuned)


def test_trainers_of_different_layers_do_not_mix() -> None:
    model = zoo.make("qwen3_5")
    one, other = trained(model=model, layers=[0]), trained(model=model, layers=[2])
    assert (list(states(one)), list(states(other))) == ([0], [2])
    stock = logits(model)
    one.activate()
    of_one = logits(model)
    other.activate()
    assert (one.is_active, other.is_active) == (False, True)
    of_other = logits(model)
    one.activate()
    assert torch.equal(logits(model), of_one)
    one.deactivate()
    assert torch.equal(logits(model), stock)
    assert min((a - b).abs().amax() for a, b in [(stock, of_one), (of_one, of_other), (stock, of_other)]) > 1e-2


@pytest.mark.parametrize("on", [None, 0, 1], ids=["none active", "first active", "second active"])
def test_each_row_of_a_batch_can_choose_its_state(two: tuple[S0Trainer, S0Trainer], on: int | None) -> None:
    stock, wanted = logits(two[0].model), [alone(made) for made in two]
    if on is not None:
        two[on].activate()
    ids = torch.tensor([tokenizer()("def add(a, b")["input_ids"]] * 3)
    names = [two[1].adapter_name, "__base__", two[0].adapter_name]
    for made in two:
        with torch.no_grad():
            got = made.model(input_ids=ids, use_cache=False, adapter_names=names).logits
        torch.testing.assert_close(got, torch.cat([wanted[1], stock, wanted[0]]), atol=1e-5, rtol=0)


def test_peft_can_switch_to_a_trainers_state(two: tuple[S0Trainer, S0Trainer]) -> None:
    one, other = two
    one.model.set_adapter(other.adapter_name)
    assert other.is_active
    assert torch.equal(logits(one.model), alone(other))
    with one.model.disable_adapter():
        assert not other.is_active
    assert other.is_active
    other.deactivate()
    assert not torch.equal(logits(one.model), alone(other))


@every_family
def test_threads_with_different_states_do_not_meet(family: str) -> None:
    model = zoo.make(family)
    made = [trained(family, model), trainer(family, model, n_steps=3, lr=0.5, alpha=1.0)]
    made[1].train([("zyx123", 1)])
    names = [each.adapter_name for each in made] + ["__base__"]
    prompts = ["def add(a, b):\n", "x = ", "for i in [1, 2]:\n"]

    def said(job: tuple[int, str]) -> str:
        i, name = job
        settings: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 8, "adapter_names": [name]}
        return made[i % 2].generate(prompts[i % 3], **settings)

    jobs = [(i, name) for i in range(3) for name in names]
    one_by_one = [said(job) for job in jobs]
    assert all(len(set(one_by_one[i : i + 3])) == 3 for i in (0, 3, 6))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(said, jobs * 2)) == one_by_one * 2


def test_a_trainer_can_be_trained_again_and_again_beside_another(two: tuple[S0Trainer, S0Trainer]) -> None:
    one, other = two
    first = one.train(PAIRS)
    other.activate()
    assert one.train(PAIRS) == first
    assert other.is_active


def test_a_trainer_goes_on_when_another_one_of_its_wrapper_is_gone(tmp_path: Path) -> None:
    first = trainer("qwen3_5")
    second = S0Trainer(first.model, tokenizer(), S0Config(n_steps=1, lr=1e-2, alpha=0.5))
    second.train(PAIRS)
    first.detach()
    second.save(tmp_path / "state")
    second.activate()
    assert isinstance(second.generate("x = ", 4), str)
    second.train(PAIRS)
    second.detach()
