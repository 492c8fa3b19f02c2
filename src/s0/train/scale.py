"""The scale of a state: measured at many values side by side, and chosen on examples it was not trained on.

Rows of a batch choose their states by name, so the same example can stand in one batch under many scales at once: the
names live only as long as the measurement and all share the one raw tensor,

    row 1: example 1 from 0.02 S     row 2: example 1 from 0.035 S     ...     row n: example k from 4 S

The loss along the scale is a smooth valley: too small a scale leaves the model as it was, too large a one drowns what
it reads. The bottom is found on a geometric ladder, which is lengthened where it turns out to end too early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, islice, product

import torch
from torch import Tensor, nn

from s0.adapter.attach import free_names, switches_kept
from s0.core.layer import TunedLayer, tuned_layers
from s0.core.row_choice import choose_in, rows_choose
from s0.core.states import Deployment, StateLayer, state_layers
from s0.errors import ConfigError, DatasetError
from s0.train.data import Batch
from s0.train.distributed import Processes
from s0.train.evaluator import Evaluator

LADDER = (0.0, 0.02, 0.035, 0.07, 0.13, 0.23, 0.4, 0.65, 1.0, 1.6, 2.5, 4.0)
"""The untouched model, then scales in steps of about 1.7, the published 0.07, 0.65 and 1 among them."""

_RATIO, _RUNGS, _ROUNDS = 1.6, 3, 3  # where the best scale is an end of the ladder: so many more, so often


@dataclass(frozen=True)
class ScaleChoice:
    """A scale, and what it was chosen from.

    Attributes:
        alpha: the best of `alphas` other than 0.
        helps: whether it is better than 0, the untouched model, on the data it was chosen on.
        by: what was measured, e.g. "loss" or "pass rate".
        alphas: every scale measured, in order.
        values: what was measured at each; None where it was not finite.
    """

    alpha: float
    helps: bool
    by: str
    alphas: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass
class FixedDeployment:
    """A scale and kind of its own, no adapter's."""

    alpha: float
    normalize: bool = False
    kind: str = "state"
    gains: bool = False


def choose_scale(
    measure: Callable[[Sequence[float]], Sequence[float]], *, by: str = "loss", higher_is_better: bool = False
) -> ScaleChoice:
    """Measure a ladder of scales and take the best; of equal ones the smallest, which changes the model least.

    Where the best is the ladder's smallest or largest scale, the ladder is lengthened there, to at most 70 times as
    far, so that its end does not decide. 0 is measured to compare with and never chosen: when no scale helps, the
    choice says so (`helps`) and holds the least harmful one.

    Args:
        measure: gives one value for each of the scales it is called with; a value that is not finite never wins.
        by: what it measures, for the record.
        higher_is_better: as a pass rate, unlike a loss.

    Returns:
        the best scale, and everything that was measured.

    Raises:
        DatasetError: no scale gives a finite value.
    """
    sign = -1 if higher_is_better else 1
    measured: dict[float, float] = {}

    def badness(alpha: float) -> float:
        return sign * measured[alpha] if math.isfinite(measured[alpha]) else math.inf

    more: Sequence[float] = LADDER
    for _ in range(1 + _ROUNDS):
        measured.update(zip(more, measure(more), strict=True))
        smallest, *_, largest = rungs = sorted(set(measured) - {0.0})
        best = min(rungs, key=badness)
        steps = range(1, _RUNGS + 1)
        if best == smallest:
            more = [_rounded(best / _RATIO**step) for step in steps]
        elif best == largest:
            more = [_rounded(best * _RATIO**step) for step in steps]
        else:
            break
    if badness(best) == math.inf:
        raise DatasetError(
            f"expected a finite {by} at some scale between {smallest} and {largest}, got none; train with a lower lr"
        )
    alphas = tuple(sorted(measured))
    values = tuple(measured[alpha] if math.isfinite(measured[alpha]) else None for alpha in alphas)
    return ScaleChoice(best, badness(best) < badness(0.0), by, alphas, values)


