"""The processes of one training (`accelerate launch`, `torchrun`): each learns from its share, together they step.

Only the trained tensors matter here: all else of the model is frozen and the same in every process, so the model is not
wrapped (by DDP, say), and nothing of it is sent. What is summed are the gradients of a few small tensors, or, in full
fine-tuning, of all weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed
from accelerate.state import AcceleratorState, PartialState  # type: ignore[import-untyped]
from accelerate.utils import DistributedType, broadcast, gather, reduce  # type: ignore[import-untyped]
from torch import Tensor, nn

from s0.core.sharding import shardings_of
from s0.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    EngineError,
    S0Error,
    StateMismatchError,
    UnsupportedModelError,
)
from s0.train.checkpoint import Stopped

T = TypeVar("T")
_LONGEST_TEXT, _MESSAGE_BYTES = 300, 2048  # JSON may take six bytes for a character
_KINDS: Mapping[str, type[S0Error]] = {
    kind.__name__: kind
    for kind in (CheckpointError, ConfigError, DatasetError, EngineError, StateMismatchError, UnsupportedModelError)
}
_LAUNCHED = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_PARALLELISMS = {
    "tp": "tensor parallelism",
    "dp_shard": "sharded data parallelism",
    "cp": "context parallelism",
    "sp": "sequence parallelism",
}


class Processes:
    """The place of this process among those of one training.

    Attributes:
        rank: which of them this is; 0 writes files and shows progress.
        n: how many there are.
        precision: in which the model computes: None for that of its weights, or torch.bfloat16.
        device: where tensors are sent from.
    """

    def __init__(
        self,
        rank: int = 0,
        n: int = 1,
        precision: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.rank, self.n, self.precision, self.device = rank, n, precision, device or torch.device("cpu")

    @classmethod
    def of(cls, model: nn.Module, parameters: Sequence[Tensor]) -> Processes:
        """The processes that accelerate or torchrun has started, or this process alone.

        Args:
            model: as it is in each process.
            parameters: what is trained; their device is where sums are sent from.

        Returns:
            the place of this process among them.

        Raises:
            ConfigError: the model is sharded over processes, wrapped, or on another device than the process is to use;
                or a precision that needs more than casting.
        """
        for sharding in chain(shardings_of(model, parameters), _asked_of_accelerate()):
            raise _sharded_error(sharding)
        # An Accelerator would fix the precision and the gradient accumulation of every other one in this process, so
        # only the state below it is used, as the user has made it or the launcher says.
        asked = AcceleratorState().mixed_precision if AcceleratorState._shared_state else None
        precision = asked or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if precision not in ("no", "bf16"):
            raise ConfigError(
                f"expected mixed precision 'no' or 'bf16', got {precision!r}, in which small gradients vanish unless "
                "losses are scaled; use bf16"
            )
        dtype = torch.bfloat16 if precision == "bf16" else None
        if not PartialState._shared_state and not any(int(os.environ.get(name, 1)) > 1 for name in _LAUNCHED):
            return cls(precision=dtype)
        on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
        state = PartialState(cpu=_flag("ACCELERATE_USE_CPU") or on_cpu)
        if state.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
            raise _sharded_error(state.distributed_type.value)
        if state.num_processes == 1:
            return cls(precision=dtype)
        device = torch.device("cpu") if state.device.type == "cpu" else state.device  # accelerate numbers CPUs, too
        devices = {parameter.device for parameter in parameters}
        if devices != {device}:
            raise ConfigError(
                f"expected the trained tensors of process {state.process_index} on its device {device}, got them "
                f"on {', '.join(sorted(map(str, devices)))}; load the model there in each process"
            )
        return cls(state.process_index, state.num_processes, dtype, device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part_of(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """The items that this process computes, with their places; may be empty."""
        return list(enumerate(items))[self.rank :: self.n]

    def autocast(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Within this context the model computes in the chosen precision."""
        if self.precision is None:
            return nullcontext()
        return torch.autocast(next(model.parameters()).device.type, self.precision)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes."""
        if self.n == 1:
            return tensor
        summed: Tensor = reduce(tensor.to(self.device), "sum")
        return summed.to(tensor.device)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the gradients of all."""
        if self.n == 1 or not parameters:
            return
        gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in parameters]
        summed = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(summed, [gradient.numel() for gradient in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    @torch.no_grad()
    def share(self, parameters: Sequence[nn.Parameter]) -> None:
        """Start every process from the values of the first."""
        if self.n > 1:
            for parameter in parameters:
                parameter.copy_(broadcast(parameter.detach().clone()))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What goes wrong in this block on one process is raised on all, so that none waits for another for ever.

        Raises:
            Stopped: the first process in trouble was asked to end.
            S0Error: as it raised; EngineError for what is none of this library's. It itself raises what it has caught.
        """
        if self.n == 1:
            yield
            return
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        report = "" if error is None else json.dumps([self.rank, type(error).__name__, str(error)[:_LONGEST_TEXT]])
        first = next(filter(None, self._gather(report)), None)
        if first is None:
            return
        rank, kind, text = json.loads(first)
        if error is not None and rank == self.rank:
            raise error
        if kind == Stopped.__name__:
            raise Stopped(int(text))
        raise _KINDS[kind](text) if kind in _KINDS else EngineError(f"process {rank} failed with {kind}: {text}")

    def require_same(self, what: str, value: str) -> None:
        """Refuse processes that do not take part in one training.

        Args:
            what: the value's name, for the message.
            value: of this process.

        Raises:
            ConfigError: `value` is not the same in all of them.
        """
        if self.n > 1 and len(set(self._gather(hashlib.sha256(value.encode()).hexdigest()))) > 1:
            raise ConfigError(
                f"expected the same {what} in all {self.n} processes, got different ones; pass the same to each, and "
                "start independent trainings without accelerate launch or torchrun"
            )

    def _gather(self, text: str) -> list[str]:
        sent = torch.zeros(1, _MESSAGE_BYTES, dtype=torch.uint8)
        data = text.encode()
        sent[0, : len(data)] = torch.tensor(list(data), dtype=torch.uint8)
        rows: Tensor = gather(sent.to(self.device))
        return [bytes(row).rstrip(b"\0").decode() for row in rows.tolist()]


def is_first_process() -> bool:
    """Whether this process writes what all have come to: it is alone, or the first of those launched together."""
    launched = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not launched or torch.distributed.get_rank() == 0


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def _sharded_error(sharding: str) -> ConfigError:
    return ConfigError(
        f"expected the whole model in each process, got {sharding}: only plain data parallel training is tested; pass "
        "the model itself, without a wrapper, and start with accelerate launch --multi_gpu, or in one process"
    )


def _asked_of_accelerate() -> Iterator[str]:
    """What the launcher, or the user's own Accelerator, has been asked to shard the model by."""
    fsdp = f"FSDP{os.environ.get('FSDP_VERSION', '1')}"
    plugins = {"FSDP": fsdp, "DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}
    yield from (name for plugin, name in plugins.items() if _flag(f"ACCELERATE_USE_{plugin}"))
    config = AcceleratorState().parallelism_config if AcceleratorState._shared_state else None
    for kind, name in _PARALLELISMS.items():
        from_launcher = os.environ.get(f"PARALLELISM_CONFIG_{kind.upper()}_SIZE", 1)
        size = from_launcher if config is None else getattr(config, f"{kind}_size")
        if int(size) > 1:
            yield name
