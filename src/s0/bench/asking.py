"""Who is asked what, and how: by the same limits, stop texts and seeds in every job, so that answers are the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from s0.adapter.fingerprint import how_loaded
from s0.bench.answers import UNTOUCHED, AnswerJournal, StoredAnswers
from s0.bench.controls import shown_before
from s0.bench.judging import judged_under
from s0.core.families import unwrapped
from s0.decode import BATCH_ROWS, Sampling
from s0.errors import ConfigError
from s0.examples import Example
from s0.models import encode_prompt, end_tokens
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Sandbox
from s0.train import load_tuned
from s0.train.methods import Trainer

_PACKAGES = ("torch", "transformers", "s0-tuning")


@dataclass(frozen=True)
class Samples:
    """How to sample several answers to every problem.

    Attributes:
        n: of each problem.
        temperature, top_p: of the sampling.
        seed: an answer depends on it, its problem and its number alone.
    """

    n: int
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"expected at least one sample and a finite `temperature` above 0, got {self.n} and {self.temperature}"
            )

    @property
    def ks(self) -> list[int]:
        """The k for which pass@k is told: powers of two up to n, and n."""
        return sorted({2**i for i in range(self.n.bit_length())} | {self.n})


@dataclass(frozen=True)
class Questions:
    """What is asked, and how.

    Attributes:
        task: judges.
        problems: all of one split.
        chat: ask through the chat template, whose end token is enough; raw prompts have the task's stop texts.
        max_new_tokens: None for the task's own limit.
        samples: what a comparison draws beside the greedy answers; None for nothing.
        batch_rows: prompts decoded together.
        shots: solved examples to show in front of every problem.
    """

    task: Task
    problems: Sequence[Problem]
    chat: bool = False
    max_new_tokens: int | None = None
    samples: Samples | None = None
    batch_rows: int = BATCH_ROWS
    shots: Sequence[Example] = ()

    def __post_init__(self) -> None:
        if not self.problems:
            raise ConfigError("expected at least one problem to ask, got none; choose another split")

    def judged_in(self, sandbox: Sandbox | None) -> Questions:
        """The same questions, answers to which are judged in another sandbox; see `Task.judged_in`."""
        return replace(self, task=self.task.judged_in(sandbox))

    @property
    def split(self) -> str:
        """The problems' split."""
        return self.problems[0].split

    def sampling(self, temperature: float = 0.0, top_p: float = 1.0) -> Sampling:
        """How to choose the tokens of answers; at temperature 0, the likeliest token at every step."""
        stop = () if self.chat else tuple(self.task.stop)
        return Sampling(self.max_new_tokens or self.task.max_new_tokens, temperature, top_p, stop, self.batch_rows)

    def tokens(self, tokenizer: PreTrainedTokenizerBase, problem: Problem) -> tuple[int, ...]:
        """What is shown of a problem, with the shots in front of it.

        Raises:
            DatasetError: shots of another kind than the prompt; messages for a tokenizer without a chat template.
        """
        return tuple(encode_prompt(tokenizer, shown_before(self.shots, self.task.prompt(problem, self.chat))))


@dataclass(frozen=True)
class Answerer:
    """Who is asked.

    Attributes:
        model: as it is now, with or without something tuned in it.
        tokenizer: the model's.
        tuned: the checksum of what is tuned in it, by which its answers and samples are known.
        journal: of the base model; its answers are kept there as they come, and taken from there if they are there;
            None keeps none.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    tuned: str = UNTOUCHED
    journal: AnswerJournal | None = None

    def tuned_by(self, trainer: Trainer) -> Answerer:
        """The same model, with what a trainer has put on it and switched on."""
        return replace(self, model=trainer.model, tuned=trainer.checksum)

    @contextmanager
    def tuned_from(self, folder: str | Path) -> Iterator[Answerer]:
        """Within this context, the same model with what lies in a folder on it; nothing may be attached before.

        Raises:
            StateMismatchError, UnsupportedModelError, ConfigError: as `s0.train.load_tuned`.
        """
        model: PreTrainedModel = unwrapped(self.model)
        trainer = load_tuned(model, self.tokenizer, folder)
        try:
            yield self.tuned_by(trainer)
        finally:
            trainer.detach()

    def stored_answers(
        self, questions: Questions, samples: Samples | None = None, **further: Any
    ) -> StoredAnswers | None:
        """Those answers of the journal that depend on what answers to these questions would depend on now.

        Args:
            questions: how is asked; which problems is of no matter.
            samples: how several answers are drawn; None for greedy ones. How many are drawn changes none of them.
            further: what else these answers depend on.
        """
        if self.journal is None:
            return None
        task, sampling = questions.task, sampling_of(questions, samples)
        elsewhere = ("batch_rows", "seed")  # changes no answer; is that of the samples
        how = {name: value for name, value in asdict(sampling).items() if name not in elsewhere}
        facts = {
            **how_loaded(self.model),
            "tuned": self.tuned,
            "task": task.name,
            "task_version": task.version,
            "data_sha256": task.data_sha256,
            **how,
            "stop": list(sampling.stop),
            "end_tokens": sorted(end_tokens(self.model, self.tokenizer)),
            "seed": samples.seed if samples else None,
            "chat": questions.chat,
            "sandbox": judged_under(task.sandbox),
            "versions": {name: version(name) for name in _PACKAGES},
            **further,
        }
        return self.journal.of(facts)


def sampling_of(questions: Questions, samples: Samples | None) -> Sampling:
    """How to choose the tokens of sampled answers, or greedy ones."""
    return questions.sampling(samples.temperature, samples.top_p) if samples else questions.sampling()


def seed_of(seed: int, problem: Problem, number: int | None) -> str:
    """The seed of a problem's sample with this number, None for a greedy answer; the same in every job."""
    return f"{seed} {problem.id} {number}"
