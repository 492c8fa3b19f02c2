"""The variant that does cost something: an offset dS that every step reads beside its state.

Where S0 tuning changes what a sequence starts from, this adds a learned dS wherever the state is read, at every token
(state-offset tuning: ACL 2025; compared with S0 in Young 2026). It is read and never written: S_t runs as it would
without. So what a layer puts out, with S_t as it is, is

    GatedDeltaNet, KDA    y_t = q_t^T (S_t + dS)            q_t of unit length, over sqrt(K), as the kernels take it
    Mamba-2               y_t = (S_t + dS) C_t              and times silu(z_t) where the kernel applies the gate
    Mamba-1               y_t = ((S_t + dS) C_t + D x_t) silu(z_t)
    MiniMax               y_t = q_t^T (S_t + dS)            before the norm; q_t is what the activation gives

and the offset's part is added to what the kernels return, those for whole sequences and those for single steps alike.
MiniMax calls no kernel: there the part is added to what enters the mixer's norm, and q_t is taken as its activation
puts it out, so that every weight around it, and a dropout in them, counts once.

Unlike a state it does not fade: it holds at every token, costs at every token, and whoever generates with it has to
keep it chosen from the first token to the last.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from s0.core.families import recurrence_of
from s0.core.kernels import Kernel, put_seams
from s0.core.mamba1 import gated, of_call
from s0.errors import EngineError


class _Read:
    """The offset that one layer's mixer is about to read."""

    def __init__(self, offset: Tensor) -> None:
        self.offset = offset  # (B, H, K, V); Mamba-2 (B, H, P, N); Mamba-1 (B, D, N), or (B, H, P, N) in calls per head
        self.n_calls = 0  # of the kernel
        self.projected: Tensor | None = None  # (B, T, 3 H K), in MiniMax from its activation to its norm


class _CurrentRead(threading.local):
    def __init__(self) -> None:
        self.read: _Read | None = None


_CURRENT = _CurrentRead()


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
    read, outer = _Read(offset), _CURRENT.read
    with ExitStack() as hooks:
        if recurrence_of(mixer).name == "lightning_attention":
            hooks.enter_context(mixer.get_submodule("act_fn").register_forward_hook(_keep_projected))
            hooks.enter_context(mixer.get_submodule("norm").register_forward_pre_hook(_add_before_norm))
        _CURRENT.read = read
        try:
            yield
        finally:
            _CURRENT.read = outer
    if read.n_calls == 0:
        raise EngineError(
            f"expected {type(mixer).__name__} to call its recurrent kernel, but its forward was replaced, so the "
            "offset would be ignored; load the model without replaced layers (use_kernels=False)"
        )


def install_readout(mixer: nn.Module) -> None:
    """Let the kernels that `mixer` calls listen to `added_to_readout`; done once for all mixers of its class."""
    put_seams(mixer, _SEAMS, "reads_s0_offset")


# --- What reading the offset adds to what a kernel puts out: each takes the kernel's arguments ---


def _gated_delta(read: _Read, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    reader = q.float()  # (B, T, H, K)
    if kwargs.get("use_qk_l2norm_in_kernel"):
        reader = reader * torch.rsqrt(reader.square().sum(-1, keepdim=True) + 1e-6)
    return _product("bthk,bhkv->bthv", _to_heads(reader, v.shape[2]) * q.shape[-1] ** -0.5, read.offset)


def _mamba2_scan(
    read: _Read, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    return gated(_product("bthn,bhpn->bthp", _to_heads(c.float(), x.shape[2]), read.offset), kwargs.get("z"))


def _mamba2_step(
    read: _Read, state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    return gated(_product("bhn,bhpn->bhp", _to_heads(c.float(), x.shape[1]), read.offset), kwargs.get("z"))


def _mamba1_scan(
    read: _Read, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    return gated(_product("bnt,bdn->bdt", c.float(), of_call(read.offset, read.n_calls)), kwargs.get("z"))


def _mamba1_step(
    read: _Read, state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    return gated(_product("bn,bdn->bd", c.float(), of_call(read.offset, read.n_calls)), kwargs.get("z"))


def _to_heads(groups: Tensor, n_heads: int) -> Tensor:
    """(..., H, X): each of the groups (..., G, X) serves H / G consecutive heads."""
    return groups.repeat_interleave(n_heads // groups.shape[-2], dim=-2)


def _product(equation: str, reader: Tensor, offset: Tensor) -> Tensor:
    """The einsum of `equation`, without a copy of the offset for each row that shares it."""
    if offset.stride(0) == 0:
        offset, equation = offset[0], equation.replace(",b", ",")
    return torch.einsum(equation, reader, offset.to(reader.dtype))


def _seam(part: Callable[..., Tensor]) -> Callable[[Kernel], Kernel]:
    def around(kernel: Kernel) -> Kernel:
        @functools.wraps(kernel)
        def seam(*args: Any, **kwargs: Any) -> Any:
            result = kernel(*args, **kwargs)
            read = _CURRENT.read
            if read is None:
                return result
            added = part(read, *args, **kwargs)
            read.n_calls += 1
            if not isinstance(result, tuple):
                return result + added.to(result.dtype)
            output, state = result
            return output + added.to(output.dtype), state

        return seam

    return around


_SEAMS = {
    "torch_chunk_gated_delta_rule": _seam(_gated_delta),
    "torch_recurrent_gated_delta_rule": _seam(_gated_delta),
    "chunk_kimi_delta_attention": _seam(_gated_delta),
    "recurrent_kimi_delta_attention": _seam(_gated_delta),
    "mamba2_chunk_scan": _seam(_mamba2_scan),
    "mamba2_selective_state_update": _seam(_mamba2_step),
    "mamba_selective_scan": _seam(_mamba1_scan),
    "mamba_selective_state_update": _seam(_mamba1_step),
}


# --- MiniMax, in two places: its query is seen at the activation, and read with before the norm ---


def _keep_projected(activation: nn.Module, args: tuple[Any, ...], projected: Tensor) -> None:
    if _CURRENT.read is not None:
        _CURRENT.read.projected = projected


def _add_before_norm(norm: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    read = _CURRENT.read
    if read is None or read.projected is None:
        return None
    (output,) = args  # (B, T, H V)
    n_heads, key_dim = read.offset.shape[1:3]
    # In each head q, k and v lie one after another. What pads read does not matter: nobody reads it.
    query = read.projected.reshape(*output.shape[:2], n_heads, -1)[..., :key_dim].float()
    added = _product("bthk,bhkv->bthv", query, read.offset).flatten(2)
    read.projected = None  # another thread's hook on the same norm comes too late
    read.n_calls += 1
    return (output + added.to(output.dtype),)
