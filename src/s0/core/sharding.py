"""Models that several processes hold or train together: what starts from states exactly, and what is refused by name.

Under DistributedDataParallel, and under FSDP2 (`fully_shard` of whole decoder layers, then of the model), a layer finds
whole tensors while it runs, and the gradients of its states are shared as those of any trained tensor are. A state
layer only looks, where states enter, that this is how it was called. Where rows choose among several states that learn,
a process may choose some of them in no row: DistributedDataParallel has to be told that this happens
(`find_unused_parameters=True`), and for FSDP2 those take part with a gradient of zero (`expected_to_learn`).

Everything else that shards a model, or hands its layers other tensors than their own, is refused there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed
from torch import Tensor, nn

from s0.core.raw_states import RawStates
from s0.errors import ConfigError

_WRAPPERS = {
    "FullyShardedDataParallel": "FSDP1",
    "FSDPModule": "FSDP2",
    "DeepSpeedEngine": "DeepSpeed",
    "DistributedDataParallel": "DistributedDataParallel",
    "DataParallel": "DataParallel",
}


def shardings_of(model: nn.Module, tensors: Iterable[Tensor] = ()) -> Iterator[str]:
    """What shards `model` over processes or devices, or makes it talk to other processes by itself.

    Args:
        model: the model, or a part of it.
        tensors: others that are used with it.
    """
    # By name: the classes need libraries that may be missing.
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    yield from (name for kind, name in _WRAPPERS.items() if kind in kinds)
    tensors = (*model.parameters(), *tensors)
    if any(hasattr(tensor, "ds_id") for tensor in tensors):
        yield "DeepSpeed ZeRO-3"
    if (getattr(model, "tp_size", None) or 1) > 1 or any(map(is_shard, tensors)):
        yield "tensor parallelism"


def is_shard(tensor: Tensor) -> bool:
    """Whether this process may hold a part of `tensor` only."""
    return type(tensor).__name__ == "DTensor"


def whole(tensor: Tensor) -> Tensor:
    """All of `tensor`; where it is a shard, every process has to ask."""
    gathered: Tensor = tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]
    return gathered


def refuse_sharded(model: nn.Module) -> None:
    """Refuse to put states on a model that is sharded or wrapped already, where nothing would share what they learn.

    Raises:
        ConfigError: it is; says by what.
    """
    sharding = next(shardings_of(model), None)
    if sharding is not None:
        raise ConfigError(
            f"expected a whole model to put states on, got {sharding}; put all adapters on first, then wrap the model "
            "in DistributedDataParallel or FSDP2 (fully_shard of each decoder layer, then of the model): nothing else "
            "that shards one is tested"
        )


def refuse_sharded_layer(layer: nn.Module, states: RawStates) -> None:
    """Refuse to run a state layer that does not hold its own whole tensors in this process.

    Args:
        layer: about to start from a state.
        states: its raw states by name.

    Raises:
        ConfigError: it does not; says why.
    """
    sharding = _sharding_of(layer, states)
    if sharding is not None:
        raise ConfigError(
            f"expected a state layer with its whole tensors in this process, got {sharding}; use "
            "DistributedDataParallel, or FSDP2 by fully_shard of each decoder layer, not of parts of one, and then of "
            "the model, which is to be called itself: nothing else that shards a model is tested"
        )


def _sharding_of(layer: nn.Module, states: RawStates) -> str | None:
    """What keeps whole tensors from a state layer, by name."""
    if "_is_replica" in vars(layer):
        return "DataParallel"
    if not _is_launched():  # nearly always; what follows takes time
        return None
    # FSDP1 puts views of its flat parameter in the place of parameters, FSDP2 puts parameters there.
    if _is_in_fsdp(layer) and not all(isinstance(state, nn.Parameter) for state in states.values()):
        return "FSDP1"
    return next(shardings_of(layer), None)


def expected_to_learn(layer: nn.Module, states: RawStates) -> set[str]:
    """Those of the layer's `states` whose gradient is expected of this process whether or not a row has chosen them.

    FSDP2 sends the gradients there are, and mixes them up where processes have different ones.
    """
    if not _is_in_fsdp(layer):
        return set()
    return {name for name, state in states.items() if state.requires_grad}


def refuse_rounded(dtype: torch.dtype) -> None:
    """Refuse states of another dtype than float32 where processes train together.

    In one process they become float32 again when they are used. Where processes share gradients that is too late:
    FSDP2 has rounded a copy, and DistributedDataParallel would no longer notice when the gradient is there.

    Raises:
        ConfigError: this process is one of several.
    """
    if _is_launched():
        raise ConfigError(
            f"expected float32 states where processes train together, got {dtype}; leave out FSDP2's param_dtype, "
            "which rounds states too, and load the model in that dtype; where a trainer has rounded them (TRL, on "
            "quantised models), undo it before the model is wrapped: parameter.data = parameter.data.float()"
        )


def _is_in_fsdp(layer: nn.Module) -> bool:
    return "_is_fsdp_managed_module" in vars(layer)  # FSDP1 and FSDP2 mark all modules that are theirs


def _is_launched() -> bool:
    # Even alone: FSDP2 rounds what it has in one process, too.
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def refuse_shards(tensors: Iterable[Tensor]) -> None:
    """Refuse to write tensors of which each process holds a part.

    Raises:
        ConfigError: there is one.
    """
    if any(map(is_shard, tensors)):
        raise ConfigError(
            "expected whole states to save, got FSDP2's shards; gather them in all processes, by states = "
            "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, ignore_frozen_params=True)) of "
            "torch.distributed.checkpoint.state_dict, and in the first one save_pretrained(path, state_dict=states)"
        )
