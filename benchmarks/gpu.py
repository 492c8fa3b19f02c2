"""S0 at full size on a GPU: training against its forward-only floor, tuned : untouched inference, swapping states.

    python benchmarks/gpu.py [--model qwen3_5_4b] [--layers 8] [--pairs 6] [--minutes 5] [--out FILE]
    python benchmarks/gpu.py --tiny          tiny models on any machine: checks the script, its numbers say nothing

The models have the published shapes of Qwen3.5-4B (its text part) and Falcon-H1-7B and random weights in bfloat16:
speed and memory do not depend on what weights say. Seconds are wall time with the device synchronised; memory is the
most that torch has allocated, null without CUDA.

training   one step over 48 examples, without and with gradient checkpointing. The floor is the loss of the same
           batches with the untouched model and no gradient: no training can be faster.
prefill    a prompt into an empty cache, where the state enters; decode: single steps from there, where it costs a look
           at the cache. Untouched and tuned model take turns; the ratio is the geometric mean over pairs with its 95%
           t-interval on the log scale. `untouched_again` is the same with no state on either side.
swap       set_adapter between two states on the device, and load_adapter of a third from disk with all its checks.

Each of these parts is written to --out when it ends, by itself, with an error or because its share of --minutes is
over: `ended` says so, and what it has measured until then stays. `kernels` says what ran: packages as transformers
binds them, or its own slow functions in PyTorch, which training takes where a package's gradient is known to be wrong,
and everything with `--kernels torch`. Most of the time of a first run goes to Triton, which compiles and tunes kernels;
it keeps them in TRITON_CACHE_DIR, with TRITON_CACHE_AUTOTUNING=1 also what it has tuned.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import json
import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache, FalconH1Config, PreTrainedConfig, Qwen3_5TextConfig

from s0 import S0AdapterConfig
from s0.bench import environment, t_interval
from s0.core.kernel_backends import implementation_of, kernels_of, refuse_wrong_gradients, torch_path
from s0.core.states import state_layers
from s0.errors import EngineError
from s0.record import write_record
from s0.train import Batch, FitSettings, Splits, batches, fit
from s0.train.data import TokenizedExample
from s0.verify.running import name_of_cache

PACKAGES = ("flash-linear-attention", "fla-core", "mamba-ssm", "causal-conv1d", "kernels", "triton", "tilelang")
JOB = {"examples": 48, "tokens": 256, "batch_tokens": 4096, "prompt": 512, "steps": 32, "rows": (1, 8), "pairs": 20}
TINY_JOB = {"examples": 4, "tokens": 12, "batch_tokens": 24, "prompt": 6, "steps": 2, "rows": (2,), "pairs": 2}
REPEATS = 3
Figures = dict[str, Any]


class OutOfTime(BaseException):
    """The time of a part is over. No Exception: nobody but this script is to catch it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Within it, OutOfTime is raised when so many seconds are over, whatever runs; a kernel's compiler ends first."""

    def end(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 10)  # again, because a callback of C's may swallow it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def configs(tiny: bool, layers: int | None = None) -> dict[str, PreTrainedConfig]:
    """The models' shapes as their publishers give them, cut to `layers`, or the same architectures at toy size."""
    qwen: dict[str, Any] = dict(
        vocab_size=248320,
        hidden_size=2560,
        intermediate_size=9216,
        num_hidden_layers=32,  # every fourth is full attention
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=256,
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    falcon: dict[str, Any] = dict(
        vocab_size=130048,
        hidden_size=3072,
        intermediate_size=12288,
        num_hidden_layers=44,
        num_attention_heads=12,
        num_key_value_heads=2,
        head_dim=128,
        mamba_d_ssm=3072,
        mamba_n_heads=24,
        mamba_d_head=128,
        mamba_n_groups=1,
        mamba_d_state=256,
        mamba_chunk_size=128,
    )
    if tiny:
        small = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1)
        qwen |= small | dict(num_hidden_layers=4, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4)
        qwen |= dict(linear_key_head_dim=8, linear_value_head_dim=8)
        falcon |= small | dict(num_hidden_layers=2, head_dim=16, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16)
        falcon |= dict(mamba_d_state=8, mamba_chunk_size=8)
    if layers is not None:
        qwen["num_hidden_layers"] = falcon["num_hidden_layers"] = layers
    return {"qwen3_5_4b": Qwen3_5TextConfig(**qwen), "falcon_h1_7b": FalconH1Config(**falcon)}


