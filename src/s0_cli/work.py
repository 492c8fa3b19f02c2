"""What the commands do. Every function returns its result as data; showing it is `s0_cli.show`'s business."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from s0 import S0Trainer, load_model
from s0.adapter import state_files
from s0.adapter.fingerprint import fingerprint
from s0.bench import (
    CollectSettings,
    Questions,
    Samples,
    environment,
    evaluate_states,
    scale_by_pass_rate,
    tuned_facts,
)
from s0.bench import collect as run_collect
from s0.bench.collect import require_place, samples_file
from s0.cautions import Caution
from s0.core.families import family_of, find_mixers, layer_index, recurrence_of
from s0.errors import ConfigError, DatasetError, SandboxError
from s0.examples import Example, examples_sha256, read_examples
from s0.export import published
from s0.models import generate as continued
from s0.models import load_base_model
from s0.progress import Advance, Stage
from s0.record import Record, plain, write_record
from s0.study import DemoSettings, run_demo, unfinished_demos
from s0.tasks import Problem
from s0.tasks import Task as Benchmark
from s0.tasks import load as load_task
from s0.tasks.sandbox import UNSAFE, Limits, Sandbox
from s0.train import METHODS, load_tuned, make_trainer
from s0.train.baseline_files import baseline_kind, read_files
from s0.train.methods import Settings
from s0.verify import CHECKS, FAILS, advice
from s0.verify import verify as run_checks
from s0_cli.ending import interruptible, os_error_line, same_command
from s0_cli.outputs import (
    EXPORTED,
    TRAINED,
    RecordPlace,
    claimed,
    demo_claimed,
    require_free_folder,
    require_name,
)

disable_progress_bar()  # type: ignore[no-untyped-call]  # of weight loading: the stages show their own
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its caches concerns nobody here
warnings.filterwarnings("ignore", category=Caution)  # they stand in the result


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


def sandbox(timeout_s: float | None, unsafe: bool) -> Sandbox:
    """The strongest sandbox of this machine, or none where the user insists; None for the default limit of time."""
    limits = Limits() if timeout_s is None else Limits(timeout_s=timeout_s)
    if unsafe:
        Console(stderr=True).print(
            "warning: no sandbox. What the model writes can read and change your files, use your network and start "
            "processes; only the verdicts are protected."
        )
        return Sandbox(UNSAFE, limits)
    try:
        return Sandbox(limits=limits)
    except SandboxError as error:
        raise SandboxError(f"{error}. Here that is the option --unsafe-no-sandbox") from error


def _asked(task: str, data: Path | None, split: str) -> tuple[Benchmark, list[Problem]]:
    """A task and its problems of a split, which may not be empty."""
    loaded = load_task(task, data)
    return loaded, loaded.require_split(split)


def demo(
    model: str,
    task: str,
    data: Path | None,
    out: Path | None,
    seed: int,
    new: bool,
    overwrite: bool,
    judging: dict[str, Any],
) -> dict[str, Any]:
    """`s0 demo`."""
    if new and out:
        raise ConfigError("expected --new without --out, which names the folder, got both; leave one out")
    settings = DemoSettings(model=model, task=task, data=None if data is None else str(data), seed=seed)

    def kept() -> str:
        named = () if out else ("--out", str(place))
        return f"what was done so far is kept in {place}; go on with: {same_command(*named, without='--new')}"

    with (
        sandbox(**judging) as cells,
        _demo_place(settings, out, new, [model, data], overwrite, cells) as place,
        interruptible(kept),
    ):
        record = run_demo(settings, place, stage, cells, overwrite=overwrite)
        return {**plain(record), "out": str(place), "report": _reported(record, place / "record.json", place)}


@contextmanager
def _demo_place(
    settings: DemoSettings,
    out: Path | None,
    new: bool,
    inputs: list[str | Path | None],
    overwrite: bool,
    cells: Sandbox,
) -> Iterator[Path]:
    """The folder of a demo, claimed: `out`, or the newest one in runs/ that was not finished, or a new one."""
    runs = Path("runs")
    with ExitStack() as stack:
        for place in [] if out or new else unfinished_demos(settings, runs, cells):
            try:
                stack.enter_context(demo_claimed(place, inputs, overwrite))
            except (BlockingIOError, ConfigError):  # somebody is at it, or has put something of his own there
                continue
            _say(f"going on in {place}, which was not finished; --new starts over")
            yield place
            return
        place = out or runs / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
        stack.enter_context(demo_claimed(place, inputs, overwrite))
        yield place


def _say(line: str) -> None:
    """One line on stderr, by the first of several processes."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)


