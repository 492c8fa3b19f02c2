"""Baselines against plain PEFT, plain torch, attention with a prefix written into it, and norms with other weights."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from s0.core.releases import drops_prefixes
from s0.core.states import state_layers
from s0.decode import Sampling
from s0.errors import ConfigError, DatasetError, EngineError, StateMismatchError, UnsupportedModelError
from s0.train import (
    BaselineTrainer,
    FitSettings,
    FullTrainer,
    FullTuning,
    GainsTuning,
    Ia3Tuning,
    LoraTuning,
    PrefixTuning,
    S0Trainer,
    TuningSettings,
    load_tuned,
    make_trainer,
    mean_loss,
    rank_matching,
)
from tests import words, zoo
from tests.breadth import mostly_slow
from tests.decode.completing import complete
from tests.installed import generation_behind_a_prefix
from tests.train import helpers
from tests.train.helpers import (
    BUDGETS,
    EXAMPLES,
    PAIRS,
    assert_states_equal,
    in_batches,
    logits,
    raising_in_step,
    slow_fit,
    slow_losses,
)

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LORA = {"n_steps": 4, "lr": 1e-2, "rank": 4}
PREFIX = {"n_steps": 4, "lr": 1e-2, "virtual_tokens": 5}
TUNINGS: dict[str, tuple[type[TuningSettings], dict[str, Any]]] = {
    "lora": (LoraTuning, LORA),
    "prefix": (PrefixTuning, PREFIX),
    "gains": (GainsTuning, {"n_steps": 4, "lr": 1e-2}),
    "ia3": (Ia3Tuning, {"n_steps": 4, "lr": 1e-2}),
    "full": (FullTuning, {"n_steps": 4, "lr": 1e-3}),
}
BY_PEFT = [method for method in TUNINGS if method != "full"]
PROMPTS = ["def add(a, b", "x", "def double(x):\n    re", "a b c"]
TRANSFORMER: dict[str, Any] = dict(
    **dict(vocab_size=zoo.VOCAB, pad_token_id=0, initializer_range=0.2, hidden_size=32, intermediate_size=48),
    **dict(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8),
)


def make(name: str = "qwen3", seed: int = 0, **settings: Any) -> nn.Module:
    """A model of the zoo, or a tiny Transformer of another type with weights that make prompts matter."""
    if name in {*zoo.FAMILIES, *zoo.REFUSED}:
        return zoo.make(name, seed=seed)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**TRANSFORMER, **settings})).eval()


def settings_for(method: str, **settings: Any) -> Any:
    kind, usual = TUNINGS[method]
    return kind(**{**usual, **settings})


def family_for(method: str) -> str:
    """A hybrid, where the method can be exact on one."""
    return "qwen3" if method == "prefix" else "qwen3_5"


def trainer(method: str, model: nn.Module | None = None, **settings: Any) -> Any:
    """A new trainer, on a model that its method can tune unless there is one."""
    model = make(family_for(method)) if model is None else model
    return make_trainer(model, helpers.tokenizer(), settings_for(method, **settings))


def trained(method: str, model: nn.Module | None = None, **settings: Any) -> Any:
    made = trainer(method, model, **settings)
    made.train(PAIRS)
    return made


def held(of: BaselineTrainer | FullTrainer) -> dict[str, Tensor]:
    """A copy of the tuned tensors."""
    if isinstance(of, FullTrainer):
        return {name: tensor.clone() for name, tensor in of._tuned().items()}
    return of._contents()[1]


def seeded(method: str, seed: int) -> dict[str, int]:
    """The setting, where a method has it."""
    return {"seed": seed} if method in BY_PEFT else {}


METHODS = pytest.mark.parametrize("method", TUNINGS)
METHODS_OF_PEFT = pytest.mark.parametrize("method", BY_PEFT)

# --- The same training as PEFT's in a plain loop ---


def plain(name: str, config: Any, seed: int = 0) -> tuple[PeftModel, list[nn.Parameter]]:
    base = make(name)
    torch.manual_seed(seed)
    model = get_peft_model(base, config).eval()
    return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("family", mostly_slow(["qwen3_5", "falcon_h1"], ["qwen3_5"]))
def test_lora_learns_what_plain_peft_learns(family: str) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=TARGETS)
    model, parameters = plain(family, config, seed=7)
    losses = slow_fit(model, parameters, FitSettings(n_steps=4, lr=1e-2, l2_lambda=0.0))
    want = get_peft_model_state_dict(model)
    for budget in BUDGETS:
        made = trainer("lora", make(family), seed=7, batch_tokens=budget)
        told = made.train(PAIRS)
        assert_states_equal(list(held(made).values()), list(want.values()))
        assert list(held(made)) == list(want)
        assert abs(told["initial_loss"] - losses[0]) < 1e-5
        with torch.no_grad():
            assert abs(told["final_loss"] - sum(slow_losses(model)) / len(PAIRS)) < 1e-5


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute everything in float64: Adam's first steps make much of the rounding of gradients near zero."""
    usual = torch.get_default_dtype()
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


def norm_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a model's RMSNorms by the names of the norms, without those of a vision tower and of indexers."""
    named = dict(
        model.named_parameters(remove_duplicate=False)
    )  # some are tied: Zamba runs one block in several layers
    norms = {name.removesuffix(".weight") for name in named if re.search(r"norm\w*\.weight$", name)}
    text = {name for name in norms if f"{name}.bias" not in named and not re.search("visual|indexer", name)}
    return {name: weight for key, weight in named.items() if (name := key.removesuffix(".weight")) in text}


