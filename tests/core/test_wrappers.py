"""States enter models with a vision tower around them, and models without a head, as they enter the language model."""

from __future__ import annotations

import pytest
import torch

from s0.core.families import family_of, find_mixers
from s0.core.states import state_layers
from tests import zoo
from tests.core.helpers import assert_same, cache_of, feed, forward, generate, logits, pad, shared, tokens, tuned

with_vision = pytest.mark.parametrize("family", zoo.WITH_VISION)


@with_vision
def test_the_family_and_the_layers_are_those_of_the_language_model(family: str) -> None:
    model, alone = zoo.make(f"{family}+vision"), zoo.make(family)
    assert family_of(model) == family_of(alone) == family
    names = [name.replace("model.", "model.language_model.", 1) for name in find_mixers(alone)]
    assert list(find_mixers(model)) == names


@with_vision
@torch.no_grad()
def test_with_a_vision_tower_a_text_gives_the_logits_of_the_language_model(family: str) -> None:
    model, alone, ids = tuned(f"{family}+vision", alpha=0.5), tuned(family, alpha=0.5), tokens(2, 8)
    inner, outer = alone.get_base_model(), model.get_base_model()
    inner.model.load_state_dict(outer.model.language_model.state_dict())
    inner.lm_head.load_state_dict(outer.lm_head.state_dict())
    want = logits(alone, ids)
    with alone.disable_adapter():
        stock = logits(alone, ids)
    assert_same(logits(model, ids), want, stock)
    assert_same(feed(model, ids, (4, 3, 1)), want, stock)


@with_vision
@torch.no_grad()
def test_with_a_vision_tower_prompts_generate_what_they_generate_alone(family: str) -> None:
    model, rows = shared(f"{family}+vision"), [tokens(1, 7, seed=1), tokens(1, 3, seed=2), tokens(1, 1, seed=3)]
    want = [generate(model, row, use_cache=False) for row in rows]
    with model.disable_adapter():
        assert not torch.equal(torch.cat([generate(model, row) for row in rows]), torch.cat(want))
    assert torch.equal(generate(model, *pad(rows, "left")), torch.cat(want))


@pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear", "falcon_h1", "mamba2", "mamba", "jamba", "minimax"])
@torch.no_grad()
def test_a_model_without_a_head_starts_from_its_states(family: str) -> None:
    model, ids = tuned(f"{family}+bare"), tokens(2, 9)
    assert family_of(model.get_base_model()) == family
    assert len(state_layers(model)) == len(find_mixers(zoo.make(family)))
    whole = forward(model, ids, use_cache=False).last_hidden_state
    with model.disable_adapter():
        stock = forward(model, ids, use_cache=False).last_hidden_state
    first = forward(model, ids[:, :5], use_cache=True)
    rest = forward(model, ids[:, 5:], cache=cache_of(first), use_cache=True)
    assert_same(torch.cat([first.last_hidden_state, rest.last_hidden_state], dim=1), whole, stock)