def _rounded(alpha: float) -> float:
    return float(f"{alpha:.3g}")


def scale_curve(
    model: nn.Module,
    adapter_name: str,
    batches: Sequence[Batch],
    alphas: Sequence[float],
    *,
    batch_tokens: int = 1024,
) -> list[float]:
    """The mean completion loss of `batches`, in nats per token, with one state at each of `alphas`.

    Args:
        model: a model with the state on it; left as it is.
        adapter_name: the state. Whether it is active, and what else is, does not matter.
        batches: the mean is over their examples, by weight, each by its mean loss.
        alphas: scales; the adapter's `normalize` applies, its own alpha does not. 0 stands for the untouched model:
            there alone its gains, which no scale changes, count for nothing.
        batch_tokens: largest rows x longest row of a forward, in tokens.

    Returns:
        one loss per scale; not finite where some example's loss is not.

    Raises:
        ConfigError: the model has no such state.
    """
    with scales_as_rows(model, adapter_name, alphas) as names:
        return loss_by_state(model, names, batches, batch_tokens=batch_tokens)


@contextmanager
def scales_as_rows(model: nn.Module, adapter_name: str, alphas: Sequence[float]) -> Iterator[tuple[str, ...]]:
    """Within this context, rows can start from one state at several scales; yields one name per scale.

        with scales_as_rows(model, "default", [0.1, 1.0]) as names, rows_start_from(model, names, copies=True):
            model.generate(input_ids=two_prompts, ...)           # one scale per prompt

    Args:
        model: a model with the state on it; afterwards as before.
        adapter_name: the state.
        alphas: the scales, as of `scale_curve`.

    Raises:
        ConfigError: the model has no such state.
    """
    layers = {layer: layer.raw[adapter_name] for layer in tuned_layers(model) if adapter_name in layer.raw}
    if not layers:
        known = sorted({name for layer in state_layers(model) for name in layer.s0_state})
        raise ConfigError(f"expected a state's name among {known}, got {adapter_name!r}; make a trainer, or load one")
    deployed = next(layer for layer in layers if isinstance(layer, StateLayer)).deployments[adapter_name]
    with passing_states(model, [at_scale(layers, alpha, deployed) for alpha in alphas]) as names:
        yield names


def at_scale(
    raw: Mapping[TunedLayer, nn.Parameter], alpha: float, like: Deployment
) -> tuple[Mapping[TunedLayer, nn.Parameter], Deployment]:
    """For `passing_states`, what is learned at another scale than that of `like`; at 0 without its gains."""
    if alpha == 0:
        raw = {layer: tensor for layer, tensor in raw.items() if isinstance(layer, StateLayer)}
    return raw, FixedDeployment(alpha, like.normalize, like.kind, like.gains and alpha != 0)


@contextmanager
def passing_states(
    model: nn.Module, states: Sequence[tuple[Mapping[TunedLayer, nn.Parameter], Deployment]]
) -> Iterator[tuple[str, ...]]:
    """Within this context, rows can start from `states`; yields one name for each.

    They are no adapters: PEFT knows nothing of them, nothing saves them, they are gone afterwards, whatever happens.

    Args:
        model: a model with state layers.
        states: for each, the raw state (H, K, V), or gain (D,), of every layer it has one for, and how it is deployed.
    """
    layers = tuned_layers(model)
    taken = {name for layer in layers for name in layer.raw}
    names = tuple(islice(free_names("passing_", taken), len(states)))
    with switches_kept(model):
        try:
            for layer in layers:
                if layer._disable_adapters:  # it listens to no row; without active adapters it does the same otherwise
                    layer._active_adapter, layer._disable_adapters = [], False
            for name, (raw, deployment) in zip(names, states, strict=True):
                for layer, tensor in raw.items():
                    layer.raw[name] = tensor
                for state_layer in state_layers(model):
                    if state_layer in raw or deployment.gains:
                        state_layer.deployments[name] = deployment
            yield names
        finally:
            for layer, name in product(layers, names):
                if name in layer.raw:
                    del layer.raw[name]
            for state_layer, name in product(state_layers(model), names):
                state_layer.deployments.pop(name, None)


