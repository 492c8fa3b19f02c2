"""`S0Trainer`: what it trains is what it deploys, once, at the start, and nothing else changes."""

from __future__ import annotations

import copy
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from s0 import Example, S0AdapterConfig, S0Config, S0Trainer
from s0.core.row_choice import RowsUnderCheckpointing
from s0.core.states import state_layers
from s0.errors import ConfigError, DatasetError, EngineError, StateMismatchError, UnsupportedModelError
from s0.models import load_model
from s0.train import BaselineTrainer, Grid, LoraTuning, PrefixTuning, ScaleChoice
from s0.train.scale import LADDER
from tests import zoo
from tests.core.helpers import cache_of, name_of_cache, pad
from tests.train.helpers import (
    EXAMPLES,
    FAMILIES,
    PAIRS,
    every_family,
    logits,
    shared,
    slow_losses,
    snapshot,
    states,
    tokenizer,
    trained,
    trainer,
)

SELECT = [Example("def mul(a, b):\n", "    return a * b\n"), Example("def two():\n", "    return 2\n")]
PROMPTS = ["def add(a, b):\n", "x = ", "for i in [1, 2, 3]:\n    print(i)"]


def ids_of(text: str) -> Tensor:
    return torch.tensor([tokenizer()(text)["input_ids"]])


