"""The command line as a user meets it, on the real pocket model."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch

from s0.adapter import state_files
from s0.core.families import family_facts
from s0.verify import CHECKS, Check
from s0.verify.subject import Comparison
from s0_cli.work import verify
from tests import forking, words, zoo
from tests.cli.calls import result, s0
from tests.pocket_rows import write_rows


def test_help_names_every_command_without_loading_torch():
    code = "import sys, s0_cli.app; sys.argv = ['s0', '--help']; s0_cli.app.app(standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"
    for command in ("demo", "collect", "train", "eval", "generate", "inspect", "verify", "export"):
        assert command in done.stdout


def test_commands_without_a_report_load_no_plotting():
    modules = "train, eval, demo, collect"
    code = f"import sys; from s0_cli.work import {modules}; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    done = forking.run(code)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_eval_lists_every_task():
    tasks = {task["name"]: task for task in result("eval", "--list")["tasks"]}
    assert {"gsm8k", "humaneval", "humaneval+", "math500", "mbpp", "mbpp+", "own", "pocket-code", "spider"} <= {*tasks}
    assert tasks["gsm8k"] == {
        "name": "gsm8k", "what": "word problems, answer a number", "version": "2", "source": "openai/gsm8k",
    }  # fmt: skip
    shown = s0("eval", "--list")
    assert shown.returncode == 0 and "openai/openai_humaneval" in shown.stderr.replace("\n", "")


def test_inspect_lists_every_family():
    listed = result("inspect", "--families")
    assert listed["families"] == family_facts()
    assert {refused["family"] for refused in listed["refused"]} == {"lfm2", "recurrent_gemma", "zaya"}
    falcon = next(facts for facts in family_facts() if facts["family"] == "falcon_h1")
    assert falcon == {
        "family": "falcon_h1", "layer": "mamba", "recurrence": "mamba2", "state": "(heads, head dim, state dim)",
        "alpha": 0.65, "alpha_source": "Young 2026, Falcon-H1", "notes": "",
    }  # fmt: skip
    shown = s0("inspect", "--families")
    assert shown.returncode == 0 and "bailing_hybrid" in shown.stderr
    assert "[heads,]" in shown.stderr  # brackets are no markup


def test_eval_wants_a_model_and_a_task():
    assert s0("eval", "--task", "own").returncode == s0("eval", "--model", "pocket:gdn").returncode == 2


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """collect -> train -> eval, as single commands on a user's own file."""
    folder = tmp_path_factory.mktemp("steps")
    data = write_rows(folder / "rows.jsonl", train=6, select=6, final=4)
    common = ("--model", "pocket:gdn", "--task", "humaneval", "--data", data)
    collected = result("collect", *common, "--out", folder / "e.jsonl", "--samples", 4)
    result("collect", *common, "--split", "select", "--out", folder / "select.jsonl", "--samples", 4)
    result(
        "train",
        "--method",
        "lora",
        "--model",
        "pocket:gdn",
        "--examples",
        folder / "e.jsonl",
        "--out",
        folder / "lora",
        "--rank",
        2,
        "--n-steps",
        2,
    )
    trained = result(
        "train", "--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--out", folder / "state", "--lr", 0.01,
        "--alpha", 1, "--n-steps", 3,
    )  # fmt: skip
    states = ("--state", folder / "state", "--state", folder / "lora")
    evaluated = result("eval", *common, *states, "--out", folder / "record.json")
    return folder, collected, trained, evaluated


def test_single_commands_lead_from_a_data_file_to_a_comparison(steps):
    folder, collected, trained, evaluated = steps
    assert collected["examples"] == trained["examples"] >= 1
    assert trained["final_loss"] < trained["initial_loss"]
    assert [(one["first"], one["second"]) for one in evaluated["comparisons"]] == [
        ("base", "state"), ("base", "lora"), ("state", "lora"),
    ]  # fmt: skip
    assert evaluated["comparisons"][0]["standard"]["n"] == 4
    assert {name: facts["method"] for name, facts in evaluated["variants"].items()} == {
        "base": "base", "state": "s0", "lora": "lora",
    }  # fmt: skip
    assert json.loads((folder / "record.json").read_text())["answers"] == evaluated["answers"]


