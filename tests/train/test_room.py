"""Where memory runs out, the same training goes on with smaller micro-batches, or says why it cannot."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s0 import S0Config, S0Trainer
from s0.errors import EngineError
from s0.train import METHODS, FitSettings, make_trainer
from s0.train.data import Batch
from s0.train.learner import Learner
from s0.train.room import Room
from s0.train.scale import RowsFromStates
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


@pytest.mark.parametrize(
    "error",
    [
        NO_MEMORY,
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    ],
)
def test_every_kind_of_memory_may_run_out_and_it_is_said_once(error: RuntimeError) -> None:
    def work(rows: Any) -> int:
        if len(rows.names) > 1:
            raise error
        return 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        assert Room().in_parts(Row(9, 900), work) == [1] * 9
    assert len(caught) == 1 and "9 rows, 900 tokens" in str(caught[0].message)


def test_what_is_no_want_of_memory_is_raised_as_it_is() -> None:
    def work(rows: Any) -> int:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Room().in_parts(Row(2, 200), work)


def test_a_row_that_is_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    too_small_for(1, monkeypatch)
    with (
        pytest.warns(UserWarning, match="memory does not hold"),
        pytest.raises(EngineError, match=r"of 1 row, \d+ tokens, got: CUDA out of memory.*gradient_checkpointing"),
    ):
        trained()


class Row:
    """A row, or several, of so many tokens."""

    def __init__(self, n_rows: int, n_tokens: int) -> None:
        self.names, self.n_tokens = ["a row"] * n_rows, n_tokens

    def losses(self, model: Any) -> torch.Tensor:
        raise NotImplementedError

    def halves(self) -> list[Row]:
        n_rows, width = len(self.names), self.n_tokens // len(self.names)
        return [Row(n, n * width) for n in (n_rows - n_rows // 2, n_rows // 2)]


def test_a_long_row_that_is_too_much_ends_the_work_at_once_whatever_is_beside_it() -> None:
    sizes = []

    def work(rows: Any) -> int:
        sizes.append(rows.n_tokens)
        if rows.n_tokens >= 2000:
            raise NO_MEMORY
        return len(rows.names)

    room = Room()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert room.in_parts(Row(17, 17 * 100), work) == [17]
        with pytest.raises(EngineError, match="of 1 row, 2000 tokens"):
            room.in_parts(Row(1, 2000), work)
    assert sizes == [1700, 2000]


def test_what_is_known_to_be_too_much_is_not_tried_again_and_less_stays_whole() -> None:
    sizes = []

    def work(rows: Any) -> int:
        sizes.append(rows.n_tokens)
        if rows.n_tokens > 1000:
            raise NO_MEMORY
        return len(rows.names)

    room = Room()
    with pytest.warns(UserWarning, match="of 4 rows, 1600 tokens together"):
        assert room.in_parts(Row(4, 1600), work) == [2, 2]
    assert room.in_parts(Row(8, 3200), work) == [2, 2, 2, 2]
    assert room.in_parts(Row(9, 900), work) == [9]
    assert sizes == [1600, *[800] * 6, 900]


@pytest.mark.filterwarnings("ignore::s0.cautions.Caution", "ignore:memory does not hold")
@pytest.mark.parametrize("method", ["lora", "s0"])
def test_the_losses_around_a_training_find_room_too(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def report() -> dict[str, float]:
        settings = METHODS[method].configure(n_steps=2, batch_tokens=4096)
        made = make_trainer(zoo.make("qwen3_5"), tokenizer(), settings)
        return made.train(EXAMPLES, select=EXAMPLES[:4])

    roomy = report()
    too_small_for(3, monkeypatch)
    assert report() == pytest.approx(roomy, abs=1e-5)


def test_halves_of_a_batch_are_its_rows_in_order() -> None:
    (batch,) = in_batches()
    halves = batch.halves()
    assert [len(half.names) for half in halves] == [3, 2]
    assert [name for half in halves for name in half.names] == [*batch.names]
    assert torch.equal(torch.cat([half.tokens for half in halves]), batch.tokens)
    assert torch.equal(torch.cat([half.targets for half in halves]), batch.targets)


def test_halves_of_rows_from_states_are_their_rows_in_order() -> None:
    (batch,) = in_batches()
    rows = RowsFromStates(batch, torch.tensor([4, 0, 0]), ("a", "b", "c"))
    halves = rows.halves()
    assert [half.states for half in halves] == [("a", "b"), ("c",)]
    assert [half.index.tolist() for half in halves] == [[4, 0], [0]]
    assert rows.names == (batch.names[4], batch.names[0], batch.names[0])
    assert rows.n_tokens == 3 * batch.tokens.shape[1]


def test_where_memory_runs_out_while_gradients_are_added_none_is_added_twice() -> None:
    parameters = [nn.Parameter(torch.zeros(3)) for _ in range(2)]
    learner = Learner(parameters, FitSettings(n_steps=1))
    learner.add_gradient([torch.ones(3)] * 2)

    class NoRoom:
        def clone(self) -> Tensor:
            raise torch.OutOfMemoryError

        def __radd__(self, other: Tensor) -> Tensor:
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        learner.add_gradient([torch.ones(3), NoRoom()])  # type: ignore[list-item]
    assert [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None] == [[1.0] * 3] * 2