def new_tokens(made: S0Trainer, ids: Tensor, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """Eight greedy tokens after each row, through the model's own generate."""
    mask = torch.ones_like(ids) if mask is None else mask
    kwargs = {
        "max_new_tokens": 8,
        "min_new_tokens": 8,
        "do_sample": False,
        "eos_token_id": 1,
        "pad_token_id": 0,
    } | kwargs
    return made.model.generate(input_ids=ids, attention_mask=mask, **kwargs)[:, ids.shape[1] :]


def untouched(made: S0Trainer, ids: Tensor, **kwargs: Any) -> Tensor:
    with made.model.disable_adapter():
        return new_tokens(made, ids, **kwargs)


def mean_slow_loss(made: S0Trainer, data: Any = PAIRS) -> float:
    with torch.no_grad():
        return torch.stack(slow_losses(made.model, data)).mean().item()


# --- The state enters once, at the true start ---


def test_left_padded_prompts_generate_what_they_generate_alone(active: S0Trainer) -> None:
    rows = [ids_of(prompt) for prompt in PROMPTS]
    alone = [new_tokens(active, row) for row in rows]
    assert not any(torch.equal(untouched(active, row), tuned) for row, tuned in zip(rows, alone, strict=True))
    assert torch.equal(new_tokens(active, *pad(rows, "left")), torch.cat(alone))
    for prompt, tuned in zip(PROMPTS, alone, strict=True):
        said = active.generate(prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert said == active.tokenizer.decode(tuned[0], skip_special_tokens=True)


def test_a_second_turn_does_not_start_from_the_state_again(active: S0Trainer) -> None:
    first = active.model.generate(
        input_ids=ids_of(PROMPTS[0]), max_new_tokens=4, do_sample=False, return_dict_in_generate=True
    )
    turn = torch.cat([first.sequences, ids_of(PROMPTS[1])], dim=1)
    afresh = new_tokens(active, turn)
    assert not torch.equal(untouched(active, turn), afresh)
    assert torch.equal(new_tokens(active, turn, **{name_of_cache(active.model): cache_of(first)}), afresh)


def test_a_prompt_in_chunks_starts_from_the_state_once(active: S0Trainer) -> None:
    prompt = ids_of(PROMPTS[2])
    whole = new_tokens(active, prompt)
    assert not torch.equal(untouched(active, prompt), whole)
    assert torch.equal(new_tokens(active, prompt, prefill_chunk_size=5), whole)


@every_family
@pytest.mark.parametrize("zero", ["alpha", "state"])
def test_a_zero_state_changes_nothing(family: str, zero: str) -> None:
    made = trained(family, n_steps=1, alpha=0.0 if zero == "alpha" else 1.0)
    stock, said = logits(made.model), made.generate("def ", max_new_tokens=8)
    made.activate()
    if zero == "state":
        assert not torch.equal(logits(made.model), stock)
        for name, parameter in made.model.named_parameters():
            if "s0_state" in name:
                parameter.data.zero_()
    assert made.is_active
    assert torch.equal(logits(made.model), stock)
    assert made.generate("def ", max_new_tokens=8) == said


# --- What is trained is what is deployed ---


@every_family
@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": 1.0}, {"alpha": 2.0, "normalize": True}, {"alpha": 0.5, "scale_in_training": True}],
    ids=str,
)
def test_the_final_loss_is_that_of_the_activated_state(family: str, settings: dict[str, Any]) -> None:
    made = trainer(family, **{"n_steps": 2, "lr": 0.3, **settings})
    report = made.train(EXAMPLES)
    assert mean_slow_loss(made, EXAMPLES) == pytest.approx(report["initial_loss"], abs=1e-5)
    made.activate()
    assert mean_slow_loss(made, EXAMPLES) == pytest.approx(report["final_loss"], abs=1e-5)
    assert abs(report["final_loss"] - report["initial_loss"]) > 1e-3
    same_scale = settings.get("scale_in_training") or settings == {"alpha": 1.0}
    assert (report["training_loss"] == pytest.approx(report["final_loss"], abs=1e-6)) == same_scale
    norms = [state.norm().item() for state in states(made).values()]
    assert report["avg_state_norm"] == pytest.approx(sum(norms) / len(norms))


@every_family
def test_the_default_scale_is_the_published_one_of_the_family(family: str) -> None:
    one, other = trained(family, alpha=None), trained(family, alpha=FAMILIES[family])
    for made in (one, other):
        made.activate()
    assert torch.equal(logits(one.model), logits(other.model))
    other.set_scale(FAMILIES[family] * 1.1)
    assert not torch.equal(logits(one.model), logits(other.model))


def test_the_scale_is_the_same_in_train_and_eval_mode(active: S0Trainer) -> None:
    tuned = logits(active.model)
    active.model.train()
    try:
        torch.testing.assert_close(logits(active.model), tuned, atol=1e-5, rtol=0)
    finally:
        active.model.eval()


def test_a_changed_scale_counts_at_once() -> None:
    made = trained()
    made.activate()
    full = logits(made.model)
    made.set_scale(0.25)
    quarter = logits(made.model)
    for parameter in (p for name, p in made.model.named_parameters() if "s0_state" in name):
        parameter.data.mul_(0.25)
    made.set_scale(1.0)
    torch.testing.assert_close(logits(made.model), quarter, atol=1e-5, rtol=0)
    assert (full - quarter).abs().amax(-1).min() > 1e-2
    made.set_scale(0.0)
    said = made.generate("def ", max_new_tokens=8)
    made.deactivate()
    assert made.generate("def ", max_new_tokens=8) == said


@every_family
def test_the_end_token_is_learned(family: str) -> None:
    made = trainer(family, alpha=1.0, n_steps=30, lr=0.2, l2_lambda=0.0)
    one = Example("def one():", " 1")
    made.train([one])
    assert not made.generate(one.prompt, max_new_tokens=30).startswith(one.completion)
    made.activate()
    assert made.generate(one.prompt, max_new_tokens=30) == one.completion


def test_a_prompt_is_never_cut() -> None:
    long = "def add(a, b):\n    return a + b\n" * 3
    made = shared("qwen3_5")
    said = made.generate(long, max_new_tokens=8)
    assert said != made.generate(long[-8:], max_new_tokens=8)
    short = trainer(max_length=8)
    short.tokenizer.model_max_length = 8
    short.model.generation_config.max_length = 8
    assert short.generate(long, max_new_tokens=8) == said


def test_a_prompt_that_holds_the_pad_token_is_read_whole() -> None:
    # Without a mask, transformers takes every such token for a pad.
    made, prompt = shared("qwen3_5"), "def add(a, b):\n"
    said = made.generate(prompt, max_new_tokens=8)
    (pad,) = made.tokenizer("a")["input_ids"]
    assert said != made.generate(prompt.replace("a", ""), max_new_tokens=8)
    assert made.generate(prompt, max_new_tokens=8, pad_token_id=pad) == said


# --- The scale is chosen ---


def auto(family: str = "qwen3_5", model: nn.Module | None = None, **settings: Any) -> S0Trainer:
    """A trainer whose scale was chosen; not active."""
    made = trainer(family, model, **{"n_steps": 2, "lr": 0.3, "alpha": "auto", **settings})
    made.train(EXAMPLES, select=SELECT)
    return made


def deployed(made: S0Trainer) -> float:
    return made.model.peft_config[made.adapter_name].alpha


@every_family
@pytest.mark.parametrize("normalize", [False, True])
def test_the_scale_with_the_lowest_loss_on_select_examples_is_deployed(
    family: str, normalize: bool, tmp_path: Path
) -> None:
    made = trainer(family, n_steps=3, lr=0.3, alpha="auto", normalize=normalize)
    report = made.train(EXAMPLES, select=SELECT)
    told = made.training["scale"]
    by_hand = []
    for alpha in told["alphas"]:
        made.set_scale(alpha)
        made.activate()
        by_hand.append(mean_slow_loss(made, SELECT))
    made.deactivate()
    assert list(told["values"]) == pytest.approx(by_hand, abs=2e-6)
    assert set(LADDER) <= set(told["alphas"])
    best = min(range(1, len(by_hand)), key=by_hand.__getitem__)
    assert report["alpha"] == told["alpha"] == told["alphas"][best]
    assert report["select_final_loss"] == pytest.approx(by_hand[best], abs=2e-6)
    assert report["select_initial_loss"] == pytest.approx(by_hand[0], abs=2e-6)
    assert told["helps"] == (report["select_final_loss"] < report["select_initial_loss"])
    made.set_scale(told["alpha"])
    made.activate()
    assert made.alpha == deployed(made) == told["alpha"]
    assert mean_slow_loss(made, EXAMPLES) == pytest.approx(report["final_loss"], abs=2e-6)
    assert normalize or abs(report["final_loss"] - report["training_loss"]) > 1e-4 or told["alpha"] == 1.0
    made.save(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["alpha"] == told["alpha"]
    again = trainer(family)
    again.load(tmp_path)
    assert again.alpha == again.config.alpha == told["alpha"]
    again.activate()
    assert torch.equal(logits(again.model), logits(made.model))


def test_the_state_is_trained_as_with_any_other_scale() -> None:
    plain = trainer(n_steps=2, lr=0.3, alpha=0.07)
    report, chosen = plain.train(EXAMPLES, select=SELECT), auto()
    assert all(torch.equal(state, states(plain)[layer]) for layer, state in states(chosen).items())
    for name in ("initial_loss", "training_loss", "avg_state_norm", "select_initial_loss"):
        assert chosen.training[name] == report[name]
    assert (report["alpha"], "scale" in plain.training) == (0.07, False)
    plain.activate()
    assert report["select_final_loss"] == pytest.approx(mean_slow_loss(plain, SELECT), abs=2e-6)


def test_the_scale_of_a_state_is_not_set_in_its_config(tmp_path: Path) -> None:
    made, chosen = trainer(alpha=0.5), auto()
    made.config.alpha, made.config.normalize = 0.25, True  # no state has come of it yet
    made.train(PAIRS)
    made.save(tmp_path)
    loaded = trainer()
    loaded.load(tmp_path)
    assert (made.alpha, loaded.alpha, loaded.config.alpha, loaded.config.normalize) == (0.25, 0.25, 0.25, True)
    assert (chosen.alpha, chosen.config.alpha) == (deployed(chosen), "auto")
    for each in (made, chosen, loaded):
        before = replace(each.config)
        for name, value in (("alpha", 0.1), ("alpha", None), ("normalize", False), ("kind", "offset")):
            with pytest.raises(ConfigError, match=rf"`{name}` to stay .*trainer\.set_scale"):
                setattr(each.config, name, value)
        assert each.config == before
    made.config.n_steps = 1  # says nothing of the scale
    made.config = replace(made.config, alpha=0.1)
    assert made.alpha == 0.25
    made.train(PAIRS)
    assert made.alpha == 0.1


def test_a_scale_that_does_not_help_is_said_so() -> None:
    made = trainer(n_steps=6, lr=0.3, alpha="auto")
    report = made.train([Example("x = ", "1111")], select=[Example("x = ", "bbb")])
    told = made.training["scale"]
    assert told["helps"] is False
    assert report["alpha"] == told["alpha"] > 0
    assert report["select_final_loss"] >= report["select_initial_loss"]


def test_a_scale_chosen_by_other_means_can_be_set(tmp_path: Path) -> None:
    made = trainer(n_steps=2, lr=0.3, alpha=1.0)
    choice = ScaleChoice(0.4, True, "pass rate", (0.0, 0.4), (0.1, 0.2))
    with pytest.raises(ConfigError, match="train"):
        made.set_scale(0.4, choice)
    made.train(EXAMPLES, select=SELECT)
    for alpha in (float("nan"), "auto", None):
        with pytest.raises(ConfigError, match="finite"):
            made.set_scale(alpha)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"chosen, 0\.4, got 0\.5"):
        made.set_scale(0.5, choice)
    assert made.alpha == 1.0 and "final_loss" in made.training
    made.set_scale(0.4, choice)
    made.activate()
    assert (deployed(made), made.alpha, made.config.alpha) == (0.4, 0.4, 1.0)
    made.save(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["alpha"], saved["training"]["alpha"], saved["training"]["scale"]["by"]) == (0.4, 0.4, "pass rate")
    assert not {"final_loss", "select_final_loss"} & set(saved["training"])
    made.set_scale(0.6)
    assert made.training["alpha"] == 0.6 and "scale" not in made.training


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"alpha": "auto"}, "select"), ({"patience": 2}, "select"), ({"alpha": "auto", "patience": 2}, "select")],
    ids=str,
)
def test_nothing_is_chosen_without_select_examples(settings: dict[str, Any], match: str) -> None:
    made = trained(n_steps=1)
    before, history = states(made), made.training
    made.config = S0Config(**settings)
    with pytest.raises(ConfigError, match=match):
        made.train(PAIRS)
    with pytest.raises(DatasetError, match="select data"):
        made.train(PAIRS, select=[])
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())
    assert made.training == history


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"alpha": "auto", "scale_in_training": True}, "before training"), ({"alpha": "best"}, "'auto'")],
    ids=str,
)
def test_a_choice_that_cannot_be_made_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        trainer(**settings)


