"""What the files beside this one say of their recurrence, and how a running kernel learns what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from s0.errors import EngineError, UnsupportedModelError

Kernel = Callable[..., Any]


class KernelRequest:
    """What one state layer asks of the kernel that its mixer is about to run."""

    def __init__(self, padded: Tensor | None, state: Tensor | None) -> None:
        self.padded = padded  # (B, T) bool, True at pad tokens; None where there are none
        self.state = state  # what it starts from, where the kernel takes no state itself: see `Recurrence`
        self.n_calls = 0  # of the kernel

    def pads_of(self, gate: Tensor) -> Tensor:
        """The pads (B, T), shaped to broadcast over `gate` (B, T, ...); only where there are some."""
        assert self.padded is not None
        if self.padded.shape != gate.shape[:2]:
            raise EngineError(
                f"expected a padding mask of shape {tuple(gate.shape[:2])}, got {tuple(self.padded.shape)}; "
                "pass the model a 2-D attention_mask of zeros and ones"
            )
        return self.padded.view(*self.padded.shape, *[1] * (gate.ndim - 2)).to(device=gate.device)


class OffsetRequest:
    """What one offset asks of the kernels of the mixer that is about to read it (see `s0.core.offset`)."""

    def __init__(self, offset: Tensor) -> None:
        self.offset = offset  # (B, ...) of the state's shape
        self.n_calls = 0  # of the kernel


class Current(threading.local):
    """What the layer that runs on this thread asks of its kernel, and of its kernel's readout.

    Thread-local rather than a ContextVar because torch.compile can trace it.
    """

    def __init__(self) -> None:
        self.kernel_request: KernelRequest | None = None
        self.offset_request: OffsetRequest | None = None


CURRENT = Current()

NO_STEP = -1e4
"""A step before softplus, which makes exactly 0 of it in every dtype."""


@dataclass(frozen=True, eq=False)
class Recurrence:
    """One kind of recurrence.

    Attributes:
        name: the word used in files and messages.
        recognised_by: the function that a mixer of this kind calls on whole sequences. Lightning attention has no
            kernel and is recognised by how it reads its cache.
        cache_calls: how a mixer reads its state from the model's cache and writes it back.
        shape: the shape of one row's state in a mixer, from the mixer's attributes. Like all functions here it has a
            name in its module: a model with states can be pickled.
        axes: what the axes mean.
        alpha: the published scale at deployment.
        alpha_source: where that scale comes from.
        kernel_takes_state: whether that kernel can be given a state to start from.
        seams: by kernel, what runs in its place while a state layer asks something of it: takes the request, the
            kernel and the kernel's arguments. It lets the state rest at pads.
        readouts: by kernel, what an offset adds to what the kernel puts out: takes the request and the kernel's
            arguments.
        adding_offset: where there is no kernel, lets a mixer read an offset while it runs.
        run: runs a whole layer from its state, where that takes more than a cache which answers with the state: takes
            the layer and what its mixer is called with.
    """

    name: str
    recognised_by: str
    shape: Callable[[Any], tuple[int, ...]]
    axes: str
    alpha: float
    alpha_source: str
    kernel_takes_state: bool = True
    seams: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    readouts: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    adding_offset: Callable[[nn.Module], AbstractContextManager[None]] | None = None
    run: Callable[..., Any] | None = None
    cache_calls: frozenset[str] = frozenset({"get_recurrent_state", "update_recurrent_state"})

    def __post_init__(self) -> None:
        assert self.seams or self.run, f"nothing keeps pads out of {self.name}"
        assert self.readouts or self.adding_offset, f"nothing reads an offset in {self.name}"

    def __deepcopy__(self, memo: Any) -> Recurrence:
        """Itself: a copy of a model runs the same recurrence."""
        return self

    def state_shape(self, mixer: nn.Module) -> tuple[int, ...]:
        """Shape of one row's state in `mixer`, without the batch axis.

        Raises:
            UnsupportedModelError: the mixer lacks an attribute that tells it.
        """
        try:
            return self.shape(mixer)
        except AttributeError as error:
            raise UnsupportedModelError(
                f"expected {type(mixer).__name__} to tell the shape of its state, got: {error}; this model's code is "
                "of no release of transformers that this library knows"
            ) from error
