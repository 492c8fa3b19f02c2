"""What pads must not touch, and where they are refused because something else would. (The square: tests/verify.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from torch import Tensor
from transformers import CONFIG_MAPPING, DynamicCache, GenerationConfig

from s0 import S0AdapterConfig, S0Trainer
from s0.core import padding
from s0.core.padding import CallMask, Limits, Padding, limits_of
from s0.core.releases import CACHE_NAMES
from s0.core.states import BASE, state_layers
from s0.errors import ConfigError, EngineError
from tests import words, zoo
from tests.core.helpers import (
    assert_same,
    cache_of,
    feed,
    fill,
    forward,
    generate,
    logits,
    name_of_cache,
    pad,
    shared,
    tokens,
    tuned,
)

ROWS = [tokens(1, 6, seed=1), tokens(1, 3, seed=2)]
masks = st.integers(1, 7).flatmap(
    lambda width: st.lists(st.lists(st.sampled_from([0, 1]), min_size=width, max_size=width), min_size=1, max_size=4)
)


# --- Tokens to the front ---


@given(masks)
def test_tokens_come_to_the_front_in_their_order_and_go_back(rows: list[list[int]]) -> None:
    mask = torch.tensor(rows)
    hidden = torch.arange(1.0, mask.numel() + 1).view(*mask.shape, 1)
    laid = Padding(mask, mask.shape[1])
    front = laid.to_front(hidden)
    for i, real in enumerate(mask.bool()):
        assert front[i, : laid.lengths[i], 0].tolist() == hidden[i, real, 0].tolist()
        assert not front[i, laid.lengths[i] :].any()
        assert laid.front_mask[i].tolist() == [1] * int(real.sum()) + [0] * int((~real).sum())
    assert torch.equal(laid.back(front)[mask.bool()], hidden[mask.bool()])


def test_numbers_at_pads_that_are_not_finite_stay_there() -> None:
    mask = torch.tensor([[0, 1, 1]])
    hidden = torch.tensor([[[float("nan")], [1.0], [2.0]]])
    assert Padding(mask, 3).to_front(hidden).flatten().tolist() == [1.0, 2.0, 0.0]


def test_a_mask_of_all_columns_so_far_is_cut_to_the_calls_and_a_shorter_one_refused() -> None:
    mask, hidden = torch.tensor([[1, 1, 0, 1]]), torch.tensor([[[1.0], [2.0]]])
    assert torch.equal(Padding(mask, 2).to_front(hidden), Padding(mask[:, 2:], 2).to_front(hidden))
    for wrong in (mask[:, :1], mask[None], torch.ones(1, 1, 4, 4)):
        with pytest.raises(EngineError, match=r"shape \(rows, 2 columns or more\).*2-D attention_mask"):
            Padding(wrong, 2)


@torch.no_grad()
@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_model_without_attention_takes_the_mask_of_all_columns_so_far(family: str) -> None:
    model, ids, mask = shared(family), tokens(2, 6), torch.ones(2, 6, dtype=torch.long)
    mask[0, 1] = 0
    name = name_of_cache(model)
    cache = cache_of(model(input_ids=ids[:, :4], attention_mask=mask[:, :4], use_cache=True))
    rest = model(input_ids=ids[:, 4:], attention_mask=mask, use_cache=True, **{name: cache}).logits
    row = ids[:1, mask[0].bool()]
    with model.disable_adapter():
        stock = logits(model, row)[:, -2:]
    assert_same(rest[:1], logits(model, row)[:, -2:], stock)


@torch.no_grad()
@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_layer_takes_its_cache_by_any_name(name: str) -> None:
    model, hidden = shared("qwen3_5"), torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    layer = state_layers(model)[0]
    whole = layer(hidden)
    cache = DynamicCache(config=model.config)
    pieces = [layer(hidden[:, piece], **{name: cache}) for piece in (slice(0, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "falcon_h1", "mamba2", "jamba", "mamba", "minimax"])
def test_pads_between_the_tokens_of_a_row_change_nothing(family: str) -> None:
    model, ids = shared(family), tokens(1, 6)
    mask = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 1, 0, 1]])
    holed = torch.zeros_like(mask)
    holed[mask.bool()] = ids[0]
    with model.disable_adapter():
        stock = logits(model, ids)
    assert_same(logits(model, holed, mask)[mask.bool()][None], logits(model, ids), stock)
    pieces = feed(model, holed, (4, 4, 1, 1), mask)
    assert_same(pieces[mask.bool()][None], logits(model, ids), stock)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "jamba", "minimax"])
def test_layers_without_a_state_keep_pads_out_too(family: str) -> None:
    last = state_layers(shared(family))[-1].layer_idx
    model, (ids, mask) = tuned(family, layers=[last]), pad(ROWS, "right")
    more = tokens(2, 3, seed=5)
    ids, mask = torch.cat([ids, more], 1), torch.cat([mask, torch.ones_like(more)], 1)
    got = feed(model, ids, (6, 2, 1), mask)
    for i, row in enumerate(ROWS):
        whole = torch.cat([row, more[i : i + 1]], 1)
        with model.disable_adapter():
            stock = logits(model, whole)
        assert_same(got[i, mask[i].bool()][None], logits(model, whole), stock)


@torch.no_grad()
def test_a_row_of_pads_alone_is_finite_and_changes_no_other() -> None:
    model = shared("qwen3_5")
    ids, mask = pad([*ROWS, torch.zeros(1, 0, dtype=torch.long)], "left")
    output = forward(model, ids, mask, use_cache=True)
    assert output.logits.isfinite().all()
    for layer in state_layers(model):
        kept = cache_of(output).layers[layer.layer_idx]
        torch.testing.assert_close(kept.recurrent_states[0][2], layer.effective("default"))  # it begins later
        assert not kept.conv_states[0][2].any()
    two = logits(model, ids[:2], mask[:2])
    torch.testing.assert_close(output.logits[:2][mask[:2].bool()], two[mask[:2].bool()], atol=1e-5, rtol=0)


@torch.no_grad()
def test_disabled_padded_calls_are_bit_identical_to_the_untouched_models() -> None:
    untouched, model, (ids, mask) = zoo.make("qwen3_5"), tuned("qwen3_5"), pad(ROWS, "right")
    more = tokens(2, 2)
    ids, mask = torch.cat([ids, more], 1), torch.cat([mask, torch.ones_like(more)], 1)
    want = feed(untouched, ids, (6, 1, 1), mask)
    with model.disable_adapter():
        assert torch.equal(feed(model, ids, (6, 1, 1), mask), want)
        assert torch.equal(generate(model, *pad(ROWS, "right")), generate(untouched, *pad(ROWS, "right")))
    assert not torch.allclose(feed(model, ids, (6, 1, 1), mask)[mask.bool()], want[mask.bool()], atol=0.1)


# --- What a model tells its layers ---


@torch.no_grad()
def test_a_call_that_fails_leaves_nothing_told() -> None:
    model, (ids, mask) = tuned("qwen3_5"), pad(ROWS, "left")

    def fails(*args: Any) -> None:
        assert padding.call_mask() is not None
        raise RuntimeError("planted")

    handle = state_layers(model)[1].register_forward_hook(fails)
    with pytest.raises(RuntimeError, match="planted"):
        logits(model, ids, mask)
    handle.remove()
    assert padding.call_mask() is None


@torch.no_grad()
def test_a_call_that_another_hook_stops_takes_no_other_models_mask_away() -> None:
    model, (ids, mask) = tuned("qwen3_5").get_base_model(), pad(ROWS, "left")
    inner = model.model

    def stops(*args: Any) -> None:
        raise RuntimeError("planted")

    handle = inner.register_forward_pre_hook(stops, prepend=True)
    told: list[Any] = []

    def goes_on(*args: Any, **kwargs: Any) -> Any:
        with pytest.raises(RuntimeError, match="planted"):
            inner(input_ids=ids)
        told.append(padding.call_mask())
        raise KeyError("enough")

    model.forward = goes_on
    with pytest.raises(KeyError):
        model(input_ids=ids, attention_mask=mask)
    handle.remove()
    assert told[0] is not None and told[0].mask is mask
    assert padding.call_mask() is None


@torch.no_grad()
def test_a_mask_of_positional_arguments_is_seen() -> None:
    model, (ids, _) = shared("mamba2").get_base_model(), pad(ROWS, "right")
    cache = cache_of(model(input_ids=ids[:, :3], use_cache=True))
    one = torch.tensor([[1], [0]])
    step = {name_of_cache(model): cache, "use_cache": True, "attention_mask": one}
    before = [layer.recurrent_states[0].clone() for layer in cache.layers]
    model(ids[:, 3:4], **step)
    for layer, old in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.recurrent_states[0][1], old[1]) and not torch.equal(
            layer.recurrent_states[0][0], old[0]
        )


# --- Refused ---


@pytest.mark.parametrize(
    ("rows", "has_gaps"),
    [
        ([[0, 0, 1, 1]], False),
        ([[1, 1, 0, 0]], False),
        ([[0, 1, 1, 0]], False),
        ([[1, 1], [0, 1]], False),
        ([[1, 0, 1]], True),
        ([[0, 1, 0, 1]], True),
        ([[1, 1, 1], [1, 0, 1]], True),
    ],
)
def test_pads_between_tokens_are_refused_where_an_attention_window_counts_them(
    rows: list[list[int]], has_gaps: bool
) -> None:
    mask = torch.tensor(rows)
    wide = mask.shape[1]
    CallMask(mask, wide).refuse(Limits(window=wide))  # the window holds all columns
    if has_gaps:
        with pytest.raises(
            EngineError, match=rf"no pads between the tokens of a row of {wide} columns.*pad on the left"
        ):
            CallMask(mask, wide).refuse(Limits(window=wide - 1))
    else:
        CallMask(mask, wide).refuse(Limits(window=wide - 1))


@torch.no_grad()
def test_what_a_model_has_beside_its_recurrent_layers_is_known_and_refuses_in_its_calls() -> None:
    assert limits_of(zoo.make("qwen3_5")) == Limits()
    assert "pools of keys" in str(limits_of(zoo.make("glm5_next")).looks_back)
    assert limits_of(zoo.make("minimax", sliding_window=4)) == Limits(window=4)
    if "lara_mini" in CONFIG_MAPPING:
        assert limits_of(zoo.make("lara_mini")) == Limits(window=32)
    model, (ids, mask) = tuned("qwen3_5"), pad(ROWS, "right")
    for layer in state_layers(model):
        layer.limits = Limits(window=6)
    more = tokens(2, 1)
    output = forward(model, ids, mask, use_cache=True)  # nothing has gone on after a pad yet
    longer = torch.cat([mask, torch.ones_like(more)], 1)
    with pytest.raises(EngineError, match="attention looks back over 6 columns"):
        forward(model, more, longer, cache_of(output), use_cache=True)
    with model.disable_adapter():
        forward(model, more, longer, cache_of(output), use_cache=True)


@torch.no_grad()
@pytest.mark.slow
def test_a_compiled_graph_stops_at_pads_that_are_refused() -> None:
    model, ids = tuned("qwen3_5"), tokens(1, 5)
    for layer in state_layers(model):
        layer.limits = Limits(looks_back="pools of keys")
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    try:
        whole = compiled(input_ids=ids, attention_mask=torch.tensor([[0, 1, 1, 1, 1]]), use_cache=False).logits
        assert whole.isfinite().all()
        with pytest.raises(RuntimeError, match="pools of keys would take them for tokens"):
            compiled(input_ids=ids, attention_mask=torch.tensor([[1, 1, 0, 1, 1]]), use_cache=False)
    finally:
        torch._dynamo.reset()


SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"do_sample": True},
    "beams": {"num_beams": 2},
    "rows": {"adapter_names": [BASE, "default"]},
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_prompts_that_end_in_pads_are_refused(search: dict[str, Any], task_type: str | None) -> None:
    model = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(task_type=task_type))
    fill(model)
    with pytest.raises(ConfigError, match=r"got 1 that end in a pad.*pad on the left"):
        generate(model, *pad(ROWS, "right"), **search)
    with pytest.raises(ConfigError, match=r"got 1 that end in a pad"):
        ids, mask = pad([*ROWS, torch.zeros(1, 0, dtype=torch.long)], "left")
        generate(model, ids, mask, **{**search, **({"adapter_names": [BASE] * 3} if "adapter_names" in search else {})})
    assert generate(model, *pad(ROWS, "left"), **search).shape == (2, 5)


def ends_in_pads(model: Any, ids: Tensor, **kwargs: Any) -> bool:
    try:
        model.generate(ids, **{"max_new_tokens": 1, **kwargs})
    except ConfigError:
        return True
    return False


def test_without_a_mask_pads_are_what_generate_takes_for_pads() -> None:
    model, (ids, _) = tuned("qwen3_5"), pad(ROWS, "right")  # pad_token_id is 0
    assert ends_in_pads(model, ids)
    assert ends_in_pads(model, ids, generation_config=GenerationConfig(max_new_tokens=1))  # it leaves the pad open
    assert not ends_in_pads(model, ids, pad_token_id=3)
    assert not ends_in_pads(model, ids, pad_token_id=None)
    assert not ends_in_pads(model, ids, eos_token_id=0)  # then transformers takes them for tokens
    assert not ends_in_pads(model, ids, attention_mask=torch.ones_like(ids))
    threes = ids + (ids == 0) * 3
    assert ends_in_pads(model, threes, generation_config=GenerationConfig(pad_token_id=3))
    with pytest.raises(ConfigError, match="end in a pad"):
        model.generate(threes, GenerationConfig(pad_token_id=3, max_new_tokens=1))
    assert not ends_in_pads(model, pad(ROWS, "left")[0])


def test_a_trainers_model_refuses_them_while_its_state_is_on() -> None:
    trainer = S0Trainer(zoo.make("qwen3_5"), words.characters())
    trainer.train([("def add(a, b):\n    return a + b\n", 15)])
    ids, mask = pad(ROWS, "right")
    asked: dict[str, Any] = dict(input_ids=ids, attention_mask=mask, max_new_tokens=2)
    trainer.activate()
    with pytest.raises(ConfigError, match=r"end in a pad"):
        trainer.model.generate(**asked)
    trainer.deactivate()
    trainer.model.generate(**asked)


def test_over_a_static_cache_padded_prompts_are_read_in_pieces_or_refused() -> None:
    model, (ids, mask) = shared("qwen3_5"), pad(ROWS, "left")
    static: dict[str, Any] = {"cache_implementation": "static"}
    want = torch.cat([generate(model, row, use_cache=False) for row in ROWS])
    with model.disable_adapter():
        assert not torch.equal(torch.cat([generate(model, row) for row in ROWS]), want)
    assert torch.equal(generate(model, ids, mask, prefill_chunk_size=2, **static), want)
    assert torch.equal(generate(model, ids, mask, prefill_chunk_size=1), want)
    with pytest.raises(ConfigError, match="prefill_chunk_size of 2 or more"):
        generate(model, ids, mask, prefill_chunk_size=1, **static)
    generate(model, ROWS[0], prefill_chunk_size=1, **static)  # without pads


def test_prompts_with_gaps_are_refused_where_they_would_be_over_any_cache() -> None:
    model, ids = shared("glm5_next"), tokens(1, 6)
    for how in ({}, {"cache_implementation": "static"}):
        with pytest.raises(EngineError, match="pools of keys"):
            generate(model, ids, torch.tensor([[1, 1, 0, 0, 1, 1]]), **how)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_of_pairs_is_refused_where_it_hides_pads(dtype: torch.dtype) -> None:
    model, ids = shared("qwen3_5"), tokens(1, 5)
    causal = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    padded = causal & torch.tensor([0, 1, 1, 1, 1]).bool()

    def given(seen: Tensor) -> Tensor:
        return seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(dtype).min)

    torch.testing.assert_close(
        model(input_ids=ids, attention_mask=given(causal), use_cache=False).logits, logits(model, ids)
    )
    with pytest.raises(EngineError, match="2-D attention_mask where rows are padded"):
        model(input_ids=ids, attention_mask=given(padded), use_cache=False)
    with model.disable_adapter():
        model(input_ids=ids, attention_mask=given(padded), use_cache=False)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_pieces_keep_pads_out_of_single_tokens_too(dynamic: bool | None) -> None:
    # Of one recurrent layer and one of attention: every layer takes its time to trace.
    model = get_peft_model(
        zoo.make("qwen3_5", num_hidden_layers=2, layer_types=["linear_attention", "full_attention"]), S0AdapterConfig()
    )
    fill(model)
    ids = tokens(2, 7)
    mask = torch.ones_like(ids)
    mask[0, 3:5], mask[1, 5] = 0, 0
    ids, positions = ids * mask, (mask.cumsum(-1) - 1).clamp(min=0)
    compiled, name = torch.compile(model, backend="eager", dynamic=dynamic), name_of_cache(model)
    pieces: list[Tensor] = []
    cache: dict[str, Any] = {}
    try:
        for begin, end in ((0, 5), (5, 6), (6, 7)):
            its = slice(begin, end)
            output = compiled(ids[:, its], mask[:, :end], position_ids=positions[:, its], use_cache=True, **cache)
            cache = {name: cache_of(output)}
            pieces.append(output.logits)
    finally:
        torch._dynamo.reset()
    got = torch.cat(pieces, 1)
    for i in range(2):
        row = ids[i : i + 1, mask[i].bool()]
        with model.disable_adapter():
            stock = logits(model, row)
        assert_same(got[i, mask[i].bool()][None], logits(model, row), stock)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1", "zamba"])
def test_a_mask_of_fewer_or_more_columns_than_there_are_is_refused(family: str) -> None:
    model, (ids, mask), more = shared(family), pad(ROWS, "left"), tokens(2, 1)
    name = name_of_cache(model)
    longer = torch.cat([mask, torch.ones_like(more)], 1)
    for wrong in (longer[:, -1:], mask, torch.cat([longer, torch.ones_like(more)], 1)):
        cache = cache_of(forward(model, ids, mask, use_cache=True))
        with pytest.raises(EngineError, match=r"attention_mask of 7 columns, 6 in the cache and 1 new ones, got"):
            model(input_ids=more, attention_mask=wrong, use_cache=True, **{name: cache})
