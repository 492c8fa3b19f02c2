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
from s0_cli.groups import JudgingOptions, ModelOptions, OutOptions, StateOptions, TaskOptions
from s0_cli.outputs import claimed, n_kept, require_name
from s0_cli.work.judging import load_problems, sandbox
from s0_cli.work.stages import stage


def collect(
    model: ModelOptions,
    states: StateOptions,
    asked: TaskOptions,
    settings: dict[str, Any],
    out: OutOptions,
    judging: JudgingOptions,
) -> dict[str, Any]:
    """`s0 collect`, with one state or none."""
    if asked.split == "final":
        raise DatasetError("expected --split train or select, got final, on which nothing may be learned")
    chosen, loading = CollectSettings(**settings), model.loading
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
        for state in states.names:
            trainer = load_tuned(loaded, tokenizer, state, states.allow_other_base)
            sampled, tuned = trainer.model, trainer.checksum
        with stage("collect", chosen.samples * len(problems)) as advance:
            examples = run_collect(
                sampled, tokenizer, task, problems, out.path, chosen,
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
        "next": _after_collecting(model, states, asked, out.path),
    }


def _after_collecting(model: ModelOptions, states: StateOptions, asked: TaskOptions, out: Path) -> str:
    """The command that comes next: examples to choose settings on, then a training."""
    if asked.split == "select":
        examples = ("--examples", "TRAIN.jsonl", "--select", out)
        return s0_command("train", *model.as_typed(), *examples, "--out", "STATE")
    chosen_on = out.with_name(f"{out.stem}-select.jsonl")
    sampled = (*model.as_typed(), *states.as_typed())
    return s0_command("collect", *sampled, *asked.as_typed(), "--split", "select", "--out", chosen_on)
