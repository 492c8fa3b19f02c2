"""From examples to micro-batches: tokenised once, sorted by length, right-padded under a token budget."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from s0.errors import DatasetError
from s0.examples import Example
from s0.models import check_tokens, encode_prompt, end_tokens
from s0.train.token_losses import token_losses

TrainingData = Iterable[tuple[str, int] | Example | Mapping[str, Any]]
"""(text, prompt length in tokens) pairs, Examples, or rows with `prompt` and `completion` (a `datasets.Dataset`)."""


@dataclass(frozen=True)
class TokenizedExample:
    """One training sequence.

    Attributes:
        tokens: prompt, completion and, for examples, the end token.
        prompt_length: how many of them are the prompt; at least 1, fewer than all.
        name: how errors call it.
        weight: how much it counts beside the others.
    """

    tokens: list[int]
    prompt_length: int
    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Right-padded rows. Causal models need no mask for pads on the right: no token sees them.

    Attributes:
        tokens: (B, T) int64.
        predicts: (P,) int64 positions whose logits predict a completion token of some row.
        targets: (B, P) int64 the token to predict there, or -100 where the row predicts none.
        names: the rows' names.
        weights: (B,) float64, how much each row counts beside all others.
    """

    tokens: Tensor
    predicts: Tensor
    targets: Tensor
    names: tuple[str, ...]
    weights: Tensor

    @property
    def n_tokens(self) -> int:
        """How much it is: rows x longest row."""
        return self.tokens.numel()

    def losses(self, model: nn.Module) -> Tensor:
        """Compute logits where they predict a completion token of some row, and what they lose there.

        Returns:
            (B,) float32: each row's mean negative log-likelihood of its completion tokens, in nats.

        Raises:
            UnsupportedModelError: the model computes logits for more positions than it is asked for.
        """
        losses = token_losses(model, self.tokens, self.predicts, self.targets)  # (B, P)
        return losses.sum(1) / (self.targets.to(losses.device) != -100).sum(1)

    def rows(self, index: Tensor) -> Batch:
        """Some of its rows, as wide as it is; `index` (n,) names them, from 0."""
        names = tuple(self.names[i] for i in index.tolist())
        return Batch(self.tokens[index], self.predicts, self.targets[index], names, self.weights[index])

    def halves(self) -> list[Batch]:
        """Its rows, in order, in two batches of about as many rows."""
        return [self.rows(index) for index in torch.arange(len(self.names)).tensor_split(2)]


@dataclass(frozen=True)
class Splits:
    """The micro-batches of one training, by what they are for.

    Attributes:
        train: of all examples to learn from.
        select: of the examples of other problems to choose on; may be empty.
    """

    train: Sequence[Batch]
    select: Sequence[Batch] = ()


@dataclass(frozen=True)
class TrainingSet:
    """Training data ready for the loop of any method.

    Attributes:
        batches: right-padded micro-batches, together all examples.
        n_examples: how many there are.
        tokens_sha256: identifies the token sequences, in order, and weights where some are not 1.
        prompts: the tokens of every example's prompt, in order.
    """

    batches: list[Batch]
    n_examples: int
    tokens_sha256: str
    prompts: list[tuple[int, ...]]


@dataclass(frozen=True)
class TrainingSets:
    """The data of one training.

    Attributes:
        train: to learn from.
        select: of other problems, to measure and choose on; may be absent.
    """

    train: TrainingSet
    select: TrainingSet | None = None

    def splits(self, *, with_select: bool) -> Splits:
        """The batches of both; without the select ones where nothing is chosen in training."""
        select = self.select.batches if with_select and self.select is not None else ()
        return Splits(self.train.batches, select)


def prepare(
    data: TrainingData, model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, max_length: int, batch_tokens: int
) -> TrainingSet:
    """Tokenise and batch `data` as every method learns from it, the token that ends generation included.

    Args:
        data: see `TrainingData`.
        model: says which token ends generation.
        tokenizer: the model's.
        max_length: in tokens; longer rows are refused, never cut.
        batch_tokens: rows x longest row of a micro-batch, in tokens.

    Returns:
        the micro-batches and what identifies them.

    Raises:
        DatasetError: see `tokenize`; or a row has tokens that the model does not know.
    """
    rows = tokenize(data, tokenizer, end_token=end_tokens(model, tokenizer)[0], max_length=max_length)
    for row in rows:
        check_tokens(model, tokenizer, row.tokens, row.name)
    is_weighted = any(row.weight != 1 for row in rows)
    weights = repr([row.weight for row in rows]) if is_weighted else ""
    digest = hashlib.sha256((repr([row.tokens for row in rows]) + weights).encode()).hexdigest()
    return TrainingSet(
        # Padded with 0, which every model knows: the tokenizer's own pad token may be one that it does not.
        batches=batches(rows, pad_token=0, max_tokens=batch_tokens),
        n_examples=len(rows),
        tokens_sha256=digest,
        prompts=[tuple(row.tokens[: row.prompt_length]) for row in rows],
    )


