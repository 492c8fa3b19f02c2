"""What many states on one model cost: decoding a mixed batch, the way to a first token, and answering many clients.

    python benchmarks/serving_speed.py [--pairs 40] [--out benchmarks/results/serving_speed.json]

mixing      64 rows decode 24 tokens each, all from the untouched model, from one state, 8 or 64 states; the five
            batches of a round (the untouched model twice) take turns at every token, so that what slows the machine
            down for a moment slows all of them down. CPU seconds of one thread; ratios are geometric means over rounds
            with 95% t-intervals on the log scale. Models: the pocket models, and the 8 layers of training_speed.py,
            all with random states.
first token from a prompt of 64 tokens to its first token, in milliseconds of wall time, the quartiles: in the batcher
            from the untouched model, from a state in memory and from one that has to be read from disk first, all its
            checks included; beside forward passes alone, with LoRA of rank 24 on the attention layers by PEFT:
            set_adapter, adapter_names, and merged for the request and unmerged after it. pocket:gdn, one process, no
            HTTP, one thread.
clients     24 clients ask `s0 serve` and `transformers serve` for up to 32 tokens of chat each, from the untouched
            pocket:gdn, and one client asks `s0 serve` one by one; tokens a second of wall time, on all cores, the
            servers one after the other, in rounds. transformers serve runs models with recurrent layers one request at
            a time. Answers are compared, too.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from openai import AsyncOpenAI
from peft import LoraConfig, PeftModel, get_peft_model
from ratios import ratio
from torch import nn
from training_speed import build_model, cpu_seconds

from s0 import S0AdapterConfig, load_model
from s0.adapter.load import load
from s0.bench import environment
from s0.core.states import BASE, state_layers
from s0.decode import Batcher, Request
from s0.models import POCKET_MODELS
from s0.record import write_record

ROWS, STEPS = 64, 24
MIXES = {"untouched": 0, "untouched again": 0, "1 state": 1, "8 states": 8, "64 states": 64}
CLIENTS, REQUESTS, TOKENS = 24, 48, 32
NO_END = 1 << 20  # no model here writes that token, so all rows are as long as is asked
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def with_states(model: nn.Module, n: int) -> PeftModel:
    """A model with so many random states, "random_0" and so on, none of them active."""
    torch.manual_seed(0)
    tuned = get_peft_model(model, S0AdapterConfig(), "random_0")
    for i in range(1, n):
        tuned.add_adapter(f"random_{i}", S0AdapterConfig())
    for layer in state_layers(tuned):
        for state in layer.s0_state.values():
            nn.init.normal_(state, std=0.1)
    tuned.base_model.disable_adapter_layers()
    return tuned.eval()


# --- Mixing ---


def filled(model: nn.Module, tokenizer: Any, n_states: int) -> Batcher:
    """A batcher with all its rows, whose prompts were read, from so many states."""
    batcher = Batcher(model, tokenizer, ROWS)
    for i in range(ROWS):
        state = f"random_{i % n_states}" if n_states else BASE
        batcher.submit(Request(tuple(5 + (7 * i + j) % 200 for j in range(16)), STEPS + 2, state=state))
    while batcher.n_rows < ROWS:
        batcher.step()
    return batcher


def mixing(model: nn.Module, tokenizer: Any, rounds: int) -> dict[str, Any]:
    """Ratios of all mixes to the untouched model, and of many states to one."""
    model.generation_config.eos_token_id = [NO_END]
    tuned = with_states(model, max(MIXES.values()))
    seconds: dict[str, list[float]] = {mix: [] for mix in MIXES}
    for _ in range(rounds + 1):  # one to warm up
        batchers = {mix: filled(tuned, tokenizer, n_states) for mix, n_states in MIXES.items()}
        spent = dict.fromkeys(MIXES, 0.0)
        for step in range(STEPS):
            first = step % len(MIXES)
            for mix in [*MIXES][first:] + [*MIXES][:first]:
                spent[mix] += cpu_seconds(batchers[mix].step)
        for mix in MIXES:
            seconds[mix].append(spent[mix])
    seconds = {mix: values[1:] for mix, values in seconds.items()}
    pairs = [(mix, "untouched") for mix in MIXES if mix != "untouched"]
    pairs += [(mix, "1 state") for mix in ("8 states", "64 states")]
    return {
        "ratios": {f"{these} : {those}": ratio(seconds[these], seconds[those]) for these, those in pairs},
        "rounds": rounds,
        "tokens_per_cpu_second": round(ROWS * STEPS / statistics.median(seconds["untouched"])),
    }


# --- The first token ---


def milliseconds(work: Callable[[], object], repeats: int, prepare: Callable[[], object] = lambda: None) -> list[float]:
    """The quartiles of what `work` takes, each time after `prepare`."""
    times = []
    for _ in range(repeats):
        prepare()
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return [round(value, 2) for value in statistics.quantiles(times, n=4)]


def first_token(repeats: int) -> dict[str, list[float]]:
    """Quartiles by the way to it."""
    model, tokenizer = load_model("pocket:gdn")
    model.generation_config.eos_token_id = [NO_END]
    prompt = tuple(5 + i for i in range(64))
    with tempfile.TemporaryDirectory() as folder:
        with_states(copy.deepcopy(model), 1).save_pretrained(folder)
        tuned = with_states(copy.deepcopy(model), 2)
        batcher = Batcher(tuned, tokenizer)

        def ask(state: str) -> None:
            number = batcher.submit(Request(prompt, 1, state=state))
            (event,) = batcher.step()
            assert event.request == number

        def ask_from_disk() -> None:
            load(Path(folder) / "random_0", tuned, "read")
            ask("read")

        def forget() -> None:
            if "read" in tuned.peft_config:
                tuned.delete_adapter("read")

        ways = {
            "untouched": milliseconds(lambda: ask(BASE), repeats),
            "state in memory": milliseconds(lambda: ask("random_1"), repeats),
            "state on disk": milliseconds(ask_from_disk, repeats, forget),
        }
    return {**ways, **_first_token_of_lora(model, torch.tensor([prompt]), repeats)}


def _first_token_of_lora(model: nn.Module, tokens: torch.Tensor, repeats: int) -> dict[str, list[float]]:
    settings = LoraConfig(r=24, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    lora = get_peft_model(copy.deepcopy(model), settings, "a").eval()
    lora.add_adapter("b", settings)

    @torch.no_grad()
    def ask(**named: Any) -> None:
        lora(input_ids=tokens, use_cache=True, logits_to_keep=1, **named)

    @torch.no_grad()
    def ask_untouched() -> None:
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)

    def ask_after_switching() -> None:
        lora.set_adapter("b" if lora.active_adapter == "a" else "a")
        ask()

    def ask_merged() -> None:
        lora.merge_adapter(["b"])
        ask()
        lora.unmerge_adapter()

    ask()
    return {
        "forward pass alone": milliseconds(ask_untouched, repeats),
        "LoRA, set_adapter": milliseconds(ask_after_switching, repeats),
        "LoRA, adapter_names": milliseconds(lambda: ask(adapter_names=["b"]), repeats),
        "LoRA, merged and unmerged": milliseconds(ask_merged, repeats),
    }


# --- Clients ---


@contextmanager
def server(command: Sequence[str]) -> Iterator[str]:
    """A server's address, while it runs in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} has ended with {process.returncode}")
            time.sleep(0.2)
        yield f"{address}/v1"
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Load:
    """What clients were answered.

    Attributes:
        tokens_per_second: written for all of them, of wall time.
        texts: by prompt.
    """

    tokens_per_second: float
    texts: dict[str, str]