@zoo.every_family
def test_gains_are_the_weights_of_all_norms(family: str) -> None:
    model, made = make(family), trained("gains", make(family), n_steps=2, lr=0.1)
    weights, learned = norm_weights(model), held(made)
    assert learned.keys() == {f"base_model.model.{name}.ln_tuning_layers.weight" for name in weights}
    made.activate()
    before = logits(model)
    for name in weights:
        values = learned[f"base_model.model.{name}.ln_tuning_layers.weight"]
        model.get_submodule(name).weight = nn.Parameter(values)
    assert torch.equal(logits(made.model), logits(model))
    assert (logits(model) - before).abs().max() > 0.01


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_gains_learn_what_the_weights_of_norms_learn(family: str, in_double: None) -> None:
    model = make(family).requires_grad_(False)
    weights = [weight.requires_grad_(True) for weight in norm_weights(model).values()]
    slow_fit(model, weights, FitSettings(n_steps=2, lr=0.1, l2_lambda=0.0))
    assert_states_equal(list(held(trained("gains", make(family), n_steps=2, lr=0.1)).values()), weights)


@pytest.mark.parametrize("projection", [True, False])
def test_a_prefix_learns_what_plain_peft_learns(projection: bool, in_double: None) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, prefix_projection=projection)
    model, parameters = plain("qwen3", config, seed=7)
    slow_fit(model, parameters, FitSettings(n_steps=4, lr=1e-2, l2_lambda=0.0))
    want = model.get_prompt_embedding_to_save("default")
    for budget in BUDGETS:
        made = trainer("prefix", seed=7, projection=projection, batch_tokens=budget)
        told = made.train(PAIRS)
        assert_states_equal(list(held(made).values()), [want])
        with torch.no_grad():
            assert abs(told["final_loss"] - sum(slow_losses(model)) / len(PAIRS)) < 1e-5
            assert abs(told["initial_loss"] - sum(slow_losses(make("qwen3"))) / len(PAIRS)) < 1e-5


def test_recomputing_activations_changes_nothing() -> None:
    want = trained("lora")
    assert_states_equal(
        list(held(trained("lora", gradient_checkpointing=True)).values()), list(held(want).values()), 1e-6
    )


@METHODS_OF_PEFT
def test_the_seed_decides_and_nothing_else_is_disturbed(method: str) -> None:
    model = make(family_for(method))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = trained(method, model)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = trained(method), trained(method, seed=1)
    for key, tensor in held(first).items():
        assert torch.equal(held(again)[key], tensor)
        assert method in ("gains", "ia3") or not torch.equal(held(other)[key], tensor)  # they begin with ones
    again.train(PAIRS)  # from scratch, not from where it was
    assert all(torch.equal(held(again)[key], tensor) for key, tensor in held(first).items())


# --- A prefix, exactly ---


@pytest.fixture
def written_out() -> Iterator[Callable[[BaselineTrainer, list[int]], Tensor]]:
    """(T, vocabulary) logits of tokens behind a prefix, from attention that puts the prefix before its keys itself."""

    def attention(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **kwargs: Any) -> Any:
        length, groups = q.shape[2], q.shape[1] // k.shape[1]
        before = prefix[:, module.layer_idx].permute(1, 2, 0, 3)  # (2, heads, virtual tokens, head dim)
        k, v = (
            torch.cat([past[None], now], 2).repeat_interleave(groups, 1)
            for past, now in zip(before, (k, v), strict=True)
        )
        seen = torch.ones(length, len(prefix) + length, dtype=torch.bool).tril(len(prefix))
        scores = (q @ k.transpose(2, 3) * scaling).masked_fill(~seen, -torch.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2), None

    @torch.no_grad()
    def run(of: BaselineTrainer, tokens: list[int]) -> Tensor:
        nonlocal prefix
        base, config = of._base, of.model.active_peft_config
        prefix = held(of)["prompt_embeddings"]
        prefix = prefix.view(len(prefix), config.num_layers, 2, config.num_attention_heads, -1)
        usual, base.config._attn_implementation = base.config._attn_implementation, "prefix_written_out"
        try:
            places = torch.arange(len(prefix), len(prefix) + len(tokens))[None]
            return base(input_ids=torch.tensor([tokens]), position_ids=places, use_cache=False).logits[0]
        finally:
            base.config._attn_implementation = usual

    prefix = torch.empty(0)
    ALL_ATTENTION_FUNCTIONS["prefix_written_out"] = attention
    yield run
    del ALL_ATTENTION_FUNCTIONS["prefix_written_out"]


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_a_prefix_is_what_attention_sees_in_front(name: str, written_out: Any) -> None:
    made = trained("prefix", make(name), lr=0.1)
    made.activate()
    base, tokens = make(name), words.characters()(PROMPTS[2])["input_ids"]
    want = written_out(made, tokens)
    assert (want - logits(base, PROMPTS[2])[0]).abs().amax(1).min() > 0.01  # it shows at every position
    torch.testing.assert_close(logits(made.model, PROMPTS[2])[0], want, atol=1e-5, rtol=0)
    for batch in in_batches():  # right-padded rows of different lengths, no mask
        losses = batch.losses(made.model)
        for row, loss in zip(range(len(batch.names)), losses.tolist(), strict=True):
            at = (batch.targets[row] != -100).nonzero()[:, 0]
            alone = written_out(made, batch.tokens[row].tolist())[batch.predicts[at]]
            assert abs(nn.functional.cross_entropy(alone, batch.targets[row, at]).item() - loss) < 1e-5


