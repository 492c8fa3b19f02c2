"""`s0 eval`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from s0.bench import Questions, Samples, evaluate_states
from s0.record import plain, write_record
from s0_cli.exits import interruptible, same_command
from s0_cli.groups import AskingOptions, JudgingOptions, ModelOptions, OutOptions, StateOptions, TaskOptions
from s0_cli.outputs import RecordPlace, n_kept
from s0_cli.work.problems import load_problems, sandbox
from s0_cli.work.record_page import reported
from s0_cli.work.stages import after, stage


def evaluate(
    model: ModelOptions,
    states: StateOptions,
    asked: TaskOptions,
    asking: AskingOptions,
    out: OutOptions | None,
    judging: JudgingOptions,
) -> dict[str, Any]:
    """`s0 eval`."""
    source = model.source
    drawn = Samples(asking.samples, asking.temperature, asking.top_p, asking.seed) if asking.samples else None
    questions = Questions(*load_problems(asked), asking.chat, asking.max_new_tokens, drawn, asking.batch_rows)
    place = None if out is None else RecordPlace.of(out.path)
    answers = None if place is None else place.answers
    inputs = [model.name, asked.data, *states.names]
    claim = nullcontext() if out is None or place is None else place.claimed(inputs, out.overwrite)

    def kept() -> str:
        if answers is None:
            return f"no answers are kept without --out; start again with: {same_command()}"
        return f"{n_kept(answers)} answers are kept in {answers}; go on with: {same_command()}"

    with claim, interruptible(kept), sandbox(judging) as cells:
        record = evaluate_states(
            source,
            states.names,
            questions.judged_in(cells),
            allow_other_base=states.allow_other_base,
            answers=answers,
            stage=stage if answers else after("no --out: answers are not kept; interrupted, all are asked again"),
        )
        if place is None:
            return {**plain(record), "out": None, "report": None}
        write_record(place.record, record)
        return {**plain(record), "out": str(place.record), "report": reported(record, place.record, place.report)}
