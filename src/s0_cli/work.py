"""What the commands do. Every function returns its result as data; showing it is `s0_cli.show`'s business."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its notices about missing CUDA kernels help nobody here

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from transformers.utils.logging import disable_progress_bar

from s0 import S0Config, S0Trainer, load_model
from s0.bench import (
    CollectSettings,
    DemoSettings,
    Questions,
    Samples,
    answer,
    environment,
    evaluation_record,
    run_demo,
    scale_by_pass_rate,
    tuned_facts,
    write_record,
)
from s0.bench import collect as run_collect
from s0.bench.collect import samples_file
from s0.bench.variants import Advance
from s0.core import store
from s0.core.families import family_of, find_mixers, layer_index, recurrence_of
from s0.core.fingerprint import fingerprint
from s0.errors import ConfigError, SandboxError, StateMismatchError
from s0.examples import examples_sha256, read_examples
from s0.tasks import load as load_task
from s0.tasks.sandbox import UNSAFE, Sandbox
from s0.train import BaselineTrainer, LoraTuning, PrefixTuning, load_tuned
from s0.verify import CHECKS, FAILS, advice
from s0.verify import verify as run_checks

disable_progress_bar()  # type: ignore[no-untyped-call]  # of weight loading: the stages show their own


class _HowItGoes(MofNCompleteColumn):
    """Items done of all, or what the stage has to say instead."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"]) if task.fields["note"] else super().render(task)