@generation_behind_a_prefix
@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_padded_and_cached_generation_behind_a_prefix(name: str, written_out: Any) -> None:
    made = trained("prefix", make(name), lr=0.1)
    made.activate()
    longest = max(map(len, PROMPTS))
    rows = [words.characters()(prompt)["input_ids"] for prompt in PROMPTS]
    output = made.model.generate(
        input_ids=torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    for i, row in enumerate(rows):
        new = output.sequences[i, longest:].tolist()
        want = written_out(made, row + new)[len(row) - 1 : -1]
        got = torch.stack([step[i] for step in output.logits])
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
        assert new == want.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *[("lora", "qwen3_5"), ("lora", "falcon_h1"), ("prefix", "qwen3"), ("ia3", "falcon_h1")],
        *[("full", "qwen3_5"), ("full", "falcon_h1")],
        *mostly_slow(
            [("gains", family) for family in zoo.FAMILIES if family != "minimax"],  # whose cache the batcher refuses
            [("gains", "qwen3_5"), ("gains", "falcon_h1")],
        ),
    ],
)
def test_many_prompts_are_answered_as_each_alone(method: str, name: str) -> None:
    made = trained(method, make(name), lr=0.1)
    tokenizer, sampling = words.characters(), Sampling(max_new_tokens=8)
    base = complete(made.model, tokenizer, PROMPTS, sampling)
    assert base == complete(make(name), tokenizer, PROMPTS, sampling)
    made.activate()
    together = complete(made.model, tokenizer, PROMPTS, sampling)
    assert together != base
    assert together == [complete(made.model, tokenizer, [prompt], sampling)[0] for prompt in PROMPTS]
    texts = [one.text for one in together]
    assert made.generate(PROMPTS, max_new_tokens=8) == texts
    if method == "prefix" and drops_prefixes(type(make(name)).forward):
        with pytest.raises(
            EngineError, match=r"expected transformers < 5\.24.*pip install 'transformers<5\.24'.*\['do_sample'\]"
        ):
            made.generate(PROMPTS[0], do_sample=False)
        return
    assert made.generate(PROMPTS, max_new_tokens=8, do_sample=False) == texts


WINDOWS = dict(sliding_window=6)
MLA: dict[str, Any] = dict(
    **dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, num_key_value_heads=4, head_dim=None),
    **dict(n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16),
)
NO_PREFIX = {
    "qwen3_5": ({}, "recurrent layers"),
    "falcon_h1": ({}, "recurrent layers"),
    "mamba2": ({}, "recurrent layers"),
    "recurrent_gemma": ({}, "recurrent layers"),
    "mistral": (WINDOWS, "windows count the pads"),
    "gemma3_text": (WINDOWS, "windows count the pads"),
    "deepseek_v3": ({**MLA, "v_head_dim": 8}, "keys and values"),
    "deepseek_v3, equal dims": ({**MLA, "v_head_dim": 16}, "keys and values"),
    "qwen4_exp": ({}, "recurrent layers"),
}


@pytest.mark.parametrize("name", NO_PREFIX)
def test_a_prefix_that_cannot_be_exact_is_refused(name: str) -> None:
    settings, reason = NO_PREFIX[name]
    model = make(name.partition(",")[0], **settings)
    before = everything(model)
    with pytest.raises(UnsupportedModelError, match=f"{type(model).__name__}: .*{reason}"):
        trainer("prefix", model)
    assert everything(model) == before


def test_padding_is_wrong_where_a_prefix_meets_windows() -> None:
    """Why they are refused: should this fail one day, PEFT has mended it."""
    model = get_peft_model(
        make("mistral", sliding_window=6), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    ).eval()
    tokens = torch.tensor([[5, 6]])
    with torch.no_grad():
        alone = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1]
        padded, mask = torch.tensor([[0] * 6 + [5, 6]]), torch.tensor([[0] * 6 + [1, 1]])
        places = (mask.cumsum(1) - 1).clamp(min=0)
        behind_pads = model(input_ids=padded, attention_mask=mask, position_ids=places).logits[0, -1]
    assert (alone - behind_pads).abs().max() > 0.01


# --- Switching on and off, and taking off ---


ADAPTERS = (".lora_", ".ln_tuning_layers.", ".ia3_l.")
"""Parts of the names of adapters' own tensors."""