# --- What is kept ---


def test_the_account_of_a_training_is_whole_and_plain_json(tmp_path: Path) -> None:
    made = trainer(n_steps=4, lr=0.3, alpha="auto", patience=10)
    report = made.train(EXAMPLES, select=SELECT)
    made.save(tmp_path)
    told = json.loads((tmp_path / "adapter_config.json").read_text(), parse_constant=pytest.fail)["training"]
    assert {name: told[name] for name in report} == report
    assert told["settings"] == {**told["settings"], "alpha": "auto", "n_steps": 4, "patience": 10}
    assert [len(told[name]) for name in ("losses", "norms", "select_losses")] == [4, 4, 4]
    assert told["losses"][0] == report["initial_loss"]
    assert 0 <= told["best_step"] <= 4
    assert (told["n_examples"], told["n_select"]) == (len(EXAMPLES), len(SELECT))
    assert told["tokens_sha256"] != told["select_tokens_sha256"]
    assert "interrupted" not in told
    assert set(told["versions"]) == {"s0-tuning", "torch", "transformers", "peft"}


def test_patience_keeps_the_best_state() -> None:
    made = trainer(n_steps=30, lr=0.5, alpha=1.0, patience=2)
    report = made.train(EXAMPLES, select=[Example("zyx", "qqq")])
    told = made.training
    assert len(told["losses"]) < 30
    shorter = trainer(n_steps=max(1, told["best_step"]), lr=0.5, alpha=1.0)
    shorter.train(EXAMPLES)
    if told["best_step"] == 0:
        assert report["avg_state_norm"] == 0
    else:
        assert all(torch.equal(state, states(shorter)[layer]) for layer, state in states(made).items())


