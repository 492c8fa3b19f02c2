"""Training follows the published code, step by step, and the calls that it was used with still work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s0 import S0Config, S0Trainer
from s0.train import FitSettings, Splits, fit
from tests import zoo
from tests.breadth import mostly_slow
from tests.train.helpers import PAIRS, in_batches, logits, tokenizer, trainable, tuned

# Measured with s0-tuning 0.1.2 on transformers 5.14.1 and torch 2.13.0 (CPU, one thread): the weights of
# zoo.make("qwen3_5") in eval mode, words.characters(), PAIRS, S0Config() but for lr, and n_steps = 1 ... 12 in turn.
# lr -> (the loss it reports at each step, before the update; the mean norm of the states after each step)
# fmt: off
PUBLISHED = {
    1e-3: (
        [4.317517, 4.2948352, 4.2734589, 4.2538335, 4.2358951, 4.2192783,
         4.2035469, 4.1883751, 4.1735727, 4.1590621, 4.1448407, 4.1309418],
        [0.0226271, 0.0444209, 0.0657399, 0.0865752, 0.1070058, 0.1270483,
         0.1467393, 0.1661257, 0.1852467, 0.2041293, 0.2227889, 0.241229],
    ),
    3e-2: (
        [4.317517, 4.0732802, 3.891526, 3.7182952, 3.5847178, 3.4813053,
         3.3993323, 3.3332248, 3.280695, 3.233677, 3.1889685, 3.1478559],
        [0.6788124, 1.1189354, 1.5070037, 1.8810465, 2.2419307, 2.5859355,
         2.9104754, 3.2141572, 3.4971548, 3.7614442, 4.009136, 4.2419261],
    ),
}
# fmt: on


@pytest.mark.parametrize("lr", PUBLISHED)
@pytest.mark.parametrize("budget", mostly_slow([1, 100], [100]), ids=["1 row a batch", "3 rows a batch"])
def test_losses_and_norms_are_those_of_the_published_code(lr: float, budget: int) -> None:
    losses, norms = PUBLISHED[lr]
    model = tuned(alpha=0.07)
    result = fit(model, Splits(in_batches(budget=budget)), trainable(model), FitSettings(n_steps=12, lr=lr))
    assert result.losses[0] == pytest.approx(losses[0], abs=1e-5)
    assert result.losses == pytest.approx(losses, abs=1e-4)
    assert result.norms == pytest.approx(norms, rel=1e-3)


def test_the_published_sequence_of_calls_works(tmp_path: Path) -> None:
    config = S0Config(n_steps=2, lr=0.5)
    made = S0Trainer(zoo.make("qwen3_5"), tokenizer(), config)
    config.alpha = 0.3
    made.train(PAIRS)
    stock = logits(made.model)
    made.activate()
    said, active = made.generate("def ", max_new_tokens=8), logits(made.model)
    assert not torch.equal(active, stock)
    made.save(tmp_path)
    made.deactivate()
    assert torch.equal(logits(made.model), stock)
    other = S0Trainer(zoo.make("qwen3_5"), tokenizer(), S0Config())
    other.load(tmp_path)
    assert other.config.alpha == other.alpha == made.alpha == 0.3
    other.activate()
    assert torch.equal(logits(other.model), active)
    assert other.generate("def ", max_new_tokens=8) == said
