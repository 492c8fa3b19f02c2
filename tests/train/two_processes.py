"""What each of two launched processes does; `test_distributed` launches it and looks at what it writes.

accelerate launch --multi_gpu --num_processes 2 -m tests.train.two_processes FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from s0.train import Batch, Checkpoint, FitSettings, Grid, LoraTuning, Splits, fit, make_trainer, scale_curve
from tests import zoo
from tests.train.helpers import EXAMPLES, PAIRS, in_batches, tokenizer, trainable, trainer, tuned

ALPHAS = (0.0, 0.5, 2.0)
SETTINGS = FitSettings(n_steps=4, lr=0.02)
EXPLODES = 1e30


def learned(
    *, budget: int = 60, data: Any = PAIRS, settings: FitSettings = SETTINGS, select: Any = ()
) -> dict[str, Any]:
    """One state trained from values that differ from process to process; the first one's count."""
    model = tuned()
    rank = PartialState().process_index
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.fill_(0.01 * (1 + rank))
    result = fit(model, Splits(in_batches(data, budget), select), trainable(model), settings)
    return {"told": vars(result), "tensors": trainable(model)}


def by_search() -> dict[str, Any]:
    """Learning rates in turn, one of which explodes, and the best of them."""
    made = trainer(batch_tokens=60)
    report = made.train_auto(EXAMPLES[:3], EXAMPLES[3:], grid=Grid((0.02, EXPLODES, 0.1), (2, 4)))
    rows = [[row["lr"], row["n_steps"], row["loss"]] for row in made.training["candidates"] if row["lr"] != EXPLODES]
    return {"told": [report, rows], "tensors": trainable_states(made.model, made.adapter_name)}


def by_trainer() -> dict[str, Any]:
    """The trainer's whole course, with a scale that is chosen."""
    made = trainer(n_steps=3, lr=0.1, alpha="auto", batch_tokens=60)
    report = made.train(EXAMPLES[:3], select=EXAMPLES[3:])
    return {"told": report, "tensors": trainable_states(made.model, made.adapter_name)}


def by_baseline() -> dict[str, Any]:
    """The course of a LoRA, whose losses before training are shared, too."""
    made = make_trainer(zoo.make("qwen3_5"), tokenizer(), LoraTuning(n_steps=2, lr=0.02, batch_tokens=60))
    return {"told": made.train(EXAMPLES[:3], select=EXAMPLES[3:]), "tensors": made._parameters()}


def in_little_memory() -> dict[str, Any]:
    """Memory of the second process does not hold three rows, and that of the first holds all."""
    losses = Batch.losses

    def limited(self: Batch, model: Any) -> torch.Tensor:
        if len(self.names) > 2 and PartialState().process_index == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return losses(self, model)

    Batch.losses = limited  # type: ignore[method-assign]
    try:
        return learned(data=[*PAIRS, *PAIRS], budget=200)
    finally:
        Batch.losses = losses  # type: ignore[method-assign]


def trainable_states(model: nn.Module, name: str) -> list[torch.Tensor]:
    return [tensor for key, tensor in model.named_parameters() if key.endswith(f"s0_state.{name}")]


def curve() -> dict[str, Any]:
    model = tuned()
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    return {"told": scale_curve(model, "default", in_batches(PAIRS, 60), ALPHAS), "tensors": []}


def other_data() -> dict[str, Any]:
    return learned(data=PAIRS[PartialState().process_index :])


def bad_row() -> dict[str, Any]:
    """The loss of an example in the second process's share is not finite."""
    model = tuned()
    if PartialState().process_index == 1:
        model.get_base_model().lm_head.register_forward_hook(lambda _, __, output: output * torch.nan)
    fit(model, Splits(in_batches(PAIRS, 60)), trainable(model), SETTINGS)
    return {"told": None, "tensors": []}


def unforeseen() -> dict[str, Any]:
    """Something that nobody expected happens in the second process only."""
    model = tuned()

    def fail(*_: Any) -> None:
        raise RuntimeError("the card fell out")

    if PartialState().process_index == 1:
        model.get_base_model().register_forward_hook(fail)
    fit(model, Splits(in_batches(PAIRS, 60)), trainable(model), SETTINGS)
    return {"told": None, "tensors": []}


def interrupted(folder: Path) -> dict[str, Any]:
    """The second process is asked to end in its second step; then both start again."""
    checkpoint = Checkpoint(folder / "checkpoint", every=3)
    model, calls = tuned(), 0

    def ask(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4 and PartialState().process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    model.get_base_model().register_forward_hook(ask)
    try:
        fit(model, Splits(in_batches(PAIRS, 60)), trainable(model), SETTINGS, checkpoint=checkpoint)
        ended = None
    except SystemExit as error:
        ended = error.code
    PartialState().wait_for_everyone()
    kept = checkpoint.path.exists()
    again = learned_from_zero(checkpoint)
    return {"told": [ended, kept, again["told"]], "tensors": again["tensors"]}


def learned_from_zero(checkpoint: Checkpoint | None = None) -> dict[str, Any]:
    model = tuned()
    result = fit(model, Splits(in_batches(PAIRS, 60)), trainable(model), SETTINGS, checkpoint=checkpoint)
    return {"told": vars(result), "tensors": trainable(model)}


def split(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[], dict[str, Any]]:
    """Train a model that is split over the processes, or talks to them by itself."""

    def attempt() -> dict[str, Any]:
        model = tuned()
        parameters = trainable(model)
        wrapped = wrap(model)
        fit(wrapped, Splits(in_batches()), parameters, SETTINGS)
        return {"told": None, "tensors": []}

    return attempt


class OnNoCard(FullyShardedDataParallel):
    """The wrapper without its set-up, which needs an accelerator."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self._fsdp_wrapped_module = module


def sharded(model: nn.Module) -> nn.Module:
    """FSDP2, of a part of the model."""
    fully_shard(model.get_base_model().lm_head)
    return model


def tensor_parallel(model: nn.Module) -> nn.Module:
    parallelize_module(model.get_base_model().lm_head, init_device_mesh("cpu", (2,)), ColwiseParallel())
    return model


def cases(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    patient = replace(SETTINGS, lr=0.5, n_steps=6, patience=2)
    return {
        "uneven shares": learned,
        "an idle process": lambda: learned(budget=4096),
        "patience": lambda: learned(data=PAIRS[:3], settings=patient, select=in_batches(PAIRS[3:], 20)),
        "search": by_search,
        "trainer": by_trainer,
        "baseline": by_baseline,
        "curve": curve,
        "little memory": in_little_memory,
        "other data": other_data,
        "bad row": bad_row,
        "unforeseen": unforeseen,
        "interrupted": lambda: interrupted(folder),
        "DDP": split(DistributedDataParallel),
        "FSDP1": split(OnNoCard),
        "FSDP2": split(sharded),
        "tensor parallelism": split(tensor_parallel),
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = PartialState(cpu=True).process_index
    told: dict[str, Any] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, run in cases(folder).items():
        try:
            outcome = run()
        except Exception as error:
            told[name] = {"error": type(error).__name__, "text": str(error)}
            continue
        told[name] = outcome["told"]
        tensors |= {f"{name}/{i}": one.detach().clone() for i, one in enumerate(outcome["tensors"])}
    (folder / f"{rank}.json").write_text(json.dumps(told))
    save_file(tensors, folder / f"{rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
