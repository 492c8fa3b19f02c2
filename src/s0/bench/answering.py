"""Prompts to judged answers: what is stored is taken, the rest is written and judged as it comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from s0.bench.answers import StoredAnswers
from s0.bench.asking import Answerer
from s0.bench.judging import judged_as_written
from s0.decode import Batcher, Completion, Sampling
from s0.progress import Advance, unheard
from s0.record import Answer
from s0.tasks import SCORINGS, Problem, Task


@dataclass(frozen=True)
class Wanted:
    """One answer to be had.

    Attributes:
        problem: what it is to.
        tokens: of the prompt.
        sample: its number among several to that problem; None for a greedy one.
        seed: of the sampling.
        state: the name on the model's state layers from which it starts; None: as the model is.
        stored: where it is taken from, if it is there, and kept; None for nowhere.
    """

    problem: Problem
    tokens: tuple[int, ...]
    sample: int | None = None
    seed: int | str = 0
    state: str | None = None
    stored: StoredAnswers | None = None

    def stored_answer(self) -> Answer | None:
        """The answer that is there already, if it is."""
        return self.stored.find(self.tokens, self.problem.id, self.sample) if self.stored else None


def answered(
    answerer: Answerer,
    task: Task,
    asked: Sequence[Wanted],
    sampling: Sampling,
    *,
    scorings: Sequence[str] = SCORINGS,
    on_done: Advance = unheard,
) -> list[Answer]:
    """The answers to all that is asked, in its order.

    Args:
        answerer: who is asked.
        task: judges.
        asked: what is to be answered.
        sampling: how tokens are chosen.
        scorings: those that answers are judged by.
        on_done: told the number of answers that are there, and of those that were just written.

    Raises:
        SandboxError: there is no verdict to be had on this machine.
        OSError: an answer cannot be kept.
    """
    answers: dict[int, Answer] = {}  # by their place among those asked
    places: dict[int, int] = {}  # by the batcher's number
    batcher = Batcher(answerer.model, answerer.tokenizer, sampling.batch_rows)
    for place, question in enumerate(asked):
        answer = question.stored_answer()
        if answer is None:
            places[batcher.submit(sampling.request(question.tokens, question.seed, question.state))] = place
        else:
            answers[place] = answer
    on_done(len(answers), earlier=True)

    def judge(written: Sequence[tuple[int, Completion]]) -> dict[int, Answer]:
        written_at = [places[number] for number, _ in written]
        replies = [(asked[places[number]], completion) for number, completion in written]
        return dict(zip(written_at, _judged(task, replies, scorings), strict=True))

    with closing(judged_as_written(answerer.model, batcher, judge, on_done)) as groups:
        for judged in groups:
            _keep(asked, judged)
            answers |= judged
    return [answers[place] for place in range(len(asked))]


def _keep(asked: Sequence[Wanted], judged: Mapping[int, Answer]) -> None:
    """Keep answers, by their place among those asked, where they are to be kept."""
    to_keep: defaultdict[StoredAnswers, list[tuple[tuple[int, ...], Answer]]] = defaultdict(list)
    for place, answer in judged.items():
        if stored := asked[place].stored:
            to_keep[stored].append((asked[place].tokens, answer))
    for stored, answers in to_keep.items():
        stored.add(answers)


def _judged(task: Task, written: Sequence[tuple[Wanted, Completion]], scorings: Sequence[str]) -> list[Answer]:
    replies = [(question.problem, completion.text) for question, completion in written]
    verdicts = {scoring: task.verdicts(replies, scoring) for scoring in scorings}
    return [
        Answer(
            problem=question.problem.id,
            sample=question.sample,
            completion=completion.text,
            n_tokens=completion.n_tokens,
            truncated=completion.truncated,
            format=task.format_of(question.problem, completion.text),
            passed={scoring: verdicts[scoring][i].passed for scoring in scorings},
            reason={scoring: verdicts[scoring][i].reason for scoring in scorings},
        )
        for i, (question, completion) in enumerate(written)
    ]
