"""A tuned state enters exactly once, at the true start, whatever way the tokens arrive.

Of one family for each kind of recurrence; what `s0.verify` checks too, tests/verify asks of every family.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CONFIG_MAPPING, StaticCache
from transformers.models.minimax.modeling_minimax import MiniMaxCache

from s0.core.families import FAMILIES, family_of, find_mixers, kernel_globals, recurrence_of
from s0.core.recurrences import RECURRENCES
from s0.core.recurrences.mamba1 import scan_from
from s0.core.releases import cache_name
from s0.core.states import state_layers
from s0.errors import EngineError
from tests import zoo
from tests.breadth import mostly_slow
from tests.core.helpers import (
    FORGETFUL,
    PURE_MAMBA,
    assert_gradient_is_the_slope,
    assert_same,
    assert_same_as_single,
    assert_same_gradient,
    cache_of,
    feed,
    fill,
    forward,
    generate,
    gradients,
    logits,
    loss,
    name_of_cache,
    pad,
    shared,
    tokens,
    tuned,
)

KINDS = {
    "gated_delta_net": "qwen3_5",
    "kimi_delta_attention": "kimi_linear",
    "mamba2": "falcon_h1",
    "mamba1": "jamba",
    "lightning_attention": "minimax",
}
one_family_per_kind = pytest.mark.parametrize("family", [*KINDS.values(), "mamba2"])  # and one without attention

GATED_DELTA_NETS = ("qwen3_5", "qwen3_5_moe", "qwen3_next", "qwen4_exp", "olmo_hybrid", "lara_mini")
# Layer 1 is attention in all of them but falcon_h1 (both in each layer), zamba2 (both in layer 1) and mamba2 (none).
MIXERS = {
    **{name: ["model.layers.0.linear_attn", "model.layers.2.linear_attn"] for name in GATED_DELTA_NETS},
    **{name: ["model.layers.0.self_attn", "model.layers.2.self_attn"] for name in ("kimi_linear", "bailing_hybrid")},
    **{name: ["model.layers.0.mamba", "model.layers.1.mamba"] for name in ("falcon_h1", "falcon_h1_gated")},
    **{name: ["model.layers.0.mamba", "model.layers.2.mamba"] for name in ("bamba", "granitemoehybrid")},
    "nemotron_h": ["model.layers.0.mixer", "model.layers.3.mixer"],
    "zamba2": ["model.layers.0.mamba", "model.layers.1.mamba_decoder.mamba", "model.layers.2.mamba"],
    **{name: ["backbone.layers.0.mixer", "backbone.layers.1.mixer"] for name in ("mamba", "falcon_mamba", "mamba2")},
    "jamba": ["model.layers.0.mamba", "model.layers.2.mamba"],
    "zamba": [f"model.layers.{i}.{'mamba_decoder.' * (i % 2)}mamba" for i in range(4)],
    "minimax": ["model.layers.0.self_attn", "model.layers.2.self_attn"],
    "glm5_next": ["model.language_model.layers.0.self_attn", "model.language_model.layers.2.self_attn"],
}


class SpyingCache:
    """An empty cache that only notes the shapes of the states it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def get_recurrent_state(self, *args: Any, **kwargs: Any) -> None: ...

    def get_conv_state(self, *args: Any, **kwargs: Any) -> None: ...

    def update_conv_state(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return states

    def update_recurrent_state(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.shapes.append(tuple(states.shape))
        return states

    def get_linear_cache(self, *args: Any) -> None: ...

    def set_linear_cache(self, layer_idx: int, state: Tensor) -> None:
        self.shapes.append(tuple(state.shape))

    def is_recording_past(self, *args: Any) -> bool:
        return False

    def has_previous_state(self, *args: Any) -> bool:
        return False


# --- Finding the layers ---


@zoo.every_family
def test_the_recurrent_layers_are_found_and_attention_is_not(family: str) -> None:
    assert list(find_mixers(zoo.make(family))) == MIXERS[family]
    assert list(find_mixers(shared(family))) == MIXERS[family]


@zoo.every_family
def test_the_table_tells_what_the_mixer_writes(family: str) -> None:
    model = zoo.make(family)
    facts = FAMILIES[family_of(model)]
    n_axes = facts.recurrence.axes.count(",") + 1
    for name, mixer in find_mixers(model).items():
        assert name.rpartition(".")[2] == facts.attribute
        assert recurrence_of(mixer) is facts.recurrence
        spy = SpyingCache()
        weights = {name: w.to("meta") for name, w in [*mixer.named_parameters(), *mixer.named_buffers()]}
        hidden = torch.empty(1, 3, 32, device="meta")
        caches = {cache_name(type(mixer).forward): spy}
        if family == "minimax":
            caches.update(position_embeddings=None, attention_mask=None)
        torch.func.functional_call(mixer, weights, (hidden,), caches)
        assert spy.shapes == [(1, *facts.recurrence.state_shape(mixer))]
        assert len(spy.shapes[0]) - 1 in {n_axes, n_axes - facts.recurrence.axes.count("[")}


def test_every_listed_family_is_tested() -> None:
    tested = {family_of(zoo.make(name)) for name in zoo.FAMILIES}
    unknown = {name for name in FAMILIES if name not in CONFIG_MAPPING}
    assert tested == set(FAMILIES) - unknown
    assert all("in transformers from" in FAMILIES[name].notes for name in unknown)
    assert zoo.TUNABLE["falcon_h1"][1]["mamba_rms_norm"] and not zoo.TUNABLE["falcon_h1_gated"][1]["mamba_rms_norm"]
    assert set(KINDS) == {recurrence.name for recurrence in RECURRENCES}
    assert all(recurrence_of(next(iter(find_mixers(zoo.make(f)).values()))).name == k for k, f in KINDS.items())


# --- Same logits however the tokens arrive ---


@one_family_per_kind
@torch.no_grad()
def test_a_zero_state_is_bit_identical_to_the_untouched_model(family: str) -> None:
    untouched, model, ids = zoo.make(family), tuned(family), tokens(2, 9)
    untouched.requires_grad_(False)  # as the tuned one's: torch chooses its matrix product by this
    for layer in state_layers(model):
        layer.s0_state["default"].zero_()
    whole = logits(untouched, ids)
    if family == "minimax":  # which runs in blocks from nothing and token by token from a state
        torch.testing.assert_close(logits(model, ids), whole)
    else:
        assert torch.equal(logits(model, ids), whole)
        sizes = (4, 1, 1, 1, 1, 1) if family in FORGETFUL else (4, 3, 1, 1)
        assert torch.equal(feed(model, ids, sizes), feed(untouched, ids, sizes))
    padded, mask = pad([ids[:1], ids[1:, :5]], "left")  # decays differ at the pads, so only to rounding
    real = mask.bool()
    torch.testing.assert_close(logits(model, padded, mask)[real], logits(untouched, padded, mask)[real])


@one_family_per_kind
@torch.no_grad()
@pytest.mark.parametrize(
    "sizes",
    [(5, 1, 1, 1, 1, 1), (1,) * 10, (4, 6), (1, 9), (9, 1), (3, 1, 1, 5)],
    ids=["prefill-then-decode", "one-by-one", "two-chunks", "one-then-chunk", "chunk-then-one", "second-turn"],
)
def test_tokens_fed_over_a_cache_give_the_logits_of_the_whole(family: str, sizes: tuple[int, ...]) -> None:
    model, ids = shared(family), tokens(2, 10)
    with model.disable_adapter():
        stock = logits(model, ids)
    assert_same(feed(model, ids, sizes), logits(model, ids), stock)


@pytest.mark.parametrize("family", FORGETFUL)
@torch.no_grad()
def test_what_the_untouched_model_forgets_a_tuned_one_remembers(family: str) -> None:
    # Once the first assertion fails, transformers has mended this, and the repair can go.
    untouched, model, ids = zoo.make(family), tuned(family), tokens(2, 9)
    for layer in state_layers(model):
        layer.s0_state["default"].zero_()
    whole = logits(untouched, ids)
    assert (feed(untouched, ids, (4, 5)) - whole)[:, 4:].abs().amax(-1).min() > 0.01
    torch.testing.assert_close(feed(model, ids, (4, 5)), whole, atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_an_untuned_layer_would_forget_is_kept() -> None:
    model, ids = tuned("jamba", layers=[2]), tokens(1, 9)
    with model.disable_adapter():
        stock = logits(model, ids)
    assert_same(feed(model, ids, (6, 1, 1, 1)), logits(model, ids), stock)
    assert_same(feed(model, ids, (5, 4)), logits(model, ids), stock)


@one_family_per_kind
@torch.no_grad()
def test_longer_than_the_kernels_chunk_changes_nothing(family: str) -> None:
    model, ids = shared(family), tokens(1, 70)
    with model.disable_adapter():
        stock = logits(model, ids)[:, :10]
    whole = logits(model, ids)
    assert_same(whole[:, :10], logits(model, ids[:, :10]), stock)
    torch.testing.assert_close(feed(model, ids, (33, 36, 1)), whole, atol=2e-4, rtol=0)


@one_family_per_kind
@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_the_logits_of_single_rows(family: str, side: str) -> None:
    model, rows = shared(family), [tokens(1, 11, seed=1), tokens(1, 6, seed=2), tokens(1, 1, seed=3)]
    ids, mask = pad(rows, side)
    batch = logits(model, ids, mask)
    assert_same_as_single(batch, mask, model, rows)


@one_family_per_kind
@torch.no_grad()
def test_a_left_padded_prompt_may_arrive_in_chunks(family: str) -> None:
    model, rows = shared(family), [tokens(1, 11, seed=1), tokens(1, 4, seed=2)]
    ids, mask = pad(rows, "left")
    batch = feed(model, ids, (5, 4, 2), mask)  # the second row's first chunk is all pads
    assert_same_as_single(batch, mask, model, rows)


@one_family_per_kind
@torch.no_grad()
@pytest.mark.parametrize("sizes", [(6,), (1, 1, 4)], ids=["whole", "one-by-one"])
def test_a_cache_that_was_reset_starts_from_the_state_again(family: str, sizes: tuple[int, ...]) -> None:
    model, ids = shared(family), tokens(1, 6)
    cache = MiniMaxCache() if family == "minimax" else StaticCache(config=model.config, max_cache_len=16)
    forward(model, tokens(1, 5, seed=4), cache=cache, use_cache=True)
    cache.reset()
    with model.disable_adapter():
        stock = logits(model, ids)
    assert_same(feed(model, ids, sizes, cache=cache), logits(model, ids), stock)


@torch.no_grad()
def test_bamba_by_itself_forgets_where_it_is() -> None:
    # Stated in the table of families; once this fails, transformers counts on and the note can go.
    model, ids = zoo.make("bamba"), tokens(1, 9)
    first = model(input_ids=ids[:, :5], use_cache=True)
    rest = model(input_ids=ids[:, 5:], use_cache=True, **{name_of_cache(model): cache_of(first)}).logits
    whole = logits(model, ids)[:, 5:]
    assert (rest - whole).abs().max() > 0.01
    torch.testing.assert_close(feed(model, ids, (5, 4))[:, 5:], whole, atol=1e-4, rtol=0)


# --- A prompt of one token ---


@one_family_per_kind
@torch.no_grad()
def test_a_prompt_of_one_token_leaves_the_learned_state_alone(family: str) -> None:
    model, ids = tuned(family), tokens(1, 4)
    before = [layer.s0_state["default"].clone() for layer in state_layers(model)]
    with model.disable_adapter():
        stock = logits(model, ids)
    whole = logits(model, ids)
    assert_same(logits(model, ids[:, :1]), whole[:, :1], stock[:, :1])  # without a cache
    assert_same(feed(model, ids, (1, 1, 1, 1)), whole, stock)  # with one: single-step kernels write in place
    assert_same(logits(model, ids), whole, stock)
    assert all(
        torch.equal(layer.s0_state["default"], old) for layer, old in zip(state_layers(model), before, strict=True)
    )


@one_family_per_kind
def test_one_token_has_the_gradient_it_has_in_a_longer_prompt(family: str) -> None:
    model, ids = tuned(family), tokens(2, 2)
    want = gradients(model, F.cross_entropy(logits(model, ids)[:, 0], ids[:, 1], reduction="sum"))
    got = gradients(model, F.cross_entropy(logits(model, ids[:, :1])[:, 0], ids[:, 1], reduction="sum"))
    assert_same_gradient(got, want)


# --- Gradients ---


@one_family_per_kind
def test_the_gradient_is_the_slope_of_the_loss(family: str) -> None:
    assert_gradient_is_the_slope(tuned(family, dtype=torch.float64))


@one_family_per_kind
def test_the_gradient_is_the_same_in_every_mode(family: str) -> None:
    model, ids = tuned(family), tokens(2, 7)
    want = gradients(model, loss(logits(model, ids), ids))
    cached = forward(model, ids, use_cache=True).logits
    assert_same_gradient(gradients(model, loss(cached, ids)), want)
    model.train()
    assert_same_gradient(gradients(model, loss(logits(model, ids), ids)), want)
    assert_same_gradient(gradients(model, loss(forward(model, ids).logits, ids)), want)
    for reentrant in (True, False):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model.enable_input_require_grads()  # what reentrant checkpointing needs with frozen weights
        states = [layer.s0_state["default"] for layer in state_layers(model)]
        loss(forward(model, ids).logits, ids).backward()
        got = torch.cat([state.grad.flatten() for state in states])
        assert_same_gradient(got, want)
        model.zero_grad()


@one_family_per_kind
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_gradient_of_padded_rows_is_the_sum_over_single_rows(family: str, side: str) -> None:
    model, rows = tuned(family), [tokens(1, 9, seed=1), tokens(1, 4, seed=2)]
    want = sum(gradients(model, loss(logits(model, row), row)) for row in rows)
    ids, mask = pad(rows, side)
    assert_same_gradient(gradients(model, loss(logits(model, ids, mask), ids, mask)), want)


# --- Against the equations, token by token ---


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, state: Tensor) -> Any:
    """S = a (I - b k k^T) S + b k v^T, y = S^T q, for q, k (B, T, H, K), v (B, T, H, V), state (B, H, K, V)."""
    q, k = (F.normalize(x, dim=-1, eps=1e-12) for x in (q, k))
    q, outputs = q * q.shape[-1] ** -0.5, []
    for t in range(q.shape[1]):
        decay = log_decay[:, t].exp()  # (B, H) or, one decay for each key channel, (B, H, K)
        state = state * (decay[..., None, None] if decay.ndim == 2 else decay[..., None])
        error = v[:, t] - torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        state = state + torch.einsum("bh,bhk,bhv->bhkv", beta[:, t], k[:, t], error)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, 1), state


def mamba2_rule(x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, skip: Tensor, state: Tensor) -> Any:
    """S = exp(rate step) S + step x b^T, y = S c + skip x, for x (B, T, H, P), b, c (B, T, H, N), S (B, H, P, N)."""
    outputs = []
    for t in range(x.shape[1]):
        decay = (rate * step[:, t]).exp()[..., None, None]
        state = decay * state + torch.einsum("bh,bhp,bhn->bhpn", step[:, t], x[:, t], b[:, t])
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, c[:, t]) + skip[:, None] * x[:, t])
    return torch.stack(outputs, 1), state