@contextmanager
def stage(name: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr."""
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=12),  # leaves room for a note in 80 columns
        _HowItGoes(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, note="")
        yield lambda count, note="": progress.update(task, advance=count, note=note)
        progress.update(task, total=total or 1, completed=total or 1)


def sandbox(unsafe: bool) -> Sandbox:
    """The strongest sandbox of this machine, or none where the user insists."""
    if unsafe:
        Console(stderr=True).print(
            "warning: no sandbox. What the model writes can read and change your files, use your network and start "
            "processes; only the verdicts are protected."
        )
        return Sandbox(UNSAFE)
    try:
        return Sandbox()
    except SandboxError as error:
        raise SandboxError(f"{error}. Here that is the option --unsafe-no-sandbox") from error


def demo(model: str, task: str, data: Path | None, out: Path | None, seed: int, unsafe: bool) -> dict[str, Any]:
    """`s0 demo`."""
    from s0.study import write_report  # brings matplotlib, which only a report needs

    out = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    settings = DemoSettings(model=model, task=task, data=None if data is None else str(data), seed=seed)
    with sandbox(unsafe) as cells:
        record = run_demo(settings, out, stage, cells)
    return {**record, "out": str(out), "report": str(write_report(record, out))}


def collect(
    model: str, task: str, data: Path | None, split: str, out: Path, settings: dict[str, Any], unsafe: bool
) -> dict[str, Any]:
    """`s0 collect`."""
    problems = load_task(task, data)
    chosen = CollectSettings(**settings)
    loaded, tokenizer = load_model(model)
    asked = problems.split(split)
    with sandbox(unsafe) as cells, stage("collect", chosen.samples * len(asked)) as advance:
        examples = run_collect(loaded, tokenizer, problems, asked, out, chosen, sandbox=cells, on_done=advance)
    return {
        "kind": "collect",
        "examples": len(examples),
        "solved": len({example.provenance["problem"] for example in examples}),
        "problems": len(asked),
        "sha256": examples_sha256(examples),
        "out": str(out),
        "samples": str(samples_file(out)),
    }


def train(
    model: str,
    method: str,
    examples: Path,
    select: Path | None,
    out: Path,
    settings: dict[str, Any],
    auto: bool,
    alpha_by: str,
    task: str | None,
    data: Path | None,
    checkpoint_every: int,
    unsafe: bool,
) -> dict[str, Any]:
    """`s0 train`."""
    if alpha_by not in ("loss", "pass-rate"):
        raise ConfigError(f"expected --alpha-by loss or pass-rate, got {alpha_by!r}")
    by_verdicts = alpha_by == "pass-rate"
    has_scale = method in ("s0", "offset")
    if by_verdicts and (task is None or not has_scale or auto):
        raise ConfigError(
            "expected --method s0 or offset with --task, and no --auto, for --alpha-by pass-rate: it asks problems"
        )
    if auto and (not has_scale or select is None):
        raise ConfigError(
            "expected --method s0 or offset, and --select, for --auto: candidates are compared on select examples"
        )
    fixed = [name for name in ("lr", "n_steps", "alpha") if auto and settings[name] not in (None, "auto")]
    if fixed:
        given = ", ".join("--" + name.replace("_", "-") for name in fixed)
        raise ConfigError(f"expected --auto to choose learning rate, steps and scale, got {given}; leave one out")
    config = _training_settings(method, settings, select is not None and not by_verdicts)
    judged = load_task(task, data) if by_verdicts and task else None
    learned = read_examples(examples)
    held_out = None if select is None else read_examples(select)
    loaded, tokenizer = load_model(model)
    tuner = (
        S0Trainer(loaded, tokenizer, config)
        if isinstance(config, S0Config)
        else BaselineTrainer(loaded, tokenizer, config)
    )
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    if auto:
        assert isinstance(tuner, S0Trainer) and held_out is not None
        result = tuner.train_auto(learned, held_out, checkpoint=checkpoint, checkpoint_every=checkpoint_every)
    else:
        result = tuner.train(learned, select=held_out, checkpoint=checkpoint, checkpoint_every=checkpoint_every)
    if judged is not None and isinstance(tuner, S0Trainer):
        problems = judged.split("select")
        with sandbox(unsafe) as cells, stage("scale", None) as advance:
            tuner.set_scale(scale_by_pass_rate(tuner, judged, problems, sandbox=cells, on_done=advance))
    tuner.save(out)
    return {
        "kind": "train",
        "method": method,
        "examples": len(learned),
        **result,
        **tuned_facts(tuner),
        "out": str(out),
    }


def _training_settings(method: str, given: dict[str, Any], can_choose: bool) -> S0Config | LoraTuning | PrefixTuning:
    """The method's settings: its own defaults, changed where an option was given."""
    chosen = {name: value for name, value in given.items() if value is not None}
    offset = partial(S0Config, variant="offset")
    kinds: dict[str, Any] = {"s0": S0Config, "offset": offset, "lora": LoraTuning, "prefix": PrefixTuning}
    if method not in kinds:
        raise ConfigError(f"expected --method to be one of {', '.join(kinds)}, got {method!r}")
    if method in ("s0", "offset") and can_choose and not chosen.get("scale_in_training"):
        chosen.setdefault("alpha", "auto")
    try:
        config: S0Config | LoraTuning | PrefixTuning = kinds[method](**chosen)
    except TypeError as error:
        known = getattr(kinds[method], "func", kinds[method]).__dataclass_fields__
        unknown = ", ".join("--" + name.replace("_", "-") for name in chosen if name not in known)
        raise ConfigError(f"expected options that --method {method} has, got {unknown}; leave them out") from error
    if isinstance(config, S0Config):
        config.fit_settings()
    return config


def evaluate(
    model: str,
    task: str,
    states: list[str],
    data: Path | None,
    split: str,
    out: Path | None,
    chat: bool,
    max_new_tokens: int | None,
    sampling: dict[str, Any] | None,
    allow_other_base: bool,
    unsafe: bool,
) -> dict[str, Any]:
    """`s0 eval`."""
    problems = load_task(task, data)
    samples = Samples(**sampling) if sampling else None
    questions = Questions(problems, problems.split(split), chat, max_new_tokens, samples)
    names = _names(states)
    loaded, tokenizer = load_model(model)
    base = {"name": model, "fingerprint": fingerprint(loaded)}
    with sandbox(unsafe) as cells:
        outcomes = {
            "base": answer("base", loaded, tokenizer, questions, {"method": "base"}, stage=stage, sandbox=cells)
        }
        for name, state in zip(names, states, strict=True):
            tuner = load_tuned(loaded, tokenizer, state, allow_other_base=allow_other_base)
            facts = {"path": state, **tuned_facts(tuner)}
            outcomes[name] = answer(name, tuner.model, tokenizer, questions, facts, stage=stage, sandbox=cells)
            tuner.detach()
    record = evaluation_record("eval", base, questions, outcomes)
    report = None
    if out is not None:
        from s0.study import write_report  # brings matplotlib, which only a report needs

        write_record(out, record)
        report = str(write_report(record, out.with_suffix("")))
    return {**record, "out": None if out is None else str(out), "report": report}


def _names(states: list[str]) -> list[str]:
    """How the record calls each state: the last part of its path, with a number where that is taken."""
    names: list[str] = []
    for state in states:
        plain = Path(state).name or "state"
        taken = {"base", *names}
        names.append(
            next(name for i in range(len(taken) + 1) if (name := f"{plain} {i + 1}" if i else plain) not in taken)
        )
    return names


def generate(
    model: str, prompt: str, state: str | None, max_new_tokens: int, chat: bool, allow_other_base: bool
) -> dict[str, Any]:
    """`s0 generate`."""
    if not prompt:
        raise ConfigError("expected a prompt, got an empty one")
    loaded, tokenizer = load_model(model)
    trainer = (
        S0Trainer(loaded, tokenizer)
        if state is None
        else load_tuned(loaded, tokenizer, state, allow_other_base=allow_other_base)
    )
    asked = [{"role": "user", "content": prompt}] if chat else prompt
    text = trainer.generate(asked, max_new_tokens=max_new_tokens, do_sample=False)
    return {"kind": "generate", "text": text, "state": state}


def inspect(target: str) -> dict[str, Any]:
    """`s0 inspect`: a state where `target` is the folder of one, else a model."""
    folder = Path(target)
    if (folder / store.CONFIG_FILE).is_file() or (folder / "meta.json").is_file():
        return _inspect_state(target)
    loaded, _ = load_model(target)
    mixers = find_mixers(loaded)
    recurrence = recurrence_of(next(iter(mixers.values())))
    shapes = {name: list(recurrence_of(mixer).state_shape(mixer)) for name, mixer in mixers.items()}
    parameters = sum(map(math.prod, shapes.values()))
    return {
        "kind": "model",
        "name": target,
        "class": type(loaded).__name__,
        "family": family_of(loaded),
        "recurrence": recurrence.name,
        "axes": recurrence.axes,
        "published_alpha": recurrence.alpha,
        "published_alpha_source": recurrence.alpha_source,
        "fingerprint": fingerprint(loaded),
        "parameters": sum(weight.numel() for weight in loaded.parameters()),
        "state_parameters": parameters,
        "state_bytes": 4 * parameters,
        "layers": [
            {"index": layer_index(mixer), "name": name, "shape": shapes[name]} for name, mixer in mixers.items()
        ],
    }


def verify(model: str) -> dict[str, Any]:
    """`s0 verify`."""
    loaded, tokenizer = load_model(model, dtype=torch.float32)
    with stage("checking", len(CHECKS)) as advance:
        results = run_checks(
            loaded, tokenizer, checks=CHECKS, progress=lambda result: advance(1, f"{result.name}: {result.status}")
        )
    return {
        "kind": "verification",
        "environment": environment(),
        "model": model,
        "class": type(loaded).__name__,
        "family": family_of(loaded),
        "counts": dict(Counter(result.status for result in results)),
        "failed": [result.name for result in results if result.status == FAILS],
        "advice": advice(results),
        "checks": [asdict(result) for result in results],
    }


def _inspect_state(target: str) -> dict[str, Any]:
    stored = store.read(target, variant=None)
    sizes = {name: tensor.numel() for name, tensor in stored.tensors.items()}
    return {
        "kind": "state",
        "path": target,
        "layout": stored.layout,
        "recurrence": stored.family,
        "variant": stored.variant,
        "alpha": stored.alpha,
        "normalize": stored.normalize,
        "base_model": stored.base_model,
        "fingerprint": stored.fingerprint,
        "state_parameters": sum(sizes.values()),
        "state_bytes": 4 * sum(sizes.values()),
        "training": dict(stored.training),
        "layers": [
            {
                "name": name,
                "shape": list(tensor.shape),
                "norm": tensor.norm().item(),
                "largest": tensor.abs().max().item(),
            }
            for name, tensor in stored.tensors.items()
        ],
    }


def export(state: str, to: str, out: Path) -> dict[str, Any]:
    """`s0 export`."""
    if to != "published":
        raise ConfigError(f"expected --to published, got {to!r}")
    stored = store.read(state)
    indices = {name: _layer_number(name) for name in stored.tensors}
    store.write_published(out, stored, indices)
    return {"kind": "export", "to": to, "layers": len(indices), "out": str(out)}


def _layer_number(name: str) -> int:
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    if len(numbers) != 1:
        raise StateMismatchError(f"expected a layer name with one number in it, got {name!r}")
    return numbers[0]