def rows_start_from(model: nn.Module, names: Sequence[str], *, copies: bool = False) -> AbstractContextManager[None]:
    """Let row i of a batch of `model` start from the state `names[i]`.

    Args:
        model: a model with state layers.
        names: adapters, passing states, or `s0.core.states.BASE`.
        copies: each name may stand for several consecutive rows, as beams and returned sequences of `generate` do.

    Returns:
        a context, which holds on this thread.
    """
    return rows_choose(choose_in(model, names, repeats=copies))


@dataclass(frozen=True)
class RowsFromStates:
    """Rows of a micro-batch, each from a state of its own; the same row may be there from several.

    Attributes:
        batch: the micro-batch.
        index: (n,) int64, which of its rows.
        states: for each of these, the name of the state that it starts from.
    """

    batch: Batch
    index: Tensor
    states: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The rows' names."""
        return tuple(self.batch.names[i] for i in self.index.tolist())

    @property
    def n_tokens(self) -> int:
        """How much it is: rows x longest row."""
        return len(self.index) * self.batch.tokens.shape[1]

    @property
    def weights(self) -> Tensor:
        """(n,) float64: see `Batch`."""
        return self.batch.weights[self.index]

    def losses(self, model: nn.Module) -> Tensor:
        """(n,) float32: see `Batch.losses`."""
        with rows_start_from(model, self.states):
            return self.batch.rows(self.index).losses(model)

    def halves(self) -> list[RowsFromStates]:
        """Its rows, in order, in two parts of about as many."""
        return self.split(-(-len(self.index) // 2))

    def split(self, n_rows: int) -> list[RowsFromStates]:
        """Its rows, in order, in parts of at most so many."""
        starts = range(0, len(self.index), n_rows)
        return [RowsFromStates(self.batch, self.index[i : i + n_rows], self.states[i : i + n_rows]) for i in starts]


def loss_by_state(
    model: nn.Module, names: Sequence[str], batches: Sequence[Batch], *, batch_tokens: int
) -> list[float]:
    """Measure what is lost from each of the named states; dropout is off.

    Every forward holds as many pairs of a state and an example as `batch_tokens` admits. Several processes (see
    `s0.train.distributed`) share them, so all of them have to call this.

    Args:
        model: a model with the states on it; left as it is.
        names: adapters or passing states.
        batches: of the examples.
        batch_tokens: largest rows x longest row of a forward, in tokens.

    Returns:
        for each name the mean completion loss by the examples' weights, in nats per token; not finite where some
        example's is not.

    Raises:
        EngineError: memory does not hold a single example.
    """
    states = [layer.s0_state[name] for layer in state_layers(model) for name in names if name in layer.s0_state]
    pairs = [part for batch in batches for part in _from_each(names, batch, batch_tokens)]
    losses = Evaluator(model, Processes.of(model, states)).measure(pairs)
    of_state = dict.fromkeys(names, (0.0, 0.0))
    starts = chain.from_iterable(part.states for part in pairs)
    for name, loss, weight in zip(starts, losses.values.tolist(), losses.weights.tolist(), strict=True):
        total, whole = of_state[name]
        of_state[name] = total + weight * loss, whole + weight
    return [total / whole for total, whole in of_state.values()]


def _from_each(names: Sequence[str], batch: Batch, batch_tokens: int) -> list[RowsFromStates]:
    """Every row of a micro-batch from every state, in parts of at most so many tokens."""
    n_rows, longest = batch.tokens.shape
    states = tuple(name for name in names for _ in range(n_rows))
    pairs = RowsFromStates(batch, torch.arange(n_rows).repeat(len(names)), states)
    return pairs.split(max(1, batch_tokens // longest))
