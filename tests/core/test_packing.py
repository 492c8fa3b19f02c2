"""Packed documents are what they are alone: with a state and without, for every way of marking their borders."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.core.packing import Documents
from s0.core.releases import cache_name
from s0.core.states import state_layers
from s0.errors import ConfigError, EngineError
from tests import zoo
from tests.core.helpers import (
    assert_same,
    assert_same_gradient,
    cache_of,
    fill,
    forward,
    generate,
    gradients,
    logits,
    loss,
    pad,
    shared,
    tokens,
    tuned,
)

MIXING = ("granitemoehybrid", "mamba2", "glm5_next", "mamba", "falcon_mamba", "jamba", "minimax")
one_family_per_kind = pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "falcon_h1", "zamba"])
LENGTHS = (5, 1, 9, 8, 1, 3)


def documents(lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    return [tokens(1, length, seed=i) for i, length in enumerate(lengths)]


def positions(docs: list[Tensor]) -> Tensor:
    return torch.cat([torch.arange(doc.shape[1]) for doc in docs])[None]


def borders(docs: list[Tensor]) -> dict[str, Any]:
    """All that TRL's padding-free collator tells of documents."""
    lengths = torch.tensor([doc.shape[1] for doc in docs])
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(torch.int32)
    index = torch.repeat_interleave(torch.arange(len(docs), dtype=torch.int32), lengths)[None]
    longest = int(lengths.max())
    return {
        "position_ids": positions(docs),
        **{"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest},
        "seq_idx": index,
    }


def packed(model: nn.Module, docs: list[Tensor], **marks: Any) -> Tensor:
    return model(input_ids=torch.cat(docs, 1), **(marks or {"position_ids": positions(docs)})).logits


def alone(model: nn.Module, docs: list[Tensor], **kwargs: Any) -> Tensor:
    return torch.cat([logits(model, doc, **kwargs) for doc in docs], 1)


def packed_loss(model: nn.Module, docs: list[Tensor], **kwargs: Any) -> Tensor:
    """Summed over the tokens that follow another one of their document, as `tests.core.helpers.loss` is."""
    ids = torch.cat(docs, 1)
    labels = ids.masked_fill(positions(docs) == 0, -100)
    output = model(input_ids=ids, position_ids=positions(docs), labels=labels, **kwargs)
    return output.loss * (labels != -100).sum()


# --- The same as alone ---


@one_family_per_kind
@torch.no_grad()
def test_packed_documents_get_the_logits_they_get_alone(family: str) -> None:
    model, docs = shared(family), documents()
    with model.disable_adapter():
        stock = alone(model, docs)
        torch.testing.assert_close(packed(model, docs), stock, atol=1e-4, rtol=0)
    assert_same(packed(model, docs), alone(model, docs), stock)


@one_family_per_kind
def test_packed_documents_get_the_gradient_they_get_alone(family: str) -> None:
    model, docs = tuned(family), documents()
    want = sum(gradients(model, loss(logits(model, doc), doc)) for doc in docs if doc.shape[1] > 1)
    assert_same_gradient(gradients(model, packed_loss(model, docs)), want)
    model.train()
    assert_same_gradient(gradients(model, packed_loss(model, docs)), want)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same_gradient(gradients(model, packed_loss(model, docs)), want)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "falcon_h1"])
def test_attention_keeps_documents_apart(family: str, attention: str) -> None:
    base, docs = zoo.make(family), documents()
    base.set_attn_implementation(attention)
    model = get_peft_model(base, S0AdapterConfig())
    fill(model)
    with model.disable_adapter():
        stock = alone(model, docs)
    assert_same(packed(model, docs), alone(model, docs), stock)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
@pytest.mark.parametrize(
    "names",
    [["position_ids"], ["cu_seq_lens_q", "cu_seq_lens_k"], ["cu_seq_lens_q"], ["seq_idx"], list(borders(documents()))],
    ids=",".join,
)
def test_every_way_of_marking_borders_means_the_same(family: str, names: list[str]) -> None:
    model, docs = shared(family), documents()
    with model.disable_adapter():
        stock = alone(model, docs)
        marks = {name: value for name, value in borders(docs).items() if name in names}
        torch.testing.assert_close(packed(model, docs, **marks), stock, atol=1e-4, rtol=0)
    assert_same(packed(model, docs, **marks), alone(model, docs), stock)


@torch.no_grad()
def test_positions_beside_those_of_an_image_mark_borders_by_those_in_the_text() -> None:
    model, docs = shared("qwen3_5"), documents()
    with model.disable_adapter():
        stock = alone(model, docs)
    places = positions(docs)[None].expand(4, 1, -1)  # in the text, then time, height and width
    assert_same(packed(model, docs, position_ids=places), alone(model, docs), stock)


