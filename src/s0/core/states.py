"""S0 tuning, the whole method: learn where the recurrent state of each layer starts.

A recurrent layer reads its input token by token into a matrix state S, with a decay or another linear map G_t and a
write W_t that each token makes, and reads its output from it:

    S_t = G_t S_{t-1} + W_t        y_t = what token t reads of S_t        S: (K, V) in each of H heads

(`s0.core.recurrences` has a file for each kind: GatedDeltaNet, Kimi Delta Attention, Mamba-2, Mamba-1, lightning
attention.) Models start at S_0 = 0. Here S_0 is a learned tensor, one per recurrent layer, shared by all sequences,
while every weight of the model stays frozen (Young 2026, arXiv 2604.01168). The state that enters the model is the
*effective* one:

    alpha * S_0            or, with `normalize`,            alpha * S_0 / ||S_0||

The recurrence is linear in the state, so after T tokens S_0 survives as (G_T ... G_1) S_0: it is absorbed by the first
token and never added again. From the second token on, the model does exactly the work of the untouched model; that is
why a tuned model costs nothing at decoding. (Where a sequence begins it costs nothing either, but for Mamba-1's
kernel, which takes no state, and lightning attention, which transformers runs from a state token by token.)

How it gets in. Every mixer asks its cache for the state to start from. `StateLayer` wraps the mixer and hands it a
stand-in that answers with the effective state, in the two situations where a sequence truly begins:

    no cache (training, scoring)         NoCache       answers S_0, stores nothing
    a cache with nothing in it yet       SeededCache   answers S_0, stores what follows in the real cache

Rows of the base model start from zero. Any later call on that cache (decoding, a second turn, the next chunk of a
prompt) finds a state there and goes on from it, whichever adapter is active by then. No model code is changed, and a
gradient reaches S_0 through the model's own kernels. Where that is not enough: pads, in any call, must touch no state
(`s0.core.padding`, and the seam of `s0.core.kernels` in each kernel, by which Mamba-1's gets its state, too); lightning
attention has no kernel and a way of its own (`Recurrence.run`).

Shapes: B batch, T tokens, H heads, K key dim, V value dim (Mamba-2: P head dim, N state dim), D hidden size.

The way of a call through `StateLayer`:

    forward          is anything to be done here? If not, the mixer runs as it is. Packed documents run side by side
    states_of_rows   which states the rows start from: the sum of the active adapters, or what each row has chosen
    _begin           nothing was read yet: the mixer runs on a stand-in that answers with these states
    _continue        something was: the mixer runs on the cache, which holds what follows from them
    effective        alpha and the norm, in float32: where a gradient comes back to S_0

Then read, by what you want to know:

    where does the state enter?     `_begin`, then `s0.core.stand_ins`: who answers in the cache's place
    when does it not?               `forward`, then `s0.core.padding`: pads, and `s0.core.packing`: documents in a row
    what does a second call do?     `_continue`, then `s0.core.padding`: pads in a later turn, single tokens
    how do rows choose states?      `adapter_names=` in `s0.adapter.model`, then `s0.core.row_choice`
    where does the gradient go?     `effective`, `RowsUnderCheckpointing` (`s0.core.row_choice`), `s0.core.sharding`
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial, reduce
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from s0.core import releases
from s0.core.families import layer_index, plain_name, recurrence_of
from s0.core.kernel_backends import refuse_wrong_gradient
from s0.core.kernels import at_kernel, install_seam
from s0.core.layer import TunedLayer
from s0.core.offset import added_to_readout, install_readout
from s0.core.padding import Limits, OwnColumns, Padding, call_mask, with_a_pad
from s0.core.quantised import no_gradient_error
from s0.core.raw_states import RawStates
from s0.core.refusals import ignored_state_error, refuse_packing, refuse_replaced_forward
from s0.core.row_choice import choice_for
from s0.core.sharding import expected_to_learn, refuse_sharded_layer
from s0.core.stand_ins import NoCache, SeededCache

BASE = "__base__"
"""The name of the untouched model where rows choose their states (PEFT's word)."""

DOCUMENTS = "s0_documents"
"""The keyword argument by which a model tells its state layers of packed documents (see `s0.core.packing`)."""


class Deployment(Protocol):
    """How a raw state becomes the effective one, and where that enters. An adapter's config is one."""

    alpha: float
    normalize: bool
    kind: str  # "state", or "offset" (see `s0.core.offset`)
    gains: bool  # whether norms have gains as well (see `s0.core.gains`)


def effective_state(raw: Tensor, deployment: Deployment) -> Tensor:
    """What enters the model, (H, K, V) float32: `alpha * raw`, or `alpha * raw / ||raw||` over the whole layer.

    A raw state of zero stays zero under both.
    """
    state = raw.float()
    if deployment.normalize:
        state = state / torch.linalg.vector_norm(state).clamp_min(1e-12)
    return deployment.alpha * state


class StateLayer(TunedLayer):
    """A recurrent mixer whose sequences start from a learned state, or from zero where it has none.

    Holds one raw state (H, K, V) per adapter, float32 whatever the model's dtype is. States of several active adapters
    add up. With no active adapter, or with adapters disabled, it is the mixer it wraps.
    """

    adapter_layer_names = ("s0_state",)
    other_param_names = ("deployments",)

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__(mixer)
        self.layer_idx = layer_index(mixer)
        self.recurrence = recurrence_of(mixer)
        self.state_shape = self.recurrence.state_shape(mixer)
        self.cache_name = str(releases.cache_name(type(mixer).forward))
        self.limits = Limits()  # of the model around it
        self.has_packed_weights = False  # whether that model passes no gradient (see `s0.core.quantised`)
        self.s0_state = RawStates()
        self.deployments: dict[str, Deployment] = {}
        install_seam(mixer)  # now, because torch.compile could not trace it later

    @property
    def raw(self) -> RawStates:
        """The raw states, by adapter."""
        return self.s0_state

    def zero(self) -> Tensor:
        """(H, K, V) float32, the state that sequences start from untouched."""
        return torch.zeros(self.state_shape, dtype=torch.float32)

    # --- The method: which state each row starts from, and how it enters ---

    def forward(
        self, hidden_states: Tensor, cache: Any = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Run the mixer from the chosen states where a sequence begins, past pads, and as it is everywhere else.

        Args:
            hidden_states: (B, T, D).
            cache: the model's cache, or None; also by the name that the mixer has for it, in any release.
            attention_mask: (B, T) with 0 at pads, or None where nothing is padded.
            kwargs: whatever else the model passes to its mixer.
        """
        if DOCUMENTS in kwargs:
            return kwargs.pop(DOCUMENTS).run(self, hidden_states, kwargs)
        cache = releases.take_cache(kwargs, cache)
        if self.disable_adapters or not (self.active_adapters or choice_for(self)):
            return self.run_mixer(hidden_states, cache, attention_mask, **kwargs)
        attention_mask = self._believed_mask(hidden_states.shape[1], cache, attention_mask)
        offset = self.states_of_rows(hidden_states, "offset")
        run = partial(self.recurrence.run, self) if self.recurrence.run else self._begin_or_continue
        with nullcontext() if offset is None else added_to_readout(self.base_layer, offset):
            return run(hidden_states, cache, attention_mask, **kwargs)

    def _begin_or_continue(
        self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        was_read = cache is not None and cache.has_previous_state(self.layer_idx, 0)  # 0: the recurrence's state
        run = self._continue if was_read else self._begin
        return run(hidden_states, cache, attention_mask, **kwargs)

    def _begin(self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any) -> Any:
        """From the states of the rows: the cache's stand-in answers with them."""
        states = self.states_of_rows(hidden_states)
        if states is None and attention_mask is None:
            return self.run_mixer(hidden_states, cache, None, **kwargs)
        if states is None:  # pads are kept out of rows of the base model, too
            states = hidden_states.new_zeros(len(hidden_states), *self.state_shape, dtype=torch.float32)
        stand_in = NoCache(states) if cache is None else SeededCache(cache, states)
        output = self._run_past_pads(
            hidden_states, stand_in, attention_mask, start=states, cached=cache is not None, **kwargs
        )
        if not stand_in.was_read:
            raise ignored_state_error(self.base_layer)
        return output

    def _continue(self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any) -> Any:
        """From what the cache holds."""
        unread = self._state_left_unread(cache, attention_mask, hidden_states.shape[1])
        if unread is None and attention_mask is None:
            return self.run_mixer(hidden_states, cache, None, **kwargs)
        return self._run_past_pads(hidden_states, cache, attention_mask, start=unread, cached=True, **kwargs)

    def states_of_rows(self, hidden_states: Tensor, kind: str = "state") -> Tensor | None:
        """(B, H, K, V) effective states, or offsets, for (B, T, D) tokens; None where every row is the base model.

        Rows choose by `rows_choose` (`s0.core.row_choice`), which the model around calls for `adapter_names`. Rows that
        read an offset, or have gains, get a state of zero: without a cache to ask for a state, mixers would take a
        fused kernel in train mode, which has no seam to read the offset in (Mamba-1), and takes the weight of a norm
        past its gain (Mamba-2; transformers 5.23).
        """
        with_zeros = kind == "state"
        counted = {name for name, deployed in self.deployments.items() if with_zeros or deployed.kind == kind}
        if not counted:
            return None
        refuse_sharded_layer(self, self.s0_state)
        batch, device = len(hidden_states), hidden_states.device
        choice = choice_for(self)
        if choice is None:
            active = [self.effective(name, kind) for name in self.active_adapters if name in counted]
            return reduce(torch.add, active).to(device).expand(batch, *self.state_shape) if active else None
        names, copies = choice.names, choice.copies(batch)
        # FSDP2 waits for a gradient of every state that learns, chosen by a row or not.
        distinct = sorted({*names, *expected_to_learn(self, self.s0_state)})
        if counted.isdisjoint(distinct):
            return None
        index = torch.tensor([distinct.index(name) for name in names for _ in range(copies)])
        choices = torch.stack([self.effective(name, kind) for name in distinct]).to(device)
        return choices[index.to(device)]

    def effective(self, name: str, kind: str = "state") -> Tensor:
        """The effective state (H, K, V), or offset, of adapter `name`; zero for any that has none here."""
        if name not in self.s0_state or self.deployments[name].kind != kind:
            return torch.zeros(self.state_shape, device=self.state_device())
        raw = self.raw_of(name)
        self._refuse_lost_gradient(raw)
        return effective_state(raw, self.deployments[name])

    def run_mixer(self, hidden_states: Tensor, cache: Any, attention_mask: Tensor | None, **kwargs: Any) -> Any:
        """The mixer as it is, with `cache` by the name that it has for it."""
        return self.base_layer(hidden_states, attention_mask=attention_mask, **{self.cache_name: cache}, **kwargs)

    # --- What else has to be right: pads, single tokens, Mamba-1, and tensors that others have changed ---

    def _believed_mask(self, n_tokens: int, cache: Any, attention_mask: Tensor | None) -> Tensor | None:
        """The mask that tells pads: the mixer's, or the model's own where the call has a single token.

        For such a call most models hand their mixers no mask, and what others hand on says nothing.
        """
        of_model = call_mask()
        if of_model is not None:
            of_model.refuse(self.limits)
        if n_tokens > 1:
            return attention_mask
        return None if of_model is None or cache is None else of_model.of_single_token

    def _run_past_pads(
        self, hidden_states: Tensor, cache: Any, mask: Tensor | None, start: Tensor | None, cached: bool, **kwargs: Any
    ) -> Any:
        """(B, T, D): the mixer's output; where rows are padded, it is run with their tokens in front.

        Args:
            hidden_states: (B, T, D).
            cache: the model's, or a stand-in for it: what the mixer starts from.
            mask: (B, T) with 0 at pads, or None where nothing is padded.
            start: (B, H, K, V) that state itself, which goes to Mamba-1's kernel past the mixer; None: not needed.
            cached: whether a real cache keeps what follows.
            kwargs: whatever else the model passes to its mixer.
        """
        refuse_packing(kwargs)
        refuse_replaced_forward(self.base_layer)
        n_tokens = hidden_states.shape[1]
        if n_tokens == 1:
            hidden_states, mask = with_a_pad(hidden_states, mask)
        if mask is None:
            with at_kernel(self.base_layer, None, start):
                return self.run_mixer(hidden_states, cache, None, **kwargs)
        padding = Padding(mask.to(hidden_states.device), hidden_states.shape[1])
        if cached:
            cache = OwnColumns(cache, padding.lengths)
        # Pads behind the tokens touch nothing but what a cache keeps.
        with at_kernel(self.base_layer, padding.front_mask == 0 if cached else None, start):
            output = self.run_mixer(padding.to_front(hidden_states), cache, padding.front_mask, **kwargs)
        return padding.back(output)[:, :n_tokens]

    def _state_left_unread(self, cache: Any, attention_mask: Tensor | None, n_tokens: int) -> Tensor | None:
        """(B, H, K, V) what a cache holds where the mixer would start from zero instead; None where it reads its cache.

        Mamba-1's does so before several tokens (transformers 5.23, 5.24), and a single one beside pads is run as two.
        """
        reads_cache = self.recurrence.kernel_takes_state or (n_tokens == 1 and attention_mask is None)
        return None if reads_cache else cache.get_recurrent_state(self.layer_idx, 0)

    def _refuse_lost_gradient(self, raw: Tensor) -> None:
        learns = raw.requires_grad and torch.is_grad_enabled()
        if learns and self.has_packed_weights:
            raise no_gradient_error()
        if learns and not torch.compiler.is_compiling():
            refuse_wrong_gradient(self.base_layer)

    def add_state(self, name: str, deployment: Deployment, initial: Tensor | None = None) -> None:
        """Add a trainable state called `name`, zero or a copy of `initial` (H, K, V)."""
        self.add_raw(name, initial)
        self.deployments[name] = deployment
        if deployment.kind == "offset":
            install_readout(self.base_layer)


def state_layers(model: nn.Module) -> Sequence[StateLayer]:
    """The state layers of `model`, in layer order."""
    layers = [module for module in model.modules() if isinstance(module, StateLayer)]
    return sorted(layers, key=lambda layer: layer.layer_idx)


def layers_with(model: nn.Module, name: str) -> dict[str, StateLayer]:
    """The layers that have a state of this name, by their own names in the untouched model."""
    named = ((plain_name(path), module) for path, module in model.named_modules())
    return {path: module for path, module in named if isinstance(module, StateLayer) and name in module.s0_state}
