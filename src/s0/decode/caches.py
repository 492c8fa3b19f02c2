"""The cache of a running batch, whose rows join and leave on their own.

A row comes from the cache that its prompt was prefilled into and takes a slot in buffers that all rows share. What
grows with the text (keys and values) is aligned to the right, so that the next token of every row goes to the same
column and a plain padding mask says what is whose:

              begin          end
    row 0      .  .  k  k  k            "." is masked: before the row's first token
    row 1      k  k  k  k  k
    row 2      .  .  .  .  k

What does not grow (convolution windows, recurrent states) is stacked. The last row takes over the slot of a row that
leaves, so the rows are always the first slots, and the model sees views of the buffers: a step copies nothing but the
new token's keys and values. When the columns run out, the window moves into new buffers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

_SPARE_COLUMNS = 128  # the window is copied once in so many steps, each of which reads all of it


class _Window:
    """The columns in use: those of row i are the last `lengths[i]` before `end`."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.end = 0

    @property
    def width(self) -> int:
        return max(self.lengths, default=0)

    @property
    def columns(self) -> slice:
        return slice(self.end - self.width, self.end)


class _Stack:
    """A tensor that does not grow with the text: (rows, ...)."""

    def __init__(self, like: Tensor) -> None:
        self.data = like[:0]

    def resize(self, window: _Window, rows: int, end: int) -> None:
        n = len(window.lengths)
        data = self.data.new_zeros(rows, *self.data.shape[1:])
        data[:n] = self.data[:n]
        self.data = data

    def put(self, slot: int, new: Tensor, end: int) -> None:
        self.data[slot] = new

    def move(self, source: int, target: int, window: _Window) -> None:
        self.data[target] = self.data[source]


class _Columns(_Stack):
    """Keys or values: (rows, heads, columns, dims)."""

    def resize(self, window: _Window, rows: int, end: int) -> None:
        n, (_, heads, _, dims) = len(window.lengths), self.data.shape
        data = self.data.new_zeros(rows, heads, end + _SPARE_COLUMNS, dims)
        data[:n, :, end - window.width : end] = self.data[:n, :, window.columns]
        self.data = data

    def put(self, slot: int, new: Tensor, end: int) -> None:
        begin = end - new.shape[1]
        self.data[slot, :, begin:end] = new
        # Masked columns are multiplied by zero, which an infinite number left by an earlier row would survive.
        self.data[slot, :, :begin] = 0

    def move(self, source: int, target: int, window: _Window) -> None:
        self.data[target, :, : window.end] = self.data[source, :, : window.end]

    def add_token(self, new: Tensor, window: _Window) -> Tensor:
        """Write (rows, heads, 1, dims) into the last column; all columns in use."""
        n = len(window.lengths)
        self.data[:n, :, window.end - 1 : window.end] = new
        return self.data[:n, :, window.columns]


