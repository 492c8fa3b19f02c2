"""The one seam in the recurrent kernels: padding must not touch the state, and Mamba-1 must get it at all.

A mixer zeroes the hidden states of pad tokens, but its gates still run on them: the state that a cache keeps decays
once per pad, and what the convolution drags on from the tokens before is written to it. In the seam the gates are shut
at pads; how, each file in `s0.core.recurrences` says for its kernels. Mamba-1's kernel for several tokens takes no
state to start from; its seam adds what the state does.

Mixers look their kernels up as module globals at every call. The seam replaces such a global once, when a state is
first attached to a mixer that calls it, with a function that only acts inside `at_kernel` on the calling thread. Any
other model in the process, and any layer that did not ask, gets the original kernel with its arguments untouched.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from s0.core.families import kernel_globals, recurrence_of
from s0.core.recurrences import CURRENT, Kernel, KernelRequest
from s0.core.refusals import ignored_state_error
from s0.errors import EngineError

_INSTALL = threading.Lock()


def at_kernel(mixer: nn.Module, padded: Tensor | None, state: Tensor | None) -> AbstractContextManager[None]:
    """While `mixer` runs: let the state rest at pads, and start from it where the mixer's kernel cannot.

    Args:
        mixer: the recurrent module about to be called on several tokens.
        padded: (B, T) bool, True at pad tokens; None where there are none.
        state: (B, D, N), or (B, H, P, N) of a mixer that calls its kernel once for each head: what the mixer starts
            from; None where its cache has it. Only Mamba-1 needs it.

    Raises:
        EngineError: the mixer ran without going through its kernel (its whole forward was replaced), so the result
            would be silently wrong.
    """
    takes_state = recurrence_of(mixer).kernel_takes_state
    if takes_state and padded is None:
        return nullcontext()
    return _acting(mixer, KernelRequest(padded, None if takes_state else state))


@contextmanager
def _acting(mixer: nn.Module, request: KernelRequest) -> Iterator[None]:
    install_seam(mixer)
    outer, CURRENT.kernel_request = CURRENT.kernel_request, request
    try:
        yield
    finally:
        CURRENT.kernel_request = outer
    if request.n_calls == 0 and request.state is not None:
        raise ignored_state_error(mixer)
    if request.n_calls == 0:
        raise EngineError(
            f"expected {type(mixer).__name__} to call its recurrent kernel, but its forward was replaced, so padding "
            "cannot be kept out of the state; pad on no side (batch prompts of equal length) or load the model without "
            "replaced layers (use_kernels=False)"
        )


def install_seam(mixer: nn.Module) -> None:
    """Let the kernel that `mixer` calls listen to `at_kernel`; done once for all mixers of its class."""
    put_seams(mixer, recurrence_of(mixer).seams, _at_request, "is_s0_seam")


def put_seams(
    mixer: nn.Module, parts: Mapping[str, Callable[..., Any]], around: Callable[..., Kernel], mark: str
) -> None:
    """Replace the kernels that `mixer` looks up, each once.

    Args:
        mixer: a recurrent module.
        parts: by the kernel's name, what is done there.
        around: makes of a kernel and its part what takes the kernel's place.
        mark: the attribute that tells kernels with this kind of seam; other kinds may lie around the same kernel.
    """
    namespace = kernel_globals(mixer)
    names = parts.keys() & namespace.keys()
    if all(hasattr(namespace[name], mark) for name in names):
        return  # the usual case; and torch.compile cannot trace a lock
    with _INSTALL:
        for name in names:
            if not hasattr(namespace[name], mark):
                replacement = around(namespace[name], parts[name])
                setattr(replacement, mark, True)
                namespace[name] = replacement


def _at_request(kernel: Kernel, in_its_place: Callable[..., Any]) -> Kernel:
    """`kernel`; and in its place, while a layer on this thread requests something, what does that."""

    @functools.wraps(kernel)
    def kernel_at_request(*args: Any, **kwargs: Any) -> Any:
        request = CURRENT.kernel_request
        if request is None:
            return kernel(*args, **kwargs)
        result = in_its_place(request, kernel, *args, **kwargs)
        request.n_calls += 1
        return result

    return kernel_at_request