@pytest.mark.parametrize("task", ["pocket-code", "pocket-math", "pocket-sql"])
def test_eval_prints_both_scorings_and_pass_at_k_of_every_pocket_task(task, tmp_path):
    asked = ("eval", "--model", "pocket:gdn", "--task", task, "--split", "select", "--limit", 8, "--samples", 2)
    done = s0(*asked, "--out", tmp_path / "record.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert len(record["answers"]["base"]) == 8 and len(record["sampled"]["answers"]["base"]) == 16
    for scoring in ("standard", "paper"):
        rates = [record["final"]["base"]["pass_at_1"][scoring]]
        rates += [record["sampled"]["final"]["base"]["pass_at_k"][scoring][k] for k in ("1", "2")]
        for rate in rates:
            shown = f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
            assert shown in done.stderr
    for word in ("standard", "paper", "unparsable", "empty", "truncated"):
        assert word in done.stderr
    again = result(*asked, "--seed", 1)
    assert again["answers"] == record["answers"] and again["sampled"]["answers"] != record["sampled"]["answers"]


def test_collect_keeps_more_without_drawing_again(steps):
    folder, collected, *_ = steps
    data = ("--model", "pocket:gdn", "--task", "humaneval", "--data", folder / "rows.jsonl")
    before = (folder / "e.samples.jsonl").read_text()
    kept = result("collect", *data, "--out", folder / "e.jsonl", "--samples", 4, "--keep", "all")
    assert kept["solved"] >= collected["solved"] and kept["examples"] >= kept["solved"]
    assert (folder / "e.samples.jsonl").read_text().startswith(before)
    other = s0("collect", *data, "--out", folder / "e.jsonl", "--seed", 1)
    assert other.returncode == 2 and "seed" in other.stderr and "--out" in other.stderr


def test_eval_writes_a_report_beside_its_record(steps):
    folder, *_, evaluated = steps
    page = (folder / "record" / "report.html").read_text(encoding="utf-8")
    assert evaluated["report"] == str(folder / "record" / "report.html")
    assert "pocket:gdn" in page and evaluated["model"]["fingerprint"] in page
    assert (folder / "record" / "plots" / "passrates.png").read_bytes().startswith(b"\x89PNG")


def test_the_scale_is_chosen_on_select_examples(steps):
    folder, *_ = steps
    common = ("--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--lr", 0.01, "--n-steps", 2)
    by_loss = result("train", *common, "--select", folder / "select.jsonl", "--out", folder / "by-loss")
    measured = {point["alpha"]: point["value"] for point in by_loss["scale"]["curve"]}
    assert by_loss["scale"]["by"] == "loss" and len(measured) >= 12
    chosen = by_loss["scale"]["chosen"]
    assert measured[chosen] == min(value for alpha, value in measured.items() if alpha)
    assert result("inspect", folder / "by-loss")["alpha"] == chosen
    asked = ("--alpha-by", "pass-rate", "--task", "humaneval", "--data", folder / "rows.jsonl")
    by_verdicts = result("train", *common, *asked, "--out", folder / "by-verdicts")
    assert by_verdicts["scale"]["by"] == "pass rate"
    assert all(0 <= point["value"] <= 1 for point in by_verdicts["scale"]["curve"])
    assert result("inspect", folder / "by-verdicts")["alpha"] == by_verdicts["scale"]["chosen"]


@pytest.mark.slow
def test_auto_chooses_rate_steps_and_scale(steps):
    folder, *_ = steps
    done = result(
        "train", "--auto", "--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--select",
        folder / "select.jsonl", "--out", folder / "auto",
    )  # fmt: skip
    assert done["select_final_loss"] <= done["select_initial_loss"]
    assert result("inspect", folder / "auto")["alpha"] == done["scale"]["chosen"]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_the_same(steps):
    """Killed without warning: the same command finishes what was begun."""
    folder, *_ = steps
    asked = [
        "--model",
        "pocket:gdn",
        "--examples",
        folder / "e.jsonl",
        "--lr",
        "0.01",
        "--alpha",
        "1",
        "--n-steps",
        "60",
    ]
    asked += ["--checkpoint-every", "1"]
    out = folder / "killed"
    checkpoint = folder / "killed.checkpoint"
    process = forking.begun(forking.COMMAND, "train", *asked, "--out", out)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert checkpoint.exists() and not out.exists()
    result("train", *asked, "--out", out)
    assert not checkpoint.exists()
    result("train", *asked, "--out", folder / "whole")
    first, second = (state_files.read(folder / name).tensors for name in ("killed", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_inspect_shows_model_and_state(steps):
    folder, *_ = steps
    model, state = result("inspect", "pocket:gdn"), result("inspect", folder / "state")
    assert [layer["name"] for layer in model["layers"]] == [layer["name"] for layer in state["layers"]]
    assert model["fingerprint"] == state["fingerprint"]
    assert model["state_bytes"] == 4 * sum(torch.Size(layer["shape"]).numel() for layer in model["layers"])
    assert all(layer["norm"] > 0 for layer in state["layers"]) and state["alpha"] == 1.0
    assert state["base_model"] == "pocket:gdn"


def test_inspect_tells_what_a_step_needs_before_there_are_weights(tmp_path):
    zoo.make("falcon_h1").config.save_pretrained(tmp_path)
    told = result("inspect", tmp_path)
    assert told["fingerprint"] is None and told["parameters"] > 0
    memory = told["memory"]
    assert [step["gradient_checkpointing"] for step in memory["steps"]] == [False, True] and memory["trouble"] is None
    for step in memory["steps"]:
        parts = [step[part] for part in ("weights", "states", "activations", "logits")]
        assert all(parts) and step["total"] == sum(parts) and step["most_batch_tokens"] > step["batch_tokens"] == 1024
    shown = s0("inspect", tmp_path).stderr
    assert (
        "a step that trains its state on 1024 tokens, in rows of 128 with --gradient-checkpointing, needs about"
        in shown
    )
    assert f"up to --batch-tokens {memory['steps'][0]['most_batch_tokens']}" in shown


def test_inspect_says_why_memory_is_not_told(tmp_path):
    zoo.make("qwen3_next").config.save_pretrained(tmp_path)  # experts, in float32
    told = result("inspect", tmp_path)
    assert told["memory"]["steps"] == [] and "BF16" in told["memory"]["trouble"]
    assert "memory of a training step: not known" in s0("inspect", tmp_path).stderr


def test_settings_reach_the_training(steps, tmp_path):
    folder, *_ = steps
    asked = ("train", "--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--n-steps", 1, "--batch-tokens", 50)
    trained = result(*asked, "--state-rank", 2, "--out", tmp_path / "state")
    inspected = result("inspect", tmp_path / "state")
    assert inspected["training"]["settings"]["batch_tokens"] == 50
    assert inspected["state_rank"] == 2 and trained["parameters"] == 2 * 4 * 2 * (32 + 32)  # layers x heads x factors
    assert "state_rank" not in result("inspect", folder / "state")
    assert "state_rank: 2" in s0("inspect", tmp_path / "state").stderr


def test_inspect_needs_no_tokenizer(tmp_path):
    zoo.make("falcon_h1").save_pretrained(tmp_path)
    (tmp_path / "meta.json").write_text("{}")  # of somebody else's
    assert result("inspect", tmp_path)["family"] == "falcon_h1"
    done = s0("generate", "def f(x):", "--model", tmp_path)
    assert done.returncode != 0 and "no tokenizer in" in " ".join(done.stderr.split())


def test_export_writes_the_published_layout(steps):
    folder, *_ = steps
    result("export", folder / "state", "--to", "published", "--out", folder / "published")
    exported, own = state_files.read(folder / "published"), state_files.read(folder / "state")
    assert exported.layout == "published"
    assert [t.tolist() for t in exported.tensors.values()] == [t.tolist() for t in own.tensors.values()]


def test_an_offset_is_trained_told_apart_and_not_exported(steps):
    folder, *_ = steps
    out = folder / "offset"
    done = result(
        "train", "--method", "offset", "--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--lr", 0.01,
        "--n-steps", 2, "--out", out,
    )  # fmt: skip
    assert done["method"] == "offset" and done["alpha"] == 1.0
    assert result("inspect", out)["variant"] == "offset"
    assert result("inspect", folder / "state")["variant"] == "state"
    assert "variant: offset" in s0("inspect", out).stderr
    asked = ("generate", "def add(a, b):", "--model", "pocket:gdn", "--max-new-tokens", 4)
    assert result(*asked, "--state", out)["state"] == str(out)
    refused = s0("export", out, "--to", "published", "--out", folder / "never")
    assert refused.returncode == 1 and "got 'offset'" in refused.stderr
    assert not (folder / "never").exists()


def test_all_weights_are_trained_shown_and_asked(steps):
    folder, *_ = steps
    out, of = folder / "full", ("--model", "pocket:gdn")
    done = result("train", "--method", "full", *of, "--examples", folder / "e.jsonl", "--n-steps", 2, "--out", out)
    shown = result("inspect", out)
    assert done["method"] == shown["method"] == "full"
    assert done["parameters"] == shown["parameters"] == result("inspect", "pocket:gdn")["parameters"]
    assert shown["bytes"] == 4 * shown["parameters"]
    assert shown["fingerprint"] == result("inspect", "pocket:gdn")["fingerprint"]
    assert result("generate", "def add(a, b):", *of, "--max-new-tokens", 4, "--state", out)["state"] == str(out)
    asked = result("eval", *of, "--state", out, "--task", "pocket-code", "--data", folder / "rows.jsonl")
    assert asked["model"]["fingerprint"] == shown["fingerprint"]
    assert [variant["method"] for variant in asked["variants"].values()] == ["base", "full"]


@pytest.mark.slow
def test_the_installed_command_runs_as_a_process(steps):
    folder, *_ = steps
    asked = [sys.executable, "-m", "s0_cli", "inspect", str(folder / "state"), "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == result("inspect", folder / "state")
    wrong = forking.run(forking.COMMAND, "inspect", "absent")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr and wrong.stdout == ""


def test_generate_puts_only_the_text_on_stdout(steps):
    folder, *_ = steps
    prompt = 'def add_two(x):\n    """Return x plus 2."""\n'
    plain = s0("generate", prompt, "--max-new-tokens", 16)
    assert plain.returncode == 0 and plain.stdout.strip()
    assert s0("generate", "-", "--max-new-tokens", 16, stdin=prompt).stdout == plain.stdout
    assert result("generate", prompt, "--state", folder / "state", "--max-new-tokens", 16)["state"]


def test_generate_answers_many_prompts_as_each_alone(steps, tmp_path):
    folder, *_ = steps
    asked = ["def one():\n", "def two():\n", "def f(x):\n"]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt, "id": i}) + "\n" for i, prompt in enumerate(asked[1:])))
    how = ("--state", folder / "state", "--max-new-tokens", 12, "--temperature", 0.9, "--top-p", 0.9, "-n", 2)
    done = result("generate", "-", "--prompts", file, *how, "--seed", 3, stdin=asked[0])
    settings = {"max_new_tokens": 12, "temperature": 0.9, "top_p": 0.9, "seed": 3, "samples": 2, "chat": False}
    assert done["settings"] == settings
    assert (done["model"], done["state"], done["text"]) == ("pocket:gdn", str(folder / "state"), None)
    assert [answer["prompt"] for answer in done["answers"]] == asked
    for answer in done["answers"]:
        (alone,) = result("generate", answer["prompt"], *how, "--seed", 3)["answers"]
        assert alone == answer and alone["texts"][0] != alone["texts"][1]
    assert result("generate", asked[0], *how)["answers"][0]["texts"] != done["answers"][0]["texts"]