@torch.no_grad()
def test_what_trl_collates_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pytest.importorskip("trl.trainer.sft_trainer", reason="needs trl, which is no dependency")
    docs = documents()
    collate = trainer.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True, pad_to_multiple_of=16)
    batch = collate([{"input_ids": doc[0].tolist()} for doc in docs])
    real = sum(LENGTHS)
    assert batch["input_ids"].shape[1] > real  # the pads become documents of one token
    model = shared("qwen3_5")
    with model.disable_adapter():
        stock = alone(model, docs)
    output = model(**batch)
    assert_same(output.logits[:, :real], alone(model, docs), stock)
    want = sum(loss(logits(model, doc), doc) for doc in docs if doc.shape[1] > 1)
    torch.testing.assert_close(output.loss * (batch["labels"] != -100).sum(), want, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_one_document_marked_as_such_is_an_ordinary_row() -> None:
    model, docs = shared("qwen3_5"), documents((7,))
    with model.disable_adapter():
        stock = alone(model, docs)
    assert_same(packed(model, docs, **borders(docs)), alone(model, docs), stock)


@torch.no_grad()
def test_a_mask_without_pads_and_a_wish_for_a_cache_change_nothing() -> None:
    model, docs = shared("qwen3_5"), documents()
    ids = torch.cat(docs, 1)
    mask = torch.ones_like(ids)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions(docs), use_cache=True)
    torch.testing.assert_close(output.logits, alone(model, docs), atol=1e-4, rtol=0)
    assert cache_of(output) is None  # there is no one sequence that it could go on with
    ids_by_place = model.get_base_model()(ids, mask, positions(docs)).logits
    torch.testing.assert_close(ids_by_place, alone(model, docs), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_decoder_alone_keeps_documents_apart_too() -> None:
    model, docs = shared("qwen3_5"), documents()
    decoder = model.get_base_model().model
    got = decoder(input_ids=torch.cat(docs, 1), position_ids=positions(docs)).last_hidden_state
    want = torch.cat([decoder(input_ids=doc).last_hidden_state for doc in docs], 1)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


# --- Rows that choose ---


def two_states(family: str) -> PeftModel:
    model = get_peft_model(zoo.make(family), S0AdapterConfig(task_type="CAUSAL_LM"), "one")
    model.add_adapter("two", S0AdapterConfig(task_type="CAUSAL_LM"))
    for seed, name in enumerate(("one", "two")):
        fill(model, name, seed=10 + seed)
    return model


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_5", "nemotron_h"])
def test_every_document_starts_from_the_state_its_row_chose(family: str) -> None:
    model, docs = two_states(family), documents()
    stock = alone(model, docs, adapter_names=["__base__"])
    for name, other in (("two", stock), ("one", stock), ("__base__", alone(model, docs))):
        marks = {"position_ids": positions(docs), "adapter_names": [name]}
        assert_same(packed(model, docs, **marks), alone(model, docs, adapter_names=[name]), other)
    with pytest.raises(ConfigError, match="6 names for a batch of 1"):
        packed(model, docs, position_ids=positions(docs), adapter_names=["one"] * len(docs))
    docs = documents((5, 4))  # which share a batch of as many rows as there are names
    with pytest.raises(ConfigError, match="2 names for a batch of 1"):
        packed(model, docs, position_ids=positions(docs), adapter_names=["one", "two"])


@pytest.mark.parametrize("reentrant", [False, True])
def test_chosen_documents_keep_their_gradient_under_checkpointing(reentrant: bool) -> None:
    model, docs = two_states("qwen3_5"), documents()
    model.base_model.set_adapter(["one", "two"])
    model.train()
    chosen = {"adapter_names": ["two"]}
    want = gradients(model, packed_loss(model, docs, **chosen), "two")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    packed_loss(model, docs, **chosen).backward()
    layers = [module for module in model.modules() if hasattr(module, "s0_state")]
    assert_same_gradient(torch.cat([layer.s0_state["two"].grad.flatten() for layer in layers]), want)


# --- Refused rather than mixed ---


@pytest.mark.parametrize("family", MIXING)
def test_families_whose_documents_would_mix_are_refused_by_name(family: str) -> None:
    model, docs = shared(family), documents()
    marks = borders(docs)
    for name in ("position_ids", "cu_seq_lens_q", "seq_idx"):
        with torch.no_grad(), pytest.raises(EngineError, match=r"packed documents.*qwen3_5.*padded rows"):
            packed(model, docs, **{name: marks[name]})
    with model.disable_adapter(), torch.no_grad():
        stock = packed(model, docs)  # as without this library
    with torch.no_grad():
        assert torch.equal(packed(model, docs, position_ids=positions(docs), adapter_names=["__base__"]), stock)


def with_other_settings(change: Callable[[Any], None]) -> PeftModel:
    model = copy.deepcopy(shared("qwen3_5"))
    change(model.get_base_model().config)
    return model


@torch.no_grad()
def test_what_cannot_be_kept_apart_is_refused() -> None:
    model, docs = shared("qwen3_5"), documents((4, 3))
    ids, places = torch.cat(docs, 1), positions(docs)
    cache = cache_of(forward(model, tokens(1, 2), use_cache=True))
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    text_only = places[None].expand(3, 1, -1)
    refused = {
        "one packed row": dict(input_ids=ids.expand(2, -1), position_ids=places.expand(2, -1)),
        "with a cache": {"input_ids": ids, "position_ids": places, cache_name(model.get_base_model().forward): cache},
        "without pads": dict(input_ids=ids, position_ids=places, attention_mask=mask),
        r"shape \(3, 1, 7\)": dict(input_ids=ids, position_ids=text_only),
        "start at 0": dict(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 3, 1, 2, 3]])),
        "cu_seq_lens_q ends at token 4 of 7": dict(input_ids=ids, cu_seq_lens_q=torch.tensor([0, 4])),
        "seq_idx ends at token 8 of 7": dict(input_ids=ids, seq_idx=torch.arange(8)[None] // 4),
        r"'cu_seq_lens_q': \[1, 4\]": dict(input_ids=ids, cu_seq_lens_q=torch.tensor([1, 4, 7])),
        r"'cu_seq_lens_q': \[0, 4, 4\]": dict(input_ids=ids, cu_seq_lens_q=torch.tensor([0, 4, 4, 7])),
        "one set of borders": dict(input_ids=ids, position_ids=places, seq_idx=torch.tensor([[0, 0, 0, 1, 1, 1, 1]])),
    }
    for reason, inputs in refused.items():
        with pytest.raises(EngineError, match=reason):
            model(**inputs)
    unknown = with_other_settings(lambda config: setattr(config, "_attn_implementation_internal", "my_own"))
    with pytest.raises(EngineError, match=r"'my_own'.*eager, sdpa"):
        packed(unknown, docs)
    ngrams = copy.deepcopy(shared("qwen4_exp"))
    ngrams.get_base_model().config.ple_layer_ids = [1]
    with pytest.raises(EngineError, match="n-gram"):
        packed(ngrams, docs)


