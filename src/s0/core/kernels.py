"""The one seam in the recurrent kernels: padding must not touch the state.

A mixer zeroes the hidden states of pad tokens, but its decay gate still runs on them, so an initial state shrinks
once per pad. That is harmless when the state is zero and wrong when it is not. Here the gate is made neutral at
pads: log-decay 0 for GatedDeltaNet and KDA, step size 0 for Mamba-2.

Mixers look their kernels up as module globals at every call. The seam replaces such a global once, the first time
padding meets a non-zero state, with a function that only acts inside `neutral_at_pads` on the calling thread. Any
other model in the process, and any layer that did not ask, gets the original kernel with its arguments untouched.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s0.core.families import kernel_globals, recurrence_of
from s0.errors import EngineError

Kernel = Callable[..., Any]
_PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")


class _Call:
    """What one state layer asks of the kernel its mixer is about to run."""

    def __init__(self, padded: Tensor) -> None:
        self.padded = padded  # (B, T) bool, True at pad tokens
        self.reached_kernel = False


class _CurrentCall(threading.local):
    # Thread-local rather than a ContextVar because torch.compile can trace it.
    call: _Call | None = None


_CURRENT = _CurrentCall()
_INSTALL = threading.Lock()


@contextmanager
def neutral_at_pads(mixer: nn.Module, padded: Tensor) -> Iterator[None]:
    """Keep pad tokens from decaying the state while `mixer` runs.

    Args:
        mixer: the recurrent module about to be called.
        padded: (B, T) bool, True at pad tokens.

    Raises:
        EngineError: the mixer ran without going through its kernel (its whole forward was replaced), so the result
            would be silently wrong.
    """
    _install(mixer)
    call, outer = _Call(padded), _CURRENT.call
    _CURRENT.call = call
    try:
        yield
    finally:
        _CURRENT.call = outer
    if not call.reached_kernel:
        raise EngineError(
            f"expected {type(mixer).__name__} to call its recurrent kernel, but its forward was replaced, so padding "
            "cannot be kept out of the state; pad on no side (batch prompts of equal length) or load the model without "
            "replaced layers (use_kernels=False)"
        )


def refuse_packing(kwargs: Mapping[str, Any]) -> None:
    """Refuse several documents in one row: the kernels would give the state to the first one only.

    Raises:
        EngineError: `kwargs`, which a model passes to its mixers, mark the borders of packed documents.
    """
    borders = [name for name in _PACKING if kwargs.get(name) is not None]
    if borders:
        raise EngineError(
            f"expected one document per row, got packed rows ({', '.join(borders)}): with a tuned state every document "
            "must start from it, which is not supported; batch the documents as padded rows"
        )


def _install(mixer: nn.Module) -> None:
    namespace, name = kernel_globals(mixer), recurrence_of(mixer).kernel
    with _INSTALL:
        if not getattr(namespace[name], "is_s0_seam", False):
            seam = _SEAMS[name](namespace[name])
            seam.is_s0_seam = True  # type: ignore[attr-defined]
            namespace[name] = seam


def _gated_delta_seam(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def seam(*args: Any, **kwargs: Any) -> Any:
        call = _CURRENT.call
        if call is not None:
            call.reached_kernel = True
            g = kwargs["g"]  # (B, T, H) or, in KDA, (B, T, H, K): log of the decay, <= 0
            kwargs["g"] = g.masked_fill(_at_steps(call.padded, g), 0.0)
        return kernel(*args, **kwargs)

    return seam


def _mamba2_seam(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def seam(x: Tensor, dt: Tensor, *args: Any, **kwargs: Any) -> Any:
        call = _CURRENT.call
        if call is not None:
            call.reached_kernel = True
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
}