def test_generate_says_why_a_text_ended(steps):
    folder, *_ = steps
    prompt = 'def add_two(x):\n    """Return x plus 2."""\n'
    (long,) = result("generate", prompt, "--state", folder / "state")["answers"][0]["texts"]
    assert long["ended"] == "stop" and long["n_tokens"] < 512  # the end token is among them
    limit = ("--state", folder / "state", "--max-new-tokens")
    (whole,) = result("generate", prompt, *limit, long["n_tokens"])["answers"][0]["texts"]
    assert whole == long
    cut = result("generate", prompt, *limit, long["n_tokens"] - 1)
    assert cut["answers"][0]["texts"] == [{**long, "ended": "length", "n_tokens": long["n_tokens"] - 1}]
    assert cut["text"] == long["text"]


def test_generate_puts_prompts_through_the_chat_template(tmp_path):
    tokenizer = words.characters()
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}"
    )
    zoo.make("qwen3_5", vocab_size=64).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    turns = [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}, {"role": "user", "content": "c"}]
    (tmp_path / "turns.jsonl").write_text(json.dumps({"messages": turns}))
    asked = ("generate", "--model", tmp_path, "--max-new-tokens", 8)
    done = result(*asked, "--chat", "x", "--prompts", tmp_path / "turns.jsonl")
    assert [answer["prompt"] for answer in done["answers"]] == ["x", turns]
    assert done["settings"]["chat"]
    as_text = result(*asked, "user: x", "user: abot: buser: c")
    assert [answer["texts"] for answer in as_text["answers"]] == [answer["texts"] for answer in done["answers"]]
    assert "prompt 2 of 2, cut at 8 tokens: 'c' ===" in s0(*asked, "x", "--prompts", tmp_path / "turns.jsonl").stdout