def test_a_trainer_tells_what_it_is_in_a_line(tmp_path: Path) -> None:
    made = trainer(kind="offset", n_steps=1, layers=[0, 2])
    assert repr(made) == "S0Trainer(offset of 2 layers, alpha=1, Qwen3_5ForCausalLM, untrained, inactive)"
    made.train(PAIRS)
    made.set_scale(0.123456)
    made.activate()
    assert repr(made) == "S0Trainer(offset of 2 layers, alpha=0.1235, Qwen3_5ForCausalLM, trained, active)"
    made.save(tmp_path / "offset")
    made.detach()
    assert repr(made) == "S0Trainer(offset, Qwen3_5ForCausalLM, trained, detached)"
    loaded = S0Trainer.from_pretrained("pocket:gdn", S0Config(alpha="auto", normalize=True))
    said = "S0Trainer(state of 2 layers, alpha=auto (normalized), Qwen3_5ForCausalLM pocket:gdn, untrained, inactive)"
    assert repr(loaded) == said
    other = trainer(kind="offset")
    other.load(tmp_path / "offset")
    assert repr(other) == "S0Trainer(offset of 2 layers, alpha=0.1235, Qwen3_5ForCausalLM, trained, inactive)"


@pytest.mark.parametrize("make", [S0Trainer, lambda *pair: BaselineTrainer(*pair, LoraTuning())])
def test_a_trainer_is_made_of_a_model_and_a_tokenizer(make: Callable[..., Any]) -> None:
    model, words = zoo.make("qwen3_5"), tokenizer()
    for pair, got in (((model, None), "NoneType"), ((words, model), "Qwen3_5ForCausalLM"), (("name", words), "str")):
        with pytest.raises(ConfigError, match=f"expected a model and its tokenizer, got .*{got}.*s0.load_model"):
            make(*pair)


@pytest.mark.parametrize("data", [None, 7, []])
def test_no_examples_are_refused(data: Any) -> None:
    with pytest.raises(DatasetError, match=f"expected at least one example, in a list.*got {re.escape(repr(data))}"):
        trainer().train(data)


def test_a_trainer_tells_of_an_interrupted_training() -> None:
    made = trainer(n_steps=3)

    @contextmanager
    def until_the_second_step(*_: Any) -> Iterator[Any]:
        def advance(_: float, note: str = "", **__: Any) -> None:
            if note.startswith("1/3"):
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        made.train(PAIRS, stage=until_the_second_step)
    assert "trained, interrupted, inactive" in repr(made)


def test_a_baseline_tells_what_it_is_in_a_line() -> None:
    lora = BaselineTrainer(zoo.make("qwen3_5"), tokenizer(), LoraTuning(rank=2))
    what = "LoRA of 4 linear layers, rank=2, alpha=4"
    assert repr(lora) == f"BaselineTrainer({what}, Qwen3_5ForCausalLM, untrained, inactive)"
    lora.detach()
    assert repr(lora) == "BaselineTrainer(LoRA, Qwen3_5ForCausalLM, untrained, detached)"
    prefix = BaselineTrainer(*load_model("pocket:transformer"), PrefixTuning(virtual_tokens=3))
    what = "prefix of 3 tokens in 4 layers"
    assert repr(prefix) == f"BaselineTrainer({what}, Qwen3ForCausalLM pocket:transformer, untrained, inactive)"