def on_the_same_weights(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors are those of `model`."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


class Bench:
    """One model as it is and tuned, both on the same weights, and the clock."""

    def __init__(self, config: PreTrainedConfig, device: str, job: dict[str, Any], kernels: str) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        self.device, self.job, self.vocabulary = device, job, config.vocab_size
        self.untouched = on_the_same_weights(model)
        self.tuned: PeftModel = get_peft_model(model, S0AdapterConfig(), "first").eval()
        self.tuned.add_adapter("second", S0AdapterConfig())
        for layer in state_layers(self.tuned):
            for state in layer.s0_state.values():
                nn.init.normal_(state, std=0.01)
        self.on_torch = kernels == "torch"
        self.trains_on_torch = self.on_torch or not gradients_are_right(self.tuned)

    def path(self, on_torch: bool) -> AbstractContextManager[None]:
        return torch_path(self.untouched) if on_torch else nullcontext()

    def kernels(self) -> dict[str, str]:
        """What runs now, by the names that the model has for its kernels."""
        runs = {name: implementation_of(kernel) for name, kernel in kernels_of(self.untouched).items()}
        return {name: f"{run.__module__}.{run.__name__}" for name, run in runs.items() if run is not None}

    def seconds(self, work: Callable[[], object]) -> float:
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - start

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_mib(self, work: Callable[[], object]) -> int | None:
        """The most memory allocated while `work` runs, weights included."""
        if self.device != "cuda":
            work()
            return None
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.synchronize()
        return round(torch.cuda.max_memory_allocated() / 2**20)

    def facts(self) -> dict[str, Any]:
        """What the model is."""
        layers, weights = state_layers(self.tuned), list(self.untouched.parameters())
        return {
            "parameters": sum(weight.numel() for weight in weights),
            "weights_mib": round(sum(weight.numel() * weight.element_size() for weight in weights) / 2**20),
            "state_layers": len(layers),
            "state_shape": list(layers[0].state_shape),
            "state_parameters": sum(math.prod(layer.state_shape) for layer in layers),
        }

    # --- Training ---

    def data(self) -> list[Batch]:
        """Examples of equal length, two thirds of them prompt."""
        generator, length = torch.Generator().manual_seed(1), self.job["tokens"]
        rows = torch.randint(1, self.vocabulary, (self.job["examples"], length), generator=generator).tolist()
        examples = [TokenizedExample(row, 2 * length // 3, f"example {i}") for i, row in enumerate(rows)]
        return batches(examples, pad_token=0, max_tokens=self.job["batch_tokens"])

    def training(self, record: Figures) -> None:
        """Tokens a second and peak memory of the floor and of a step."""
        with self.path(self.trains_on_torch):
            record["kernels"] = self.kernels()
            data = self.data()
            record["batches"] = [list(batch.tokens.shape) for batch in data]
            record["tokens"] = sum(batch.tokens.numel() for batch in data)
            floors = self._floor(data, record)
            for name, checkpointing in (("step", False), ("step_checkpointed", True)):
                self._step(name, data, floors, record, checkpointing)

    def _floor(self, data: list[Batch], record: Figures) -> list[float]:
        @torch.no_grad()
        def floor() -> None:
            for batch in data:
                batch.losses(self.untouched)

        record["floor_first_seconds"] = self.seconds(floor)  # kernels compile and tune themselves
        floors = [self.seconds(floor) for _ in range(REPEATS)]
        rate = record["tokens"] / statistics.median(floors)
        record["floor"] = {"tokens_per_second": rate, "peak_mib": self.peak_mib(floor)}
        return floors

    def _step(self, name: str, data: list[Batch], floors: list[float], record: Figures, checkpointing: bool) -> None:
        states = [layer.s0_state["first"] for layer in state_layers(self.tuned)]
        self.tuned.set_adapter("first")

        def steps(n: int) -> None:
            fit(self.tuned, Splits(data), states, FitSettings(n_steps=n, gradient_checkpointing=checkpointing))

        one_step, three_steps = partial(steps, 1), partial(steps, 3)
        record[f"{name}_first_seconds"] = self.seconds(one_step)
        peak = self.peak_mib(one_step)
        # A call also measures the loss at its end; the difference of two calls is exactly two steps.
        times = [(self.seconds(three_steps) - self.seconds(one_step)) / 2 for _ in range(REPEATS)]
        step = statistics.median(times)
        record[name] = {
            "tokens_per_second": record["tokens"] / step,
            "over_floor": {"median": step / statistics.median(floors)}
            | {"min": min(times) / max(floors), "max": max(times) / min(floors)},
            "peak_mib": peak,
        }

    # --- Inference ---

    def inference(self, rows: int, record: Figures) -> None:
        """Seconds of the untouched model and tuned : untouched, for prefill and decode of `rows` prompts."""
        with self.path(self.on_torch):
            record["kernels"] = self.kernels()
            for phase in ("prefill", "decode"):
                self._phase(phase, rows, record)

    def _phase(self, phase: str, rows: int, record: Figures) -> None:
        generator = torch.Generator().manual_seed(2)
        prompt = torch.randint(1, self.vocabulary, (rows, self.job["prompt"]), generator=generator).to(self.device)
        cache_name = name_of_cache(self.untouched)

        @torch.no_grad()
        def prefill(model: nn.Module) -> DynamicCache:
            cache = DynamicCache(config=self.untouched.config)
            model(input_ids=prompt, use_cache=True, **{cache_name: cache}, logits_to_keep=1)
            return cache

        @torch.no_grad()
        def decode(model: nn.Module, cache: DynamicCache) -> None:
            for _ in range(self.job["steps"]):
                model(input_ids=prompt[:, :1], use_cache=True, **{cache_name: cache})

        def timed(model: nn.Module) -> float:
            if phase == "prefill":
                return self.seconds(partial(prefill, model))
            cache = prefill(model)
            return self.seconds(partial(decode, model, cache))

        again = on_the_same_weights(self.untouched)
        figures = record[phase] = {}
        for name, model in {"tuned": self.tuned, "untouched_again": again}.items():
            pairs = []
            for i in range(self.job["pairs"] + 2):  # two to warm up
                order = (model, self.untouched) if i % 2 else (self.untouched, model)
                seconds = {id(side): timed(side) for side in order}
                pairs.append((seconds[id(model)], seconds[id(self.untouched)]))
            logs = [math.log(ours / base) for ours, base in pairs[2:]]
            mean, low, high = (math.exp(value) for value in t_interval(logs))
            figures[name] = {"ratio": mean, "low": low, "high": high, "pairs": len(logs)}
            tokens = rows * (self.job["prompt"] if phase == "prefill" else self.job["steps"])
            figures["untouched_tokens_per_second"] = tokens / statistics.median(base for _, base in pairs[2:])

    def swap(self, record: Figures, repeats: int = 20) -> None:
        """Milliseconds to change the state, on the device and from disk."""
        names = ["second", "first"] * repeats
        on_device = [self.seconds(partial(self.tuned.set_adapter, name)) for name in names]
        record["set_adapter_ms"] = 1000 * statistics.median(on_device)
        from_disk = []
        with tempfile.TemporaryDirectory() as folder:
            self.tuned.save_pretrained(folder, selected_adapters=["second"])
            for _ in range(3):
                from_disk.append(self.seconds(partial(self.tuned.load_adapter, Path(folder, "second"), "third")))
                self.tuned.delete_adapter("third")
        record["load_adapter_ms"] = 1000 * statistics.median(from_disk)


def gradients_are_right(model: nn.Module) -> bool:
    try:
        refuse_wrong_gradients(model)
    except EngineError:
        return False
    return True


def measure(bench: Bench, record: Figures, until: float, keep: Callable[[], None]) -> None:
    """All parts, each in its share of the time that is left: what one leaves over goes to those after it."""
    record |= bench.facts() | {"training": {}, "inference": {}, "swap": {}}
    parts: list[tuple[int, Figures, Callable[[Figures], None]]] = [(4, record["training"], bench.training)]
    for rows in bench.job["rows"]:
        figures = record["inference"][f"rows_{rows}"] = {}
        parts.append((2, figures, partial(bench.inference, rows)))
    parts.append((1, record["swap"], bench.swap))
    for i, (weight, figures, part) in enumerate(parts):
        share = weight / sum(part[0] for part in parts[i:])
        figures["ended"] = ended(partial(part, figures), share * (until - time.monotonic()))
        keep()


def ended(part: Callable[[], None], seconds: float) -> str:
    """Run `part` for so long at most, and say how it ended: "whole" where nothing is missing."""
    try:
        with at_most(seconds):
            part()
    except OutOfTime:
        return f"out of time after {seconds:.0f} s"
    except Exception as error:  # the other parts may still run
        return f"{type(error).__name__}: {error}"
    return "whole"


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(configs(tiny=True)), help="one of them; by default both")
    parser.add_argument("--layers", type=int, help="as many of each model; by default all")
    parser.add_argument("--pairs", type=int, help="turns of tuned and untouched; by default 20")
    parser.add_argument("--minutes", type=float, default=60.0, help="end by then with what there is; by default 60")
    parser.add_argument("--kernels", choices=["bound", "torch"], default="bound", help="what runs the recurrences")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        parser.error("expected a CUDA device, found none; --tiny runs toy models on the CPU to check the script")
    job = TINY_JOB if chosen.tiny else JOB
    if chosen.pairs is not None:
        job = job | {"pairs": chosen.pairs}
    record: dict[str, Any] = {
        "benchmark": "gpu",
        "tiny": chosen.tiny,
        "layers": chosen.layers,
        "minutes": chosen.minutes,
        "environment": environment(),
        "packages": {package: installed(package) for package in PACKAGES},
        "job": job,
        "models": {},
    }

    def keep() -> None:
        if chosen.out:
            write_record(chosen.out, record)

    end = time.monotonic() + 60 * chosen.minutes
    models = {
        name: config for name, config in configs(chosen.tiny, chosen.layers).items() if chosen.model in (None, name)
    }
    for i, (name, config) in enumerate(models.items()):
        now = time.monotonic()
        until = now + (end - now) / (len(models) - i)
        figures = record["models"][name] = {}
        measure(Bench(config, device, job, chosen.kernels), figures, until, keep)
        gc.collect()
        torch.cuda.empty_cache()
    print(json.dumps(record, indent=1))
    keep()


if __name__ == "__main__":
    main()
