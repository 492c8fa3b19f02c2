"""Where a module keeps its raw states."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class RawStates(nn.ParameterDict):
    """Raw states by name: they move with the model, but stay float32 when it changes its dtype.

    A state that is about to be used is called for, not looked up: accelerate's offload keeps tensors elsewhere and
    brings them in only when the module that holds them is called.
    """

    __call__ = nn.Module.__call__  # nn.ParameterDict refuses it

    def forward(self, name: str) -> Tensor:
        """The raw state of that name."""
        raw: Tensor = self[name]
        return raw

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RawStates:
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return self