def everything(model: nn.Module) -> dict[str, Any]:
    """What can be seen of a model from outside, and what adapters like to leave behind."""
    parts = {name: (type(module), module.training, sorted(vars(module))) for name, module in model.named_modules()}
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    flags = {name: (id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()}
    return {"parts": parts, "hooks": hooks, "flags": flags, "gradients": [p.grad is None for p in model.parameters()]}


@METHODS_OF_PEFT
def test_off_is_the_untouched_model(method: str) -> None:
    name = "qwen3" if method == "prefix" else "falcon_h1"
    made, base = trained(method, make(name), lr=0.1), make(name)
    handle = made.model
    assert not made.is_active
    assert torch.equal(logits(handle), logits(base))
    made.activate()
    assert made.is_active
    assert made.model is handle
    assert (logits(handle) - logits(base)).abs().max() > 0.1
    with handle.disable_adapter():
        assert not made.is_active
        assert torch.equal(logits(handle), logits(base))
    assert made.is_active
    made.deactivate()
    assert torch.equal(logits(handle), logits(base))
    assert made.generate(PROMPTS[0], 8) == complete(base, words.characters(), PROMPTS[:1], Sampling(8))[0].text
    made.activate()
    want = logits(handle)
    made.train(PAIRS)  # the same again
    assert made.is_active
    assert made.model is handle
    assert torch.equal(logits(handle), want)
    assert not any(parameter.requires_grad for parameter in made._parameters())


@METHODS
def test_detaching_leaves_nothing(method: str) -> None:
    model = make(family_for(method))
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    for i, module in enumerate(model.modules()):
        module.training = i % 3 == 0
    before = everything(model)
    made = trained(method, model)
    handle = made.model
    for name, parameter in model.named_parameters():  # holding an adapter changes nothing else
        assert any(part in name for part in ADAPTERS) or before["flags"][name.replace(".base_layer", "")] == (
            id(parameter),
            parameter.requires_grad,
        )
    made.activate()
    complete(made.model, words.characters(), PROMPTS[:1], Sampling(max_new_tokens=4))
    made.detach()
    assert everything(model) == before
    assert made.model is model
    assert not made.is_active
    model.eval()
    assert torch.equal(logits(handle), logits(make(family_for(method))))
    for refused in (
        made.activate,
        lambda: made.train(PAIRS),
        lambda: made.save("x"),
        lambda: made.load("x"),
    ):
        with pytest.raises(ConfigError, match="was detached"):
            refused()
    assert made.training["n_examples"] == len(PAIRS)
    made.detach()  # once more does nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*")
        get_peft_model(model, LoraConfig(target_modules=["q_proj"]))


def test_methods_take_turns_on_one_model() -> None:
    model = make("qwen3_5")
    want = helpers.trained("qwen3_5")
    wanted, lora_wanted = helpers.states(want), held(trained("lora"))
    for _ in range(2):
        s0 = helpers.trained(model=model)
        assert all(torch.equal(helpers.states(s0)[i], state) for i, state in wanted.items())
        s0.activate()
        s0.detach()
        lora = trained("lora", model)
        lora.activate()
        lora.generate("x", 2)
        assert all(torch.equal(held(lora)[key], tensor) for key, tensor in lora_wanted.items())
        lora.detach()


def test_other_attachments_are_refused() -> None:
    model = make("qwen3_5")
    s0 = helpers.trained(model=model)
    before = logits(model)
    with pytest.raises(ConfigError, match="StateLayer"):
        trainer("lora", model)
    with pytest.raises(ConfigError, match="PEFT model"):
        trainer("lora", s0.model)
    assert torch.equal(logits(model), before)
    model = make("qwen3_5")
    trained("lora", model)
    with pytest.raises(ConfigError, match="nothing else attached"):
        trainer("lora", model)


def test_a_prefix_which_has_no_layers_waits_for_the_weights() -> None:
    model = make("qwen3")
    prefix, full = trained("prefix", model), trained("full", model)
    for refused in (prefix.detach, lambda: prefix.train(PAIRS)):
        with pytest.raises(ConfigError, match="tunes them all"):
            refused()
    full.detach()
    prefix.detach()
    assert torch.equal(logits(model), logits(make("qwen3")))


def test_a_state_on_top_of_a_lora(tmp_path: Path) -> None:
    model, both = make("falcon_h1"), ("q_proj", "mamba.in_proj")
    lora = trained("lora", model, targets=both, lr=0.1)
    lora.activate()
    alone = logits(model)
    s0 = helpers.trained(model=model)
    for refused in (lora.detach, lambda: lora.train(PAIRS)):
        with pytest.raises(ConfigError, match="StateLayer"):
            refused()
    assert lora.is_active
    assert torch.equal(logits(s0.model), alone)
    s0.activate()
    lora.deactivate()  # each switches its own
    assert s0.is_active
    assert torch.equal(logits(s0.model), logits(s0_alone(make("falcon_h1"), s0)))
    lora.save(tmp_path)
    assert torch.equal(logits(load_tuned(make("falcon_h1"), helpers.tokenizer(), tmp_path).model), alone)
    s0.detach()
    lora.activate()
    assert torch.equal(logits(model), alone)
    lora.detach()
    assert torch.equal(logits(model), logits(make("falcon_h1")))


def s0_alone(model: nn.Module, like: S0Trainer) -> nn.Module:
    made = helpers.trained(model=model)
    made.activate()
    for layer, other in zip(state_layers(made.model), state_layers(like.model), strict=True):
        layer.s0_state[made.adapter_name].data.copy_(other.s0_state[like.adapter_name])
    return made.model


@METHODS_OF_PEFT
def test_gradient_checkpointing_of_the_model_is_refused(method: str) -> None:
    model = make("qwen3")
    model.gradient_checkpointing_enable()
    before = everything(model)
    with pytest.raises(ConfigError, match="gradient_checkpointing_disable"):
        trainer(method, model)
    assert everything(model) == before


# --- Training that fails, stops early, or is interrupted ---


@METHODS
def test_a_training_that_cannot_start_keeps_what_was_there(method: str) -> None:
    made = trained(method, lr=0.1)
    made.activate()
    want, training, shown = held(made), made.training, logits(made.model)
    for data, error in (([], DatasetError), ([("a", 1)], DatasetError)):
        with pytest.raises(error):
            made.train(data)
    made.settings = settings_for(method, patience=2)
    with pytest.raises(ConfigError, match="patience"):  # without selection examples
        made.train(PAIRS)
    assert made.is_active
    assert made.training == training
    assert all(torch.equal(held(made)[key], tensor) for key, tensor in want.items())
    assert torch.equal(logits(made.model), shown)


@pytest.mark.parametrize("method", ["lora", "prefix", "gains"])  # IA3's factors are normalised away
def test_a_loss_that_is_not_finite_leaves_the_last_good_values(method: str) -> None:
    made = trainer(method, lr=1e30)
    with pytest.raises(DatasetError, match=r"not finite.*lower `lr`|is nan.*lower `lr`"):
        made.train(PAIRS)
    assert all(tensor.isfinite().all() for tensor in held(made).values())
    made.activate()
    assert made.model.active_peft_config.inference_mode
    assert logits(made.model).isfinite().all()


@METHODS
def test_patience_keeps_the_best_step(method: str) -> None:
    select = [("def q(z): zzz [%] 99 #!", 9), ("w{8}w{8}w{8}", 4)]
    made = trainer(method, n_steps=6, lr=0.1, patience=6)
    told = made.train(PAIRS, select=select)
    made.activate()
    assert abs(mean_loss(made.model, in_batches(select)) - told["select_final_loss"]) < 1e-5
    assert abs(min(made.training["select_losses"]) - told["select_final_loss"]) < 1e-5
    last = trainer(method, n_steps=6, lr=0.1).train(PAIRS, select=select)
    assert told["select_final_loss"] < last["select_final_loss"]
    assert told["select_initial_loss"] == last["select_initial_loss"]
    with torch.no_grad():
        alone = slow_losses(make(family_for(method)), select)
    assert abs(told["select_initial_loss"] - sum(alone) / len(select)) < 1e-5


@METHODS
def test_an_interrupted_training_goes_on(method: str, tmp_path: Path) -> None:
    want = held(trained(method))
    made, path = trainer(method), tmp_path / "checkpoint"
    with raising_in_step(KeyboardInterrupt, 2):
        made.train(PAIRS, checkpoint=path, checkpoint_every=1)
    assert path.is_file()
    with pytest.raises(ConfigError, match="this one is untrained"):  # it is as before: untrained
        made.activate()
    other = seeded(method, 1) or {"lr": 0.5}
    with pytest.raises(ConfigError, match=f"`{next(iter(other))}` was .*, is {next(iter(other.values()))}"):
        trainer(method, **other).train(PAIRS, checkpoint=path)
    again = trainer(method)
    again.train(PAIRS, checkpoint=path)
    assert all(torch.equal(held(again)[key], tensor) for key, tensor in want.items())
    assert path.is_file()  # what it stands for is not on disk yet
    again.save(tmp_path / "adapter")
    assert not path.exists()


# --- Files ---


@METHODS
def test_saved_and_loaded_is_the_same_to_the_bit(method: str, tmp_path: Path) -> None:
    made = trained(method, lr=0.1)
    made.activate()
    want = logits(made.model)
    made.save(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    ]
    name = family_for(method)
    if method in BY_PEFT:
        by_peft = PeftModel.from_pretrained(make(name), tmp_path / "a").eval()
        assert torch.equal(logits(by_peft), want)
    loaded = load_tuned(make(name), helpers.tokenizer(), tmp_path / "a")
    assert type(loaded) is type(made)
    assert loaded.is_active
    assert torch.equal(logits(loaded.model), want)
    assert loaded.training == json.loads(json.dumps(made.training))
    assert loaded.n_parameters == made.n_parameters == sum(t.numel() for t in held(made).values())
    loaded.save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        if file.suffix != ".json":
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    loaded.settings = made.settings
    loaded.train(PAIRS)
    assert torch.equal(logits(loaded.model), want)
    other = trainer(method, make(name), **{"lora": {"rank": 2}, "prefix": {"virtual_tokens": 3}}.get(method, {}))
    other.load(tmp_path / "a")
    assert not other.is_active
    other.activate()
    assert torch.equal(logits(other.model), want)


@pytest.mark.parametrize("method", ["lora", "prefix", "ia3"])
def test_adapters_of_a_bfloat16_model_are_float32(method: str, tmp_path: Path) -> None:
    model = make("qwen3").to(torch.bfloat16)
    made = trained(method, model, lr=0.1)
    assert all(tensor.dtype == torch.float32 for tensor in held(made).values())
    made.activate()
    made.save(tmp_path)
    for loaded in (
        PeftModel.from_pretrained(make("qwen3").to(torch.bfloat16), tmp_path).eval(),
        load_tuned(make("qwen3").to(torch.bfloat16), helpers.tokenizer(), tmp_path).model,
    ):
        assert torch.equal(logits(loaded), logits(made.model))


def test_gains_of_norms_that_would_round_them_are_refused(folders: dict[str, Path]) -> None:
    model = make("qwen3_5").to(torch.bfloat16)
    before = everything(model)
    for refused in (
        lambda: trainer("gains", model),
        lambda: load_tuned(model, helpers.tokenizer(), folders["gains"]),
    ):
        with pytest.raises((ConfigError, StateMismatchError), match=r"float32 .*bfloat16"):
            refused()
        assert everything(model) == before


def test_what_a_file_tells_of_its_training(tmp_path: Path) -> None:
    made = trainer("lora")
    told = made.train(EXAMPLES, select=EXAMPLES[:2])
    made.save(tmp_path)
    stored = json.loads((tmp_path / "training.json").read_text())
    assert stored["settings"]["rank"] == 4
    assert stored["n_examples"] == len(EXAMPLES)
    assert stored["final_loss"] == told["final_loss"]
    assert {"tokens_sha256", "select_tokens_sha256", "versions", "fingerprint", "checksum"} <= set(stored)


def test_load_tuned_finds_states_too(tmp_path: Path) -> None:
    s0 = helpers.trained("qwen3_5")
    s0.save(tmp_path)
    s0.activate()
    loaded = load_tuned(make("qwen3_5"), helpers.tokenizer(), tmp_path)
    assert isinstance(loaded, S0Trainer)
    assert torch.equal(logits(loaded.model), logits(s0.model))


ELSEWHERE: dict[str, dict[str, Any]] = {
    "regex": {"target_modules": r".*\.self_attn\.(q|o)_proj"},
    "layers": {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [0, 1]},
    "without task": {"target_modules": ["v_proj", "linear_attn.out_proj"], "task_type": None, "lora_dropout": 0.1},
}


@pytest.mark.parametrize("kind", ELSEWHERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_of_plain_peft_load(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 3, "init_lora_weights": False, **ELSEWHERE[kind]})
    model, _ = plain("qwen3_5", config)
    model.to(dtype).save_pretrained(tmp_path)
    want = PeftModel.from_pretrained(make("qwen3_5"), tmp_path).eval()
    loaded = load_tuned(make("qwen3_5"), helpers.tokenizer(), tmp_path)
    assert torch.equal(logits(loaded.model), logits(want))
    assert (logits(want) - logits(make("qwen3_5"))).abs().max() > 0.01
    assert loaded.training == {}
    loaded.save(tmp_path / "again")
    assert torch.equal(logits(PeftModel.from_pretrained(make("qwen3_5"), tmp_path / "again").eval()), logits(want))


@pytest.mark.parametrize("projection", [True, False])
def test_prefixes_of_plain_peft_load(projection: bool, tmp_path: Path) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=projection)
    plain("qwen3", config)[0].save_pretrained(tmp_path)
    want = PeftModel.from_pretrained(make("qwen3"), tmp_path).eval()
    loaded = load_tuned(make("qwen3"), helpers.tokenizer(), tmp_path)
    assert torch.equal(logits(loaded.model), logits(want))
    assert loaded.settings == PrefixTuning(virtual_tokens=3, projection=projection)


