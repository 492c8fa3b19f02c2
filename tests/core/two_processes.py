"""What each of two processes does with a model that PyTorch spreads over them; `test_distributed` starts them.

python -m tests.core.two_processes FOLDER RANK FAMILY ...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from s0 import S0AdapterConfig
from s0.adapter import state_files
from s0.core.gains import tuned_with
from s0.core.sharding import whole
from s0.core.states import state_layers
from tests import zoo
from tests.core.helpers import PURE_MAMBA, feed, fill, forward, generate, logits, loss, pad, tokens, tuned

FAMILIES = ("qwen3_5", "falcon_h1", "kimi_linear", "mamba", "minimax")  # one of each kind
OTHERS = tuple(family for family in zoo.FAMILIES if family not in FAMILIES)
WITH_ROWS = ["qwen3_5", "mamba"]
CHOSEN = {  # by rows; the second process chooses no "default", and under FSDP2 none at all
    "DDP": ["default", "other", "other", "__base__"],
    "FSDP2": ["default", "other", "__base__", "__base__"],
}
OWN = {0: slice(0, 2), 1: slice(2, 4)}
CPU = torch.device("cpu")


def batch(side: str, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Some of four rows of unequal length, and their mask; both halves are padded."""
    ids, mask = pad([tokens(1, length, seed=length) for length in (9, 6, 5, 8)], side)
    return ids[rows], mask[rows]


def run(called: nn.Module, family: str, ids: Tensor, mask: Tensor, **kwargs: Any) -> Tensor:
    """(B, T, V) logits of a model in whatever wrapper."""
    if family not in PURE_MAMBA:
        kwargs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    output: Tensor = called(input_ids=ids, attention_mask=mask, use_cache=False, **kwargs).logits
    return output


def states(model: nn.Module, name: str = "default") -> list[nn.Parameter]:
    return [layer.s0_state[name] for layer in state_layers(model)]


def found_gradient(model: nn.Module, name: str = "default") -> Tensor:
    """Flat and whole, what an optimizer finds at all states called `name`, and takes away."""
    found = torch.cat([whole(state.grad).flatten().clone() for state in states(model, name)])
    for state in states(model, name):
        state.grad = None
    return found


def gradient(model: nn.Module, value: Tensor) -> Tensor:
    """Flat and whole gradient of `value` with respect to the states."""
    value.backward()
    return found_gradient(model)


def course(called: nn.Module, model: PeftModel, family: str, rows: slice, share: float = 1.0) -> dict[str, Tensor]:
    """Run, differentiate and train a model on `rows` of the batches, of whose loss a `share` counts."""
    found = {}
    for side in ("right", "left"):
        ids, mask = batch(side, rows)
        output = run(called, family, ids, mask)
        found[f"{side}/logits"] = output.detach()
        found[f"{side}/gradient"] = gradient(model, share * loss(output, ids, mask))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    called.train()
    found["checkpointed"] = gradient(model, share * loss(run(called, family, ids, mask), ids, mask))
    model.gradient_checkpointing_disable()
    called.eval()
    optimizer = torch.optim.SGD(states(model), lr=0.01)
    (share * loss(run(called, family, ids, mask), ids, mask)).backward()
    optimizer.step()
    optimizer.zero_grad()
    return found


def mixed(
    called: nn.Module, model: PeftModel, family: str, chosen: list[str], rows: slice, share: float = 1.0
) -> dict[str, Tensor]:
    """Run and differentiate a model on rows that choose their states."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    called.train()
    ids, mask = batch("left", rows)
    output = run(called, family, ids, mask, adapter_names=chosen[rows])
    (share * loss(output, ids, mask)).backward()
    return {"mixed/logits": output.detach()} | {
        f"mixed/{name}": found_gradient(model, name) for name in ("default", "other")
    }


def with_two(family: str) -> PeftModel:
    """A model with two states that both learn."""
    model = tuned(family)
    model.add_adapter("other", S0AdapterConfig())
    fill(model, "other", seed=2)
    for state in (*states(model), *states(model, "other")):
        state.requires_grad_(True)
    return model


def sharded(model: Any, **kwargs: Any) -> Any:
    """FSDP2 as its authors advise: every decoder layer, those that share weights together, then the model."""
    groups: list[list[nn.Module]] = []
    for layer in next(module for name, module in model.named_modules() if name.endswith(".layers")):
        held = set(layer.parameters())
        sharing = next((group for group in groups if held & {one for layer in group for one in layer.parameters()}), [])
        if not sharing:
            groups.append(sharing)
        sharing.append(layer)
    for group in groups:
        fully_shard(group, **kwargs)
    return fully_shard(model, **kwargs)


def gathered(model: nn.Module) -> dict[str, Any]:
    """The states, whole, in every process."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, ignore_frozen_params=True))