def _after(line: str) -> Stage:
    """`stage`, with a line before its first bar; a call that is refused ends with one line, that of the error."""
    lines = [line]

    def begun(name: str, total: int | None) -> AbstractContextManager[Advance]:
        while lines:
            _say(lines.pop())
        return stage(name, total)

    return begun


def collect(
    model: str,
    task: str,
    data: Path | None,
    split: str,
    out: Path,
    settings: dict[str, Any],
    overwrite: bool,
    judging: dict[str, Any],
) -> dict[str, Any]:
    """`s0 collect`."""
    if split == "final":
        raise DatasetError("expected --split train or select, got final, on which nothing may be learned")
    chosen = CollectSettings(**settings)
    problems, asked = _asked(task, data, split)
    require_name(out)
    samples = samples_file(out)

    def kept() -> str:
        return f"{_n_kept(samples)} samples are kept in {samples}; go on with: {same_command()}"

    with (
        claimed(out, [model, data], partial(require_place, out), beside=[samples]),
        interruptible(kept),
        sandbox(**judging) as cells,
    ):
        problems.require_runnable(asked, cells)
        loaded, tokenizer = load_model(model)
        with stage("collect", chosen.samples * len(asked)) as advance:
            examples = run_collect(
                loaded, tokenizer, problems, asked, out, chosen, overwrite=overwrite, sandbox=cells, on_done=advance
            )
    return {
        "kind": "collect",
        "examples": len(examples),
        "solved": len({example.provenance["problem"] for example in examples}),
        "problems": len(asked),
        "sha256": examples_sha256(examples),
        "out": str(out),
        "samples": str(samples),
        "next": _after_collect(model, task, data, split, out),
    }


