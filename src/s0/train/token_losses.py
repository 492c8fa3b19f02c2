"""What single tokens lose, in bounded memory: the logits of many positions never exist together.

In float32, logits of P positions over V words take 4 P V bytes, and a step holds them several times: 3.8 GiB each time
for 4,096 positions of Qwen3.5's 248,320 words. So from a size on they are made a few positions at a time, and made
again in the backward pass (Chen et al. 2016, arXiv 1604.06174).

The model's own code makes them from its last hidden states, for heads differ: some scale or cap what comes out of the
linear layer, and that may be biased, tied, quantised or tuned by LoRA. The code runs on a shallow copy of the model, in
which a stand-in that answers with hidden states has the place of the body. Whether that gives the model's own logits is
seen at every call, at a position where both are made. Where it does not, as where a head is sharded (FSDP2), all logits
are made at once.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from s0.core.families import unwrapped
from s0.core.sharding import is_shard
from s0.errors import UnsupportedModelError

MOST_LOGITS = 12 << 20
"""That are made at once, 48 MiB in float32; a step holds about five times as much of them."""
_NO_TARGET = -100
_CLOSE = {torch.float32: 1e-4, torch.float64: 1e-8}
_CLOSE_IN_HALF_PRECISION = 0.05
"""How far apart logits made in two ways may be, in units of the largest: rounding differs with the shapes."""


def token_losses(model: nn.Module, tokens: Tensor, predicts: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of every target, in nats.

    Args:
        model: a causal language model, with or without adapters.
        tokens: (B, T) int64.
        predicts: (P,) int64, positions of `tokens` whose logits predict a target of some row.
        targets: (B, P) int64, the token to predict there, or -100 for none.

    Returns:
        (B, P) float32; 0 where there is no target.

    Raises:
        UnsupportedModelError: the model makes logits for more positions than it is asked for.
    """
    tokens, predicts, targets = (tensor.to(next(model.parameters()).device) for tensor in (tokens, predicts, targets))
    if targets.numel() * _n_words(model) > MOST_LOGITS:
        losses = _in_parts(model, tokens, predicts, targets)
        if losses is not None:
            return losses
    logits = _logits(model, tokens, predicts)
    return _cross_entropy(logits.transpose(1, 2), targets)  # (B, vocabulary, P)


def _n_words(model: nn.Module) -> int:
    config = getattr(unwrapped(model), "config", None)
    return 0 if config is None else int(config.get_text_config().vocab_size)


def _logits(model: nn.Module, tokens: Tensor, positions: Tensor) -> Tensor:
    """(B, P, V) as the model makes them."""
    logits: Tensor = model(input_ids=tokens, use_cache=False, logits_to_keep=positions).logits
    if logits.shape[1] != len(positions):
        raise UnsupportedModelError(
            f"expected {type(unwrapped(model)).__name__} to honour logits_to_keep, but it returned logits for "
            f"{logits.shape[1]} positions, not {len(positions)}; use a transformers *ForCausalLM model"
        )
    return logits


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(logits.device)
    return F.cross_entropy(logits.float(), targets, reduction="none", ignore_index=_NO_TARGET)


def _in_parts(model: nn.Module, tokens: Tensor, predicts: Tensor, targets: Tensor) -> Tensor | None:
    """As `token_losses`, some positions at a time; None where the head gives other logits than the model."""
    base = unwrapped(model)
    if base.base_model_prefix not in base._modules or any(map(is_shard, base.parameters())):
        _warn_of_memory(f"{type(base).__name__} is wrapped, or its weights are sharded")
        return None
    last = predicts[-1:]
    with _outputs_of(base.base_model) as outputs:
        logits = _logits(model, tokens, last)
    if not outputs:
        _warn_of_memory(f"the body of {type(base).__name__} does not run when the model does")
        return None
    hidden = outputs[-1].last_hidden_state
    head = _head(base, outputs[-1])
    if not _agree(head(hidden[:, last.to(hidden.device)]), logits):
        _warn_of_memory(f"the head of {type(base).__name__} gives others than the model when it runs apart")
        return None
    rows, columns = (targets != _NO_TARGET).nonzero(as_tuple=True)
    wanted = hidden[rows.to(hidden.device), predicts[columns].to(hidden.device)]  # (N, D): what predicts something
    n_at_once = max(1, MOST_LOGITS // logits.shape[-1])

    def losses_of(hidden: Tensor, targets: Tensor) -> Tensor:
        return _cross_entropy(head(hidden[None])[0], targets)

    parts = zip(*(torch.split(of_all, n_at_once) for of_all in (wanted, targets[rows, columns])), strict=True)
    losses = torch.cat([checkpoint(losses_of, *part, use_reentrant=False) for part in parts])
    nothing = torch.zeros(targets.shape, device=losses.device)
    return nothing.index_put((rows.to(losses.device), columns.to(losses.device)), losses)


def _warn_of_memory(reason: str) -> None:
    warnings.warn(
        f"all logits of a micro-batch are made at once, which takes memory: {reason}; lower `batch_tokens` if there is "
        "too little",
        stacklevel=3,
    )


def _head(base: Any, output: Any) -> Callable[[Tensor], Tensor]:
    """What the model makes of hidden states (B, P, D) that its body has put out: logits (B, P, V)."""
    stand_in = _Body(base.base_model)
    whole = copy.copy(base)
    vars(whole).pop("forward", None)  # of accelerate's, which would run the model itself
    whole._forward_pre_hooks, whole._forward_hooks = OrderedDict(), OrderedDict()
    whole._modules = {**base._modules, base.base_model_prefix: stand_in}

    def logits(hidden: Tensor) -> Tensor:
        stand_in.output = copy.copy(output)
        stand_in.output.last_hidden_state = hidden
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        made: Tensor = whole(input_ids=ids, use_cache=False).logits
        return made

    return logits


class _Body(nn.Module):
    """In place of a model's body: answers with what it has put out before."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.__dict__["body"] = body  # no module of this one
        self.output: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["body"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output, whatever is asked."""
        return self.output


@contextmanager
def _outputs_of(body: nn.Module) -> Iterator[list[Any]]:
    """What a module puts out within this context, on this thread."""
    outputs: list[Any] = []
    thread = threading.get_ident()

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            outputs.append(output)

    handle = body.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


@torch.no_grad()
def _agree(first: Tensor, second: Tensor) -> bool:
    finite = second.isfinite()
    if first.shape != second.shape or not torch.equal(first.isfinite(), finite):
        return False
    first, second = first[finite], second[finite]  # what has diverged is told of by its loss
    if not second.numel():
        return True
    largest = second.abs().max().clamp_min(1e-6).float()
    close = _CLOSE.get(second.dtype, _CLOSE_IN_HALF_PRECISION)
    return bool((first.float() - second.float()).abs().max() <= close * largest)