def rewrite(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / file
    if file.endswith(".json"):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)


def first(tensors: dict[str, Tensor]) -> str:
    return min(tensors)


CONFIG, TENSORS, TRAINING = "adapter_config.json", "adapter_model.safetensors", "training.json"
DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "another method": (CONFIG, lambda c: c.update(peft_type="LOHA"), "peft_types"),
    "a type that is no name": (CONFIG, lambda c: c.update(peft_type=["LORA"]), "peft_types"),
    "a missing tensor": (TENSORS, lambda t: t.pop(first(t)), "a tensor for each"),
    "an extra tensor": (TENSORS, lambda t: t.update(more=torch.zeros(1)), "a tensor for each"),
    "a wrong shape": (TENSORS, lambda t: t.update({first(t): torch.zeros(2, 2)}), "float32"),
    "whole numbers": (TENSORS, lambda t: t.update({first(t): t[first(t)].int()}), "float32"),
    "nan": (TENSORS, lambda t: t[first(t)].view(-1)[0].fill_(torch.nan), "NaN or inf"),
    "inf": (TENSORS, lambda t: t[first(t)].view(-1)[-1].fill_(-torch.inf), "NaN or inf"),
    "another value": (TENSORS, lambda t: t[first(t)].view(-1)[0].add_(1), "checksum"),
    "another base": (TRAINING, lambda t: t.update(fingerprint="0" * 32), "fingerprint"),
}
LORA_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "another rank": (CONFIG, lambda c: c.update(r=5), "float32"),
    "no rank": (CONFIG, lambda c: c.pop("r"), "rank"),
    "no scale": (CONFIG, lambda c: c.pop("lora_alpha"), "lora_alpha"),
    "a scale that is nan": (CONFIG, lambda c: c.update(lora_alpha=float("nan")), "NaN"),
    "fewer targets": (CONFIG, lambda c: c.update(target_modules=["q_proj"]), "a tensor for each"),
    "more targets": (CONFIG, lambda c: c.update(target_modules=[*TARGETS, "down_proj"]), "a tensor for each"),
    "no targets": (CONFIG, lambda c: c.update(target_modules=[]), "a tensor for each"),
    "targets of a wrong type": (CONFIG, lambda c: c.update(target_modules=3), "plain LORA"),
    "a broken pattern": (CONFIG, lambda c: c.update(target_modules="(q_proj"), "plain LORA"),
    "dora": (CONFIG, lambda c: c.update(use_dora=True), "use_dora"),
    "another scaling": (CONFIG, lambda c: c.update(use_rslora=True), "use_rslora"),
    "ranks of their own": (CONFIG, lambda c: c.update(rank_pattern={"q_proj": 2}), "rank_pattern"),
    "biases": (CONFIG, lambda c: c.update(bias="all"), "bias"),
    "a later invention": (CONFIG, lambda c: c.update(use_tomorrow=True), "use_tomorrow"),
    "changed base weights": (CONFIG, lambda c: c.update(init_lora_weights="pissa"), "base weights"),
}
PREFIX_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "another length": (CONFIG, lambda c: c.update(num_virtual_tokens=4), "float32"),
    "no length": (CONFIG, lambda c: c.update(num_virtual_tokens=None), "virtual_tokens"),
    "another depth": (CONFIG, lambda c: c.update(num_layers=2), "num_layers"),
    "other heads": (CONFIG, lambda c: c.update(num_attention_heads=4), "num_attention_heads"),
}
GAINS_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "fewer norms": (CONFIG, lambda c: c.update(target_modules=["q_norm"]), "leaves out"),
    "norms left out": (CONFIG, lambda c: c.update(exclude_modules=["q_norm"]), "leaves out 1 of the model's 11"),
    "all norms, and a layer": (TENSORS, lambda t: t.update({"base_model.model.lm_head.x": torch.ones(1)}), "a tensor"),
    "more to save": (CONFIG, lambda c: c.update(modules_to_save=["lm_head"]), "modules_to_save"),
}
IA3_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "factors of inputs for outputs": (CONFIG, lambda c: c.update(feedforward_modules=[]), "float32"),
    "factors of no known layer": (CONFIG, lambda c: c.update(target_modules=["k_proj"]), "plain IA3"),
    "no factors of inputs": (CONFIG, lambda c: c.update(feedforward_modules=3), "plain IA3"),
    "turned weights": (CONFIG, lambda c: c.update(fan_in_fan_out=True), "fan_in_fan_out"),
}
FULL_DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "no checksum": (TRAINING, lambda t: t.pop("checksum"), "checksum None"),
    "a setting of an adapter": (CONFIG, lambda c: c.update(r=4), "does not write"),
    "a weight too many": (
        TENSORS,
        lambda t: t.update({"lm_head.bias": torch.ones(1)}),
        "a tensor for each",
    ),
}
OWN_DAMAGES = {
    "lora": LORA_DAMAGES,
    "prefix": PREFIX_DAMAGES,
    "gains": GAINS_DAMAGES,
    "ia3": IA3_DAMAGES,
    "full": FULL_DAMAGES,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {method: tmp_path_factory.mktemp(method) for method in TUNINGS}
    for method, path in made.items():
        trained(method).save(path)
    return made


@pytest.fixture(scope="module")
def receivers() -> dict[str, BaselineTrainer]:
    """Trainers with another adapter on, which no test may change."""
    made = {method: trained(method, lr=0.1, **seeded(method, 5)) for method in TUNINGS}
    for one in made.values():
        one.activate()
    return made


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        *((method, damage) for method in TUNINGS for damage in DAMAGES),
        *((method, damage) for method, damages in OWN_DAMAGES.items() for damage in damages),
    ],
)
def test_damage_is_refused_and_changes_nothing(
    method: str, damage: str, folders: Any, receivers: dict[str, BaselineTrainer], tmp_path: Path
) -> None:
    for file in folders[method].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file, change, reason = {**DAMAGES, **OWN_DAMAGES[method]}[damage]
    rewrite(tmp_path, file, change)
    into = receivers[method]
    want, settings = logits(into.model), into.settings
    with pytest.raises(StateMismatchError, match=reason):
        into.load(tmp_path)
    assert into.settings == settings
    assert into.is_active
    assert torch.equal(logits(into.model), want)
    model = make(family_for(method))
    before = everything(model)
    with pytest.raises(StateMismatchError, match=reason):
        load_tuned(model, helpers.tokenizer(), tmp_path)
    assert everything(model) == before