def _n_kept(journal: Path) -> int:
    """How many results a journal holds behind its first line."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.is_file() else 0


def _after_collect(model: str, task: str, data: Path | None, split: str, out: Path) -> str:
    """The command that comes next: examples to choose settings on, then a training."""
    if split == "select":
        return _command("train", "--model", model, "--examples", "TRAIN.jsonl", "--select", out, "--out", "STATE")
    its_data = ("--data", data) if data else ()
    chosen_on = out.with_name(f"{out.stem}-select.jsonl")
    return _command("collect", "--model", model, "--task", task, *its_data, "--split", "select", "--out", chosen_on)


def _command(*parts: str | Path) -> str:
    return shlex.join(["s0", *map(str, parts)])


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
    overwrite: bool,
    judging: dict[str, Any],
) -> dict[str, Any]:
    """`s0 train`."""
    _require_choices(method, settings, select, auto, alpha_by, task)
    by_verdicts = alpha_by == "pass-rate"
    config = _training_settings(method, settings, select is not None and not by_verdicts)
    learned = read_examples(examples)
    held_out = None if select is None else read_examples(select)
    judged = _asked(task, data, "select") if by_verdicts and task else None
    require_name(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint")

    def kept() -> str:
        if not checkpoint.exists():
            return f"nothing was learned yet; start again with: {same_command()}"
        return f"what was learned so far is kept in {checkpoint}; go on with: {same_command()}"

    inputs: list[str | Path | None] = [model, examples, select, data]
    with (
        claimed(out, inputs, partial(require_free_folder, out, TRAINED, overwrite), beside=[checkpoint]),
        interruptible(kept),
        sandbox(**judging) if judged else nullcontext() as cells,
    ):
        if judged and cells:
            judged[0].require_runnable(judged[1], cells)
        loaded, tokenizer = load_model(model)
        tuner = make_trainer(loaded, tokenizer, config)
        keeping: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every}
        if auto:
            assert isinstance(tuner, S0Trainer) and held_out is not None
            result = tuner.train_auto(learned, held_out, **keeping, stage=stage)
        else:
            result = tuner.train(learned, select=held_out, **keeping, stage=stage)
        if judged and isinstance(tuner, S0Trainer):
            asked, problems = judged
            with stage("scale", None) as advance:
                choice = scale_by_pass_rate(tuner, asked, problems, sandbox=cells, on_done=advance)
                tuner.set_scale(choice.alpha, choice)
            result = {name: tuner.training[name] for name in result if name in tuner.training}  # without stale losses
        tuner.save(out)
    return {
        "kind": "train",
        "method": method,
        "examples": len(learned),
        **result,
        **tuned_facts(tuner),
        "out": str(out),
        "next": _after_training(model, out, learned, task, data),
    }


def _require_choices(
    method: str, settings: dict[str, Any], select: Path | None, auto: bool, alpha_by: str, task: str | None
) -> None:
    """Refuse options that do not go together."""
    if alpha_by not in ("loss", "pass-rate"):
        raise ConfigError(f"expected --alpha-by loss or pass-rate, got {alpha_by!r}")
    has_scale = method in METHODS and METHODS[method].has_scale
    if alpha_by == "pass-rate" and (task is None or not has_scale or auto):
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
    if alpha_by == "pass-rate" and settings["alpha"] is not None:
        raise ConfigError("expected no --alpha with --alpha-by pass-rate, which chooses it; leave one out")
    if auto and settings["patience"] is not None:
        raise ConfigError("expected no --patience with --auto, which chooses the number of steps; leave one out")
    needs_select = {"--patience": settings["patience"] is not None, "--alpha auto": settings["alpha"] == "auto"}
    for option, is_given in needs_select.items():
        if is_given and select is None:
            raise ConfigError(f"expected --select with {option}; collect examples for it: s0 collect --split select")


def _after_training(model: str, out: Path, learned: Sequence[Example], task: str | None, data: Path | None) -> str:
    """The command that tells whether a training helped."""
    tasks = {str(example.provenance.get("task", "own")) for example in learned}
    name = task or (tasks.pop() if len(tasks) == 1 else "own")
    its_data = ("--data", data or "FILE") if name == "own" or data else ()
    return _command("eval", "--model", model, "--state", out, "--task", name, *its_data, "--out", f"{out}-eval")


def _training_settings(method: str, given: dict[str, Any], can_choose: bool) -> Settings:
    """The method's settings: its own defaults, changed where an option was given."""
    if method not in METHODS:
        raise ConfigError(f"expected --method to be one of {', '.join(METHODS)}, got {method!r}")
    chosen = {name: value for name, value in given.items() if value is not None}
    known = {name: name for name in METHODS[method].settings.__dataclass_fields__}
    if method == "lora":
        known = {**known, "lora_alpha": "alpha"}
        del known["alpha"]  # the option of that name is the scale of a state
    unknown = ", ".join("--" + name.replace("_", "-") for name in chosen if name not in known)
    if unknown:
        hint = ", or take --lora-alpha" if method == "lora" and "alpha" in chosen else ""
        raise ConfigError(f"expected options that --method {method} has, got {unknown}; leave them out{hint}")
    settings = {known[name]: value for name, value in chosen.items()}
    if METHODS[method].has_scale and can_choose and not settings.get("scale_in_training"):
        settings.setdefault("alpha", "auto")
    try:
        return METHODS[method].configure(**settings)
    except ConfigError as error:
        raise ConfigError(str(error).replace("`alpha`", "`lora_alpha`") if method == "lora" else str(error)) from error


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
    overwrite: bool,
    judging: dict[str, Any],
) -> dict[str, Any]:
    """`s0 eval`."""
    samples = Samples(**sampling) if sampling else None
    problems, asked = _asked(task, data, split)
    questions = Questions(problems, asked, chat, max_new_tokens, samples)
    place = None if out is None else RecordPlace.of(out)
    claim = nullcontext() if place is None else place.claimed([model, data, *states], overwrite)

    answers = None if place is None else place.answers

    def kept() -> str:
        if answers is None:
            return f"no answers are kept without --out; start again with: {same_command()}"
        return f"{_n_kept(answers)} answers are kept in {answers}; go on with: {same_command()}"

    with claim, interruptible(kept), sandbox(**judging) as cells:
        record = evaluate_states(
            model,
            states,
            questions,
            allow_other_base=allow_other_base,
            answers=answers,
            stage=stage if answers else _after("no --out: answers are not kept; interrupted, all are asked again"),
            sandbox=cells,
        )
        if place is None:
            return {**plain(record), "out": None, "report": None}
        write_record(place.record, record)
        return {**plain(record), "out": str(place.record), "report": _reported(record, place.record, place.report)}


