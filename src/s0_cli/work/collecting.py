"""`s0 collect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from s0 import load_model
from s0.bench import CollectSettings
from s0.bench import collect as run_collect
from s0.bench.answers import UNTOUCHED
from s0.bench.collect import require_place, samples_file
from s0.errors import DatasetError
from s0.examples import examples_sha256
from s0.train import load_tuned
from s0_cli.ending import interruptible, s0_command, same_command
from s0_cli.groups import CollectingOptions, JudgingOptions, ModelOptions, OutOptions, StateOptions, TaskOptions
from s0_cli.outputs import claimed, n_kept, require_name
from s0_cli.work.judging import load_problems, sandbox
from s0_cli.work.stages import stage

_DEFAULTS = CollectSettings()


def collect(
    model: ModelOptions,
    states: StateOptions,
    asked: TaskOptions,
    asking: CollectingOptions,
    out: OutOptions,
    judging: JudgingOptions,
) -> dict[str, Any]:
    """`s0 collect`, with one state or none."""
    if asked.split == "final":
        raise DatasetError("expected --split train or select, got final, on which nothing may be learned")
    settings, loading = CollectSettings(**vars(asking)), model.loading
    task, problems = load_problems(asked)
    require_name(out.path)
    samples = samples_file(out.path)

    def kept() -> str:
        return f"{n_kept(samples)} samples are kept in {samples}; go on with: {same_command()}"

    with (
        claimed(out.path, [model.name, asked.data, *states.names], partial(require_place, out.path), beside=[samples]),
        interruptible(kept),
        sandbox(judging) as cells,
    ):
        task.require_runnable(problems, cells)
        loaded, tokenizer = load_model(model.name, **loading.arguments())
        sampled, tuned = loaded, UNTOUCHED
        if states.names:
            (state,) = states.names
            trainer = load_tuned(loaded, tokenizer, state, states.allow_other_base)
            sampled, tuned = trainer.model, trainer.checksum
        with stage("collect", settings.samples * len(problems)) as advance:
            examples = run_collect(
                sampled, tokenizer, task, problems, out.path, settings,
                tuned=tuned, overwrite=out.overwrite, sandbox=cells, on_done=advance,
            )  # fmt: skip
    return {
        "kind": "collect",
        "examples": len(examples),
        "solved": len({example.provenance["problem"] for example in examples}),
        "problems": len(problems),
        "sha256": examples_sha256(examples),
        "out": str(out.path),
        "samples": str(samples),
        "next": s0_command(*_after_collecting(model, states, asked, settings, judging, out.path)),
    }


def _after_collecting(
    model: ModelOptions,
    states: StateOptions,
    asked: TaskOptions,
    settings: CollectSettings,
    judging: JudgingOptions,
    out: Path,
) -> list[str | Path]:
    """The command that comes next: examples to choose settings on, collected in the same way, then a training."""
    if asked.split == "select":
        return ["train", *model.as_typed(), "--examples", "TRAIN.jsonl", "--select", out, "--out", "STATE"]
    same_way = (*model.as_typed(), *states.as_typed(), *asked.as_typed(), *_as_typed(settings), *judging.as_typed())
    return ["collect", *same_way, "--split", "select", "--out", out.with_name(f"{out.stem}-select.jsonl")]


def _as_typed(settings: CollectSettings) -> list[str]:
    """What a sample depends on, where it is not the default, as words of a command."""
    named = {
        "--temperature": (settings.temperature, _DEFAULTS.temperature),
        "--top-p": (settings.top_p, _DEFAULTS.top_p),
        "--max-new-tokens": (settings.max_new_tokens, _DEFAULTS.max_new_tokens),
    }
    words = [word for option, (value, default) in named.items() if value != default for word in (option, str(value))]
    return ["--chat", *words] if settings.chat else words