def tokenize(
    data: TrainingData, tokenizer: PreTrainedTokenizerBase, *, end_token: int, max_length: int
) -> list[TokenizedExample]:
    """Turn any accepted form of training data into token sequences.

    Args:
        data: see `TrainingData`. Pairs are taken as they are: nothing is appended.
        tokenizer: the model's.
        end_token: appended to the completion of examples.
        max_length: in tokens; longer rows are refused, never cut.

    Returns:
        a sequence for each row, in order.

    Raises:
        DatasetError: no rows, or a row without completion tokens, with a wrong prompt length, empty or over-long.
    """
    rows = list(data) if isinstance(data, Iterable) else []
    if not rows:
        raise DatasetError(f"expected at least one example, in a list or a datasets.Dataset, got {data!r:.60}")
    tokenized = [_tokenize_row(row, f"example {i}", tokenizer, end_token) for i, row in enumerate(rows)]
    for row in tokenized:
        if len(row.tokens) > max_length:
            raise DatasetError(
                f"expected at most `max_length={max_length}` tokens in {row.name}, got {len(row.tokens)}; raise "
                "`max_length` or leave the example out (it is never cut)"
            )
    return tokenized


def _tokenize_row(row: Any, name: str, tokenizer: PreTrainedTokenizerBase, end_token: int) -> TokenizedExample:
    if isinstance(row, tuple):
        is_pair = len(row) == 2 and isinstance(row[0], str)
        if not is_pair or type(row[1]) is not int:
            raise DatasetError(f"expected {name} to be (text, prompt length in tokens), got {row!r:.80}")
        text, prompt_length = row
        tokens = list(tokenizer(text)["input_ids"])
        if not 1 <= prompt_length < len(tokens):
            raise DatasetError(
                f"expected the prompt length of {name} to be between 1 and {len(tokens) - 1} (its text has "
                f"{len(tokens)} tokens and at least one must be left to learn), got {prompt_length}"
            )
        return TokenizedExample(tokens, prompt_length, name)
    example = Example.from_row(vars(row) if isinstance(row, Example) else row, name)
    try:
        prompt = encode_prompt(tokenizer, example.prompt)
    except DatasetError as error:
        raise DatasetError(f"{name}: {error}") from error
    completion = list(tokenizer(example.completion, add_special_tokens=False)["input_ids"])
    if not completion:
        raise DatasetError(f"expected the completion of {name} to have tokens, got none for {example.completion!r:.60}")
    return TokenizedExample([*prompt, *completion, end_token], len(prompt), name, example.weight)


def batches(examples: Sequence[TokenizedExample], *, pad_token: int, max_tokens: int) -> list[Batch]:
    """Group examples of similar length into right-padded batches.

    Args:
        examples: any order.
        pad_token: any token id; pads influence nothing.
        max_tokens: rows x longest row of a batch stays within this; a longer row gets a batch of its own.

    Returns:
        right-padded batches, from the shortest rows to the longest.
    """
    groups: list[list[TokenizedExample]] = []
    for example in sorted(examples, key=lambda example: len(example.tokens)):
        if groups and (len(groups[-1]) + 1) * len(example.tokens) <= max_tokens:
            groups[-1].append(example)
        else:
            groups.append([example])
    return [_batch(group, pad_token) for group in groups]


def _batch(rows: Sequence[TokenizedExample], pad_token: int) -> Batch:
    longest = max(len(row.tokens) for row in rows)
    tokens = torch.full((len(rows), longest), pad_token)
    targets = torch.full((len(rows), longest - 1), -100)  # targets[:, t] is what position t predicts
    for i, row in enumerate(rows):
        ids = torch.tensor(row.tokens)
        tokens[i, : len(ids)] = ids
        targets[i, row.prompt_length - 1 : len(ids) - 1] = ids[row.prompt_length :]
    predicts = (targets != -100).any(0).nonzero()[:, 0]
    names, weights = tuple(row.name for row in rows), torch.tensor([row.weight for row in rows], dtype=torch.float64)
    return Batch(tokens, predicts, targets[:, predicts], names, weights)