def test_other_damage_is_refused(
    folders: dict[str, Path], receivers: dict[str, BaselineTrainer], tmp_path: Path
) -> None:
    with pytest.raises(StateMismatchError, match="use load_tuned"):
        trainer("lora", make("qwen3")).load(folders["prefix"])
    tensors = load_file(folders["lora"] / TENSORS)
    (tmp_path / CONFIG).write_bytes((folders["lora"] / CONFIG).read_bytes())
    torch.save(tensors, tmp_path / "adapter_model.bin")
    with pytest.raises(StateMismatchError, match="pickled weights are never loaded"):
        receivers["lora"].load(tmp_path)
    (tmp_path / TENSORS).write_bytes((folders["lora"] / TENSORS).read_bytes()[:-4])
    with pytest.raises(StateMismatchError, match="safetensors"):
        receivers["lora"].load(tmp_path)
    (tmp_path / CONFIG).write_text("[]")
    with pytest.raises(StateMismatchError, match="JSON object"):
        receivers["lora"].load(tmp_path)
    with pytest.raises(StateMismatchError, match="float32"):
        load_tuned(make("llama"), helpers.tokenizer(), folders["lora"])


@METHODS
def test_another_base_can_be_accepted(method: str, folders: dict[str, Path]) -> None:
    other = make(family_for(method), seed=9)
    with pytest.raises(StateMismatchError, match="fingerprint"):
        load_tuned(other, helpers.tokenizer(), folders[method])
    assert load_tuned(other, helpers.tokenizer(), folders[method], allow_other_base=True).is_active


