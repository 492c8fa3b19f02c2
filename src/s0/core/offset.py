"""The kind of adapter that does cost something: an offset dS that every step reads beside its state.

Where S0 tuning changes what a sequence starts from, this adds a learned dS wherever the state is read, at every token
(state-offset tuning: ACL 2025; compared with S0 in Young 2026). It is read and never written: S_t runs as it would
without, and what a layer reads of S_t it reads of S_t + dS. The offset's part is added to what the kernels return,
those for whole sequences and those for single steps alike; how, each file in `s0.core.recurrences` says.

Unlike a state it does not fade: it holds at every token, costs at every token, and whoever generates with it has to
keep it chosen from the first token to the last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from s0.core.families import recurrence_of
from s0.core.kernels import put_seams
from s0.core.recurrences import CURRENT, Kernel, OffsetRequest
from s0.errors import EngineError


@contextmanager
def added_to_readout(mixer: nn.Module, offset: Tensor) -> Iterator[None]:
    """While `mixer` runs, let every read of its state read `offset` too.

    Args:
        mixer: the recurrent module about to be called.
        offset: (B, H, K, V) effective offsets; an expanded batch axis costs nothing.

    Raises:
        EngineError: the mixer ran without going through its kernels, so the offset would have been ignored.
    """
    install_readout(mixer)
    request, outer = OffsetRequest(offset), CURRENT.offset_request
    without_kernel = recurrence_of(mixer).adding_offset
    CURRENT.offset_request = request
    try:
        with nullcontext() if without_kernel is None else without_kernel(mixer):
            yield
    finally:
        CURRENT.offset_request = outer
    if request.n_calls == 0:
        raise EngineError(
            f"expected {type(mixer).__name__} to call its recurrent kernel, but its forward was replaced, so the "
            "offset would be ignored; load the model without replaced layers (use_kernels=False)"
        )


def install_readout(mixer: nn.Module) -> None:
    """Let the kernels that `mixer` calls listen to `added_to_readout`; done once for all mixers of its class."""
    put_seams(mixer, recurrence_of(mixer).readouts, _with_readout, "reads_s0_offset")


def _with_readout(kernel: Kernel, readout: Callable[..., Tensor]) -> Kernel:
    """`kernel`; and added to its outputs, while a mixer on this thread reads an offset, what the offset adds."""

    @functools.wraps(kernel)
    def kernel_with_readout(*args: Any, **kwargs: Any) -> Any:
        result = kernel(*args, **kwargs)
        request = CURRENT.offset_request
        if request is None:
            return result
        added = readout(request, *args, **kwargs)
        request.n_calls += 1
        if not isinstance(result, tuple):
            return result + added.to(result.dtype)
        output, state = result
        return output + added.to(output.dtype), state

    return kernel_with_readout
