"""Packed rows: several documents one after another in a single row, each of which starts from the state itself.

Nothing in a recurrence ends where a document ends: the second document would start from what the first one left
behind, and the learned state would enter the first one only. Here every state layer runs the documents of a packed
row side by side, as rows of their own, and puts their outputs back in line. What lies beside a layer keeps working on
the packed row: attention is kept within documents by transformers itself, whose masks go by position_ids that restart
at 0 (eager, sdpa, flex_attention) and whose flash attention goes by cu_seq_lens.

A layer is not told where documents begin. The model is, so `watch` lets every model around the layers look at its
inputs first and pass the documents on among the keyword arguments that reach the layers. Gradient checkpointing keeps
these arguments for the recomputation.

What cannot be kept apart is refused where a state would enter, and left to the model where none would.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from s0.core.families import family_of
from s0.core.hooks import add_hooks, remove_hooks
from s0.core.refusals import BORDERS
from s0.core.releases import cache_of, call_arguments
from s0.core.row_choice import choice_for, rows_choose
from s0.core.states import DOCUMENTS, StateLayer, state_layers
from s0.errors import EngineError

_MARKS = (*BORDERS, "max_length_q", "max_length_k")
_ATTENTION = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
_KEPT_APART = {
    *("qwen3_5", "qwen3_5_moe", "qwen3_next", "qwen4_exp", "olmo_hybrid", "lara_mini", "kimi_linear", "bailing_hybrid"),
    *("falcon_h1", "bamba", "nemotron_h", "zamba2", "zamba"),
}  # the others make their masks without position_ids, or have no attention and hand nothing down to their layers


class Documents:
    """Where the documents of one packed row lie.

    Documents whose lengths differ by less than a factor of two share a batch, so a layer runs few batches and computes
    at most twice the tokens there are.
    """

    def __init__(self, starts: list[int], n_tokens: int, device: torch.device) -> None:
        """From the index of each document's first token, in order, the first being 0."""
        self.lengths = [end - start for start, end in zip(starts, [*starts[1:], n_tokens], strict=True)]
        similar: dict[int, list[int]] = {}
        for i, length in enumerate(self.lengths):
            similar.setdefault(length.bit_length(), []).append(i)
        self.batches: list[tuple[Tensor, Tensor]] = []  # of (N, L): the row's tokens, and which of them are real
        for chosen in similar.values():
            first = torch.tensor([starts[i] for i in chosen], device=device)[:, None]
            lengths = torch.tensor([self.lengths[i] for i in chosen], device=device)[:, None]
            steps = torch.arange(max(self.lengths[i] for i in chosen), device=device)
            real = steps < lengths
            self.batches.append(((first + steps).where(real, first), real))
        self.order = torch.argsort(torch.cat([index[real] for index, real in self.batches]))

    def run(self, layer: StateLayer, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
        """(1, T, D): what `layer` makes of each document alone.

        Args:
            layer: the state layer.
            hidden_states: (1, T, D), the packed row.
            kwargs: the layer's other keyword arguments. Neither a cache nor a mask: nothing follows a packed row, and
                what a batch holds behind a document's end changes none of its outputs.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in _MARKS}
        choice, device = choice_for(layer), hidden_states.device
        if choice is not None:
            choice.copies(1)
            choice = replace(choice, repeats=True)  # all documents start from the one state the row has chosen
        with nullcontext() if choice is None else rows_choose(choice):
            outputs = [
                layer(hidden_states[0, index.to(device)], **kwargs)[real.to(device)] for index, real in self.batches
            ]
        return torch.cat(outputs)[self.order.to(device)][None]


def watch(model: PreTrainedModel) -> None:
    """Let `model` look for packed rows in its inputs."""
    add_hooks(model, _pass_documents_on)


def unwatch(model: nn.Module) -> None:
    """Undo `watch` on all models in `model`."""
    remove_hooks(model, _pass_documents_on)


def _pass_documents_on(
    model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if kwargs.get(DOCUMENTS) is not None or (
        len(args) < 2 and all(kwargs.get(name) is None for name in ("position_ids", *BORDERS))
    ):
        return None
    inputs = call_arguments(model.forward, args, kwargs)
    try:
        starts = _starts(model, inputs)
    except EngineError:
        if any(map(_is_tuned, state_layers(model))):
            raise
        return None
    if starts is None:
        return None
    _, n_tokens, device = _shape(inputs)
    documents = Documents(starts, n_tokens, device)
    borders = torch.tensor([*starts, n_tokens], dtype=torch.int32, device=device)
    longest = max(documents.lengths)
    marked = {
        DOCUMENTS: documents,
        "attention_mask": None,  # with one, transformers does not look for documents
        "use_cache": False,  # nor with a cache
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    if inputs.get("position_ids") is None:
        marked["position_ids"] = torch.cat([torch.arange(n, device=device) for n in documents.lengths])[None]
    return (), {**inputs, **marked}


def _starts(model: PreTrainedModel, inputs: Mapping[str, Any]) -> list[int] | None:
    """The index of each document's first token, or None where the inputs mark no documents.

    Raises:
        EngineError: they do, but the documents could not be kept apart.
    """
    marked = {name: inputs[name] for name in BORDERS if inputs.get(name) is not None}
    positions, mask = inputs.get("position_ids"), inputs.get("attention_mask")
    if isinstance(mask, dict):  # one mask for each kind of layer, as generate() makes them for a static cache
        mask = mask.get("linear_attention")
    restarts = None if positions is None or positions.shape[-1] == 1 else _restarts(positions, mask)
    if not marked and (restarts is None or not restarts.any()):
        return None
    n_rows, n_tokens, _ = _shape(inputs)
    if family_of(model) not in _KEPT_APART:
        raise _packing_error(
            f"{type(model).__name__} would let documents see each other; models of these families would not: "
            f"{', '.join(sorted(_KEPT_APART))}"
        )
    config = model.config.get_text_config()
    if getattr(config, "ple_layer_ids", None):
        raise _packing_error("its n-gram embeddings (ple_layer_ids) reach back into the document before")
    if config._attn_implementation not in _ATTENTION:
        raise _packing_error(
            f"with attn_implementation {config._attn_implementation!r} documents may see each other; load the model "
            f"with one of {', '.join(_ATTENTION)}"
        )
    if n_rows != 1:
        raise _packing_error(f"expected one packed row in a batch, got {n_rows} rows")
    if cache_of(inputs) is not None:
        raise _packing_error("with a cache documents would see each other; leave it out")
    if mask is not None and not (mask.ndim == 2 and bool(mask.all())):
        raise _packing_error("expected no attention_mask, or one without pads")
    if positions is not None and (positions.ndim not in (2, 3) or (positions.ndim == 3 and len(positions) != 4)):
        raise _packing_error(
            f"in position_ids of shape {tuple(positions.shape)} transformers finds no documents; give them as (1, T)"
        )
    borders = {name: _first_tokens(name, value, n_tokens) for name, value in marked.items()}
    if restarts is not None and positions is not None:
        borders["position_ids"] = [0, *(restarts[0].nonzero().flatten() + 1).tolist()]
        if any(_text(positions)[0, borders["position_ids"][1:]].tolist()):
            raise _packing_error("expected the position_ids of every document to start at 0")
    starts = next(iter(borders.values()))
    if any(other != starts for other in borders.values()) or starts[0] != 0 or sorted({*starts}) != starts:
        raise _packing_error(f"expected one set of borders, got documents that start at the tokens {borders}")
    return starts


def _is_tuned(layer: StateLayer) -> bool:
    """Whether some row would get a state or an offset in a forward pass now."""
    choice = choice_for(layer)
    names = layer.active_adapters if choice is None else choice.names
    return not layer.disable_adapters and any(name in layer.s0_state for name in names)


def _packing_error(reason: str) -> EngineError:
    return EngineError(
        f"expected packed documents that can be kept apart, so that each starts from the state; but {reason}. Or batch "
        "the documents as padded rows"
    )


def _shape(inputs: Mapping[str, Any]) -> tuple[int, int, torch.device]:
    tokens: Tensor = next(inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None)
    return tokens.shape[0], tokens.shape[1], tokens.device


def _text(positions: Tensor) -> Tensor:
    """(B, T): the positions in the text where there are others beside them, for images."""
    return positions if positions.ndim < 3 else positions[0]


def _restarts(positions: Tensor, mask: Any) -> Tensor:
    """(B, T - 1) bool: whether the position does not grow from a token to the next one, pads left out."""
    text = _text(positions)
    steps = text.diff(dim=-1)
    if isinstance(mask, Tensor):
        if mask.ndim == 2:
            real = mask[:, -text.shape[-1] :].bool()
            return (steps <= 0) & real[:, 1:] & real[:, :-1]
        return steps < 0  # pads, unknown from other masks, may share a position
    return steps <= 0 if positions.ndim == 2 or len(positions) == 4 else steps < 0  # tokens of an image may, too


def _first_tokens(name: str, borders: Tensor, n_tokens: int) -> list[int]:
    if name == "seq_idx":
        changes = borders.flatten().diff().nonzero().flatten() + 1
        borders = torch.cat([changes.new_zeros(1), changes, changes.new_tensor([borders.numel()])])
    *starts, end = borders.tolist()
    if end != n_tokens:
        raise _packing_error(f"{name} ends at token {end} of {n_tokens}")
    return starts