def test_a_folder_is_whole_or_seen_to_be_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained("lora")
    made.save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = trained("lora", seed=1)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(os, "fsync", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("full")))
        other.save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    other.save(tmp_path / "other")
    for name in (TENSORS, CONFIG):  # as far as an overwriting may have come
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(StateMismatchError, match="checksum"):
            made.load(tmp_path)


@METHODS
@pytest.mark.parametrize("rank", [0, 1])
def test_among_several_processes_the_first_one_writes(method: str, rank: int, tmp_path: Path, monkeypatch: Any) -> None:
    made = trained(method, n_steps=1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
    made.save(tmp_path / "adapter")
    assert (tmp_path / "adapter").exists() == (rank == 0)


# --- Settings, targets, sizes ---


@pytest.mark.parametrize(
    "settings",
    [
        {"n_steps": 0},
        {"lr": 0.0},
        {"max_length": 1},
        {"batch_tokens": 0},
        {"seed": -1},
        {"seed": 0.5},
        {"patience": 0},
        {"rank": 0},
        {"rank": 2.0},
        {"alpha": 0.0},
        {"alpha": float("inf")},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        LoraTuning(**settings)


def test_prefix_settings_that_cannot_work_are_refused() -> None:
    for settings in ({"virtual_tokens": 0}, {"gradient_checkpointing": True}, {"lr": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            PrefixTuning(**settings)


def targeted(family: str, *targets: str) -> set[str]:
    made = trainer("lora", make(family), targets=targets)
    return {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in held(made)}


def test_targets_are_attention_layers_unless_named_in_full() -> None:
    assert targeted("qwen3_5", *TARGETS) == {f"model.layers.1.self_attn.{name}" for name in TARGETS}
    # Here the recurrent mixers are called self_attn and have a q_proj, too.
    assert targeted("kimi_linear", "q_proj", "o_proj") == {
        f"model.layers.1.self_attn.{n}" for n in ("q_proj", "o_proj")
    }
    assert targeted("falcon_h1", "q_proj", "mamba.in_proj") == {
        f"model.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn.q_proj", "mamba.in_proj")
    }
    for target in ("in_proj", "qproj", "gate_proj", "nowhere.q_proj"):
        with pytest.raises(UnsupportedModelError, match=r"o_proj.*q_proj"):
            trainer("lora", make("falcon_h1"), targets=(target,))


PLACED = {
    "qwen3_5": {
        "attention": {"q_proj", "k_proj", "v_proj", "o_proj"},
        "recurrent": {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"},
    },
    "kimi_linear": {
        "attention": {"q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},
        "recurrent": {f"{name}_proj" for name in ("q", "k", "v", "o", "b", "f_a", "f_b", "g_a", "g_b")},
    },
    "falcon_h1": {"attention": {"q_proj", "k_proj", "v_proj", "o_proj"}, "recurrent": {"in_proj"}},
    "jamba": {"attention": {"q_proj", "k_proj", "v_proj", "o_proj"}, "recurrent": {"in_proj", "x_proj", "out_proj"}},
}


@pytest.mark.parametrize("family", PLACED)
def test_targets_may_be_a_part_of_the_model(family: str) -> None:
    by_place = {place: targeted(family, place) for place in ("attention", "recurrent", "all-linear")}
    for place, names in PLACED[family].items():
        assert {name.rpartition(".")[2] for name in by_place[place]} == names
    assert not by_place["attention"] & by_place["recurrent"]
    assert by_place["attention"] | by_place["recurrent"] < by_place["all-linear"]
    assert not any("lm_head" in name for name in by_place["all-linear"])
    assert LoraTuning(**{"targets": "recurrent"}) == LoraTuning(targets=("recurrent",))
    with pytest.raises(UnsupportedModelError, match="'attention'"):
        targeted("mamba2", "attention")


@zoo.every_family
def test_every_layer_of_a_place_is_run(family: str) -> None:
    """A layer whose weights are read past it would learn nothing, and change nothing."""
    made = trained("lora", make(family), targets=("recurrent",), n_steps=1)
    made.activate()
    updates = {name: p for name, p in made.model.named_parameters() if "lora_B" in name}
    for update in updates.values():
        update.requires_grad_(True)
    ids = words.characters()(["def add(a, b"])["input_ids"]
    made.model(input_ids=torch.tensor(ids), use_cache=False).logits.pow(2).sum().backward()
    assert not [name for name, update in updates.items() if update.grad is None or not update.grad.any()]


def test_lora_inside_a_mixer_learns_what_plain_peft_learns() -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "in_proj"])
    model, parameters = plain("falcon_h1", config)
    slow_fit(model, parameters, FitSettings(n_steps=3, lr=1e-2, l2_lambda=0.0))
    made = trained("lora", make("falcon_h1"), n_steps=3, targets=("q_proj", "mamba.in_proj"))
    assert_states_equal(list(held(made).values()), list(get_peft_model_state_dict(model).values()))


def test_what_peft_refuses_leaves_the_model_alone() -> None:
    model = make("falcon_h1")
    before = everything(model)
    for targets in (("mamba.out_proj",), ("q_proj", "mamba.out_proj")):  # before and after it has put some
        with pytest.raises(ConfigError, match="out_proj"):
            trainer("lora", model, targets=targets)
        assert everything(model) == before
    made = trained("lora", model, lr=0.1)
    made.activate()
    want, handle = logits(made.model), made.settings
    made.settings = settings_for("lora", targets=("q_proj", "mamba.out_proj"))
    with pytest.raises(ConfigError, match="out_proj"):
        made.train(PAIRS)
    assert made.is_active
    assert torch.equal(logits(made.model), want)
    made.settings = handle
    made.detach()
    assert everything(model) == before


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_the_rank_that_matches_a_state(family: str) -> None:
    n_parameters = sum(state.numel() for state in helpers.states(helpers.trainer(family)).values())
    rank = rank_matching(make(family), n_parameters)
    sizes = {r: trainer("lora", make(family), rank=r).n_parameters for r in (rank - 1, rank, rank + 1) if r}
    assert min(sizes, key=lambda r: abs(sizes[r] - n_parameters)) == rank
    assert rank_matching(helpers.trainer(family).model, n_parameters) == rank
    assert rank_matching(make(family), 1) == 1
    with pytest.raises(ConfigError, match="n_parameters"):
        rank_matching(make(family), 0)


def test_the_number_of_parameters() -> None:
    assert trainer("prefix").n_parameters == 5 * 3 * 2 * 2 * 8
    each = make("qwen3_5").model.layers[1].self_attn
    both = sum(layer.in_features + layer.out_features for layer in (each.q_proj, each.v_proj))
    assert trainer("lora", targets=("q_proj", "v_proj")).n_parameters == 4 * both
