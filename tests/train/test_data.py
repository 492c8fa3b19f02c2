"""From examples to batches: exactly the completion and the end token are learned, from what generation will see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers
from torch import Tensor, nn

from s0 import Example
from s0.errors import DatasetError, UnsupportedModelError
from s0.train import Batch, batches, tokenize
from s0.train.data import TokenizedExample
from tests import words, zoo
from tests.train.helpers import BUDGETS, END, EXAMPLES, PAIRS, every_family, in_batches, slow_losses, tokenizer

MERGING = words.merging()
code = st.text(alphabet="adefnrtu (),:+\n", min_size=1)


def tokenized(data: Any, make: Any = words.characters, max_length: int = 100) -> list[TokenizedExample]:
    return tokenize(data, make(), end_token=END, max_length=max_length)


def learned(batch: Batch) -> list[list[int]]:
    """The tokens each row is taught, in order."""
    return [[token for token in row if token != -100] for row in batch.targets.tolist()]


# --- What is learned ---


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: [Example(*row) for row in rows],
        lambda rows: (Example(*row) for row in rows),
        lambda rows: [{"prompt": prompt, "completion": completion, "id": 7} for prompt, completion in rows],
        lambda rows: Dataset.from_dict({"prompt": [row[0] for row in rows], "completion": [row[1] for row in rows]}),
    ],
    ids=["examples", "iterator", "rows", "dataset"],
)
def test_examples_and_rows_are_learned_up_to_the_end_token(form: Any) -> None:
    one, two = tokenized(form([("ab", "cd"), ("a", "d")]))
    characters = words.characters()
    assert characters.convert_ids_to_tokens(one.tokens) == ["a", "b", "c", "d", "<end>"]
    assert characters.convert_ids_to_tokens(two.tokens) == ["a", "d", "<end>"]
    assert (one.prompt_length, two.prompt_length) == (2, 1)


def test_pairs_are_taken_as_they_are() -> None:
    (row,) = tokenized([("abcd", 2)])
    assert words.characters().convert_ids_to_tokens(row.tokens) == ["a", "b", "c", "d"]
    assert row.prompt_length == 2


@given(prompt=code, completion=code)
def test_merges_across_the_border_change_nothing(prompt: str, completion: str) -> None:
    (batch,) = batches(
        tokenize([Example(prompt, completion)], MERGING, end_token=END, max_length=999), pad_token=0, max_tokens=1
    )
    seen = MERGING(prompt)["input_ids"]
    (taught,) = learned(batch)
    assert taught == [*MERGING(completion)["input_ids"], END]
    assert batch.tokens.tolist() == [seen + taught]
    assert batch.predicts.tolist() == list(range(len(seen) - 1, len(seen) + len(taught) - 1))
    assert MERGING.decode(taught[:-1]) == completion


def test_counting_the_prompts_tokens_alone_would_be_wrong_on_many_splits() -> None:
    wrong = 0
    for text in words.TEXT:
        whole = MERGING(text)["input_ids"]
        for border in range(1, len(text)):
            counted = len(MERGING(text[:border])["input_ids"])
            wrong += MERGING.decode(whole[counted:]) != text[border:]
    assert wrong > sum(map(len, words.TEXT)) / 3


@pytest.mark.parametrize("bos", [False, True])
def test_a_completion_gets_no_special_tokens_but_the_end(bos: bool) -> None:
    (row,) = tokenize([Example("ab", "cd")], tokenizer(bos=bos), end_token=END, max_length=9)
    assert words.characters().convert_ids_to_tokens(row.tokens) == ["<end>"] * bos + ["a", "b", "c", "d", "<end>"]
    assert row.prompt_length == 2 + bos


# --- What is refused ---


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(("abcd", 4), id="no completion token"),
        pytest.param(("abcd", 5), id="prompt longer than the text"),
        pytest.param(("abcd", 0), id="zero prompt length"),
        pytest.param(("abcd", -1), id="negative prompt length"),
        pytest.param(("abcd", 2.0), id="prompt length of a wrong type"),
        pytest.param(("abcd", True), id="truth value as prompt length"),
        pytest.param(("", 0), id="empty text"),
        pytest.param((b"abcd", 2), id="text of a wrong type"),
        pytest.param(("abcd", 2, 3), id="three values"),
        pytest.param("abcd", id="only a text"),
        pytest.param(None, id="nothing"),
        pytest.param({"prompt": "ab"}, id="no completion"),
        pytest.param({"prompt": "ab", "completion": ""}, id="empty completion"),
        pytest.param(Example("ab", ""), id="example with an empty completion"),
        pytest.param(Example("ab", None), id="example without a completion"),
        pytest.param(Example("", "cd"), id="example with an empty prompt"),
        pytest.param(Example([{"role": "user"}], "cd"), id="message without a text"),
        pytest.param(Example([{"role": "user", "content": "ab"}], "cd"), id="messages without a chat template"),
        pytest.param(("a" * 101, 2), id="pair too long"),
        pytest.param(Example("a" * 50, "b" * 50), id="example too long by its end token"),
    ],
)
def test_a_row_that_cannot_be_learned_is_refused_by_name(row: Any) -> None:
    with pytest.raises(DatasetError, match="example 1"):
        tokenized([("abcd", 2), row])


def test_a_completion_without_tokens_is_refused_by_name() -> None:
    silent = tokenizer()
    silent.backend_tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(DatasetError, match="example 0"):
        tokenize([Example("ab", "  ")], silent, end_token=END, max_length=9)


def test_no_data_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least one"):
        tokenized(iter([]))


def test_the_longest_accepted_row_is_kept_whole() -> None:
    assert len(tokenized([Example("a" * 50, "b" * 49)])[0].tokens) == 100


# --- How rows are grouped ---

rows = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=20)


@given(lengths=rows, budget=st.integers(1, 300))
def test_batches_keep_the_budget_and_every_row_once(lengths: list[tuple[int, int]], budget: int) -> None:
    data = [
        TokenizedExample(list(range(i, i + prompt + completion)), prompt, f"example {i}")
        for i, (prompt, completion) in enumerate(lengths)
    ]
    made = batches(data, pad_token=0, max_tokens=budget)
    by_name = {row.name: row for row in data}
    assert sorted(name for batch in made for name in batch.names) == sorted(by_name)
    sizes = [len(by_name[name].tokens) for batch in made for name in batch.names]
    assert sizes == sorted(sizes)
    for batch in made:
        assert batch.tokens.numel() <= budget or len(batch.names) == 1
        for name, tokens, taught in zip(batch.names, batch.tokens.tolist(), learned(batch), strict=True):
            row = by_name[name]
            assert tokens[: len(row.tokens)] == row.tokens
            assert taught == row.tokens[row.prompt_length :]
        targets = batch.targets != -100
        for t, position in enumerate(batch.predicts.tolist()):
            assert targets[:, t].any()
            following = batch.tokens[:, position + 1]
            assert torch.equal(batch.targets[targets[:, t], t], following[targets[:, t]])


@pytest.mark.parametrize(("budget", "largest"), BUDGETS.items())
def test_a_larger_budget_makes_larger_batches(budget: int, largest: int) -> None:
    assert max(len(batch.names) for batch in in_batches(PAIRS, budget)) == largest


# --- What a batch costs and loses ---


@every_family
@pytest.mark.parametrize("budget", BUDGETS)
@torch.no_grad()
def test_losses_are_those_of_full_logits_of_single_rows(family: str, budget: int) -> None:
    model, made = zoo.make(family), in_batches(EXAMPLES, budget)
    losses = {name: loss for batch in made for name, loss in zip(batch.names, batch.losses(model), strict=True)}
    got = torch.stack([losses[f"example {i}"] for i in range(len(EXAMPLES))])
    torch.testing.assert_close(got, torch.stack(slow_losses(model, EXAMPLES)), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_familys_own_scale_of_logits_counts() -> None:
    # granitemoehybrid and falcon_h1 multiply what their head says; calling the head alone would lose it.
    model, (batch,) = zoo.make("granitemoehybrid"), in_batches(EXAMPLES)
    before = batch.losses(model)
    model.config.logits_scaling = 0.25
    losses = batch.losses(model)
    assert (losses - before).abs().min() > 0.01
    got = losses[[batch.names.index(f"example {i}") for i in range(len(EXAMPLES))]]
    torch.testing.assert_close(got, torch.stack(slow_losses(model, EXAMPLES)), atol=1e-5, rtol=1e-5)


@every_family
def test_logits_are_computed_only_where_a_completion_token_is_predicted(family: str) -> None:
    model, (batch,) = zoo.make(family), in_batches(EXAMPLES)
    shapes: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    batch.losses(model)
    first, last = 9, len(EXAMPLES[2].prompt + EXAMPLES[2].completion) - 1  # the shortest prompt, the longest row
    assert batch.predicts.tolist() == list(range(first, last + 1))
    assert shapes == [(5, len(batch.predicts), zoo.VOCAB)]


@torch.no_grad()
def test_losses_do_not_depend_on_the_pad_token() -> None:
    model, data = zoo.make("qwen3_5"), tokenized(EXAMPLES)
    one, other = (batches(data, pad_token=pad, max_tokens=999)[0].losses(model) for pad in (0, 7))
    assert torch.equal(one, other)


@torch.no_grad()
def test_losses_of_a_bfloat16_model_are_float32() -> None:
    model, (batch,) = zoo.make("qwen3_5", torch.bfloat16), in_batches()
    losses = batch.losses(model)
    output = model(batch.tokens, use_cache=False, logits_to_keep=batch.predicts).logits
    assert output.dtype == torch.bfloat16
    rows = zip(output.float(), batch.targets, strict=True)
    want = torch.stack([F.cross_entropy(row, targets) for row, targets in rows])
    torch.testing.assert_close(losses, want, atol=1e-6, rtol=0)


class AllLogits(nn.Module):
    """A model that does not know `logits_to_keep`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(zoo.VOCAB, zoo.VOCAB)

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.embedding(input_ids))


def test_a_model_that_ignores_which_logits_are_wanted_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="logits_to_keep"):
        in_batches()[0].losses(AllLogits())