@torch.no_grad()
@pytest.mark.parametrize("family", ["falcon_h1", "minimax"])
def test_layers_that_were_told_only_by_kernel_arguments_refuse(family: str) -> None:
    layer, borders = state_layers(shared(family))[0], torch.tensor([0, 3, 8], dtype=torch.int32)
    with pytest.raises(EngineError, match="call the model, not its layers"):
        layer(torch.ones(1, 8, 32), position_embeddings=None, cu_seq_lens_q=borders)


# --- What is no packing ---


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("filler", [0, 1])
def test_positions_of_pads_mark_no_documents(side: str, filler: int) -> None:
    model, rows = shared("qwen3_5"), [tokens(1, 6, seed=1), tokens(1, 3, seed=2)]
    ids, mask = pad(rows, side)
    places = (mask.cumsum(-1) - 1).masked_fill(mask == 0, filler)
    want = torch.cat([logits(model, row)[0] for row in rows])
    got = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits
    torch.testing.assert_close(got[mask.bool()], want, atol=1e-4, rtol=0)
    single = torch.cat([generate(model, row) for row in rows])
    assert torch.equal(generate(model, *pad(rows, "left")), single)
    # transformers makes the masks beforehand then: one for each kind of layer
    assert torch.equal(generate(model, *pad(rows, "left"), cache_implementation="static"), single)


@torch.no_grad()
def test_tokens_of_an_image_mark_no_documents() -> None:
    model, ids = shared("qwen3_5"), tokens(1, 6)
    places = torch.tensor([0, 1, 1, 1, 1, 3]).expand(3, 1, -1)  # an image of 2 by 2 among words, its first axis
    with model.disable_adapter():
        stock = model(input_ids=ids, position_ids=places).logits
    assert (model(input_ids=ids, position_ids=places).logits - stock).abs().amax(-1).min() > 0.01


@torch.no_grad()
def test_a_model_without_states_left_on_it_is_not_watched() -> None:
    base, docs = zoo.make("qwen3_5"), documents()
    stock = packed(base, docs)
    model = get_peft_model(base, S0AdapterConfig())
    fill(model)
    assert not torch.equal(packed(model, docs), stock)
    model.add_adapter("other", S0AdapterConfig())
    assert [len(module._forward_pre_hooks) for module in (base, base.model)] == [2, 2]  # one for packing, one for pads
    bare = model.unload()
    assert torch.equal(packed(bare, docs), stock)
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called")
    assert not any(getattr(module, kind) for module in bare.modules() for kind in hooks)


def test_similar_documents_share_a_batch_and_waste_less_than_half() -> None:
    lengths = [1, 2, 3, 4, 5, 7, 8, 100, 1, 1]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    laid = Documents(starts, sum(lengths), torch.device("cpu"))
    assert laid.lengths == lengths and len(laid.batches) == 5
    assert sum(index.numel() for index, _ in laid.batches) < 2 * sum(lengths)