def under_ddp(family: str, rank: int, folder: Path) -> dict[str, Tensor]:
    model = tuned(family)
    called = DistributedDataParallel(model)
    found = course(called, model, family, OWN[rank])
    if rank == 0:
        called.module.save_pretrained(str(folder / f"DDP-{family}"))
    if family in WITH_ROWS:
        model = with_two(family)
        called = DistributedDataParallel(model, find_unused_parameters=True)
        found |= mixed(called, model, family, CHOSEN["DDP"], OWN[rank])
    if family == "falcon_h1":
        found |= with_gains(DistributedDataParallel, OWN[rank])
    return found


def under_fsdp2(family: str, rank: int, folder: Path) -> dict[str, Tensor]:
    model = sharded(tuned(family))
    ids, mask = batch("left", OWN[rank])
    with torch.no_grad():
        found = {"cached": feed(model, ids, (5, 3, 1), mask)}
    found |= course(model, model, family, OWN[rank])
    save = gathered(model)
    if rank == 0:
        model.save_pretrained(str(folder / f"FSDP2-{family}"), state_dict=save)
    if family in WITH_ROWS:
        register_fsdp_forward_method(model, "generate")
        found["generated"] = generate(model, ids, mask)
        model = sharded(with_two(family))
        found |= mixed(model, model, family, CHOSEN["FSDP2"], OWN[rank])
    if family == "falcon_h1":
        found |= with_gains(sharded, OWN[rank])
    return found


def with_gains(wrapped: Callable[[PeftModel], Any], rows: slice, share: float = 1.0) -> dict[str, Tensor]:
    """Run and differentiate a model with gains."""
    model = tuned("falcon_h1", gains=True)
    called, (ids, mask) = wrapped(model), batch("left", rows)
    output = run(called, "falcon_h1", ids, mask)
    (share * loss(output, ids, mask)).backward()
    learned = [layer.raw["default"] for layer in tuned_with(model, "default").values()]
    gradient = torch.cat([whole(tensor.grad).flatten() for tensor in learned])
    return {"gains/logits": output.detach(), "gains/gradient": gradient}


def half_precision() -> Tensor:
    """Gradient of a bfloat16 model's states, which are float32 beside it."""
    model = sharded(tuned("qwen3_5", dtype=torch.bfloat16))
    ids = tokens(2, 7)
    return gradient(model, loss(logits(model, ids).float(), ids))


def loaded_by_transformers(folder: Path) -> Tensor:
    """Logits of a model whose adapter transformers has put on, and which checks it when it first runs."""
    model = zoo.make("qwen3_5")
    model.load_adapter(str(folder))
    with torch.no_grad():
        return logits(sharded(model), tokens(2, 7))


def loaded_after(folder: Path) -> Tensor:
    """States that are loaded into shards."""
    model = sharded(tuned("qwen3_5", seed=5))
    model.load_adapter(str(folder), "default")
    return torch.cat([whole(state.detach()).flatten() for state in states(model)])