async def answered(address: str, model: str, n_clients: int, n_requests: int) -> Load:
    """Greedy chat completions of up to `TOKENS` tokens, `n_clients` at a time."""
    async with AsyncOpenAI(base_url=address, api_key="none", timeout=600, max_retries=0) as client:
        left, texts, n_tokens = iter(range(n_requests)), {}, 0

        async def ask(i: int) -> int:
            prompt = f"def f{i % 10}(n):\n"
            messages: Any = [{"role": "user", "content": prompt}]
            answer = await client.chat.completions.create(
                model=model, messages=messages, temperature=0, max_tokens=TOKENS
            )
            assert answer.usage is not None
            text = answer.choices[0].message.content or ""
            # transformers serve repeats a prompt that is no special token, keeps the end token, and strips spaces.
            texts[prompt] = text.removeprefix(prompt).removesuffix("<eos>").rstrip()
            return answer.usage.completion_tokens

        async def work() -> None:
            nonlocal n_tokens
            for i in left:
                written = await ask(i)
                n_tokens += written

        await ask(0)
        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(n_clients)))
        return Load(n_tokens / (time.perf_counter() - begun), texts)


def clients(rounds: int) -> dict[str, Any]:
    """Tokens a second of both servers, and the ratios."""
    with tempfile.TemporaryDirectory() as place:
        folder = str(Path(place) / "model")
        shutil.copytree(POCKET_MODELS["pocket:gdn"], folder)
        _, tokenizer = load_model(folder)
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        ends = {"eos_token_id": tokenizer.eos_token_id}
        (Path(folder) / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
        scripts = Path(sys.executable).parent
        ours = [str(scripts / "s0"), "serve", "--model", folder, "--dtype", "float32"]
        theirs = [str(scripts / "transformers"), "serve", folder, "--dtype", "float32"]
        loads: dict[str, list[Load]] = {"s0 serve": [], "s0 serve, one by one": [], "transformers serve": []}
        for _ in range(rounds):
            with server(ours) as address:
                loads["s0 serve"].append(asyncio.run(answered(address, folder, CLIENTS, 8 * REQUESTS)))
                loads["s0 serve, one by one"].append(asyncio.run(answered(address, folder, 1, REQUESTS)))
            with server(theirs) as address:
                loads["transformers serve"].append(asyncio.run(answered(address, folder, CLIENTS, REQUESTS)))
    rates = {way: [load.tokens_per_second for load in of_way] for way, of_way in loads.items()}
    texts = loads["s0 serve"][0].texts
    return {
        "tokens_per_second": {way: round(statistics.median(values), 1) for way, values in rates.items()},
        "ratios": {way: ratio(rates["s0 serve"], values) for way, values in rates.items() if way != "s0 serve"},
        "prompts_answered_otherwise": {
            way: sum(load.texts[prompt] != text for load in of_way for prompt, text in texts.items())
            for way, of_way in loads.items()
        },
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3, help="of clients")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = {"benchmark": "serving_speed", "environment": environment(), "cores": os.cpu_count()}
    record["clients"] = clients(chosen.rounds)
    print(json.dumps(record["clients"], indent=1), flush=True)
    torch.set_num_threads(1)
    record["first_token_ms"] = first_token(chosen.pairs)
    print(json.dumps(record["first_token_ms"]), flush=True)
    _, tokenizer = load_model("pocket:gdn")
    models = {name: load_model(name)[0] for name in ("pocket:gdn", "pocket:mamba2")}
    record["mixing"] = {}
    for name, model in {**models, "8 layers": build_model()}.items():
        record["mixing"][name] = mixing(model, tokenizer, chosen.pairs)
        print(name, json.dumps(record["mixing"][name], indent=1), flush=True)
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