def mamba1_rule(
    x: Tensor, step: Tensor, rate: Tensor, b: Tensor, c: Tensor, skip: Tensor, z: Tensor, state: Tensor
) -> Any:
    """S = exp(step rate) S + step x b, y = (S c + skip x) silu(z), for x (B, D, T), b, c (B, N, T), S (B, D, N)."""
    outputs = []
    for t in range(x.shape[2]):
        state = (step[..., t, None] * rate).exp() * state
        state = state + torch.einsum("bd,bd,bn->bdn", step[..., t], x[..., t], b[..., t])
        outputs.append((torch.einsum("bdn,bn->bd", state, c[..., t]) + skip * x[..., t]) * F.silu(z[..., t]))
    return torch.stack(outputs, -1), state


def slow_reference(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], state: Tensor) -> Any:
    """What the kernel `name` should return for these arguments and this initial state."""
    if name == "mamba_selective_scan":
        x, dt, rate, b, c = args
        step = F.softplus(dt + kwargs["delta_bias"][:, None])
        return mamba1_rule(x, step, rate, b, c, kwargs["D"], kwargs["z"], state)
    if name != "mamba2_chunk_scan":
        q, k, v = args[:3]
        q, k = (x.repeat_interleave(v.shape[2] // x.shape[2], dim=2) for x in (q, k))
        return gated_delta_rule(q, k, v, kwargs["g"], kwargs["beta"], state)
    x, dt, rate, b, c = args[:5]
    step = F.softplus(dt + kwargs["dt_bias"]).clamp(*kwargs["dt_limit"])
    b, c = (value.repeat_interleave(x.shape[2] // value.shape[2], dim=2) for value in (b, c))
    return mamba2_rule(x, step, rate, b, c, kwargs["D"], state)


@pytest.mark.parametrize(
    "family",
    mostly_slow(
        [family for family in zoo.FAMILIES if family != "minimax"],
        [family for family in zoo.ONE_PER_RECURRENCE if family != "minimax"],
    ),
)
@torch.no_grad()
def test_the_recurrence_starts_from_the_effective_state(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tuned(family, alpha=0.5), tokens(2, 7)
    layers, calls = state_layers(model), []
    name = recurrence_of(layers[0].base_layer).recognised_by
    namespace = kernel_globals(layers[0].base_layer)
    if not recurrence_of(layers[0].base_layer).kernel_takes_state:
        logits(model, ids)  # installs the seam, whose returns are to be recorded
    kernel = namespace[name]

    @functools.wraps(kernel)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, dict(kwargs), kernel(*args, **kwargs)))
        return calls[-1][2]

    monkeypatch.setitem(namespace, name, recorded)
    cache = cache_of(forward(model, ids, use_cache=True))
    starts, ends = [], []
    for layer in layers:
        start = 0.5 * layer.s0_state["default"].expand(2, *layer.state_shape)
        end = cache.layers[layer.layer_idx].recurrent_states[0]
        heads = family == "zamba"  # which calls its kernel once for each head
        starts += start.unbind(1) if heads else [start]
        ends += end.unbind(1) if heads else [end]
    assert len(calls) == len(starts)
    for start, end, (args, kwargs, (output, final)) in zip(starts, ends, calls, strict=True):
        want_output, want_final = slow_reference(name, args, kwargs, start)
        without_output, without_final = slow_reference(name, args, kwargs, torch.zeros_like(start))
        assert (want_output - without_output).abs().max() > 0.01
        torch.testing.assert_close(output, want_output, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(final, want_final, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(end, want_final, atol=1e-4, rtol=1e-4)
        assert (want_final - without_final).abs().max() > 0.1


@torch.no_grad()
def test_a_scan_from_a_state_may_give_its_outputs_alone() -> None:
    mixer, generator = next(iter(find_mixers(zoo.make("mamba")).values())), torch.Generator().manual_seed(3)
    scan = kernel_globals(mixer)["mamba_selective_scan"]
    x, dt = torch.randn(2, 2, 6, 5, generator=generator)
    write, read = torch.randn(2, 2, 4, 5, generator=generator)
    rate, state = -torch.rand(6, 4, generator=generator), torch.randn(2, 6, 4, generator=generator)
    given = (scan, x, dt, rate, write, read)
    want, last = scan_from(state, *given, delta_softplus=True, return_last_state=True)
    assert (want - scan(*given[1:], delta_softplus=True)).abs().amax((0, 1)).min() > 0.01 and last.shape == state.shape
    assert torch.equal(scan_from(state, *given, delta_softplus=True), want)


@torch.no_grad()
def test_minimax_starts_from_the_effective_state() -> None:
    model, hidden = tuned("minimax", alpha=0.5), torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3))
    for layer in state_layers(model):
        mixer, start = layer.base_layer, 0.5 * layer.s0_state["default"].expand(2, *layer.state_shape)
        q, k, v = mixer.act_fn(mixer.qkv_proj(hidden)).view(2, 7, 2, 3 * mixer.head_dim).chunk(3, dim=-1)
        assert layer.state_shape == (q.shape[2], k.shape[3], v.shape[3])

        def run(state: Tensor, mixer: Any = mixer, q: Tensor = q, k: Tensor = k, v: Tensor = v) -> Any:
            """S = a S + k v^T, y = S^T q, then the mixer's own way out."""
            outputs = []
            for t in range(7):
                state = (-mixer.slope_rate).exp() * state + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
                outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
            read = mixer.norm(torch.stack(outputs, 1).flatten(2))
            return mixer.out_proj(torch.sigmoid(mixer.output_gate(hidden)) * read), state

        (want, want_final), (without, _) = run(start), run(torch.zeros_like(start))
        got, final = layer(hidden, position_embeddings=None)
        assert_same(got, want, without)
        torch.testing.assert_close(final, want_final, atol=1e-4, rtol=1e-4)


# --- generate() ---


@one_family_per_kind
def test_left_padded_prompts_generate_what_they_generate_alone(family: str) -> None:
    model, rows = shared(family), [tokens(1, 9, seed=1), tokens(1, 5, seed=2), tokens(1, 2, seed=3)]
    alone = [generate(model, row, n_new=8) for row in rows]
    with model.disable_adapter():
        assert not any(torch.equal(generate(model, row, n_new=8), a) for row, a in zip(rows, alone, strict=True))
    assert torch.equal(generate(model, *pad(rows, "left"), n_new=8), torch.cat(alone))


def assert_generates_as_without_a_cache(family: str, search: dict[str, Any], caching: dict[str, Any]) -> None:
    model, ids = shared(family), tokens(2, 5)

    def seeded(**kwargs: Any) -> Tensor:
        torch.manual_seed(3)
        return generate(model, ids, **search, **kwargs)

    want = seeded(use_cache=False)
    with model.disable_adapter():
        assert not torch.equal(seeded(**caching), want)
    assert torch.equal(seeded(**caching), want)


@one_family_per_kind
@pytest.mark.parametrize(
    ("search", "caching"),
    [
        pytest.param({}, {}, id="greedy"),
        pytest.param({"num_beams": 3, "num_return_sequences": 2}, {}, id="beams"),
        pytest.param({}, {"cache_implementation": "static"}, id="static-cache"),
        pytest.param({}, {"prefill_chunk_size": 2}, id="chunked-prefill"),
    ],
)
def test_generate_equals_generate_without_a_cache(family: str, search: dict[str, Any], caching: dict[str, Any]) -> None:
    if family in (*PURE_MAMBA, "minimax") and "prefill_chunk_size" in caching:
        pytest.skip("transformers makes no cache for these models that a prompt could be fed into in chunks")
    if family == "minimax" and "cache_implementation" in caching:
        pytest.skip("MiniMax takes no other cache than its own")
    assert_generates_as_without_a_cache(family, search, caching)


@one_family_per_kind
def test_sampling_with_a_seed_equals_sampling_without_a_cache(family: str) -> None:
    assert_generates_as_without_a_cache(family, {"do_sample": True, "num_return_sequences": 3, "top_k": 0}, {})


@one_family_per_kind
@pytest.mark.parametrize("length", [1, 5])
def test_a_conversation_over_one_cache_equals_starting_afresh(family: str, length: int) -> None:
    model, ids = shared(family), tokens(1, length)
    first = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=4,
        do_sample=False,
        return_dict_in_generate=True,
    )
    turn = torch.cat([first.sequences, tokens(1, 4, seed=7)], dim=1)
    afresh = generate(model, turn)
    with model.disable_adapter():
        assert not torch.equal(generate(model, turn), afresh)
    cache = {name_of_cache(model): cache_of(first)}
    if family in PURE_MAMBA:
        assert "generate() over a cache takes new tokens alone" in FAMILIES[family].notes
        turn = turn[:, -5:]  # all that is not in the cache
    assert torch.equal(generate(model, turn, **cache), afresh)


# --- Precision ---


@one_family_per_kind
@torch.no_grad()
def test_the_state_stays_float32_in_a_bfloat16_model(family: str) -> None:
    model, ids = tuned(family), tokens(2, 6)
    before = [layer.s0_state["default"].clone() for layer in state_layers(model)]
    exact = forward(model, ids, use_cache=True)
    for convert in (lambda m: m.half(), lambda m: m.to(torch.bfloat16)):
        convert(model)
        for layer, old in zip(state_layers(model), before, strict=True):
            assert layer.s0_state["default"].dtype == torch.float32
            assert torch.equal(layer.s0_state["default"], old)
    output = forward(model, ids, use_cache=True)
    with model.disable_adapter():
        stock = logits(model, ids)
    assert (output.logits - stock).abs().amax(-1).min() > 0.1
    assert (output.logits - exact.logits).abs().mean() < 0.05
    for layer in state_layers(model):
        if family == "minimax":
            got, want = (cache_of(run).get_linear_cache(layer.layer_idx) for run in (output, exact))
        else:
            got, want = (cache_of(run).layers[layer.layer_idx].recurrent_states[0] for run in (output, exact))
            assert got.dtype == torch.float32
        assert (got - want).norm() < 0.03 * want.norm()
    if family == "minimax":
        return
    # It enters unrounded too: the part of it that bfloat16 cannot hold is still there after the last token.
    for layer, old in zip(state_layers(model), before, strict=True):
        layer.s0_state["default"].copy_(old.bfloat16())
    rounded = cache_of(forward(model, ids, use_cache=True)).layers
    first = state_layers(model)[0].layer_idx
    assert not torch.equal(rounded[first].recurrent_states[0], cache_of(output).layers[first].recurrent_states[0])


@one_family_per_kind
def test_the_gradient_is_float32_in_a_bfloat16_model(family: str) -> None:
    model, ids = tuned(family), tokens(2, 6)
    want = gradients(model, loss(logits(model, ids), ids))
    model.to(torch.bfloat16)
    got = gradients(model, loss(logits(model, ids).float(), ids))
    assert got.dtype == torch.float32
    assert F.cosine_similarity(got, want, dim=0) > 0.9  # rounding may send a token to another expert


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "mamba", "minimax"])
def test_guessing_ahead_is_refused_because_no_state_can_be_taken_back(family: str) -> None:
    model, ids = shared(family), tokens(1, 5)
    for guessing in ({"assistant_model": zoo.make("llama")}, {"prompt_lookup_num_tokens": 2}):
        with pytest.raises((ValueError, RuntimeError), match=r"(?i)assisted (generation|decoding)"):
            generate(model, ids, **guessing)


def test_a_deep_copy_is_a_model_of_its_own() -> None:
    model, ids = tuned("qwen3_5"), tokens(1, 5)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = logits(model, ids)
        assert torch.equal(logits(twin, ids), before)
        fill(twin, seed=9)
        assert torch.equal(logits(model, ids), before)
        assert not torch.equal(logits(twin, ids), before)


def test_a_minimax_cache_of_another_class_is_refused_and_not_changed() -> None:
    class Own(MiniMaxCache):
        pass

    model, cache = shared("minimax"), Own()
    with pytest.raises(EngineError, match="expected MiniMax's own cache, got Own"), torch.no_grad():
        forward(model, tokens(1, 4), use_cache=True, past_key_values=cache)
    assert type(cache) is Own