def test_the_number_of_parameters_is_that_of_the_state() -> None:
    assert trainer().n_parameters == 2 * 4 * 8 * 16
    assert trainer(layers=[0]).n_parameters == 4 * 8 * 16


@pytest.mark.parametrize("rank", [0, 1])
def test_among_several_processes_the_first_one_writes(rank: int, tmp_path: Path, monkeypatch: Any) -> None:
    made = trained(n_steps=1)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
    made.save(tmp_path / "state")
    assert (tmp_path / "state").exists() == (rank == 0)


# --- Interruptions ---


def interrupt_at(made: S0Trainer, call: int) -> Callable[[], None]:
    """Raises KeyboardInterrupt in the model's forward pass of that number, until what this returns is called."""
    calls: list[None] = []

    def interrupt(*_: Any) -> None:
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    return made.model.get_base_model().register_forward_hook(interrupt).remove


@pytest.mark.parametrize("alpha", [1.0, "auto"])
def test_an_interrupted_training_goes_on_from_its_checkpoint(alpha: Any, tmp_path: Path) -> None:
    settings = {"n_steps": 5, "lr": 0.3, "alpha": alpha}
    whole, made = trainer(**settings), trainer(**settings)
    wanted = whole.train(EXAMPLES, select=SELECT)
    file = tmp_path / "checkpoint"
    stop = interrupt_at(made, 4)
    with pytest.raises(KeyboardInterrupt):
        made.train(EXAMPLES, select=SELECT, checkpoint=file, checkpoint_every=1)
    stop()
    assert made.training["interrupted"] is True
    assert file.exists()
    made.save(tmp_path / "state")
    assert json.loads((tmp_path / "state" / "adapter_config.json").read_text())["training"]["interrupted"] is True
    for change in ({"select": SELECT[:1]}, {"select": SELECT, "data": EXAMPLES[:4]}):
        with pytest.raises(ConfigError, match="another"):
            trainer(**settings).train(**{"data": EXAMPLES, **change}, checkpoint=file)
    other = trained()
    before, history = states(other), other.training
    other.config = S0Config(**{**settings, "normalize": True})
    with pytest.raises(ConfigError, match="normalize"):
        other.train(EXAMPLES, select=SELECT, checkpoint=file)
    assert all(torch.equal(state, before[layer]) for layer, state in states(other).items())
    assert other.training == history
    again = trainer(**settings)
    assert again.train(EXAMPLES, select=SELECT, checkpoint=file, checkpoint_every=1) == wanted
    assert all(torch.equal(state, states(whole)[layer]) for layer, state in states(again).items())
    assert again.training == whole.training
    assert file.exists()  # what it stands for is not on disk yet
    again.save(tmp_path / "state")
    assert not file.exists()


def test_a_training_that_breaks_down_at_its_end_leaves_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(DatasetError, match="finite"):
        trainer(n_steps=1, lr=1e30, alpha="auto").train(EXAMPLES, select=SELECT, checkpoint=file)
    assert not file.exists()


def test_a_damaged_checkpoint_leaves_the_state_alone(tmp_path: Path) -> None:
    made = trained()
    before, history = states(made), made.training
    (tmp_path / "checkpoint").write_bytes(b"no checkpoint")
    with pytest.raises(StateMismatchError):
        made.train(EXAMPLES, checkpoint=tmp_path / "checkpoint")
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())
    assert made.training == history
    assert made.model.peft_config[made.adapter_name].training == history


def test_a_training_without_a_finite_loss_leaves_the_state_alone() -> None:
    made = auto()
    before, history, alpha = states(made), made.training, deployed(made)
    norm = made.model.get_base_model().model.norm
    weight = norm.weight.detach().clone()
    norm.weight.data.fill_(float("nan"))
    with pytest.raises(DatasetError, match="nan"):
        made.train(PAIRS, select=SELECT)
    norm.weight.data.copy_(weight)
    assert made.training == history
    assert deployed(made) == alpha
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())


def test_a_training_cut_short_while_its_scale_is_chosen_counts_as_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(n_steps=2, lr=0.3, alpha="auto")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConfigError("no scale today")

    monkeypatch.setattr("s0.train.trainer.choose_scale", refuse)
    with pytest.raises(ConfigError, match="no scale today"):
        made.train(EXAMPLES, select=SELECT)
    assert made.training["interrupted"] is True
    assert all(state.any() for state in states(made).values())
    assert not made.is_active


# --- Taking a state off ---