def test_of_several_processes_the_first_one_prints(steps, monkeypatch):
    asked = ("generate", "def one():\n", "--max-new-tokens", 2)
    printed = [s0(*asked).stdout, s0(*asked, "--json").stdout]
    monkeypatch.setenv("RANK", "1")
    assert all(printed) and [s0(*asked).stdout, s0(*asked, "--json").stdout] == ["", ""]


def test_several_texts_are_told_apart(steps):
    plain = s0("generate", "def one():\n", "def two():\n", "--max-new-tokens", 4).stdout
    assert "=== prompt 1 of 2, cut at 4 tokens: 'def one():\\n' ===\n" in plain
    assert "=== prompt 2 of 2, cut at 4 tokens: 'def two():\\n' ===\n" in plain
    of_one = s0("generate", "def one():\n", "--max-new-tokens", 4, "--temperature", 1, "-n", 2).stdout
    assert "=== prompt 1 of 1, text 1 of 2, cut at 4" in of_one and "text 2 of 2" in of_one


@pytest.mark.parametrize("family", ["llama", "lfm2", "falcon_h1"])
def test_generate_takes_any_causal_model_without_a_state(family, tmp_path):
    zoo.make(family, vocab_size=64).save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    for model in (tmp_path, "pocket:transformer"):
        done = result("generate", "def f(x):", "--model", model, "--max-new-tokens", 4)
        assert done["text"] and done["state"] is None


