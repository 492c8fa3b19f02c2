"""What was tuned before, against the untouched model: the same questions to all, one record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from s0.adapter.attach import free_names
from s0.bench.answers import open_answers
from s0.bench.asking import Answerer, Questions
from s0.bench.record import evaluation_record, model_facts
from s0.bench.variants import answer, tuned_facts
from s0.models import ModelSource
from s0.progress import Stage, named, silent
from s0.record import Record
from s0.train import read_tuned, trainer_of


def evaluate_states(
    source: ModelSource,
    states: Sequence[str],
    questions: Questions,
    *,
    allow_other_base: bool = False,
    answers: Path | None = None,
    stage: Stage = silent,
) -> Record:
    """Ask the untouched model, and then with each of `states`.

    Args:
        source: of the model.
        states: folders of what was tuned by any method, or Hub repositories. All are read before anything is asked.
        questions: asked of all.
        allow_other_base: accept what was tuned on other weights of the same shape.
        answers: file in which answers are kept as they come, and from which those that are there are taken (see
            `s0.bench.answers`); None keeps none.
        stage: shows progress.

    Raises:
        DatasetError: a test that cannot run.
        StateMismatchError: a state that is damaged, or belongs to another model.
        ConfigError: `answers` holds something else.
        SandboxError: there is no verdict to be had on this machine.
    """
    questions.task.require_runnable(questions.problems)
    model, tokenizer = source.load()
    tuned = [read_tuned(state, model, allow_other_base=allow_other_base) for state in states]
    facts = model_facts(source, model)
    base = Answerer(model, tokenizer, journal=open_answers(answers, model))
    outcomes = {"base": answer(base, questions, {"method": "base"}, stage=named(stage, "base"))}
    for state, stored in zip(states, tuned, strict=True):
        name = _free_name(state, outcomes)
        trainer = trainer_of(stored, model, tokenizer)
        tuned_by = {"path": str(state), **tuned_facts(trainer, questions)}
        outcomes[name] = answer(base.tuned_by(trainer), questions, tuned_by, stage=named(stage, name))
        trainer.detach()
    return evaluation_record("eval", facts, questions, outcomes)


def _free_name(state: str, taken: Collection[str]) -> str:
    """The last part of its path, with a number where that is taken."""
    plain = Path(state).name or "state"
    return next(free_names(f"{plain} ", taken, first=2)) if plain in taken else plain
