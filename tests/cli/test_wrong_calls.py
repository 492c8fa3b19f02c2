"""A hundred wrong calls: each ends in one line that says what to do, and with the status for it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import words, zoo
from tests.cli.calls import result, s0
from tests.pocket_rows import write_rows

GDN = "--model pocket:gdn"
TRAIN = f"train {GDN} --examples e.jsonl"
COLLECT = f"collect {GDN} --task pocket-code --out new.jsonl"
EVAL = f"eval {GDN} --task pocket-code"
DEMO = "demo --task humaneval --data rows.jsonl"
OWN = "--task own --data"


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


EXAMPLE = {"prompt": "def f(x):\n", "completion": "    return x\n"}
CODE = {"prompt": "def f(x):\n", "entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 1\n"}

FILES = {
    "e.jsonl": lines(*[{**EXAMPLE, "prompt": f"def f{i}(x):\n"} for i in range(4)]),
    "empty.jsonl": "",
    "cut.jsonl": '{"prompt": "a", "compl',
    "list.jsonl": "[1, 2]\n",
    "no-completion.jsonl": lines({"prompt": "a"}),
    "empty-completion.jsonl": lines({"prompt": "a", "completion": ""}),
    "messages.jsonl": lines({"messages": [{"role": "user", "content": "a"}]}),
    "chat.jsonl": lines({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    "long.jsonl": lines({"prompt": "a", "completion": "b" * 9000}),
    "one-own.jsonl": lines(CODE),
    "own-no-test.jsonl": lines({"prompt": "def f(x):\n", "entry_point": "f"}),
    "own-asserts.jsonl": lines({**CODE, "test": "assert f(1) == 1\n"}),
    "own-syntax.jsonl": lines({**CODE, "test": "def check(:"}),
    "own-name.jsonl": lines(*[{**CODE, "id": i, "test": "def check(c):\n    assert g(1)\n", "split": "final",
                               "prompt": f"def f(x{i}):\n"} for i in range(3)]),
    "own-twice.jsonl": lines(CODE, CODE),
    "own-split.jsonl": lines({**CODE, "split": "test"}),
    "own-nan.jsonl": '{"prompt": "a", "answer": NaN}\n',
    "own-mixed.jsonl": lines(CODE, {"prompt": "b", "answer": "4"}),
    "config.txt": "{}",
    "results/notes.txt": "mine",
    "no-model/config.json": '{"model_type": "nothing"}',
    "broken-state/adapter_config.json": '{"peft_type": "S0"}',
    "other-adapter/adapter_config.json": '{"peft_type": "LOHA"}',
}  # fmt: skip

CALLS: list[tuple[str, int, str]] = [
    # No such thing, or not the right kind
    ("frobnicate", 2, "No such command"),
    ("train --modle pocket:gdn", 2, "No such option"),
    (f"train {GDN}", 2, "Missing option"),
    ("collect --task pocket-code --out x.jsonl", 2, "Missing option"),
    ("generate", 2, "--prompts"),
    ("generate a --temperature -1", 2, "--temperature"),
    ("generate a --temperature nan", 2, "--temperature"),
    ("generate a --top-p 0.5", 2, "--temperature"),
    ("generate a -n 2", 2, "--temperature"),
    ("generate a -n 0", 2, "--samples"),
    ("generate a --max-new-tokens 2048", 2, "shorten one of them"),
    *[(f"generate --prompts {name} --model no/such-model", 1, says) for name, says in (
        ("absent.jsonl", "absent.jsonl"), ("empty.jsonl", "none"), ("cut.jsonl", "line 1"), ("list.jsonl", "'prompt'"),
        ("chat.jsonl", "assistant"), ("config.txt", "'prompt'"), ("results", "results"))],
    ("generate --prompts messages.jsonl", 1, "chat template"),
    ("generate a --prompts messages.jsonl", 1, "in prompt 2"),
    ("export", 2, "Missing argument"),
    ("verify", 2, "Missing argument"),
    ("inspect", 2, "TARGET"),
    *[(f"inspect {name} {option}", 2, f"{option.split()[0]}, got the adapter {name}") for name in ("state", "lora")
      for option in ("--dtype float32", "--device cpu", "--revision main", "--trust-remote-code")],
    ("eval --task pocket-code", 2, "--model"),
    (f"eval {GDN}", 2, "--task"),
    (f"{COLLECT} --samples 0", 2, "--samples"),
    (f"{COLLECT} --samples many", 2, "--samples"),
    (f"{COLLECT} --temperature 0", 2, "--temperature"),
    (f"{COLLECT} --top-p 2", 2, "--top-p"),
    (f"{COLLECT} --keep best", 2, "shortest"),
    (f"{COLLECT} --split final", 1, "final"),
    (f"{COLLECT} --split test", 2, "select"),
    *[(f"{call} --timeout-s {value}", 2, "--timeout-s") for call in (COLLECT, EVAL, "demo --out new")
      for value in ("inf", "nan", "0", "1e10")],
    (f"{EVAL} --split all", 2, "final"),
    (f"{EVAL} --samples -1", 2, "--samples"),
    (f"{EVAL} --max-new-tokens 0", 2, "--max-new-tokens"),
    (f"{TRAIN} --out x --method whole", 2, "lora"),
    (f"{TRAIN} --out x --n-steps 0", 2, "--n-steps"),
    (f"{TRAIN} --out x --lr 0", 2, "--lr"),
    (f"{TRAIN} --out x --lr nan", 2, "--lr"),
    (f"{TRAIN} --out x --lr -1", 2, "--lr"),
    (f"{TRAIN} --out x --l2-lambda -1", 2, "--l2-lambda"),
    (f"{TRAIN} --out x --state-rank 0", 2, "--state-rank"),
    (f"{TRAIN} --out x --state-rank 33", 2, "--state-rank of 1 to 32"),
    (f"{TRAIN} --out x --alpha much", 2, "auto"),
    (f"{TRAIN} --out x --alpha nan", 2, "alpha"),
    (f"{TRAIN} --out x --alpha auto", 2, "--select"),
    (f"{TRAIN} --out x --patience 3", 2, "--select"),
    (f"{TRAIN} --out x --alpha-by luck", 2, "pass-rate"),
    (f"{TRAIN} --out x --alpha-by pass-rate", 2, "--task"),
    (f"{TRAIN} --out x --alpha-by pass-rate --data rows.jsonl", 2, "--task"),
    (f"{TRAIN} --out x --task own", 2, "--alpha-by pass-rate with --task"),
    (f"{TRAIN} --out x --data rows.jsonl", 2, "--alpha-by pass-rate with --data"),
    (f"{TRAIN} --out x --task own --data rows.jsonl", 2, "--alpha-by pass-rate with --task and --data"),
    (f"{TRAIN} --out x --alpha-by pass-rate --task own --data rows.jsonl --alpha auto", 2, "no --alpha"),
    (f"{TRAIN} --out x --alpha-by pass-rate --task own --data rows.jsonl --patience 2", 2, "--select"),
    (f"{TRAIN} --out x --auto --select e.jsonl --patience 2", 2, "no --patience"),
    (f"{TRAIN} --out x --method lora --lora-alpha 0", 2, "--lora-alpha"),
    (f"{TRAIN} --out x --auto", 2, "--select"),
    (f"{TRAIN} --out x --auto --method lora", 2, "--auto"),
    (f"{TRAIN} --out x --auto --select e.jsonl --lr 1", 2, "--lr"),
    (f"{TRAIN} --out x --rank 2", 2, "--rank"),
    (f"{TRAIN} --out x --method lora --alpha 2", 2, "--alpha"),
    (f"{TRAIN} --out x --method lora --lora-alpha -1", 2, "alpha"),
    (f"{TRAIN} --out x --method lora --virtual-tokens 2", 2, "--virtual-tokens"),
    (f"{TRAIN} --out x --method lora --normalize", 2, "--normalize"),
    (f"{TRAIN} --out x --method lora --state-rank 2", 2, "--state-rank"),
    (f"improve {GDN} --task pocket-code --out x --method lora --state-rank 2", 2, "--state-rank"),
    (f"{TRAIN} --out x --method full --seed 1", 2, "--seed"),
    (f"{TRAIN} --out x --method full --dtype bfloat16", 2, "--dtype float32"),
    (f"{TRAIN} --out x --method prefix", 1, "use LoRA"),
    (f"{TRAIN} --out x --max-length 1", 2, "--max-length"),
    (f"{TRAIN} --out x --checkpoint-every 0", 2, "--checkpoint-every"),
    (f"{TRAIN} --out x --scale-in-training --select e.jsonl --alpha auto", 2, "--scale-in-training"),
    ("export state --to gguf --out x", 2, "published"),
    # Files that are not there, or are something else
    (f"train {GDN} --examples absent.jsonl --out x", 1, "absent.jsonl"),
    (f"train {GDN} --examples . --out x", 1, "directory"),
    (f"{TRAIN} --select absent.jsonl --out x", 1, "absent.jsonl"),
    *[(f"train {GDN} --examples {name}.jsonl --out x", 1, name) for name in
      ("empty", "cut", "list", "no-completion", "empty-completion", "messages")],
    (f"train {GDN} --examples chat.jsonl --out x", 1, "chat template"),
    (f"train {GDN} --examples long.jsonl --out x", 1, "--max-length 2048"),
    (f"{TRAIN} --max-length 3 --out x", 1, "raise --max-length"),
    (f"{EVAL} --data absent.jsonl", 1, "absent.jsonl"),
    (f"{EVAL} --data config.txt", 1, "config.txt"),
    ("eval --model pocket:gdn --task nothing", 2, "humaneval"),
    ("eval --model pocket:gdn --task own", 1, "--data PATH"),
    ("eval --model pocket:gdn --task spider", 1, "--data FOLDER"),
    ("eval --model pocket:gdn --task spider --data .", 1, "dev.json"),
    *[(f"eval {GDN} {OWN} {name}.jsonl", 1, says) for name, says in (
        ("own-no-test", "'test'"), ("own-syntax", "test that Python can read"), ("own-name", "NameError"),
        ("own-asserts", "defines check(candidate)"),
        ("own-twice", "once"), ("own-split", "'split'"), ("own-nan", "answer"),
        ("own-mixed", "make a file of each kind"),
        ("empty", "empty file"), ("cut", "line 1"))],
    (f"eval {GDN} {OWN} one-own.jsonl --split select", 1, "got none"),
    (f"collect {GDN} {OWN} one-own.jsonl --out x.jsonl", 1, "got none"),
    (f"demo {OWN} one-own.jsonl", 1, "got none"),
    (f"{TRAIN} --alpha-by pass-rate {OWN} one-own.jsonl --out x", 1, "got none"),
    # Models that are none
    ("inspect no/such-model", 2, "pocket:gdn"),
    ("inspect pocket:gpt", 2, "pocket:gdn"),
    ("inspect no-model", 2, "no-model"),
    ("verify no/such-model", 2, "pocket:gdn"),
    ("verify pocket:transformer", 1, "Supported families"),
    ("generate hello --model no/such-model", 2, "pocket:gdn"),
    ("generate hello --model no-tokenizer", 2, "no tokenizer"),
    ("generate (_) --model small-vocabulary", 1, "the tokenizer is not this model's"),
    ("train --model small-vocabulary --examples e.jsonl --out x", 1, "the tokenizer is not this model's"),
    ("train --model no-tokenizer --examples e.jsonl --out x", 2, "no tokenizer"),
    ("train --model pocket:transformer --examples e.jsonl --out x", 1, "Supported families"),
    ("demo --model no/such-model", 2, "pocket:gdn"),
    # States that are none, or another's
    ("generate a --state absent", 1, "check the path"),
    ("generate a --state e.jsonl", 1, "e.jsonl"),
    ("generate a --state results", 1, "notes.txt"),
    ("generate a --state broken-state", 1, "format_version"),
    ("generate a --state other-adapter", 1, "LOHA"),
    ("generate a --state state --model pocket:mamba2", 1, "pocket:gdn"),
    ("generate a --state lora --model pocket:transformer", 1, "lora"),
    ("generate a --chat", 1, "chat template"),
    (f"{EVAL} --state state --state absent", 1, "absent"),
    ("eval --model pocket:mamba2 --task pocket-code --state state", 1, "pocket:gdn"),
    ("inspect broken-state", 1, "format_version"),
    ("inspect other-adapter", 1, "LOHA"),
    ("export absent --out x", 1, "absent"),
    ("export lora --out x", 2, "LORA"),
    ("export full --out x", 2, "model.save_pretrained"),
    ("generate a --state full --model pocket:mamba2", 1, "a tensor for each"),
    ("generate a --state full --dtype bfloat16", 1, "--dtype float32"),
    ("export broken-state --out x", 1, "format_version"),
    # Places that are taken, or cannot be written
    (f"{TRAIN} --out e.jsonl", 2, "e.jsonl"),
    (f"{TRAIN} --out state", 2, "--overwrite"),
    (f"{TRAIN} --out results", 2, "notes.txt"),
    (f"{TRAIN} --out .", 2, "name"),
    (f"{TRAIN} --out /proc/x", 1, "/proc/x"),
    (f"{TRAIN} --out e.jsonl/x", 1, "e.jsonl/x"),
    (f"{EVAL} --out results", 2, "notes.txt"),
    (f"{EVAL} --out config.txt", 2, ".json"),
    (f"{EVAL} --out state", 2, "adapter_config.json"),
    (f"{EVAL} --out /proc/x/y.json", 1, "/proc/x/y.json"),
    (f"collect {GDN} --task pocket-code --out e.jsonl", 2, "e.jsonl"),
    (f"collect {GDN} --task pocket-code --out results", 2, "results"),
    (f"collect {GDN} --task pocket-code --out /proc/x/y.jsonl", 1, "/proc/x/y"),
    (f"collect {GDN} --task pocket-code --out examples.txt", 2, ".jsonl"),
    (f"{DEMO} --out e.jsonl", 2, "e.jsonl"),
    (f"{DEMO} --out results --overwrite", 2, "notes.txt"),
    (f"{DEMO} --out /proc/x/y", 1, "/proc/x/y"),
    ("export state --out state", 2, "state"),
    ("export state --out e.jsonl", 2, "e.jsonl"),
    ("export state --out /proc/x/y", 1, "/proc/x/y"),
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    write_rows(folder / "rows.jsonl", train=2, select=2, final=2)
    zoo.make("qwen3_5").save_pretrained(folder / "no-tokenizer")
    zoo.make("qwen3_5", vocab_size=40).save_pretrained(folder / "small-vocabulary")
    words.characters().save_pretrained(folder / "small-vocabulary")
    common = ("train", "--model", "pocket:gdn", "--examples", folder / "e.jsonl", "--n-steps", 1)
    result(*common, "--out", folder / "state")
    result(*common, "--method", "lora", "--rank", 2, "--out", folder / "lora")
    result(*common, "--method", "full", "--out", folder / "full")
    return folder


def test_there_are_a_hundred() -> None:
    assert len({call for call, *_ in CALLS}) >= 100


@pytest.mark.parametrize(("call", "status", "says"), CALLS, ids=[call for call, *_ in CALLS])
def test_a_wrong_call_ends_with_one_line(
    call: str, status: int, says: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "300")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = s0(*call.split())
    assert done.returncode == status, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert says in done.stderr
    if not done.stderr.startswith("Usage: "):
        (line,) = (line for line in done.stderr.splitlines() if not re.search(r"\d:\d\d|-:--", line))  # bars
        assert line.startswith("error: ")
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("call", [f"{COLLECT} --state", "generate a --state", f"{EVAL} --state", "export --out x"])
@pytest.mark.parametrize("here", [".", "state"])
def test_a_state_without_a_name_is_neither_the_untouched_model_nor_that_of_the_folder(
    call: str, here: str, prepared: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(prepared / here)  # as from a variable of the shell's that is not set
    done = s0(*call.split(), "")
    assert done.returncode == 1 and "error: expected a state folder, got an empty name" in done.stderr
    assert not Path("new.jsonl").exists() and not Path("x").exists()
