"""What was tuned before, against the untouched model: the same questions to all, one record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from s0.bench.answers import open_answers
from s0.bench.record import evaluation_record, model_facts
from s0.bench.variants import Questions, answer, tuned_facts
from s0.models import AS_PUBLISHED, LoadSettings, load_model
from s0.progress import Stage, silent
from s0.record import Record
from s0.tasks.sandbox import Sandbox
from s0.train import read_tuned, trainer_of


def evaluate_states(
    model: str,
    states: Sequence[str],
    questions: Questions,
    *,
    loading: LoadSettings = AS_PUBLISHED,
    allow_other_base: bool = False,
    answers: Path | None = None,
    stage: Stage = silent,
    sandbox: Sandbox | None = None,
) -> Record:
    """Ask the untouched model, and then with each of `states`.

    Args:
        model: a name of `s0.load_model`.
        states: folders of what was tuned by any method, or Hub repositories. All are read before anything is asked.
        questions: asked of all.
        loading: how the model is loaded.
        allow_other_base: accept what was tuned on other weights of the same shape.
        answers: file in which answers are kept as they come, and from which those that are there are taken (see
            `s0.bench.answers`); None keeps none.
        stage: shows progress.
        sandbox: None for the strongest of this machine.

    Raises:
        DatasetError: a test that cannot run.
        StateMismatchError: a state that is damaged, or belongs to another model.
        ConfigError: `answers` holds something else.
        SandboxError: there is no verdict to be had on this machine.
    """
    questions.task.require_runnable(questions.problems, sandbox)
    loaded, tokenizer = load_model(model, **loading.arguments())
    tuned = [read_tuned(state, loaded, allow_other_base=allow_other_base) for state in states]
    base = model_facts(model, loaded, loading)
    journal = open_answers(answers, loaded)
    outcomes = {
        "base": answer(
            "base", loaded, tokenizer, questions, {"method": "base"}, journal=journal, stage=stage, sandbox=sandbox
        )
    }
    for state, stored in zip(states, tuned, strict=True):
        name = _free_name(state, outcomes)
        trainer = trainer_of(stored, loaded, tokenizer)
        facts = {"path": str(state), **tuned_facts(trainer, questions)}
        outcomes[name] = answer(
            name, trainer.model, tokenizer, questions, facts,
            journal=journal, tuned=trainer.checksum, stage=stage, sandbox=sandbox,
        )  # fmt: skip
        trainer.detach()
    return evaluation_record("eval", base, questions, outcomes, sandbox)


def _free_name(state: str, taken: Collection[str]) -> str:
    """The last part of its path, with a number where that is taken."""
    plain = Path(state).name or "state"
    numbered = (f"{plain} {number}" for number in range(2, len(taken) + 2))
    return next(name for name in (plain, *numbered) if name not in taken)
