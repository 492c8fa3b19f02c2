"""The method for torch's own recurrent layers: nn.RNN, nn.GRU and nn.LSTM start from learned states.

    rnn = InitialState(nn.LSTM(8, 16, num_layers=2))
    output, (h, c) = rnn(sequences)                         # called as the layer itself
    optimizer = torch.optim.Adam(rnn.s0_state.parameters(), lr=1e-2)
    rnn.save("my-state");  rnn.load("my-state")

These layers take the state to start from as an argument, so nothing has to stand in for a cache: where the caller
gives no `hx`, the learned one is given. An `hx` from the caller wins, as when a sequence is fed in pieces: its later
pieces start where the piece before ended, and the learned state is not added again.

Every layer and direction has a state vector of its own, and in an LSTM two (h and c). They are named as torch names
the weights: `h_l0`, `h_l0_reverse`, `c_l0`, `h_l1`, ... What enters is the effective state of each (see
`s0.core.states`), and a folder on disk is the one of `s0.adapter.state_files` with those names for layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from s0.adapter import checks, state_files
from s0.adapter.fingerprint import check_base, fingerprint
from s0.core.raw_states import RawStates
from s0.core.states import effective_state
from s0.errors import StateMismatchError, UnsupportedModelError


class InitialState(nn.Module):
    """A recurrent layer of torch.nn whose sequences start from a learned state.

    Called exactly as the layer, whose attributes can be read here too (`rnn.hidden_size`). Wrapping freezes the
    layer: of the wrapper's parameters only those in `s0_state` train. `rnn.base_layer.requires_grad_(True)` trains the
    weights too; the rest of a model is the caller's to freeze.

    Attributes:
        base_layer: the layer.
        s0_state: raw states by name, (H,) each, float32 whatever the layer's dtype is; zero at first. H is the hidden
            size, or for `h` of an LSTM with projections its `proj_size`.
        alpha: scale of the effective state, in training and inference alike.
        normalize: divide each state by its norm first.
    """

    def __init__(self, layer: nn.RNN | nn.GRU | nn.LSTM, *, alpha: float = 1.0, normalize: bool = False) -> None:
        """Wrap `layer`.

        Raises:
            UnsupportedModelError: it is none of the three kinds.
            ConfigError: a scale that cannot be one.
        """
        super().__init__()
        if not isinstance(layer, (nn.RNN, nn.GRU, nn.LSTM)):
            raise UnsupportedModelError(
                f"expected a layer of type nn.RNN, nn.GRU or nn.LSTM, got {type(layer).__name__}; for the recurrent "
                "layers of a language model use get_peft_model(model, S0AdapterConfig())"
            )
        checks.check_scale(alpha, normalize)
        self.base_layer = layer.requires_grad_(False)
        self.alpha, self.normalize = alpha, normalize
        self.s0_state = RawStates()
        for name, shape in _state_shapes(layer).items():  # one by one: given a whole dict, torch may sort its keys
            self.s0_state[name] = nn.Parameter(torch.zeros(shape, device=next(layer.parameters()).device))

    def effective(self) -> Tensor | tuple[Tensor, Tensor]:
        """What one unbatched sequence starts from, float32: h (layers * directions, H), for an LSTM (h, c)."""
        states = {name: effective_state(raw, self) for name, raw in self.s0_state.items()}
        h, c = ([state for name, state in states.items() if name[0] == kind] for kind in "hc")
        return (torch.stack(h), torch.stack(c)) if c else torch.stack(h)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """Run the layer, from the learned state unless `hx` is given.

        Args:
            input: (T, B, D), (B, T, D) with `batch_first`, (T, D), or packed sequences.
            hx: as the layer takes it, or None for the learned state.
        """
        return self.base_layer(input, self._start(input) if hx is None else hx)

    def _start(self, input: Tensor | PackedSequence) -> Tensor | tuple[Tensor, Tensor]:
        if isinstance(input, PackedSequence):
            rows: int | None = int(input.batch_sizes[0])
        else:
            rows = input.shape[0 if self.base_layer.batch_first else 1] if input.ndim == 3 else None
        dtype = input.data.dtype

        def for_rows(state: Tensor) -> Tensor:
            # Contiguous because cuDNN takes nothing else.
            return state.to(dtype) if rows is None else state.to(dtype)[:, None].expand(-1, rows, -1).contiguous()

        state = self.effective()
        return for_rows(state) if isinstance(state, Tensor) else (for_rows(state[0]), for_rows(state[1]))

    def save(self, path: str | Path) -> None:
        """Write the states and their scale, not the layer's weights, as a state folder.

        Raises:
            StateMismatchError: a state is not finite.
        """
        shapes = {name: list(raw.shape) for name, raw in self.s0_state.items()}
        checks.check_tensors(dict(self.s0_state.items()), shapes, f"the states for {path}")
        config = {
            "peft_type": "S0",
            "format_version": state_files.format_version(gains=False),
            "family": self._recurrence,
            "state_shapes": shapes,
            "fingerprint": fingerprint(self.base_layer),
            "alpha": self.alpha,
            "normalize": self.normalize,
        }
        state_files.write(path, dict(self.s0_state.items()), config)

    def load(self, path: str | Path, *, allow_other_base: bool = False) -> None:
        """Take over the states and the scale of a folder that `save` wrote; on an error nothing has changed.

        Args:
            path: a local folder, or a repository on the Hub.
            allow_other_base: accept states that were tuned on other weights of the same shape.

        Raises:
            StateMismatchError: the folder is damaged, or its states belong to another kind, size or set of weights.
        """
        stored = state_files.read(path)
        shapes = _state_shapes(self.base_layer)
        got = {name: tuple(tensor.shape) for name, tensor in stored.tensors.items()}
        if stored.alpha is None or (stored.recurrence, got) != (self._recurrence, shapes):
            raise StateMismatchError(
                f"expected {self._recurrence} states {shapes} for this {type(self.base_layer).__name__}, got "
                f"{stored.recurrence} states {got} in {path}; they were tuned on another layer"
            )
        if not allow_other_base:
            check_base(stored.fingerprint, self.base_layer)
        for name, raw in self.s0_state.items():
            raw.data.copy_(stored.tensors[name])
        self.alpha, self.normalize = stored.alpha, stored.normalize

    @property
    def _recurrence(self) -> str:
        return self.base_layer.mode.lower()  # lstm, gru, rnn_tanh or rnn_relu

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


def _state_shapes(layer: nn.RNNBase) -> dict[str, tuple[int]]:
    """The states of `layer` by name, in the order in which torch stacks them."""
    sizes = {"h": layer.proj_size or layer.hidden_size}
    if layer.mode == "LSTM":
        sizes["c"] = layer.hidden_size
    cells = [f"l{i}{end}" for i in range(layer.num_layers) for end in ["", "_reverse"][: 1 + layer.bidirectional]]
    return {f"{kind}_{cell}": (size,) for kind, size in sizes.items() for cell in cells}
