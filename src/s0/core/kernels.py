"""The one seam in the recurrent kernels: padding must not touch the state, and Mamba-1 must get it at all.

A mixer zeroes the hidden states of pad tokens, but its gates still run on them: the state that a cache keeps decays
once per pad, and what the convolution drags on from the tokens before is written to it. Here the gates are shut at
pads: log-decay 0 and write strength 0 for GatedDeltaNet and KDA, step size 0 for Mamba. Mamba-1's kernel for several
tokens takes no state to start from; the seam adds what the state does (`s0.core.mamba1`).

Mixers look their kernels up as module globals at every call. The seam replaces such a global once, when a state is
first attached to a mixer that calls it, with a function that only acts inside `at_kernel` on the calling thread. Any
other model in the process, and any layer that did not ask, gets the original kernel with its arguments untouched.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s0.core.families import kernel_globals, recurrence_of
from s0.core.mamba1 import of_call, scan_from
from s0.errors import EngineError, StandInError

Kernel = Callable[..., Any]
_PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")


class _Call:
    """What one state layer asks of the kernel its mixer is about to run."""

    def __init__(self, padded: Tensor | None, state: Tensor | None) -> None:
        self.padded = padded  # (B, T) bool, True at pad tokens
        self.state = state  # (B, D, N), or (B, H, P, N) where each head is a kernel call of its own
        self.n_calls = 0  # of the kernel


class _CurrentCall(threading.local):
    # Thread-local rather than a ContextVar because torch.compile can trace it.
    def __init__(self) -> None:
        self.call: _Call | None = None


_CURRENT = _CurrentCall()
_INSTALL = threading.Lock()


def at_kernel(mixer: nn.Module, padded: Tensor | None, state: Tensor | None) -> AbstractContextManager[None]:
    """While `mixer` runs: let the state rest at pads, and start from it where the mixer's kernel cannot.

    Args:
        mixer: the recurrent module about to be called on several tokens.
        padded: (B, T) bool, True at pad tokens; None where there are none.
        state: what the mixer starts from, with the batch axis; None where its cache has it. Only Mamba-1 needs it.

    Raises:
        EngineError: the mixer ran without going through its kernel (its whole forward was replaced), so the result
            would be silently wrong.
    """
    takes_state = recurrence_of(mixer).kernel_takes_state
    if takes_state and padded is None:
        return nullcontext()
    return _acting(mixer, _Call(padded, None if takes_state else state))


@contextmanager
def _acting(mixer: nn.Module, call: _Call) -> Iterator[None]:
    install_seam(mixer)
    outer, _CURRENT.call = _CURRENT.call, call
    try:
        yield
    finally:
        _CURRENT.call = outer
    if call.n_calls == 0 and call.state is not None:
        raise ignored_state(mixer)
    if call.n_calls == 0:
        raise EngineError(
            f"expected {type(mixer).__name__} to call its recurrent kernel, but its forward was replaced, so padding "
            "cannot be kept out of the state; pad on no side (batch prompts of equal length) or load the model without "
            "replaced layers (use_kernels=False)"
        )


def ignored_state(mixer: nn.Module) -> EngineError:
    """The error to raise where `mixer` ran without looking at the state it was given."""
    return EngineError(
        f"expected {type(mixer).__name__} to start from the state it is given, but its forward was replaced, so the "
        "tuned state would be ignored; load the model without replaced layers (use_kernels=False)"
    )


def not_in_stand_in(name: str) -> StandInError:
    """The error to raise where a mixer's cache is a stand-in, which has no attribute `name`."""
    return StandInError(
        f"expected a mixer, and hooks on it, to ask their cache for its states alone, got asked for {name!r}: where a "
        "sequence begins, what a tuned layer is given in the cache's place holds the state to start from and nothing "
        "else; ask the model's own cache, outside of the mixer"
    )


def refuse_packing(kwargs: Mapping[str, Any]) -> None:
    """Refuse several documents in one row: the kernels would give the state to the first one only.

    Raises:
        EngineError: `kwargs`, which a model passes to its mixers, mark the borders of packed documents.
    """
    borders = [name for name in _PACKING if kwargs.get(name) is not None]
    if borders:
        raise EngineError(
            f"expected the model to tell its state layers where packed documents begin, got only {', '.join(borders)}: "
            "call the model, not its layers, or batch the documents as padded rows"
        )


