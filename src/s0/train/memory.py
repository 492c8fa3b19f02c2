"""What a training step needs of memory, told before anything is loaded: the step is rehearsed without data.

On PyTorch's meta device an operation works out the shape of its result and nothing else. There the model's own code,
made from its config alone, runs forward and backward as it does in a step, and what it allocates is counted while it
lives. That is what transformers' own functions in PyTorch keep; kernels of other packages keep less.

A process takes more than this by what its allocator cannot use again: little on a GPU; on a CPU up to as much again
where layers are computed again in the backward pass, and so allocated and freed in turn.

All this is for a state. Full fine-tuning takes several times the model's size besides (see `FullTrainer`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from s0.adapter.attach import attach, detach, switch_to
from s0.core.kernel_backends import torch_path
from s0.core.states import state_layers
from s0.errors import ConfigError, UnsupportedModelError
from s0.train.modes import frozen_except
from s0.train.token_losses import MOST_LOGITS

_STATE_COPIES = 6  # the tensors, their gradient, Adam's two moments, the last good ones and the best
_LOGIT_COPIES = 5  # in float32, while their loss is made and goes back
ROW_TOKENS = 128
"""Of the rows that an estimate is for. Short ones need more: each has a state, and is filled up to a kernel's chunk.
Much longer ones, too, where attention keeps something of every pair of tokens."""
_USABLE = 0.75
_STATE = "rehearsed"


@dataclass(frozen=True)
class StepMemory:
    """What a training step needs, in bytes.

    Attributes:
        batch_tokens: of the micro-batch that these figures are of.
        weights: the model's.
        states: what is trained, in float32, with its gradient, the optimiser's moments and the copies that are kept.
        activations: the most that forward and backward of a micro-batch hold at a time beside these.
        logits: what the loss of a micro-batch holds.
    """

    batch_tokens: int
    weights: int
    states: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.states + self.activations + self.logits

    def most_tokens(self, memory_bytes: int) -> int:
        """The largest micro-batch, in tokens, that so much memory holds; 0 where the model alone is too large.

        A quarter of the memory is left to what this cannot know: the allocator, rows of other lengths, other processes.
        """
        left = memory_bytes * _USABLE - (self.total - self.activations)
        return max(0, int(left / self.activations * self.batch_tokens))


def step_memory(
    model: PreTrainedModel, *, batch_tokens: int, gradient_checkpointing: bool, row_tokens: int = ROW_TOKENS
) -> StepMemory:
    """Rehearse a step that trains the state of every recurrent layer.

    Args:
        model: a transformers model on the meta device; left as it is.
        batch_tokens: size of the micro-batch, rows x longest row, at least 1.
        gradient_checkpointing: whether layers are computed again in the backward pass.
        row_tokens: length of its rows, at least 1, or all tokens there are; there are as many whole rows as that makes.

    Returns:
        the bytes of its parts.

    Raises:
        UnsupportedModelError: the model has no recurrent layer whose state can be tuned, or some operation of it wants
            to see data.
        ConfigError: `gradient_checkpointing` with a model that cannot compute its layers again; batch_tokens or
            row_tokens below 1.
    """
    if min(batch_tokens, row_tokens) < 1:
        raise ConfigError(f"expected batch_tokens >= 1 and row_tokens >= 1, got {batch_tokens} and {row_tokens}")
    config = model.config
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(
            "expected a config of weights that are not quantised, got a quantised model's, which tells no sizes"
        )
    own = (*model.parameters(), *model.buffers())
    weights = sum(tensor.nbytes for tensor in own)
    vocabulary = config.get_text_config().vocab_size
    row = min(batch_tokens, row_tokens)
    tokens = torch.zeros(batch_tokens // row, row, dtype=torch.long, device="meta")
    tuned, _ = attach(model, None, {"alpha": 1.0}, _STATE)
    try:
        switch_to(tuned, _STATE)
        states = _meta_states(tuned)
        tally = _Tally([*own, *states])
        with frozen_except(tuned, states, recompute=gradient_checkpointing), torch_path(tuned), tally:
            _rehearse(tuned.get_base_model().base_model, tokens, states)
    finally:
        detach(tuned, _STATE)
    return StepMemory(
        batch_tokens=tokens.numel(),
        weights=weights,
        states=_STATE_COPIES * sum(state.nbytes for state in states),
        activations=tally.most,
        logits=_LOGIT_COPIES * 4 * min(tokens.numel() * vocabulary, MOST_LOGITS),
    )


def _rehearse(body: Callable[..., Any], tokens: Tensor, states: Sequence[nn.Parameter]) -> None:
    try:
        hidden = body(input_ids=tokens, use_cache=False).last_hidden_state
        torch.autograd.grad(hidden.float().sum(), states)
    except NotImplementedError as error:  # as for torch.nonzero
        raise UnsupportedModelError(
            f"expected a model whose operations need no data to tell their memory, got {str(error).splitlines()[0]}"
        ) from error
    except RuntimeError as error:  # as for experts in float32, which PyTorch (2.13) has no outline of
        raise UnsupportedModelError(
            f"expected a model whose step can be rehearsed in its dtype, got {str(error).splitlines()[0]}"
        ) from error


def _meta_states(tuned: nn.Module) -> Sequence[nn.Parameter]:
    """The states of a model on the meta device, brought there from where new ones are made."""
    layers = state_layers(tuned)
    for layer in layers:
        layer.s0_state[_STATE] = nn.Parameter(layer.s0_state[_STATE].detach().to("meta"))
    return [layer.s0_state[_STATE] for layer in layers]


class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations make, while something holds them.

    Attributes:
        most: that have been held at a time.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._living = 0
        self._counted = {tensor.untyped_storage()._cdata for tensor in known}  # of which operations give views, too

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do the operation and count what it makes."""
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype == torch.bool  # models ask whether all is as usual, and nothing is there to be read
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._counted:
            self._counted.add(key)
            self._living += size
            self.most = max(self.most, self._living)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self._living -= size
