"""The loss of a large vocabulary: a few positions at a time, and what comes out as if all logits had been there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from s0 import S0AdapterConfig
from s0.core.states import state_layers
from s0.train import token_losses as module
from s0.train.data import Batch, batches, tokenize
from tests import words, zoo

TEXTS = [("def add(a, b):\n    return a + b\n", 15), ("x = 1\n", 2), ("lazy dog, lazy dog, lazy dog", 3)]


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Lets so many logits be made at once."""
    yield lambda most: monkeypatch.setattr(module, "MOST_LOGITS", most)


def batch() -> Batch:
    rows = tokenize(TEXTS, words.characters(), end_token=0, max_length=100)
    (made,) = batches(rows, pad_token=0, max_tokens=1000)
    return made


def with_state(name: str, **settings: Any) -> nn.Module:
    model = get_peft_model(zoo.make(name, **settings), S0AdapterConfig())
    for layer in state_layers(model):
        layer.s0_state["default"].data.normal_(generator=torch.Generator().manual_seed(layer.layer_idx))
    return model.eval()


def losses_and_gradients(model: nn.Module) -> tuple[Tensor, list[Tensor]]:
    losses = batch().losses(model)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(losses.sum(), learned, allow_unused=True)  # of a vision tower
    return losses.detach(), [gradient for gradient in gradients if gradient is not None]


def largest_logits(model: nn.Module) -> tuple[list[int], Any]:
    """How many numbers the head has put out at once, in its calls from now on."""
    sizes: list[int] = []
    head = model.get_output_embeddings()
    return sizes, head.register_forward_hook(lambda module, args, output: sizes.append(output.numel()))


def assert_same_in_parts(model: nn.Module, in_parts: Callable[[int], None], at_once: int = 3) -> None:
    n_rows, vocabulary = len(TEXTS), model.get_output_embeddings().weight.shape[0]
    whole, gradients = losses_and_gradients(model)
    in_parts(at_once * vocabulary)
    sizes, hook = largest_logits(model)
    parts, of_parts = losses_and_gradients(model)
    hook.remove()
    assert len(sizes) > 10 and max(sizes) <= max(at_once, n_rows) * vocabulary
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients)
    for first, second in zip(of_parts, gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5 * second.abs().max().item() + 1e-7, rtol=1e-4)


@zoo.every_family
def test_parts_give_what_the_whole_gives_on_every_family(family: str, in_parts: Callable[[int], None]) -> None:
    assert_same_in_parts(with_state(family), in_parts)


def scaled(model: nn.Module) -> nn.Module:
    model.config.logits_scaling = 0.25  # type: ignore[union-attr]
    return model


def biased(model: nn.Module) -> nn.Module:
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    wide = nn.Linear(head.in_features, head.out_features)
    wide.weight.data.copy_(head.weight)
    nn.init.normal_(wide.bias)
    model.set_output_embeddings(wide)  # type: ignore[operator]
    return model


HEADS: dict[str, Callable[[], nn.Module]] = {
    "tied": lambda: zoo.make("qwen3_5", tie_word_embeddings=True),
    "biased": lambda: biased(zoo.make("qwen3_5")),
    "scaled": lambda: scaled(zoo.make("granitemoehybrid")),
    "beside vision": lambda: zoo.make("qwen3_5+vision"),
    "of a Transformer": lambda: zoo.make("llama"),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_of_every_kind_are_the_models_own(head: str, in_parts: Callable[[int], None]) -> None:
    model = get_peft_model(HEADS[head](), LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False)).eval()
    assert_same_in_parts(model, in_parts)


def test_a_head_that_is_tuned_learns_the_same(in_parts: Callable[[int], None]) -> None:
    lora = LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False)
    model = get_peft_model(zoo.make("falcon_h1"), lora).eval()
    assert_same_in_parts(model, in_parts)


def test_parts_are_no_farther_from_float32_than_the_whole(in_parts: Callable[[int], None]) -> None:
    exact, _ = losses_and_gradients(with_state("qwen3_5"))
    model = with_state("qwen3_5", dtype=torch.bfloat16)
    whole, _ = losses_and_gradients(model)
    in_parts(3 * zoo.VOCAB)
    parts, _ = losses_and_gradients(model)
    assert (parts - exact).abs().max() <= 1.05 * (whole - exact).abs().max() + 1e-6


def test_a_head_that_cannot_run_apart_makes_all_logits_at_once(in_parts: Callable[[int], None]) -> None:
    model = with_state("qwen3_5")
    base = model.get_base_model()
    forward = type(base).forward

    class Other(type(base)):  # type: ignore[misc]
        """Its logits depend on the prompt's first token, which a head that runs apart does not see."""

        def forward(self, input_ids: Tensor, **rest: Any) -> Any:
            output = forward(self, input_ids=input_ids, **rest)
            output.logits = output.logits + input_ids[:, :1, None]
            return output

    base.__class__ = Other
    whole, gradients = losses_and_gradients(model)
    in_parts(3 * zoo.VOCAB)
    with pytest.warns(UserWarning, match="the head of Other gives others than the model"):
        parts, of_parts = losses_and_gradients(model)
    assert torch.equal(parts, whole) and all(map(torch.equal, of_parts, gradients))


def test_what_has_diverged_takes_no_more_memory(in_parts: Callable[[int], None], recwarn: Any) -> None:
    model = with_state("qwen3_5")
    model.get_base_model().lm_head.weight.data[3] = float("nan")
    in_parts(3 * zoo.VOCAB)
    assert batch().losses(model).isnan().any()
    assert not [warning for warning in recwarn if "made at once" in str(warning.message)]


def test_a_body_out_of_reach_is_said(in_parts: Callable[[int], None]) -> None:
    model = with_state("qwen3_5")
    base = model.get_base_model()
    whole, _ = losses_and_gradients(model)
    in_parts(3 * zoo.VOCAB)
    base.base_model_prefix = "elsewhere"
    with pytest.warns(UserWarning, match="is wrapped, or its weights are sharded"):
        parts, _ = losses_and_gradients(model)
    assert torch.equal(parts, whole)


def test_nothing_of_it_stays_on_the_model(in_parts: Callable[[int], None]) -> None:
    model = with_state("qwen3_5")
    before = {name: copy.copy(vars(part)) for name, part in model.named_modules()}
    hooks = {name: len(part._forward_hooks) for name, part in model.named_modules()}
    in_parts(3 * zoo.VOCAB)
    batch().losses(model).sum().backward()
    assert {name: vars(part).keys() for name, part in model.named_modules()} == {
        name: contents.keys() for name, contents in before.items()
    }
    assert {name: len(part._forward_hooks) for name, part in model.named_modules()} == hooks