def refused(folder: Path) -> dict[str, Callable[[], Any]]:
    """What has to be refused in every process."""
    ids = tokens(2, 7)

    def fsdp1(**kwargs: Any) -> None:
        model = tuned("qwen3_5")
        model.requires_grad_(not kwargs["use_orig_params"])  # what it makes one tensor of has to learn as one
        forward(FullyShardedDataParallel(model, device_id=CPU, **kwargs), ids)

    def fsdp1_of_layers() -> None:
        model = tuned("qwen3_5")
        layers = model.get_base_model().model.layers
        for i, layer in enumerate(layers):
            layers[i] = FullyShardedDataParallel(layer, device_id=CPU, use_orig_params=True)
        forward(model, ids)

    def tensor_parallel(model: Any) -> Any:
        mixer = model.get_submodule("model.layers.0.linear_attn")
        plan = {"in_proj_z": ColwiseParallel(output_layouts=Replicate())}
        parallelize_module(getattr(mixer, "base_layer", mixer), init_device_mesh("cpu", (2,)), plan)
        return model

    def part(name: str) -> None:
        model = tuned("qwen3_5")
        for layer in state_layers(model):
            fully_shard(layer.get_submodule(name))
        forward(sharded(model), ids)

    def rounded() -> None:
        model = tuned("qwen3_5")
        for state in states(model):
            state.data = state.data.bfloat16()
        DistributedDataParallel(model)(input_ids=ids)

    def weighted() -> None:
        model = sharded(tuned("qwen3_5"))
        try:
            model.add_weighted_adapter(["default"], [0.5], "half")
        finally:
            assert list(model.peft_config) == ["default"]

    def saved(name: str, **kwargs: Any) -> None:
        try:
            sharded(tuned("qwen3_5")).save_pretrained(str(folder / name), **kwargs)
        finally:
            assert not (folder / name).exists()

    def written() -> None:
        shards = {str(layer.layer_idx): layer.s0_state["default"] for layer in state_layers(sharded(tuned("qwen3_5")))}
        state_files.write(folder / "written", shards, {})

    def shards_of_a_dict() -> None:
        model = sharded(tuned("qwen3_5"))
        model.save_pretrained(str(folder / "dict"), state_dict=get_model_state_dict(model))

    bare = zoo.make("qwen3_5")
    return {
        "FSDP1": lambda: fsdp1(use_orig_params=True),
        "FSDP1, flat": lambda: fsdp1(use_orig_params=False),
        "FSDP1 of layers": fsdp1_of_layers,
        "tensor parallel": lambda: forward(tensor_parallel(tuned("qwen3_5").get_base_model()), ids),
        "tensor parallel first": lambda: get_peft_model(tensor_parallel(zoo.make("qwen3_5")), S0AdapterConfig()),
        "DDP first": lambda: get_peft_model(DistributedDataParallel(bare), S0AdapterConfig()),
        "one more": lambda: sharded(tuned("qwen3_5")).add_adapter("more", S0AdapterConfig()),
        "weighted": weighted,
        "FSDP2 of states": lambda: part("s0_state"),
        "FSDP2 of mixers": lambda: part("base_layer"),
        "param_dtype": lambda: forward(
            sharded(tuned("qwen3_5"), mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16)), ids
        ),
        "rounded": rounded,
        "saved": lambda: saved("shards"),
        "saved dict": shards_of_a_dict,
        "written": written,
    }


def with_one_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """What need not be done with every family: tensors found, and the errors of what is refused."""
    found = {"half precision": half_precision()}
    dist.barrier()  # the first process has written what both read now
    found["loaded by transformers"] = loaded_by_transformers(folder / "DDP-qwen3_5")
    found["loaded after"] = loaded_after(folder / "DDP-qwen3_5")
    told = {}
    for name, attempt in refused(folder).items():
        try:
            attempt()
        except Exception as error:
            told[name] = [type(error).__name__, str(error)]
        dist.barrier()
    return found, told


def main(folder: Path, rank: int, families: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    found: dict[str, Tensor] = {}
    for family in families:
        for wrapper, go in (("DDP", under_ddp), ("FSDP2", under_fsdp2)):
            found |= {f"{wrapper}/{family}/{key}": tensor for key, tensor in go(family, rank, folder).items()}
    if "qwen3_5" in families:
        more, told = with_one_model(folder)
        found |= more
        (folder / f"{rank}.json").write_text(json.dumps(told))
    save_file({key: tensor.contiguous() for key, tensor in found.items()}, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
