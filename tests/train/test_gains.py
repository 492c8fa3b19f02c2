"""State and gains as one adapter: learned in one loop, kept in one folder, answered with row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from s0 import S0AdapterConfig, S0Trainer
from s0.adapter import load, state_files, tensor_keys
from s0.core.gains import gains_with
from s0.core.norms import find_norms
from s0.decode import Sampling
from s0.errors import ConfigError, StateMismatchError
from s0.export import published
from s0.serve.registry import Registry
from s0.train import FitSettings, Grid, load_tuned, mean_loss, read_tuned, scales_as_rows
from tests import words, zoo
from tests.decode.completing import complete
from tests.train import helpers
from tests.train.helpers import PAIRS, assert_states_equal, in_batches, logits, slow_fit

SELECT = [("def q(z): zzz [%] 99 #!", 9), ("w{8}w{8}w{8}", 4)]


def trained(family: str = "qwen3_5", **settings: Any) -> S0Trainer:
    return helpers.trained(family, **{"gains": True, "lr": 0.1, "n_steps": 3, **settings})


def held(of: S0Trainer) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in of._tensors().items()}


@helpers.every_family
def test_state_and_gains_learn_together(family: str) -> None:
    base = zoo.make(family)
    gains = {name: nn.Parameter(torch.zeros(norm.weight.numel())) for name, norm in find_norms(base).items()}
    for name, gain in gains.items():
        base.get_submodule(name).register_forward_hook(lambda module, args, output, gain=gain: output * (1 + gain))
    model = get_peft_model(base, S0AdapterConfig())
    settings = FitSettings(n_steps=3, lr=0.1)
    learned = [*helpers.trainable(model), *gains.values()]
    slow_fit(model, learned, settings)
    made = trained(family)
    assert_states_equal(list(held(made).values()), learned, 1e-4)
    assert made.n_parameters == sum(tensor.numel() for tensor in learned)
    made.activate()
    torch.testing.assert_close(logits(made.model), logits(model), atol=1e-3, rtol=0)


def test_the_losses_told_are_those_of_the_untouched_model_and_of_what_is_deployed() -> None:
    for alpha in (0.3, "auto"):
        made = helpers.trainer(gains=True, lr=0.1, n_steps=3, alpha=alpha)
        told = made.train(PAIRS, select=SELECT)
        stock = zoo.make("qwen3_5")
        assert abs(told["initial_loss"] - mean_loss(stock, in_batches())) < 1e-5
        assert abs(told["select_initial_loss"] - mean_loss(stock, in_batches(SELECT))) < 1e-5
        made.activate()
        assert abs(told["final_loss"] - mean_loss(made.model, in_batches())) < 1e-5
        assert abs(told["select_final_loss"] - mean_loss(made.model, in_batches(SELECT))) < 1e-5
        scale = made.training.get("scale")
        assert scale is None or abs(scale["values"][0] - told["select_initial_loss"]) < 1e-5


def test_a_search_ends_with_what_its_winner_becomes_alone() -> None:
    made = helpers.trainer(gains=True)
    told = made.train_auto(PAIRS, SELECT, grid=Grid(lrs=(0.01, 0.1), steps=(1, 3)))
    alone = helpers.trainer(gains=True, alpha="auto", lr=told["lr"], n_steps=told["n_steps"])
    again = alone.train(PAIRS, select=SELECT)
    assert_states_equal(list(held(made).values()), list(held(alone).values()))
    assert abs(told["select_final_loss"] - again["select_final_loss"]) < 1e-5


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    want = held(trained(n_steps=4))
    settings: dict[str, Any] = {"gains": True, "lr": 0.1, "n_steps": 4, "alpha": 1.0}
    with helpers.raising_in_step(KeyboardInterrupt, 2):
        helpers.trainer(**settings).train(PAIRS, checkpoint=tmp_path / "c", checkpoint_every=1)
    with pytest.raises(ConfigError, match="gains"):
        helpers.trainer(**{**settings, "gains": False}).train(PAIRS, checkpoint=tmp_path / "c")
    again = helpers.trainer(**settings)
    again.train(PAIRS, checkpoint=tmp_path / "c")
    assert all(torch.equal(held(again)[name], tensor) for name, tensor in want.items())


def test_one_folder_holds_both_for_everybody_who_loads_it(tmp_path: Path) -> None:
    made = trained(alpha=0.4)
    made.save(tmp_path / "a")
    made.activate()
    want = logits(made.model)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["format_version"] == 2 and config["gains"] is True  # versions before refuse it
    by_peft = PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path / "a").eval()
    loaded = load_tuned(zoo.make("qwen3_5"), helpers.tokenizer(), tmp_path / "a")
    assert isinstance(loaded, S0Trainer) and loaded.checksum == made.checksum
    put = load.load(tmp_path / "a", zoo.make("qwen3_5"), "put")
    put.set_adapter("put")
    taken = helpers.trainer()
    taken.config.gains = True
    with pytest.raises(ConfigError, match="gains"):
        taken.load(tmp_path / "a")
    taken.config.gains = False
    taken.load(tmp_path / "a")
    taken.activate()
    for model in (by_peft, loaded.model, put, taken.model):
        assert torch.equal(logits(model), want)
    by_peft.save_pretrained(tmp_path / "b")
    for path in ("a", "b"):
        again = PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path / path, adapter_name="other").eval()
        assert torch.equal(logits(again), want)
        low = PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path / path, low_cpu_mem_usage=True).eval()
        assert torch.equal(logits(low), want)
    native = zoo.make("qwen3_5")
    native.load_adapter(str(tmp_path / "a"))
    assert torch.equal(logits(native.eval()), want)
    started = get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(gains=True, init=str(tmp_path / "a"))).eval()
    torch.testing.assert_close(logits(started), want, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="gains=True"):
        get_peft_model(zoo.make("qwen3_5"), S0AdapterConfig(init=str(tmp_path / "a")))
    with pytest.raises(StateMismatchError, match="gains"):
        published.write(tmp_path / "p", state_files.read(tmp_path / "a"), {})
    assert made.reuse(read_tuned(tmp_path / "a", made.model), PAIRS)


def test_a_folder_without_gains_says_nothing_of_them(tmp_path: Path) -> None:
    helpers.trained("qwen3_5").save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["format_version"] == 1 and "gain" not in json.dumps(config)


DAMAGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "a version that knew none": (lambda c, t: c.update(format_version=1), "format_version 2"),
    "gains that are not told": (lambda c, t: c.update(gains=False, format_version=1), "gain_shapes"),
    "gains that nobody tells": (
        lambda c, t: (c.pop("gains"), c.pop("gain_shapes"), c.update(format_version=1)),
        "a tensor for each",
    ),
    "gains that are not there": (
        lambda c, t: [t.pop(key) for key in list(t) if key.endswith("gain")],
        "a tensor for each",
    ),
    "a norm too few": (lambda c, t: t.pop(max(t)), "a tensor for each"),
    "a norm too few, as told": (
        lambda c, t: (t.pop(gain_key(t)), c["gain_shapes"].pop(tensor_keys.layer_name(gain_key(t)), 0)),
        "a tensor for each|norms of",
    ),
    "another size": (lambda c, t: t.update({gain_key(t): torch.zeros(3)}), "float32"),
    "nan": (lambda c, t: t[gain_key(t)].fill_(torch.nan), "NaN"),
    "another value": (lambda c, t: t[gain_key(t)].add_(1), "checksum"),
    "a gain for a state": (
        lambda c, t: t.update({f"{key}_gain": t.pop(key) for key in list(t) if key.endswith("s0_state")}),
        "a tensor for each",
    ),
}


def gain_key(tensors: dict[str, Tensor]) -> str:
    return next(key for key in sorted(tensors) if key.endswith("_gain"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_gains_are_refused(damage: str, tmp_path: Path) -> None:
    trained(n_steps=1).save(tmp_path)
    change, reason = DAMAGES[damage]
    config, tensors = (
        json.loads((tmp_path / "adapter_config.json").read_text()),
        load_file(tmp_path / state_files.STATE_FILE),
    )
    change(config, tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / state_files.STATE_FILE)
    for refused in (
        lambda: load_tuned(zoo.make("qwen3_5"), helpers.tokenizer(), tmp_path),
        lambda: PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path),
    ):
        with pytest.raises(StateMismatchError, match=reason):
            refused()


def test_gains_of_another_model_are_refused(tmp_path: Path) -> None:
    trained("falcon_h1", n_steps=1).save(tmp_path)
    for allow in (False, True):
        with pytest.raises(StateMismatchError, match=r"gains for the \d norms of FalconH1ForCausalLM, got \d"):
            load.read(tmp_path, zoo.make("falcon_h1_gated"), allow_other_base=allow)


@pytest.mark.parametrize("family", ["qwen3_5", "falcon_h1"])
def test_rows_of_many_adapters_are_answered_as_each_alone(family: str, tmp_path: Path) -> None:
    for i, settings in enumerate(({}, {"lr": 0.2}, {"gains": False, "lr": 0.5})):
        trained(family, **settings).save(tmp_path / str(i))
    model, tokenizer = zoo.make(family), words.characters()
    for i in range(3):
        model = load.load(tmp_path / str(i), model, f"a{i}")
    prompts = ["def add(a, b", "x", "def double(x):\n    re", "a b c", "def one"]
    names = ["a0", "a1", None, "a2", "a0"]
    together = complete(model, tokenizer, prompts, Sampling(max_new_tokens=12), states=names)
    alone = [
        complete(model, tokenizer, [prompt], Sampling(max_new_tokens=12), states=[name])[0]
        for prompt, name in zip(prompts, names, strict=True)
    ]
    assert together == alone
    plain = []
    for prompt, name in zip(prompts, names, strict=True):
        fresh = zoo.make(family)
        if name is not None:
            fresh = load_tuned(fresh, helpers.tokenizer(), tmp_path / name[1:]).model
        plain += complete(fresh, tokenizer, [prompt], Sampling(max_new_tokens=12))
    assert together == plain


def test_scales_answer_side_by_side_as_each_alone() -> None:
    made, prompt, alphas = trained(), "def add(a, b", (0.0, 0.5, 2.0)
    with scales_as_rows(made.model, made.adapter_name, alphas) as names:
        together = complete(made.model, words.characters(), [prompt] * 3, Sampling(max_new_tokens=12), states=names)
    alone = [complete(made.model, words.characters(), [prompt], Sampling(max_new_tokens=12))[0]]  # untouched
    made.activate()
    for alpha in alphas[1:]:
        made.set_scale(alpha)
        alone += complete(made.model, words.characters(), [prompt], Sampling(max_new_tokens=12))
    assert together == alone
    assert len({completion.text for completion in alone}) == 3


def test_a_server_tells_adapters_apart_by_their_gains(tmp_path: Path) -> None:
    made = trained()
    made.save(tmp_path / "one")
    with torch.no_grad():
        next(iter(gains_with(made.model, made.adapter_name).values())).s0_state_gain[made.adapter_name].add_(0.5)
    made.save(tmp_path / "two")
    registry = Registry(zoo.make("qwen3_5"), "base", max_states=1)
    registry.add("one", tmp_path / "one")
    registry.add("two", tmp_path / "two")
    first, second = registry.acquire("one"), None
    assert first is not None
    registry.release(first)
    second = registry.acquire("two")
    assert second is not None and second.digest != first.digest
