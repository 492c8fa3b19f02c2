"""`s0 collect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from s0.bench import Answerer, CollectSettings, Questions
from s0.bench import collect as run_collect
from s0.bench.collection import require_place, samples_file
from s0.errors import DatasetError
from s0.examples import examples_sha256
from s0.train import load_tuned
from s0_cli.exits import interruptible, s0_command, same_command
from s0_cli.groups import CollectingOptions, JudgingOptions, ModelOptions, OutOptions, StateOptions, TaskOptions
from s0_cli.outputs import claimed, n_kept, require_name
from s0_cli.work.problems import load_problems, sandbox
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
    settings = CollectSettings(asking.temperature, asking.top_p, asking.samples, asking.keep, seed=asking.seed)
    questions = Questions(*load_problems(asked), asking.chat, asking.max_new_tokens, batch_rows=asking.batch_rows)
    source = model.source
    require_name(out.path)
    samples = samples_file(out.path)

    def kept() -> str:
        return f"{n_kept(samples)} samples are kept in {samples}; go on with: {same_command()}"

    with (
        claimed(out.path, [model.name, asked.data, *states.names], partial(require_place, out.path), beside=[samples]),
        interruptible(kept),
        sandbox(judging) as cells,
    ):
        questions = questions.judged_in(cells)
        questions.task.require_runnable(questions.problems)
        loaded, tokenizer = source.load()
        answerer = Answerer(loaded, tokenizer)
        for state in states.names:
            answerer = answerer.tuned_by(load_tuned(loaded, tokenizer, state, states.allow_other_base))
        with stage("collect", settings.samples * len(questions.problems)) as advance:
            examples = run_collect(answerer, questions, out.path, settings, overwrite=out.overwrite, on_done=advance)
    return {
        "kind": "collect",
        "examples": len(examples),
        "solved": len({example.provenance["problem"] for example in examples}),
        "problems": len(questions.problems),
        "sha256": examples_sha256(examples),
        "out": str(out.path),
        "samples": str(samples),
        "next": s0_command(*_after_collecting(model, states, asked, asking, judging, out.path)),
    }


def _after_collecting(
    model: ModelOptions,
    states: StateOptions,
    asked: TaskOptions,
    asking: CollectingOptions,
    judging: JudgingOptions,
    out: Path,
) -> list[str | Path]:
    """The command that comes next: examples to choose settings on, collected in the same way, then a training."""
    if asked.split == "select":
        return ["train", *model.as_typed(), "--examples", "TRAIN.jsonl", "--select", out, "--out", "STATE"]
    same_way = (*model.as_typed(), *states.as_typed(), *asked.as_typed(), *_as_typed(asking), *judging.as_typed())
    return ["collect", *same_way, "--split", "select", "--out", out.with_name(f"{out.stem}-select.jsonl")]


def _as_typed(asking: CollectingOptions) -> list[str]:
    """What a sample depends on, where it is not the default, as words of a command."""
    named = {
        "--temperature": (asking.temperature, _DEFAULTS.temperature),
        "--top-p": (asking.top_p, _DEFAULTS.top_p),
        "--max-new-tokens": (asking.max_new_tokens, None),
    }
    words = [word for option, (value, default) in named.items() if value != default for word in (option, str(value))]
    return ["--chat", *words] if asking.chat else words
