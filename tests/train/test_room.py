"""Where memory runs out, the same training goes on with smaller micro-batches, or says why it cannot."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from s0 import S0Config, S0Trainer
from s0.errors import EngineError
from s0.train.data import Batch
from s0.train.room import Room
from tests import zoo
from tests.train.helpers import EXAMPLES, assert_states_equal, in_batches, tokenizer

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.70 GiB.")


def trained(patience: int | None = None) -> tuple[S0Trainer, dict[str, float]]:
    config = S0Config(n_steps=4, lr=0.1, alpha=1.0, batch_tokens=4096, patience=patience)
    trainer = S0Trainer(zoo.make("qwen3_5"), tokenizer(), config)
    return trainer, trainer.train(EXAMPLES, select=EXAMPLES if patience else None)


def too_small_for(n_rows: int, patch: pytest.MonkeyPatch, *, in_backward: bool = False) -> list[int]:
    """A device that holds fewer rows; the sizes of what it was given."""
    losses, sizes = Batch.losses, []

    def limited(self: Batch, model: Any) -> torch.Tensor:
        sizes.append(len(self.names))
        result = losses(self, model)
        if len(self.names) < n_rows:
            return result
        if not in_backward:
            raise NO_MEMORY
        return Refused.apply(result)  # type: ignore[no-any-return, no-untyped-call]

    patch.setattr(Batch, "losses", limited)
    return sizes


class Refused(torch.autograd.Function):
    """Memory runs out where the gradient of the losses is taken."""

    @staticmethod
    def forward(ctx: Any, losses: torch.Tensor) -> torch.Tensor:
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NO_MEMORY


@pytest.mark.filterwarnings("ignore::s0.cautions.Caution")
@pytest.mark.parametrize("in_backward", [False, True])
def test_smaller_micro_batches_learn_the_same(in_backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, report = trained()
    sizes = too_small_for(3, monkeypatch, in_backward=in_backward)
    with pytest.warns(UserWarning, match="memory does not hold a micro-batch of 5 rows.*same result"):
        cramped, same = trained()
    assert max(sizes) == 5 and {1, 2} & {*sizes[-4:]} and sizes.count(5) <= 2  # seen once in training, and told before
    assert same == pytest.approx(report, abs=1e-5)
    assert_states_equal(cramped._parameters(), roomy._parameters())


@pytest.mark.filterwarnings("ignore::s0.cautions.Caution")
def test_it_is_said_once_in_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    too_small_for(5, monkeypatch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        trained()
    assert sum("memory does not hold" in str(warning.message) for warning in caught) == 1


def test_a_row_that_is_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    too_small_for(1, monkeypatch)
    with (
        pytest.warns(UserWarning, match="memory does not hold"),
        pytest.raises(
            EngineError, match=r"of 1 rows, \d+ tokens each, got: CUDA out of memory.*gradient_checkpointing"
        ),
    ):
        trained()


def test_several_processes_say_what_to_set() -> None:
    def work(batches: Any) -> None:
        raise NO_MEMORY

    with pytest.raises(EngineError, match="set a smaller batch_tokens, which one process does by itself"):
        Room().for_each(in_batches(), work, n_processes=2)


def test_parts_of_a_batch_are_its_rows_in_order() -> None:
    (batch,) = in_batches()
    for n in (1, 2, 4, 8):
        parts = batch.parts(n)
        assert len(parts) == min(n, 5) and [name for part in parts for name in part.names] == [*batch.names]
        assert torch.equal(torch.cat([part.tokens for part in parts]), batch.tokens)
        assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