@every_family
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_trainer_to_go_gives_the_base_model_back(family: str, checkpointing: bool) -> None:
    model = zoo.make(family)
    if checkpointing:
        model.gradient_checkpointing_enable()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    before, stock = snapshot(model), logits(model)
    attributes, keys, modules = set(vars(model)), list(model.state_dict()), list(model.named_modules())
    one, other = trained(family, model), trained(family, model, layers=[0])
    one.activate()
    with torch.no_grad():
        ids = ids_of(PROMPTS[0])
        one.model(input_ids=ids, adapter_names=[other.adapter_name])
    one.generate("def ", max_new_tokens=2)
    tuned = logits(model)
    other.detach()
    other.detach()
    assert one.is_active
    assert not other.is_active
    assert torch.equal(logits(model), tuned)
    one.detach()
    assert one.model is other.model is model
    assert not one.is_active
    assert not state_layers(model)
    assert snapshot(model) == before
    assert list(model.state_dict()) == keys
    assert list(model.named_modules()) == modules
    assert set(vars(model)) == attributes
    assert not any(isinstance(one, RowsUnderCheckpointing) for m in model.modules() for one in vars(m).values())
    assert torch.equal(logits(model), stock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        again = get_peft_model(model, S0AdapterConfig())
    assert list(again.peft_config) == ["default"]


def test_a_detached_trainer_refuses_to_work(tmp_path: Path) -> None:
    made = trained(n_steps=1)
    made.save(tmp_path)
    account, said = made.training, made.generate("def ", max_new_tokens=4)
    made.detach()
    for act in (made.activate, lambda: made.save(tmp_path), lambda: made.load(tmp_path), lambda: made.train(PAIRS)):
        with pytest.raises(ConfigError, match="detached"):
            act()
    assert made.training == account
    assert made.n_parameters == 0
    assert made.generate("def ", max_new_tokens=4) == said


def test_detaching_leaves_the_states_of_others_on() -> None:
    torch.manual_seed(0)
    own = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(layers=[0]))
    torch.nn.init.normal_(state_layers(own)[0].s0_state["default"])
    flags, tuned = {name: p.requires_grad for name, p in own.named_parameters()}, logits(own)
    made = trained(model=own)
    made.activate()
    own.base_model.set_adapter([made.adapter_name, "default"])
    made.detach()
    assert own.active_adapters == ["default"]
    assert [layer.layer_idx for layer in state_layers(own) if layer.s0_state] == [0]
    assert torch.equal(logits(own), tuned)
    assert list(own.peft_config) == ["default"]
    names = {name: p.requires_grad for name, p in own.named_parameters()}
    assert names == flags


def test_detaching_leaves_lora_on() -> None:
    torch.manual_seed(0)
    lora = get_peft_model(
        zoo.make("qwen3_5"), LoraConfig(r=2, target_modules=["q_proj", "in_proj_qkv"], init_lora_weights=False)
    )
    keys, tuned = list(lora.state_dict()), logits(lora)
    made = trained(model=lora.get_base_model())
    made.activate()
    assert not torch.equal(logits(lora), tuned)
    made.detach()
    assert list(lora.state_dict()) == keys
    assert torch.equal(logits(lora), tuned)
    assert list(lora.peft_config) == ["default"]
    with lora.disable_adapter():
        assert not torch.equal(logits(lora), tuned)


# --- Training ---