def test_human_output_goes_to_stderr(steps):
    done = s0("inspect", "pocket:gdn")
    assert done.returncode == 0 and done.stdout == "" and "gated_delta_net" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["inspect", "no/such-model-anywhere"], 2, "pocket:gdn"),
        (["inspect", "pocket:nothing"], 2, "pocket:gdn"),
        (["inspect"], 2, "TARGET"),
        (["nonsense"], 2, "No such command"),
        (["train", "--model", "pocket:gdn"], 2, "Missing option"),
        (["train", "--model", "pocket:gdn", "--examples", "absent.jsonl", "--out", "x"], 1, "absent.jsonl"),
        (["train", "--model", "pocket:gdn", "--examples", "absent.jsonl", "--out", "x", "--lr", "-1"], 2, "lr"),
        (["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--method", "fll"], 2, "lora"),
        (["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--alpha", "much"], 2, "auto"),
        (["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--rank", "2"], 2, "--rank"),
        (["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--alpha-by", "pass-rate"], 2, "--task"),
        (
            ["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--auto", "--method", "lora"],
            2,
            "--auto",
        ),
        (
            ["train", "--model", "pocket:gdn", "--examples", "x", "--out", "y", "--auto", "--select", "z", "--lr", "1"],
            2,
            "--lr",
        ),
        (["eval", "--model", "pocket:gdn", "--task", "nothing"], 2, "humaneval"),
        (["eval", "--model", "pocket:gdn", "--task", "humaneval", "--data", "absent.jsonl"], 1, "absent.jsonl"),
        (["eval", "--model", "pocket:gdn", "--task", "pocket-code", "--split", "all"], 2, "final"),
        (["eval", "--model", "pocket:gdn", "--task", "pocket-code", "--samples", "-1"], 2, "--samples"),
        (["collect", "--model", "pocket:gdn", "--task", "pocket-code", "--out", "x", "--keep", "best"], 2, "shortest"),
        (["collect", "--model", "pocket:gdn", "--task", "pocket-code", "--out", "x", "--split", "final"], 1, "final"),
        (["export", "absent", "--out", "x"], 1, "absent"),
        (["generate", ""], 2, "prompt"),
    ],
)
def test_wrong_input_ends_with_one_clear_line(tmp_path, monkeypatch, arguments, status, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = s0(*arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("llama", "no recurrent layer of a known kind"),
        ("lfm2", "short convolutions"),
        ("recurrent_gemma", "resets its recurrence at position 0"),
        ("zaya", "one token's value for the token after it"),
    ],
)
def test_a_model_that_cannot_be_tuned_ends_with_the_reason(command, model, says, tmp_path):
    zoo.make(model).save_pretrained(tmp_path)
    words.characters().save_pretrained(tmp_path)
    done = s0(command, tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert says in done.stderr and "Supported families: bailing_hybrid" in done.stderr


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize("name", ["no model", "a file", "an empty folder", "nothing at all"])
def test_a_path_that_holds_no_model_ends_with_one_clear_line(command, name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / name
    if name == "no model":
        path.mkdir()
        (path / "config.json").write_text('["falcon_h1"]')
        words.characters().save_pretrained(path)
    elif name == "a file":
        path.write_bytes(b"\x00\xff" * 100)
    elif name == "an empty folder":
        path.mkdir()
    done = s0(command, path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: expected a Hugging Face id, a local model folder, or one of")


def test_a_state_of_another_model_is_refused(steps, tmp_path):
    folder, *_ = steps
    config = json.loads((folder / "state" / "adapter_config.json").read_text())
    copy = tmp_path / "state"
    copy.mkdir()
    (copy / "adapter_model.safetensors").write_bytes((folder / "state" / "adapter_model.safetensors").read_bytes())
    (copy / "adapter_config.json").write_text(json.dumps({**config, "fingerprint": "0" * 32}))
    asked = ("generate", "def f(x):\n", "--state", copy, "--max-new-tokens", 4)
    refused = s0(*asked)
    assert refused.returncode == 1 and "fingerprint" in refused.stderr
    assert s0(*asked, "--allow-other-base").returncode == 0


def test_without_a_sandbox_nothing_runs_unless_the_user_insists(steps, monkeypatch):
    folder, *_ = steps
    monkeypatch.setattr("s0.tasks.sandbox.backends.BACKENDS", ())
    asked = ("eval", "--model", "pocket:gdn", "--task", "humaneval", "--data", folder / "rows.jsonl")
    refused = s0(*asked)
    assert refused.returncode == 1 and "--unsafe-no-sandbox" in refused.stderr and refused.stdout == ""
    insisted = s0(*asked, "--unsafe-no-sandbox", "--json")
    assert insisted.returncode == 0 and "warning: no sandbox" in insisted.stderr
    assert json.loads(insisted.stdout)["final"]["base"]["pass_at_1"]["standard"]["n"] == 4


def test_verify_tells_what_holds_and_exits_1_where_a_check_fails(monkeypatch):
    few = [check for check in CHECKS if check.name in ("zero state", "decode")]
    monkeypatch.setattr(verify, "CHECKS", few)
    told = result("verify", "pocket:gdn")
    assert (told["family"], told["counts"], told["failed"]) == ("qwen3_5", {"holds": 2}, [])
    assert [one["name"] for one in told["checks"]] == ["zero state", "decode"]
    assert all(one["error"] <= one["tolerance"] <= 1e-4 for one in told["checks"])

    broken = Check("planted", "one thing with another", lambda subject: iter([Comparison(0.5, 1e-4)]), False)
    monkeypatch.setattr(verify, "CHECKS", [few[1], broken])
    done = s0("verify", "pocket:gdn")
    assert done.returncode == 1
    assert "holds: 1, fails: 1" in done.stderr
    assert re.search(r"planted +fails +0\.5 +0\.0001", done.stderr)
    assert "planted (one thing with another): fails" in done.stderr
    assert s0("verify", "pocket:transformer").returncode == 1