def _reported(record: Record, path: Path, folder: Path) -> str:
    """Write the report of a record that lies in `path`; where it is."""
    from s0.report.page import write_report  # brings matplotlib, which only a report needs

    try:
        return str(write_report(record, folder))
    except OSError as error:
        raise OSError(
            f"{os_error_line(error)}. The record is complete, in {path}; only its report is missing: "
            + _command("report", path, "--out", "REPORT")
        ) from error


def generate(
    model: str, prompt: str, state: str | None, max_new_tokens: int, chat: bool, allow_other_base: bool
) -> dict[str, Any]:
    """`s0 generate`."""
    if not prompt:
        raise ConfigError("expected a prompt, got an empty one")
    loaded, tokenizer = load_model(model)
    asked = [{"role": "user", "content": prompt}] if chat else prompt
    how = {"max_new_tokens": max_new_tokens, "do_sample": False}
    if state is None:
        text = continued(loaded, tokenizer, asked, **how)
    else:
        text = load_tuned(loaded, tokenizer, state, allow_other_base=allow_other_base).generate(asked, **how)
    return {"kind": "generate", "text": text, "state": state}


def inspect(target: str) -> dict[str, Any]:
    """`s0 inspect`: a state or another adapter where `target` is the folder of one, else a model."""
    folder = Path(target)
    if baseline_kind(folder) is not None:
        return _inspect_baseline(folder)
    if (folder / state_files.CONFIG_FILE).is_file() or (folder / "meta.json").is_file():
        return _inspect_state(target)
    loaded = load_base_model(target)
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
    stored = state_files.read(target, variant=None)
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
        "layers": _tensor_facts(stored.tensors),
    }


def _inspect_baseline(folder: Path) -> dict[str, Any]:
    files = read_files(folder)
    files.require_whole(folder)
    config = files.config
    is_lora = files.kind == "LORA"
    lora = {"rank": config.get("r"), "lora_alpha": config.get("lora_alpha"), "targets": config.get("target_modules")}
    return {
        "kind": "adapter",
        "path": str(folder),
        "method": "lora" if is_lora else "prefix",
        **(lora if is_lora else {"virtual_tokens": config.get("num_virtual_tokens")}),
        "base_model": config.get("base_model_name_or_path"),
        "fingerprint": files.fingerprint,
        "parameters": sum(tensor.numel() for tensor in files.tensors.values()),
        "training": dict(files.training),
        "layers": _tensor_facts(files.tensors),
    }


def _tensor_facts(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": list(tensor.shape), "norm": tensor.norm().item(), "largest": tensor.abs().max().item()}
        for name, tensor in tensors.items()
    ]


def export(state: str, to: str, out: Path, overwrite: bool) -> dict[str, Any]:
    """`s0 export`."""
    if to != "published":
        raise ConfigError(f"expected --to published, got {to!r}")
    kind = baseline_kind(Path(state))
    if kind is not None:
        raise ConfigError(
            f"expected the folder of a state, got {state} with a {kind} adapter, which the layout {to!r} cannot hold; "
            "it is a plain PEFT adapter already: load it with peft"
        )
    stored = state_files.read(state)
    indices = published.layer_indices(stored)
    with claimed(out, [state], partial(require_free_folder, out, EXPORTED, overwrite)):
        published.write(out, stored, indices)
    return {"kind": "export", "to": to, "layers": len(indices), "out": str(out)}
