"""What PEFT, torch and accelerate do with a model that has states: keep, combine, copy, convert, compile, place."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload  # type: ignore[import-untyped]
from peft import PeftModel, get_peft_model
from torch import Tensor

from s0.adapter.config import S0AdapterConfig
from s0.core.recurrences import LIGHTNING_ATTENTION
from s0.core.releases import cache_of
from s0.core.states import state_layers
from s0.verify.check import Check
from s0.verify.running import feed, fill, forward, gradients, logits, loss, pad
from s0.verify.subject import ALPHA, ONE, SEEDS, SIZE, TWO, Comparison, NotApplicable, Run, Subject

NEW = "s0-verify-new"


def _saved_and_loaded(subject: Subject) -> Iterator[Comparison]:
    plain = partial(subject.logits, subject.tokens(2, 6))
    want, other = _now(plain), _now(plain, subject.using(TWO))
    with tempfile.TemporaryDirectory() as folder:
        subject.tuned.save_pretrained(folder, selected_adapters=[ONE])
        subject.tuned.load_adapter(Path(folder) / ONE, NEW)
    subject.tuned.set_adapter(NEW)
    yield subject.same(plain, lambda: want, lambda: other, tolerance=0.0)


def _now(run: Run, context: AbstractContextManager[None] | None = None) -> Tensor:
    """What `run` gives at this moment, within `context`."""
    with torch.no_grad(), context or nullcontext():
        return run()


def _added_and_deleted(subject: Subject) -> Iterator[Comparison]:
    plain = partial(subject.logits, subject.tokens(2, 6))
    want, stock = _now(plain), subject.of_untouched(plain)
    subject.tuned.add_adapter(NEW, S0AdapterConfig())
    yield subject.same(plain, lambda: want, lambda: stock, tolerance=0.0)
    subject.tuned.set_adapter(NEW)
    yield subject.same(plain, lambda: stock, lambda: want, tolerance=0.0)
    fill(subject.tuned, NEW)
    subject.tuned.set_adapter(ONE)
    subject.tuned.delete_adapter(NEW)
    yield subject.same(plain, lambda: want, lambda: stock, tolerance=0.0)


def _weighted(subject: Subject) -> Iterator[Comparison]:
    plain, weights = partial(subject.logits, subject.tokens(2, 6)), [0.5, -1.5]
    subject.tuned.base_model.add_weighted_adapter([ONE, TWO], weights, NEW)
    got = _now(plain, subject.using(NEW))
    subject.tuned.delete_adapter(NEW)
    for layer in subject.layers:
        first, second = (layer.s0_state[name].data for name in (ONE, TWO))
        first.mul_(weights[0]).add_(second, alpha=weights[1])
    yield subject.same(lambda: got, plain)


def _offset(subject: Subject) -> Iterator[Comparison]:
    rows = [subject.tokens(1, length, seed=length) for length in (8, 3)]
    sizes = (4, 1, 1, 2)
    if subject.is_untouched:
        yield subject.same(lambda: feed(subject.model, rows[0], sizes), lambda: subject.logits(rows[0]))
        return
    subject.tuned.add_adapter(NEW, S0AdapterConfig(kind="offset", alpha=ALPHA))
    fill(subject.tuned, NEW, seed=12, size=SIZE)
    subject.tuned.set_adapter(NEW)
    ids, mask = pad(rows, "left")
    yield subject.same(lambda: feed(subject.model, rows[0], sizes), lambda: subject.logits(rows[0]))
    yield subject.same(
        lambda: subject.logits(ids, mask)[mask.bool()], lambda: torch.cat([subject.logits(row)[0] for row in rows])
    )


def _disabled(subject: Subject) -> Iterator[Comparison]:
    plain = partial(subject.logits, subject.tokens(2, 6))
    tuned, stock = _now(plain), subject.of_untouched(plain)

    def run() -> Tensor:
        with subject.tuned.disable_adapter():
            return plain()

    yield subject.same(run, lambda: stock, lambda: tuned, tolerance=0.0)
    yield subject.same(plain, lambda: tuned, lambda: stock, tolerance=0.0)


def _unloaded(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 6)
    plain, left = partial(subject.logits, ids), subject.copy().unload()
    yield Comparison(float(len(state_layers(left))), 0.0)
    yield subject.same(lambda: logits(left, ids), partial(subject.of_untouched, plain), plain, tolerance=0.0)


def _copied(subject: Subject) -> Iterator[Comparison]:
    yield from _independent(subject, subject.copy())


def _pickled(subject: Subject) -> Iterator[Comparison]:
    yield from _independent(subject, pickle.loads(pickle.dumps(subject.copy())))


def _independent(subject: Subject, twin: PeftModel) -> Iterator[Comparison]:
    ids = subject.tokens(2, 6)
    plain = partial(subject.logits, ids)
    want = _now(plain)
    yield subject.same(lambda: logits(twin, ids), plain, tolerance=0.0)
    fill(twin, ONE, seed=99, size=SIZE)
    yield subject.same(plain, lambda: want, lambda: logits(twin, ids), tolerance=0.0)


def _compiled(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 6)
    padded = torch.ones_like(ids)
    padded[0, :2] = 0

    def run(model: Any, mask: Tensor | None) -> Tensor:
        output: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return output if mask is None else output[mask.bool()]

    def compiled(mask: Tensor | None) -> Tensor:
        # Whether one graph can be traced does not depend on what makes code of it, and this backend takes no time.
        try:
            return run(torch.compile(subject.model, fullgraph=True, backend="eager"), mask)
        finally:
            torch._dynamo.reset()

    for mask in (None, padded):
        yield subject.same(partial(compiled, mask), partial(run, subject.model, mask))


def _bfloat16(subject: Subject) -> Iterator[Comparison]:
    twin = subject.copy()
    raw = [layer.s0_state[ONE].clone() for layer in state_layers(twin)]
    twin.to(torch.bfloat16)
    states = [layer.s0_state[ONE] for layer in state_layers(twin)]
    yield Comparison(float(any(not torch.equal(a, b) for a, b in zip(states, raw, strict=True))), 0.0)  # dtype too
    ids = subject.tokens(2, 6)
    gradient = gradients(twin, loss(logits(twin, ids).float(), ids), ONE)
    yield Comparison(float(gradient.dtype != torch.float32 or not gradient.isfinite().all()), 0.0)
    if state_layers(twin)[0].recurrence is LIGHTNING_ATTENTION:
        raise NotApplicable("the model's own arithmetic has the state in the model's dtype")
    # The recurrence is linear in its state, so a change of the state too small for bfloat16 must arrive whole. Asked of
    # the first layer, whose input does not depend on any state.
    first, state = state_layers(twin)[0], states[0]

    def arrived(value: Tensor) -> Tensor:
        state.copy_(value)
        cache = cache_of(forward(twin, ids, use_cache=True))
        final: Tensor = cache.layers[first.layer_idx].recurrent_states[0]
        return final.double()

    with torch.no_grad():
        change = 2.0**-11 * raw[0].flip(0)
        zero = arrived(torch.zeros_like(state))
        alone = arrived(change) - zero
        together = arrived(raw[0] + change) - arrived(raw[0])
        size, tolerance = alone.abs().max(), 5e-3
        noise = 8 * torch.finfo(torch.float32).eps * arrived(raw[0]).abs().max()
        if size * tolerance < noise:
            yield Comparison(0.0, tolerance, shows=0.0)
            return
        yield Comparison(((together - alone).abs().max() / size).item(), tolerance)


def _offloaded(subject: Subject) -> Iterator[Comparison]:
    ids = subject.tokens(2, 6)

    def before_tuning() -> Tensor:
        twin = subject.copy()
        if not subject.is_untouched:
            twin = twin.unload()
        cpu_offload(twin, execution_device=subject.device)
        if not subject.is_untouched:
            twin = get_peft_model(twin, S0AdapterConfig(alpha=ALPHA), ONE)
            fill(twin, ONE, seed=SEEDS[ONE], size=SIZE)
        return logits(twin, ids)

    def after_tuning() -> Tensor:
        return logits(cpu_offload(subject.copy(), execution_device=subject.device), ids)

    yield subject.same(before_tuning, lambda: subject.logits(ids))
    yield subject.same(after_tuning, lambda: subject.logits(ids))


CHECKS = (
    Check("save and load", "bit-identical to the model that was saved", _saved_and_loaded, False),
    Check("add and delete", "other states leave the active one alone; a new one is zero", _added_and_deleted, False),
    Check("weighted", "add_weighted_adapter = the weighted sum of effective states", _weighted, False),
    Check("offset", "read at every step: in pieces and padded = all at once", _offset),
    Check("disable", "bit-identical to the untouched model, and back", _disabled, False),
    Check("unload", "gives back the untouched model", _unloaded, False),
    Check("deepcopy", "bit-identical and independent", _copied, False),
    Check("pickle", "bit-identical and independent", _pickled, False),
    Check("compile", "torch.compile(fullgraph=True) = eager, a padded batch too", _compiled),
    Check("bfloat16", "the state stays float32 in a bfloat16 model and arrives unrounded", _bfloat16, False),
    Check("offload", "with accelerate's offload, before and after tuning = in memory", _offloaded),
)
