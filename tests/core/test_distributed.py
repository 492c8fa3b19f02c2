"""DDP and FSDP2, really in two processes, come to what one process comes to; what else splits a model is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from s0.core.states import state_layers
from s0.errors import ConfigError
from tests import forking, zoo
from tests.core import two_processes
from tests.core.helpers import assert_same, assert_same_gradient, generate, logits, loss, tokens, tuned

CODE = "import runpy; runpy.run_module('tests.core.two_processes', run_name='__main__')"
each_family = pytest.mark.parametrize(
    "family",
    [*two_processes.FAMILIES, *(pytest.param(family, marks=pytest.mark.slow) for family in two_processes.OTHERS)],
)
each_wrapper = pytest.mark.parametrize("wrapper", ["DDP", "FSDP2"])


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """What two processes leave behind that run these families, once."""

    @cache
    def run(families: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("two")
        logs = [folder / f"{rank}.log" for rank in range(2)]
        started = []
        for rank, log in enumerate(logs):
            with log.open("w") as output:
                started.append(forking.begun(CODE, folder, rank, *families, stdout=output, stderr=output))
        try:
            codes = [process.wait(timeout=600) for process in started]
        finally:
            for process in started:
                process.kill()
        assert codes == [0, 0], "".join(log.read_text()[-3000:] for log in logs)
        return folder

    return run


@pytest.fixture
def folder(request: pytest.FixtureRequest, left_behind: Callable[[tuple[str, ...]], Path]) -> Path:
    """Where they are for the family of the test, if it has one."""
    test = getattr(request.node, "callspec", None)
    others = test is not None and test.params.get("family") in two_processes.OTHERS
    return left_behind(two_processes.OTHERS if others else two_processes.FAMILIES)


@pytest.fixture
def found(folder: Path) -> list[dict[str, Tensor]]:
    """By process, what it has computed."""
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@cache
def alone(family: str) -> tuple[dict[str, Tensor], PeftModel]:
    """What one process comes to on the whole batches, and its model after a step. The mean over two counts half."""
    model = tuned(family)
    stock = {}
    for side in ("right", "left"):
        with torch.no_grad(), model.disable_adapter():
            stock[f"{side}/stock"] = two_processes.run(model, family, *two_processes.batch(side))
    return stock | two_processes.course(model, model, family, slice(None), share=0.5), model


def rows_of(found: list[dict[str, Tensor]], key: str) -> Tensor:
    """The rows of both processes together."""
    return torch.cat([one[key] for one in found])


@each_wrapper
@each_family
@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_have_the_logits_that_one_process_gives_them(
    wrapper: str, family: str, side: str, found: list[dict[str, Tensor]]
) -> None:
    real = two_processes.batch(side)[1].bool()
    want, stock = (alone(family)[0][f"{side}/{what}"][real] for what in ("logits", "stock"))
    assert_same(rows_of(found, f"{wrapper}/{family}/{side}/logits")[real], want, stock)


@each_family
def test_pieces_over_a_cache_run_in_shards_as_in_one_process(family: str, found: list[dict[str, Tensor]]) -> None:
    real = two_processes.batch("left")[1].bool()
    want, stock = (alone(family)[0][f"left/{what}"][real] for what in ("logits", "stock"))
    assert_same(rows_of(found, f"FSDP2/{family}/cached")[real], want, stock)


@each_wrapper
@each_family
@pytest.mark.parametrize("what", ["right/gradient", "left/gradient", "checkpointed"])
def test_the_gradient_of_both_halves_is_that_of_the_whole_batch(
    wrapper: str, family: str, what: str, found: list[dict[str, Tensor]]
) -> None:
    want = alone(family)[0][what]
    for one in found:
        assert_same_gradient(one[f"{wrapper}/{family}/{what}"], want)


@each_wrapper
@each_family
def test_a_step_is_that_of_one_process_and_is_saved_whole(wrapper: str, family: str, folder: Path) -> None:
    loaded = PeftModel.from_pretrained(zoo.make(family), str(folder / f"{wrapper}-{family}"))
    before = two_processes.states(tuned(family))
    for got, want, start in zip(
        two_processes.states(loaded), two_processes.states(alone(family)[1]), before, strict=True
    ):
        moved = (want - start).abs().max().item()
        assert moved > 1e-4
        torch.testing.assert_close(got, want, atol=1e-3 * moved, rtol=0)


@each_wrapper
def test_gains_learn_in_each_process(wrapper: str, found: list[dict[str, Tensor]]) -> None:
    want = two_processes.with_gains(lambda model: model, slice(None), share=0.5)
    real = two_processes.batch("left")[1].bool()
    stock = two_processes.run(zoo.make("falcon_h1"), "falcon_h1", *two_processes.batch("left"))
    got = rows_of(found, f"{wrapper}/falcon_h1/gains/logits")
    assert_same(got[real], want["gains/logits"][real], stock[real].detach())
    for one in found:
        assert_same_gradient(one[f"{wrapper}/falcon_h1/gains/gradient"], want["gains/gradient"])


@pytest.mark.parametrize("family", two_processes.WITH_ROWS)
@each_wrapper
def test_rows_choose_their_states_in_each_process(wrapper: str, family: str, found: list[dict[str, Tensor]]) -> None:
    model = two_processes.with_two(family)
    want = two_processes.mixed(model, model, family, two_processes.CHOSEN[wrapper], slice(None), share=0.5)
    real = two_processes.batch("left")[1].bool()
    got = rows_of(found, f"{wrapper}/{family}/mixed/logits")
    torch.testing.assert_close(got[real], want["mixed/logits"][real], atol=1e-4, rtol=0)
    unchosen = alone(family)[0]["left/logits"]  # all rows from the first state
    assert (got - unchosen)[1:][real[1:]].abs().amax(-1).min() > 1e-2
    for one in found:
        for key in ("mixed/default", "mixed/other"):
            assert_same_gradient(one[f"{wrapper}/{family}/{key}"], want[key])


@pytest.mark.parametrize("family", two_processes.WITH_ROWS)
def test_shards_generate_what_the_whole_model_generates(family: str, found: list[dict[str, Tensor]]) -> None:
    trained = alone(family)[1]
    ids, mask = two_processes.batch("left")
    want = generate(trained, ids, mask)
    assert torch.equal(rows_of(found, f"FSDP2/{family}/generated"), want)


def test_states_stay_float32_beside_shards_of_bfloat16(found: list[dict[str, Tensor]]) -> None:
    model, ids = tuned("qwen3_5", dtype=torch.bfloat16), tokens(2, 7)
    want = two_processes.gradient(model, loss(logits(model, ids).float(), ids))
    for one in found:
        assert one["half precision"].dtype == torch.float32
        assert_same_gradient(one["half precision"], want)


def test_states_that_transformers_loads_are_checked_and_used_in_shards(
    folder: Path, found: list[dict[str, Tensor]]
) -> None:
    model, ids = alone("qwen3_5")[1], tokens(2, 7)
    with torch.no_grad():
        want = logits(model, ids)
        with model.disable_adapter():
            stock = logits(model, ids)
    for one in found:
        assert_same(one["loaded by transformers"], want, stock)


def test_states_are_loaded_into_shards(found: list[dict[str, Tensor]]) -> None:
    want = torch.cat([state.detach().flatten() for state in two_processes.states(alone("qwen3_5")[1])])
    for one in found:
        torch.testing.assert_close(one["loaded after"], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("FSDP1", "whole tensors in this process, got FSDP1"),
        ("FSDP1, flat", "whole tensors in this process, got FSDP1"),
        ("FSDP1 of layers", "whole tensors in this process, got FSDP1"),
        ("tensor parallel", "whole tensors in this process, got tensor parallelism"),
        ("tensor parallel first", "a whole model to put states on, got tensor parallelism"),
        ("DDP first", "a whole model to put states on, got DistributedDataParallel"),
        ("one more", "a whole model to put states on, got FSDP2"),
        ("weighted", "a whole model to put states on, got FSDP2"),
        ("FSDP2 of states", "whole tensors in this process, got FSDP2"),
        ("FSDP2 of mixers", "whole tensors in this process, got FSDP2"),
        ("param_dtype", "expected float32 states where processes train together, got torch.bfloat16"),
        ("rounded", "expected float32 states where processes train together, got torch.bfloat16"),
        ("saved", "expected whole states to save, got FSDP2's shards"),
        ("saved dict", "expected whole states to save, got FSDP2's shards"),
        ("written", "expected whole states to save, got FSDP2's shards"),
    ],
)
def test_what_would_not_be_exact_is_refused_in_every_process(case: str, says: str, folder: Path) -> None:
    for rank in range(2):
        kind, text = json.loads((folder / f"{rank}.json").read_text())[case]
        assert kind == "ConfigError" and says in text


def test_a_replica_of_data_parallel_is_refused() -> None:
    layer = state_layers(tuned("qwen3_5"))[0]
    with pytest.raises(ConfigError, match="got DataParallel; use DistributedDataParallel"):
        layer._replicate_for_data_parallel()(torch.zeros(1, 3, 32))