@pytest.mark.parametrize(
    "settings",
    [{"n_steps": 0}, {"lr": 0.0}, {"max_length": 1}, {"batch_tokens": 0}, {"alpha": float("nan")}, {"layers": [1]}],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_before_the_model_is_touched(settings: dict[str, Any]) -> None:
    model = zoo.make("qwen3_5")
    before = snapshot(model)
    with pytest.raises(ConfigError):
        trainer(model=model, **settings)
    assert snapshot(model) == before


@pytest.mark.parametrize(
    "setting",
    [
        {"n_steps": "many"},
        {"lr": "a"},
        {"l2_lambda": -1.0},
        {"alpha": float("nan")},
        {"alpha": [1.0]},
        {"alpha": "a"},
        {"normalize": "x"},
        {"grad_clip": None},
        {"max_length": "long"},
        {"layers": [1, 1]},
        {"layers": 1},
        {"batch_tokens": 0.5},
        {"gradient_checkpointing": "yes"},
        {"scale_in_training": 1},
        {"patience": 0},
        {"kind": "x"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_when_they_are_made(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"expected `?{next(iter(setting))}`? to be"):
        S0Config(**setting)


@pytest.mark.parametrize("setting", [{"max_length": None}, {"batch_tokens": "a"}], ids=str)
def test_settings_of_a_baseline_are_refused_alike(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"expected `?{next(iter(setting))}`? to be"):
        LoraTuning(**setting)


@pytest.mark.parametrize("setting", [{"n_steps": 0}, {"alpha": float("inf")}], ids=str)
def test_settings_broken_later_are_refused_before_the_state_is_touched(setting: dict[str, Any]) -> None:
    made = trained(n_steps=1)
    before = states(made)
    vars(made.config).update(setting)
    with pytest.raises(ConfigError):
        made.train(PAIRS)
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())


def test_rows_that_cannot_be_learned_leave_the_state_alone() -> None:
    made = trained(n_steps=1)
    before = states(made)
    with pytest.raises(DatasetError, match="example 5"):
        made.train([*PAIRS, ("abc", 3)])
    assert all(torch.equal(state, before[layer]) for layer, state in states(made).items())


@pytest.mark.parametrize("on", [False, True], ids=["inactive", "active"])
def test_training_replaces_the_state_and_keeps_it_on_or_off(on: bool) -> None:
    made, fresh = trained(), trainer(n_steps=2, lr=0.3, alpha=1.0)
    stock = logits(made.model)
    if on:
        made.activate()
    made.config = fresh.config
    for each in (made, fresh):
        each.train(EXAMPLES[:3])
    assert made.is_active == on
    fresh.activate()
    assert torch.equal(logits(made.model), logits(fresh.model) if on else stock)
    made.activate()
    assert torch.equal(logits(made.model), logits(fresh.model))
    assert (logits(made.model) - stock).abs().amax(-1).min() > 1e-2


def test_training_with_gradient_checkpointing_gives_the_same_state() -> None:
    plain, thrifty = trained(), trained(gradient_checkpointing=True)
    for layer, state in states(plain).items():
        torch.testing.assert_close(states(thrifty)[layer], state, atol=1e-5, rtol=0)


@pytest.mark.parametrize("at_call", [1, 4], ids=["first step", "second step"])
def test_an_interrupted_training_leaves_a_usable_trainer(at_call: int, tmp_path: Path) -> None:
    made = trained(n_steps=1)
    made.activate()
    before, calls = snapshot(made.model), []

    def interrupt(*_: Any) -> None:
        calls.append(None)
        if len(calls) == at_call:
            raise KeyboardInterrupt

    handle = made.model.get_base_model().register_forward_hook(interrupt)
    made.config.n_steps = 5
    with pytest.raises(KeyboardInterrupt):
        made.train(PAIRS)
    handle.remove()
    assert snapshot(made.model) == before
    made.save(tmp_path)
    tells_its_end = "final_loss" in (tmp_path / "adapter_config.json").read_text()
    assert tells_its_end == (at_call == 1)  # nothing was learned yet: the state of before is there, with its account
    assert made.generate("def ", max_new_tokens=4)
    again, fresh = made.train(PAIRS), trained(n_steps=5)
    assert again["final_loss"] == pytest.approx(mean_slow_loss(made), abs=1e-5)
    for layer, state in states(fresh).items():
        assert torch.equal(states(made)[layer], state)


def test_there_is_nothing_to_activate_or_save_before_training(tmp_path: Path) -> None:
    made = trainer()
    for act in (made.activate, lambda: made.save(tmp_path / "state")):
        with pytest.raises(ConfigError, match="train"):
            act()
    assert not made.is_active
    assert not (tmp_path / "state").exists()


# --- The model around it ---


@every_family
def test_making_a_trainer_leaves_the_model_as_it_was(family: str) -> None:
    model = zoo.make(family)
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    flags = {id(parameter): parameter.requires_grad for parameter in model.parameters()}
    modes = {id(module): module.training for module in model.modules()}
    stock = logits(model)
    made = trainer(family, model)
    for parameter in made.model.parameters():
        assert parameter.requires_grad == flags.get(id(parameter), False)
    for module in made.model.modules():
        assert module.training == modes.get(id(module), module.training)
    assert torch.equal(logits(model), stock)
    assert torch.equal(logits(made.model), stock)
    assert not made.is_active


def test_a_trainer_works_beside_lora() -> None:
    torch.manual_seed(0)
    lora = get_peft_model(
        zoo.make("qwen3_5"), LoraConfig(r=2, target_modules=["q_proj", "in_proj_qkv"], init_lora_weights=False)
    )
    before, stock = {name: p.requires_grad for name, p in lora.named_parameters()}, logits(lora)
    weights = {name: p.clone() for name, p in lora.named_parameters()}
    with pytest.raises(ConfigError, match="get_base_model"):
        trainer(model=lora)
    made = trainer(model=lora.get_base_model(), n_steps=2, lr=0.3, alpha=1.0)
    report = made.train(PAIRS)
    assert torch.equal(logits(lora), stock)
    for name, weight in weights.items():
        (now,) = (
            p for key, p in lora.named_parameters() if key.replace("linear_attn.base_layer", "linear_attn") == name
        )
        assert torch.equal(now, weight)
        assert now.requires_grad == before[name]
    made.activate()
    assert mean_slow_loss(made) == pytest.approx(report["final_loss"], abs=1e-5)
    assert (logits(lora) - stock).abs().amax(-1).min() > 1e-2


def test_a_model_without_a_state_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="llama"):
        trainer(model=zoo.make("llama"))


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("of", [lambda made: made.model, lambda made: made], ids=["model", "trainer"])
def test_an_activated_trainer_can_be_copied_and_pickled(clone: Any, of: Any) -> None:
    made = trained()
    made.activate()
    tuned = logits(made.model)
    twin = clone(of(made))
    twin_model = twin.model if isinstance(twin, S0Trainer) else twin
    assert torch.equal(logits(twin_model), tuned)
    if isinstance(twin, S0Trainer):
        twin.set_scale(0.5)
        assert not torch.equal(logits(twin.model), tuned)
    made.deactivate()
    assert not torch.equal(logits(made.model), tuned)
    if twin is twin_model:
        assert torch.equal(logits(twin_model), tuned)


@pytest.mark.parametrize(
    ("convert", "dtype", "tolerance"),
    [(lambda m: m.to(torch.bfloat16), torch.bfloat16, 0.1), (lambda m: m.double(), torch.float64, 1e-3)],
    ids=["bfloat16", "float64"],
)
def test_the_state_stays_right_when_the_model_changes_its_dtype(
    convert: Any, dtype: torch.dtype, tolerance: float
) -> None:
    made, exact = trained(), trained()
    for each in (made, exact):
        each.activate()
    convert(made.model)
    assert next(made.model.parameters()).dtype == dtype
    for layer, state in states(made).items():
        assert state.dtype == torch.float32
        assert torch.equal(state, states(exact)[layer])
    tuned = logits(exact.model)
    assert (logits(made.model).float() - tuned).abs().mean() < tolerance
    exact.deactivate()
    assert (logits(exact.model) - tuned).abs().mean() > 3 * tolerance
    report = made.train(PAIRS)
    assert report["final_loss"] < report["initial_loss"] - 0.1
    assert made.generate("def ", max_new_tokens=4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_state_moves_with_the_model() -> None:
    made = trained()
    made.activate()
    tuned = logits(made.model)
    made.model.to("cuda")
    assert {state.device.type for state in states(made).values()} == {made.device.type} == {"cuda"}
    assert made.generate("def ", max_new_tokens=4)
    made.train(PAIRS)
    made.model.to("cpu")
    torch.testing.assert_close(logits(made.model), tuned, atol=1e-2, rtol=0)


# --- From names ---


@every_family
def test_a_local_folder_is_loaded_in_eval_mode(family: str, tmp_path: Path) -> None:
    model = zoo.make(family)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    made = S0Trainer.from_pretrained(str(tmp_path), S0Config(n_steps=2, lr=0.5, gradient_checkpointing=True))
    assert not any(module.training for module in made.model.modules())
    assert made.device.type == next(made.model.parameters()).device.type
    stock = logits(model)
    assert torch.equal(logits(made.model), stock)
    norm, calls = made.model.get_base_model().model.layers[0].input_layernorm, []
    norm.register_forward_pre_hook(lambda *_: calls.append(None))
    made.train([Example("a", "b")])
    assert len(calls) == 2 * 2 + 2  # each step twice, then two evaluations


def test_keyword_arguments_reach_the_model(tmp_path: Path) -> None:
    zoo.make("qwen3_5").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    made = S0Trainer.from_pretrained(str(tmp_path), dtype=torch.bfloat16)
    assert next(made.model.parameters()).dtype == torch.bfloat16
    assert {state.dtype for state in states(made).values()} == {torch.float32}


@pytest.mark.parametrize("name", ["pocket:none", "/no/such/folder", "no-such/model", ""])
def test_a_name_that_is_no_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name or "expected"):
        S0Trainer.from_pretrained(name)


def test_a_model_that_cannot_be_trained_as_asked_keeps_the_state_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained()
    before, history = states(made), dict(made._training or {})

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConfigError("no layer of it can be checkpointed")

    monkeypatch.setattr("s0.train.base.fit", refuse)
    with pytest.raises(ConfigError, match="checkpointed"):
        made.train(PAIRS)
    assert all(torch.equal(state, before[name]) for name, state in states(made).items())
    assert made._training == history


@pytest.mark.filterwarnings("ignore:memory does not hold")  # of several rows; then of one
@pytest.mark.parametrize(("error", "raised"), [(torch.OutOfMemoryError, EngineError), (KeyboardInterrupt,) * 2])
def test_whatever_goes_wrong_before_anything_is_learned_leaves_the_state(
    error: type[BaseException], raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained("qwen3_5")
    before, training, alpha = states(made), made.training, made.alpha
    layer = made.model.get_base_model().get_input_embeddings()
    monkeypatch.setattr(layer, "forward", raising(error))
    with pytest.raises(raised):
        made.train(EXAMPLES)
    assert all(torch.equal(state, states(made)[name]) for name, state in before.items())
    assert (made.training, made.alpha) == (training, alpha)


def raising(error: type[BaseException]) -> Any:
    def forward(*_: Any, **__: Any) -> None:
        raise error

    return forward


def test_layers_are_those_that_the_trainer_was_made_with() -> None:
    made = trainer("qwen3_5")
    made.config.layers = [0]
    with pytest.raises(ConfigError, match=r"expected the layers None that this trainer was made with, got \[0\]"):
        made.train(EXAMPLES)


def test_a_search_that_fails_leaves_the_settings() -> None:
    made = trainer("qwen3_5")
    before = made.config
    with pytest.raises(DatasetError):
        made.train_auto(EXAMPLES, SELECT, grid=Grid([1e30], [1]))
    assert made.config is before
