"""How a model is loaded: the options for it, and what commands make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from s0.models import load_model
from tests import words, zoo
from tests.cli.calls import result, s0
from tests.pocket_rows import write_rows

LOADING = ("--dtype", "--device", "--kernels", "--revision", "--trust-remote-code")
GOLDEN = Path(__file__).parents[1] / "golden"
GENERATE = ("generate", "--model", "pocket:gdn", "def f(x):", "--max-new-tokens", 1)


@pytest.mark.parametrize("command", ["demo", "collect", "train", "eval", "generate", "inspect", "verify"])
def test_every_command_that_loads_a_model_has_the_options(command: str) -> None:
    listed = s0(command, "--help").stdout
    # `verify` checks in float32, and bfloat16 by itself; `inspect` computes nothing.
    without = {"verify": "--dtype", "inspect": "--kernels"}.get(command)
    assert [option for option in LOADING if f"  {option} " not in listed] == ([without] if without else [])


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--dtype", "int8", "expected --dtype to be one of float32, bfloat16, float16, got 'int8'"),
        ("--device", "gpu", "expected --device to be one that is here (cpu"),
        ("--device", "meta", "expected --device to be one that is here (cpu"),
        ("--device", "cpu:5", "expected --device to be one that is here (cpu"),
        ("--device", "cuda:99", "expected --device to be one that is here (cpu"),
        ("--kernels", "triton", "expected --kernels to be torch, or left out"),
        ("--revision", "main", "expected --revision with a model from the Hugging Face hub, got 'main'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(option: str, value: str, says: str) -> None:
    done = s0(*GENERATE, option, value)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and says in line


@pytest.mark.slow
def test_a_record_says_how_the_model_was_loaded_and_other_roundings_share_no_answer(tmp_path: Path) -> None:
    problems = write_rows(tmp_path / "problems.jsonl", final=3)
    ask = ("eval", "--model", "pocket:gdn", "--task", "pocket-code", "--data", problems, "--max-new-tokens", 8)
    answers = tmp_path / "results" / "record.answers.jsonl"
    counts = []
    for dtype in ("float32", "bfloat16", "float32"):
        record = result(*ask, "--dtype", dtype, "--device", "cpu", "--out", answers.parent, "--overwrite")
        assert (record["model"]["dtype"], record["model"]["device"]) == (dtype, "cpu")
        assert "revision" not in record["model"]
        counts.append(len(answers.read_text().splitlines()))
    assert counts[0] - 1 == (counts[1] - 1) / 2 and counts[1] == counts[2]  # behind the first line


def test_a_state_of_a_bfloat16_model_is_learned_and_read(tmp_path: Path) -> None:
    of_model = ("--model", "pocket:gdn", "--dtype", "bfloat16", "--device", "cpu", "--kernels", "torch")
    train = ("train", *of_model, "--examples", GOLDEN / "train.jsonl", "--n-steps", 1, "--out", tmp_path / "state")
    trained = s0(*train, "--json")
    assert "kernels: all by transformers, in PyTorch" in trained.stderr.splitlines()
    assert " ".join(of_model) in json.loads(trained.stdout)["next"]
    assert result("generate", *of_model, "--state", tmp_path / "state", "def f(x):", "--max-new-tokens", 1)["text"]


def test_the_code_of_a_model_is_run_where_the_option_allows_it(tmp_path: Path) -> None:
    zoo.make("falcon_h1").save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(
        "from transformers import FalconH1Config, FalconH1ForCausalLM\n"
        "class Config(FalconH1Config):\n    model_type = 'own_falcon'\n"
        "class Model(FalconH1ForCausalLM):\n    config_class = Config\n"
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "own_falcon",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    ask = ("generate", "--model", tmp_path, "abc", "--max-new-tokens", 2)
    done = s0(*ask)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "--trust-remote-code" in line
    assert s0(*ask, "--trust-remote-code").returncode == 0


@pytest.mark.parametrize("launched", [True, False])
def test_several_processes_have_a_gpu_each(launched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from s0.errors import ConfigError
    from s0.models import LoadSettings

    tried: list[str] = []
    monkeypatch.setattr(torch, "empty", lambda *size, device: tried.append(device))  # as if the devices were here
    monkeypatch.setenv("WORLD_SIZE", "2" if launched else "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert LoadSettings(device="cuda").arguments()["device_map"] == {"": 1 if launched else "cuda"}
    assert tried == ["cuda:1" if launched else "cuda"]  # never what is another process's
    if launched:
        with pytest.raises(ConfigError, match="each of which has its own GPU, got 'cuda:0'"):
            LoadSettings(device="cuda:0").require_device()
    else:
        assert LoadSettings(device="cuda:0").arguments()["device_map"] == {"": "cuda:0"}


def test_the_dtype_reaches_the_weights() -> None:
    from s0.models import LoadSettings

    for name in ("float32", "bfloat16", "float16"):
        model, _ = load_model("pocket:mamba2", **LoadSettings(dtype=name, device="cpu").arguments())
        assert {weight.dtype for weight in model.parameters()} == {getattr(torch, name)}