def refuse_replaced_forward(mixer: nn.Module) -> None:
    """Refuse a mixer that does not run the forward it was recognised by: kernels from the Hub replace whole forwards.

    Such a forward may never ask for the state to start from, or ask and take it for another layout of the same shape.

    Raises:
        EngineError: the mixer has a forward of its own, which does not wrap that of its class (as hooks do).
    """
    if "forward" not in mixer.__dict__:
        return
    forward: Any = mixer.forward
    found, own = inspect.unwrap(forward), inspect.unwrap(type(mixer).forward)
    if getattr(found, "__func__", found) is not own:
        raise EngineError(
            f"expected {type(mixer).__name__} to run its own forward, but it was replaced by one of "
            f"{getattr(found, '__module__', found)}, so the tuned state could be ignored or misread; load the model "
            "without replaced layers (use_kernels=False)"
        )


def install_seam(mixer: nn.Module) -> None:
    """Let the kernel that `mixer` calls listen to `at_kernel`; done once for all mixers of its class."""
    put_seams(mixer, _SEAMS, "is_s0_seam")


def put_seams(mixer: nn.Module, seams: Mapping[str, Callable[[Kernel], Kernel]], mark: str) -> None:
    """Replace the kernels that `mixer` looks up by what `seams` make of them, each kernel once.

    Args:
        mixer: a recurrent module.
        seams: by the kernel's name.
        mark: the attribute that tells kernels with this kind of seam; other kinds may lie around the same kernel.
    """
    namespace = kernel_globals(mixer)
    if all(hasattr(namespace[name], mark) for name in seams.keys() & namespace.keys()):
        return  # the usual case; and torch.compile cannot trace a lock
    with _INSTALL:
        for name in seams.keys() & namespace.keys():
            if not hasattr(namespace[name], mark):
                seam = seams[name](namespace[name])
                setattr(seam, mark, True)
                namespace[name] = seam


_GATES = ("g", "beta")
"""Of GatedDeltaNet and KDA: the decay's logarithm, (B, T, H) or (B, T, H, K), and how much is written, (B, T, H)."""


def _gated_delta_seam(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def seam(*args: Any, **kwargs: Any) -> Any:
        call = _CURRENT.call
        if call is not None and call.padded is not None:
            call.n_calls += 1
            for gate in _GATES:
                kwargs[gate] = kwargs[gate].masked_fill(_at_steps(call.padded, kwargs[gate]), 0.0)
        return kernel(*args, **kwargs)

    return seam


def _mamba2_seam(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def seam(x: Tensor, dt: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = _CURRENT.call
        if call is not None and call.padded is not None:
            call.n_calls += 1
            pads = _at_steps(call.padded, dt)
            low, high = kwargs.get("dt_limit", (0.0, float("inf")))
            if low > 0:
                # These families clamp the step from below after softplus, so no input to softplus gives a step of 0:
                # do both here, as the kernel would, and let pads have exactly 0.
                bias = kwargs.pop("dt_bias", None)
                dt = dt if bias is None else dt + bias.to(dt.dtype)
                dt = F.softplus(dt) if kwargs.pop("dt_softplus", False) else dt
                dt = dt.clamp(low, high).masked_fill(pads, 0.0)
                kwargs["dt_limit"] = (0.0, float("inf"))
            else:
                dt = dt.masked_fill(pads, -1e4)  # softplus of it is exactly 0 in every dtype
        return kernel(x, dt, *args, **kwargs)

    return seam


def _mamba1_seam(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def seam(x: Tensor, dt: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = _CURRENT.call
        if call is None or call.state is None:
            return kernel(x, dt, *args, **kwargs)
        state = of_call(call.state, call.n_calls)
        call.n_calls += 1
        if call.padded is not None:
            dt = dt.transpose(1, 2)  # from (B, D, T)
            dt = dt.masked_fill(_at_steps(call.padded, dt), -1e4).transpose(1, 2)  # softplus of it is exactly 0
        return scan_from(state, kernel, x, dt, *args, **kwargs)

    return seam


def _at_steps(padded: Tensor, gate: Tensor) -> Tensor:
    """`padded` (B, T) shaped to broadcast over `gate` (B, T, ...)."""
    if padded.shape != gate.shape[:2]:
        raise EngineError(
            f"expected a padding mask of shape {tuple(gate.shape[:2])}, got {tuple(padded.shape)}; "
            "pass the model a 2-D attention_mask of zeros and ones"
        )
    return padded.view(*padded.shape, *[1] * (gate.ndim - 2)).to(device=gate.device, dtype=torch.bool)


_SEAMS: dict[str, Callable[[Kernel], Kernel]] = {
    "torch_chunk_gated_delta_rule": _gated_delta_seam,
    "chunk_kimi_delta_attention": _gated_delta_seam,
    "mamba2_chunk_scan": _mamba2_seam,
    "mamba_selective_scan": _mamba1_seam,
}
