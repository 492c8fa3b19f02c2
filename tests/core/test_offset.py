"""The offset is read at every step, however the tokens arrive, and never written."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.models.minimax.modeling_minimax import MiniMaxCache

from s0 import S0AdapterConfig
from s0.adapter import checks, state_files
from s0.core.families import find_mixers, kernel_globals, recurrence_of
from s0.core.offset import added_to_readout
from s0.core.states import state_layers
from s0.errors import ConfigError, EngineError, S0Error, StateMismatchError
from s0.export import published
from tests import zoo
from tests.breadth import mostly_slow
from tests.core.helpers import (
    FORGETFUL,
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
    pad,
    tokens,
    tuned,
)

WITH_A_KERNEL = [name for name in zoo.FAMILIES if name != "minimax"]
every_family_with_a_kernel = pytest.mark.parametrize(
    "family", mostly_slow(WITH_A_KERNEL, [name for name in zoo.ONE_PER_RECURRENCE if name != "minimax"])
)
one_family_per_kind = pytest.mark.parametrize(
    "family",
    mostly_slow(
        ["qwen3_5", "kimi_linear", "falcon_h1_gated", "jamba", "zamba", "minimax"],
        ["qwen3_5", "falcon_h1_gated", "minimax"],
    ),
)
STEPS = {
    "torch_chunk_gated_delta_rule": "torch_recurrent_gated_delta_rule",
    "chunk_kimi_delta_attention": "recurrent_kimi_delta_attention",
    "mamba2_chunk_scan": "mamba2_selective_state_update",
    "mamba_selective_scan": "mamba_selective_state_update",
}


@functools.cache
def shared(family: str) -> PeftModel:
    return tuned(family, kind="offset")


def mixed(family: str) -> PeftModel:
    """A model with a state called "start" and an offset called "offset"."""
    model = get_peft_model(zoo.make(family), S0AdapterConfig(alpha=0.5), "start")
    model.add_adapter("offset", S0AdapterConfig(kind="offset", alpha=0.5))
    fill(model, "start", seed=10)
    fill(model, "offset", seed=11)
    return model


# --- Against the equations, token by token ---


def read_naively(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], offset: Tensor) -> Tensor:
    """What reading `offset` (H, K, V) adds to the outputs of the kernel `name`: one number after the other."""
    step = name.endswith("selective_state_update")
    if name.startswith("mamba_"):  # no heads, and C with its tokens last: as one group that serves one head
        reader = args[5][:, None] if step else args[4].transpose(1, 2)
        reader, offset = reader[:, :, None], offset[None]
    elif name.startswith("mamba2_"):
        reader = args[5][:, None] if step else args[4]
    else:
        reader = args[0]
    n_heads = offset.shape[0]
    rows = []
    for b in range(reader.shape[0]):
        for t in range(reader.shape[1]):
            for h in range(n_heads):
                read = reader[b, t, h * reader.shape[2] // n_heads].double()
                if name.startswith("mamba"):
                    rows.append(offset[h].double() @ read)
                else:
                    unit = read / (read @ read + 1e-6).sqrt()
                    rows.append(offset[h].double().T @ unit / len(unit) ** 0.5)
    added = torch.stack(rows).view(*reader.shape[:2], n_heads, -1)
    if name.startswith("mamba_"):
        added = added[:, 0, 0] if step else added[:, :, 0].transpose(1, 2)
    elif step:
        added = added[:, 0]
    if kwargs.get("z") is not None:
        z = kwargs["z"].double()
        added = added * (z * torch.sigmoid(z)).view(added.shape)
    return added


@every_family_with_a_kernel
@torch.no_grad()
def test_every_kernel_call_reads_the_effective_offset(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tuned(family, kind="offset", alpha=0.5), tokens(2, 7)
    feed(model, ids, (5, 1, 1))  # puts the seam in
    layers, calls = state_layers(model), []
    namespace = kernel_globals(layers[0].base_layer)
    scan = recurrence_of(layers[0].base_layer).recognised_by

    def record(name: str) -> None:
        seam = plain = namespace[name]
        while hasattr(plain, "reads_s0_offset") or hasattr(plain, "is_s0_seam"):  # the one for pads may lie around it
            plain = plain.__wrapped__

        @functools.wraps(seam)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            twin = copy.deepcopy((args, kwargs))  # a single step writes into the state it is given
            calls.append((name, args, kwargs, seam(*args, **kwargs), plain(*twin[0], **twin[1])))
            return calls[-1][3]

        monkeypatch.setitem(namespace, name, recorded)

    for name in (scan, STEPS[scan]):
        record(name)
    feed(model, ids, (5, 1, 1))
    offsets = [0.5 * layer.s0_state["default"] for layer in layers]
    if family == "zamba":  # which calls its kernel once for each head
        offsets = [head for offset in offsets for head in offset]
    assert [call[0] for call in calls] == [scan] * len(offsets) + [STEPS[scan]] * 2 * len(offsets)
    for (name, args, kwargs, got, without), offset in zip(calls, 3 * offsets, strict=True):
        got, without = ((one if isinstance(one, tuple) else (one, None)) for one in (got, without))
        want = read_naively(name, args, kwargs, offset)
        assert want.abs().max() > 0.05
        torch.testing.assert_close((got[0] - without[0]).double().view(want.shape), want, atol=1e-5, rtol=1e-4)
        if got[1] is not None:
            assert torch.equal(got[1], without[1])  # the state that follows does not know of it


@torch.no_grad()
def test_a_gate_that_a_scan_applies_gates_the_offset_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # mamba_ssm's would; no family of transformers hands one over.
    mixer, generator = next(iter(find_mixers(zoo.make("falcon_h1")).values())), torch.Generator().manual_seed(3)
    namespace, name = kernel_globals(mixer), "mamba2_chunk_scan"
    monkeypatch.setitem(namespace, name, lambda x, *args, **kwargs: torch.zeros_like(x))
    x, z = torch.randn(2, 2, 5, 4, 16, generator=generator)
    c, offset = torch.randn(2, 5, 2, 8, generator=generator), torch.randn(4, 16, 8, generator=generator)
    with added_to_readout(mixer, offset[None]):
        got = namespace[name](x, None, None, None, c, z=z)
    want, ungated = (read_naively(name, (x, None, None, None, c), {"z": gate}, offset) for gate in (z, None))
    assert (want - ungated).abs().max() > 0.1
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(7,), (4, 1, 2)])
def test_minimax_reads_the_effective_offset(sizes: tuple[int, ...]) -> None:
    model, hidden = mixed("minimax"), torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3))
    model.base_model.set_adapter(["start", "offset"])
    for layer in state_layers(model):
        mixer: Any = layer.base_layer
        start, offset = layer.effective("start"), layer.effective("offset", "offset")
        q, k, v = mixer.act_fn(mixer.qkv_proj(hidden)).view(2, 7, 2, -1).chunk(3, dim=-1)
        decay, state, read, plain = (-mixer.slope_rate).exp(), start.expand(2, -1, -1, -1), [], []
        for t in range(7):  # S = a S + k v^T, y = (S + dS)^T q
            state = decay * state + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
            read.append(torch.einsum("bhkv,bhk->bhv", state + offset, q[:, t]))
            plain.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
        want, without = (
            mixer.out_proj(torch.sigmoid(mixer.output_gate(hidden)) * mixer.norm(torch.stack(outputs, 1).flatten(2)))
            for outputs in (read, plain)
        )
        cache = MiniMaxCache()
        pieces = [layer(piece, cache, position_embeddings=None) for piece in hidden.split(sizes, dim=1)]
        assert_same(torch.cat([piece[0] for piece in pieces], 1), want, without)
        torch.testing.assert_close(pieces[-1][1], state, atol=1e-4, rtol=1e-4)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in mixer.modules())


# --- However the tokens arrive ---


@one_family_per_kind
@torch.no_grad()
def test_a_zero_offset_is_bit_identical_to_the_untouched_model(family: str) -> None:
    untouched, model, ids = zoo.make(family), tuned(family, kind="offset"), tokens(2, 9)
    untouched.requires_grad_(False)  # as the tuned one's: torch chooses its matrix product by this
    for layer in state_layers(model):
        layer.s0_state["default"].zero_()
    if family == "minimax":  # which runs in blocks from nothing and token by token from a state
        torch.testing.assert_close(logits(model, ids), logits(untouched, ids))
        return
    for training in (False, True):
        assert torch.equal(logits(model.train(training), ids), logits(untouched.train(training), ids))
    sizes = (4, 1, 1, 1, 1, 1) if family in FORGETFUL else (4, 3, 1, 1)
    assert torch.equal(feed(model.eval(), ids, sizes), feed(untouched.eval(), ids, sizes))


@one_family_per_kind
@torch.no_grad()
def test_tokens_fed_over_a_cache_give_the_logits_of_the_whole(family: str) -> None:
    model, ids = shared(family), tokens(2, 8)
    with model.disable_adapter():
        stock = logits(model, ids)
    whole = logits(model, ids)
    for sizes in ((5, 1, 1, 1), (1,) * 8, (3, 1, 4), (4, 4)):
        assert_same(feed(model, ids, sizes), whole, stock)
    assert_same(logits(model, ids[:, :1]), whole[:, :1], stock[:, :1])


@one_family_per_kind
@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_the_logits_of_single_rows(family: str, side: str) -> None:
    model, rows = shared(family), [tokens(1, 9, seed=1), tokens(1, 5, seed=2), tokens(1, 1, seed=3)]
    ids, mask = pad(rows, side)
    batch = logits(model, ids, mask)
    assert_same_as_single(batch, mask, model, rows)
    if side == "left":  # two rows' first chunk is all pads
        torch.testing.assert_close(feed(model, ids, (4, 3, 2), mask)[mask.bool()], batch[mask.bool()])


@one_family_per_kind
def test_generation_equals_generation_without_a_cache(family: str) -> None:
    model, rows = shared(family), [tokens(1, 7, seed=1), tokens(1, 1, seed=2)]
    want = [generate(model, row, use_cache=False) for row in rows]
    with model.disable_adapter():
        assert not torch.equal(generate(model, rows[0]), want[0])
    assert torch.equal(generate(model, *pad(rows, "left")), torch.cat(want))
    beams = {"num_beams": 3, "num_return_sequences": 2}
    assert torch.equal(generate(model, rows[0], **beams), generate(model, rows[0], use_cache=False, **beams))
    if family != "minimax":  # which takes no other cache than its own, and none in chunks
        assert torch.equal(generate(model, rows[0], cache_implementation="static"), want[0])
        assert torch.equal(generate(model, rows[0], prefill_chunk_size=2), want[0])


@pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "falcon_h1_gated", "zamba"])
@torch.no_grad()
def test_packed_documents_read_it_as_they_do_alone(family: str) -> None:
    model, docs = shared(family), [tokens(1, 5, seed=1), tokens(1, 1, seed=2), tokens(1, 4, seed=3)]
    places = torch.cat([torch.arange(doc.shape[1]) for doc in docs])[None]
    want = torch.cat([logits(model, doc) for doc in docs], 1)
    with model.disable_adapter():
        stock = torch.cat([logits(model, doc) for doc in docs], 1)
    assert_same(model(input_ids=torch.cat(docs, 1), position_ids=places).logits, want, stock)


@torch.no_grad()
def test_the_learned_offset_is_never_written() -> None:
    for family in ("falcon_h1_gated", "qwen3_5", "mamba", "zamba", "minimax"):
        model, ids = tuned(family, kind="offset"), tokens(1, 4)
        before = [layer.s0_state["default"].clone() for layer in state_layers(model)]
        feed(model, ids, (1, 1, 2))
        for layer, old in zip(state_layers(model), before, strict=True):
            assert torch.equal(layer.s0_state["default"], old)


# --- Rows, and several at once ---


@torch.no_grad()
@pytest.mark.parametrize(
    "family", ["qwen3_5", "bailing_hybrid", "falcon_h1_gated", "mamba2", "mamba", "zamba", "minimax"]
)
def test_each_row_reads_what_it_names(family: str) -> None:
    model, ids = mixed(family), tokens(4, 7)
    names = ["offset", "__base__", "start", "offset"]
    batch = logits(model, ids, adapter_names=names)
    words = generate(model, ids, adapter_names=names)
    with model.disable_adapter():
        stock, stock_words = logits(model, ids), generate(model, ids)
    torch.testing.assert_close(batch[1], stock[1], atol=1e-4, rtol=0)
    assert torch.equal(words[1], stock_words[1])
    for i in (0, 2, 3):
        model.set_adapter(names[i])
        assert_same(batch[i : i + 1], logits(model, ids[i : i + 1]), stock[i : i + 1])
        assert torch.equal(words[i], generate(model, ids[i : i + 1])[0])
    assert not torch.equal(words, stock_words)


@one_family_per_kind
@torch.no_grad()
def test_a_state_and_an_offset_may_be_active_together(family: str) -> None:
    model, ids = mixed(family), tokens(2, 7)
    single = []
    for name in ("start", "offset"):
        model.set_adapter(name)
        single.append(logits(model, ids))
    model.base_model.set_adapter(["start", "offset"])
    both = logits(model, ids)
    for one in single:
        assert_same(feed(model, ids, (3, 1, 1, 2)), both, one)
    rows = [ids[:1], ids[1:, :4]]
    padded, mask = pad(rows, "left")
    assert_same(logits(model, padded, mask)[1:, -4:], logits(model, rows[1]), single[0][1:, :4])


@one_family_per_kind
@torch.no_grad()
def test_offsets_that_are_active_together_add_up(family: str) -> None:
    model, ids = mixed(family), tokens(2, 7)
    model.add_adapter("second", S0AdapterConfig(kind="offset"))
    fill(model, "second", seed=12)
    model.set_adapter("offset")
    first = logits(model, ids)
    model.base_model.set_adapter(["offset", "second"])
    together = feed(model, ids, (3, 1, 1, 2))
    for layer in state_layers(model):
        layer.s0_state["offset"] += 2 * layer.s0_state["second"]  # at half the scale
    model.set_adapter("offset")
    assert_same(together, logits(model, ids), first)


def test_two_variants_do_not_combine() -> None:
    model = mixed("qwen3_5")
    with pytest.raises(ConfigError, match="adapters of one kind"):
        model.base_model.add_weighted_adapter(["start", "offset"], [1.0, 1.0], "sum")
    model.base_model.add_weighted_adapter(["offset"], [2.0], "twice")
    assert model.peft_config["twice"].kind == "offset"
    layer = state_layers(model)[0]
    torch.testing.assert_close(layer.effective("twice", "offset"), 2 * layer.effective("offset", "offset"))


# --- Gradients ---


@one_family_per_kind
def test_the_gradient_is_the_slope_of_the_loss(family: str) -> None:
    assert_gradient_is_the_slope(tuned(family, kind="offset", dtype=torch.float64))


@one_family_per_kind
def test_the_gradient_is_the_same_in_every_mode(family: str) -> None:
    model, ids = tuned(family, kind="offset"), tokens(2, 6)
    want = gradients(model, loss(logits(model, ids), ids))
    assert_same_gradient(gradients(model, loss(forward(model, ids, use_cache=True).logits, ids)), want)
    model.train()
    assert_same_gradient(gradients(model, loss(logits(model, ids), ids)), want)
    for reentrant in (True, False):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model.enable_input_require_grads()
        loss(forward(model, ids).logits, ids).backward()
        got = torch.cat([layer.s0_state["default"].grad.flatten() for layer in state_layers(model)])
        assert_same_gradient(got, want)
        model.zero_grad()


# --- On disk ---


def test_it_is_saved_and_loaded_as_what_it_is(tmp_path: Path) -> None:
    model, ids = tuned("falcon_h1", kind="offset", alpha=0.5), tokens(1, 6)
    model.save_pretrained(tmp_path)
    assert checks.read_json(tmp_path / state_files.CONFIG_FILE)["variant"] == "offset"
    again = PeftModel.from_pretrained(zoo.make("falcon_h1"), tmp_path)
    assert again.peft_config["default"].kind == "offset"
    with torch.no_grad():
        assert torch.equal(logits(again, ids), logits(model, ids))
    going_on = get_peft_model(zoo.make("falcon_h1"), S0AdapterConfig(kind="offset", init=str(tmp_path)))
    with torch.no_grad():
        torch.testing.assert_close(logits(going_on, ids), logits(model, ids))


@pytest.mark.parametrize("kind", state_files.KINDS)
def test_one_kind_is_never_taken_for_the_other(tmp_path: Path, kind: str) -> None:
    other = next(one for one in state_files.KINDS if one != kind)
    tuned("qwen3_5", kind=kind).save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(str(tmp_path)).kind == kind  # as transformers reads it
    message = f"expected the kind '{other}' in .*, got '{kind}'"
    with pytest.raises(StateMismatchError, match=message):
        state_files.read(tmp_path, kind=other)
    with pytest.raises(StateMismatchError, match=message):
        get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(kind=other, init=str(tmp_path)))
    file = tmp_path / state_files.CONFIG_FILE
    text = file.read_text()
    for edited in (f'"variant": "{other}"', '"variant": "both"', '"variant": ["state"]'):
        file.write_text(text.replace(f'"variant": "{kind}"', edited))
        with pytest.raises(S0Error, match=r"variant|checksum"):
            PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path)


def test_a_state_without_a_word_on_its_kind_is_one(tmp_path: Path) -> None:
    tuned("qwen3_5").save_pretrained(tmp_path)
    file = tmp_path / state_files.CONFIG_FILE
    file.write_text(file.read_text().replace('  "variant": "state"', '  "other": 0'))
    assert state_files.read(tmp_path).kind == "state"


def test_it_is_not_written_in_the_published_layout(tmp_path: Path) -> None:
    tuned("qwen3_5", kind="offset").save_pretrained(tmp_path / "offset")
    stored = state_files.read(tmp_path / "offset", kind=None)
    with pytest.raises(StateMismatchError, match="expected a state for the published layout, got the kind 'offset'"):
        published.write(tmp_path / "published", stored, {name: i for i, name in enumerate(stored.tensors)})
    assert not (tmp_path / "published").exists()


# --- Refused ---


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected kind to be one of state, offset, got 'both'"):
        S0AdapterConfig(kind="both")


@torch.no_grad()
def test_a_mixer_that_passes_its_kernels_by_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tuned("qwen3_5", kind="offset"), tokens(1, 4)
    forward(model, ids)
    mixer = state_layers(model)[0].base_layer

    def replaced(hidden_states: Tensor, **kwargs: Any) -> Tensor:
        cache_of(kwargs).get_recurrent_state(0)
        return hidden_states

    # As a hook, which says what it wraps: other forwards are refused before.
    monkeypatch.setattr(mixer, "forward", functools.wraps(type(mixer).forward)(replaced))
    with pytest.raises(EngineError, match=r"offset would be ignored.*use_kernels=False"):
        forward(model, ids)


@torch.no_grad()
def test_a_minimax_that_reads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tuned("minimax", kind="offset"), tokens(1, 4)
    mixer = state_layers(model)[0].base_layer
    monkeypatch.setattr(
        mixer.norm, "__class__", type("Norm", (type(mixer.norm),), {"__call__": type(mixer.norm).forward})
    )
    with pytest.raises(EngineError, match=r"offset would be ignored.*use_kernels=False"):
        forward(model, ids)


@torch.no_grad()
@pytest.mark.slow
def test_a_layer_can_be_compiled_once_it_has_run() -> None:
    layer, hidden = state_layers(shared("mamba"))[0], torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(3))
    want, stock = layer(hidden), layer.base_layer(hidden)
    torch._dynamo.reset()
    got = torch.compile(layer, backend="eager", fullgraph=True)(hidden)
    torch._dynamo.reset()
    assert_same(got, want, stock, tolerance=1e-5)


def test_another_thread_on_the_same_minimax_reads_its_offset_once() -> None:
    model, ids = shared("minimax"), tokens(1, 4)
    want, layer = logits(model, ids), state_layers(model)[0]
    with (
        pytest.raises(EngineError, match="would be ignored"),  # nothing runs in this thread
        added_to_readout(layer.base_layer, torch.ones(1, *layer.state_shape)),
        ThreadPoolExecutor(1) as other,
    ):
        got = other.submit(logits, model, ids).result()
    assert torch.equal(got, want)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "mamba", "minimax"])
def test_a_bfloat16_model_reads_it_and_stays_one(family: str) -> None:
    model, ids = tuned(family, kind="offset"), tokens(2, 6)
    want = logits(model, ids)
    with model.disable_adapter():
        stock = logits(model, ids)
    model.to(torch.bfloat16)
    with model.disable_adapter():
        dtype = logits(model, ids).dtype  # float32 in the models of Mamba-1
    for got in (logits(model, ids), feed(model, ids, (3, 1, 1, 1))):
        assert got.dtype == dtype
        assert (got.float() - want).norm() < 0.2 * (stock - want).norm()


def no_grad_logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return logits(model, ids)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "mamba", "minimax"])
def test_the_seam_does_nothing_for_anyone_else(family: str) -> None:
    model, plain, ids = tuned(family, kind="offset"), zoo.make(family), tokens(1, 4)
    before = logits(plain, ids)
    inner: Callable[..., Any] = state_layers(model)[0].base_layer
    tuned_once = logits(model, ids)
    assert torch.equal(logits(plain, ids), before)
    offset = torch.ones(1, *state_layers(model)[0].state_shape)
    with (
        pytest.raises(EngineError, match="would be ignored"),  # nothing runs in this thread
        added_to_readout(inner, offset),
        ThreadPoolExecutor(1) as other,
    ):
        in_another_thread = other.submit(no_grad_logits, plain, ids).result()
    assert torch.equal(in_another_thread, before)
    with pytest.raises(RuntimeError, match="in the middle"), added_to_readout(inner, offset):
        raise RuntimeError("in the middle")
    assert torch.equal(logits(plain, ids), before)
    assert torch.equal(logits(model, ids), tuned_once)
    assert torch.equal(logits(model.unload(), ids), before)
    assert F.mse_loss(tuned_once, before) > 0