class _Attention(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of all rows."""

    window: _Window
    buffers: list[_Columns]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = self.buffers
        return keys.add_token(key_states, self.window), values.add_token(value_states, self.window)

    def get_seq_length(self) -> int:
        return self.window.width - 1  # without the token that is being read

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.window.width, 0


class _Both(_Attention, LinearAttentionAndFullAttentionLayer):  # type: ignore[misc, no-untyped-call, override]
    """Attention and recurrence in one layer."""


def side_by_side(cache: Cache) -> bool:
    """Whether rows of different length can share a cache with such layers."""
    return all(type(layer) in _SHARED for layer in cache.layers)


_SHARED: dict[type, type] = {
    DynamicLayer: _Attention,
    LinearAttentionLayer: LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer: _Both,
    DummyLayer: DummyLayer,
}
"""The layers of a prefilled cache that rows of different length can share, and what they become then."""


class OneRow(Cache):
    """A batch of one row, for every model that keeps all it remembers in transformers' DynamicCache."""

    max_rows = 1

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.window = _Window()

    def join(self, cache: Cache, row: int) -> None:
        """Add a row behind the others.

        Args:
            cache: with prefilled prompts of one length; it stays as it is.
            row: which of its rows.
        """
        self.layers = copy.deepcopy(cache.layers)
        self.window.lengths.append(_tokens_read(cache))

    def leave(self, row: int) -> None:
        """Drop a row; the last one takes its place."""
        lengths = self.window.lengths
        lengths[row] = lengths[-1]
        lengths.pop()

    def advance(self) -> None:
        """Make room for one more token in every row, which the model must read next."""
        self.window.lengths = [length + 1 for length in self.window.lengths]

    def mask(self, device: torch.device) -> Tensor | None:
        """(rows, columns): 1 where a row has a token, the one to be read included; None without attention layers."""
        if not any(isinstance(layer, CacheLayerMixin) for layer in self.layers):
            return None  # Mamba-1 would take the columns for tokens to be read
        width, lengths = self.window.width, torch.tensor(self.window.lengths, device=device)
        return (torch.arange(width, device=device) >= width - lengths[:, None]).long()

    def positions(self, device: torch.device) -> Tensor:
        """(rows, 1): positions of the tokens to be read."""
        return torch.tensor([[length - 1] for length in self.window.lengths], device=device)


class Rows(OneRow):
    """A batch of up to `max_rows` rows side by side."""

    def __init__(self, max_rows: int) -> None:
        super().__init__()
        self.max_rows = max_rows
        self._buffers: list[_Stack] = []
        self._states: list[tuple[dict[int, Any], int, _Stack]] = []  # where a layer looks for its part of a buffer
        self._room = 0, 0  # rows and columns of the buffers

    def join(self, cache: Cache, row: int) -> None:
        """See `OneRow`."""
        if not self.layers:
            self._take_form(cache)
        length = _tokens_read(cache)
        window, (rows, _) = self.window, self._room
        n = len(window.lengths)
        if n == rows or length > window.end:
            self._resize(min(2 * n or 1, self.max_rows) if n == rows else rows, max(window.width, length))
        for buffer, tensor in zip(self._buffers, tensors_of(cache), strict=True):
            buffer.put(n, tensor[row], window.end)
        window.lengths.append(length)

    def leave(self, row: int) -> None:
        """See `OneRow`."""
        last = len(self.window.lengths) - 1
        if row != last:
            for buffer in self._buffers:
                buffer.move(last, row, self.window)
        super().leave(row)

    def advance(self) -> None:
        """See `OneRow`."""
        rows, columns = self._room
        if self.window.end == columns:
            self._resize(rows, self.window.width)
        super().advance()
        self.window.end += 1
        n = len(self.window.lengths)
        for states, index, buffer in self._states:
            states[index] = buffer.data[:n]

    def _take_form(self, cache: Cache) -> None:
        """Become a cache with layers like those of `cache`, and no rows."""
        layers: list[Any] = cache.layers
        for layer in layers:
            # A copy has all that transformers' layer knows of itself, in any release, which a new one would have to be
            # told; the class alone has to be another.
            shared = copy.copy(layer)
            shared.__class__ = _SHARED[type(layer)]
            self.layers.append(shared)
            if isinstance(shared, _Attention):
                shared.window, shared.keys, shared.values = self.window, None, None
                shared.buffers = [_Columns(tensor) for tensor in (layer.keys, layer.values) if tensor is not None]
                self._buffers += shared.buffers
            if isinstance(shared, LinearAttentionLayer):
                shared.conv_states, shared.recurrent_states = dict(layer.conv_states), dict(layer.recurrent_states)
                for states in (shared.conv_states, shared.recurrent_states):
                    for index, tensor in states.items():
                        if tensor is not None:
                            self._buffers.append(_Stack(tensor))
                            self._states.append((states, index, self._buffers[-1]))

    def _resize(self, rows: int, end: int) -> None:
        for buffer in self._buffers:
            buffer.resize(self.window, rows, end)
        self.window.end, self._room = end, (rows, end + _SPARE_COLUMNS)


def _tokens_read(cache: Cache) -> int:
    """The columns of a prefilled cache; 0 if nothing in it grows with the text."""
    return max((layer.get_seq_length() for layer in cache.layers if isinstance(layer, CacheLayerMixin)), default=0)


def tensors_of(cache: Cache) -> list[Tensor]:
    """What a prefilled cache holds, rows first, in the order of `Rows._buffers`."""
    tensors: list[Tensor | None] = []
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer):
            tensors += [layer.keys, layer.values]
        if isinstance(layer, LinearAttentionLayer):
            tensors += [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return [tensor for tensor in tensors if tensor is not None]
