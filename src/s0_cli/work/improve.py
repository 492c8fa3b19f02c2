"""`s0 improve`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s0.bench import Answerer, Improvement, ImproveSettings, Questions, Variant
from s0.bench import improve as run_improve
from s0.bench.answers import open_answers
from s0.bench.rounds import TUNED_FOLDER
from s0.files import write_text
from s0.train import load_tuned
from s0_cli.exits import interruptible, s0_command, same_command
from s0_cli.groups import JudgingOptions, MethodOptions, ModelOptions, OutOptions, RoundOptions, TaskOptions
from s0_cli.outputs import TRAINED, claimed, require_free_folder, require_name, require_rounds_place
from s0_cli.work.problems import load_problems, sandbox
from s0_cli.work.stages import stage
from s0_cli.work.train import settings_of


def improve(
    model: ModelOptions,
    asked: TaskOptions,
    method: MethodOptions,
    drawn: RoundOptions,
    out: OutOptions,
    judging: JudgingOptions,
) -> dict[str, Any]:
    """`s0 improve`."""
    source = model.source
    settings = ImproveSettings(
        Variant(settings_of(method, can_choose=True)),
        rounds=drawn.rounds,
        keep=drawn.keep,
        samples=drawn.samples,
        select_samples=drawn.select_samples,
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        seed=drawn.seed,
    )
    of_split = {"train": asked, "select": replace(asked, split="select", limit=None)}
    questions = {split: _questions(options, drawn) for split, options in of_split.items()}
    require_name(out.path)
    folder = out.path.with_name(f"{out.path.name}.rounds")

    def look() -> None:
        require_free_folder(out.path, TRAINED, out.overwrite)
        require_rounds_place(folder)

    with (
        claimed(out.path, [model.name, asked.data], look, beside=[folder]),
        interruptible(lambda: f"what the rounds have come to is kept in {folder}; go on with: {same_command()}"),
        sandbox(judging) as cells,
    ):
        questions = {split: each.judged_in(cells) for split, each in questions.items()}
        for each in questions.values():
            each.task.require_runnable(each.problems)
        loaded, tokenizer = source.load()
        base = Answerer(loaded, tokenizer, journal=open_answers(folder / "answers.jsonl", loaded))
        improvement = run_improve(base, questions, folder, settings, overwrite=out.overwrite, stage=stage)
        load_tuned(loaded, tokenizer, improvement.best.folder / TUNED_FOLDER).save(out.path)
        result = _summary(improvement, {split: len(each.problems) for split, each in questions.items()})
        write_text(folder / "rounds.json", json.dumps(result, indent=1) + "\n")
    chat = ["--chat"] if drawn.chat else []
    same_way = [*asked.as_typed(), *chat, *judging.as_typed()]
    after = s0_command("eval", *model.as_typed(), "--state", out.path, *same_way, "--out", f"{out.path}-eval")
    return {**result, "out": str(out.path), "folder": str(folder), "next": after}


def _questions(options: TaskOptions, drawn: RoundOptions) -> Questions:
    return Questions(*load_problems(options), drawn.chat, drawn.max_new_tokens, batch_rows=drawn.batch_rows)


def _summary(improvement: Improvement, n_problems: Mapping[str, int]) -> dict[str, Any]:
    """What the rounds have come to, and how the best one was trained."""
    best = improvement.best
    return {
        "kind": "improve",
        "problems": n_problems,
        "untouched": {"select_solved": improvement.n_select_before},
        "rounds": [
            {
                "round": each.number,
                "new": each.n_new,
                "examples": each.n_examples,
                "solved": each.n_solved,
                "select_solved": each.n_select,
                "seconds": each.outcome.seconds,
            }
            for each in improvement.rounds
        ],
        "ended_by": improvement.ended_by,
        "best": best.number,
        "examples": best.n_examples,
        **best.outcome.facts,
    }
