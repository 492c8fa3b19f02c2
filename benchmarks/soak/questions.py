"""States, questions that tell them apart, and what each has to answer: what one prompt gets alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from s0 import load_model, tasks
from s0.adapter.attach import alone, detach
from s0.adapter.load import load, put, read
from s0.decode import Prompt, Sampling, batcher, generate
from s0.decode.sampling import choose
from s0.models import POCKET_MODELS, STATES_FOLDER, shipped_states

MODEL, TASK = "pocket:gdn", "pocket-code"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_DISTANCE = 2.0
_ROUNDING, _N_MOVES = 3e-5, 3


@dataclass(frozen=True)
class Question:
    """What may be asked of any state.

    Attributes:
        number: among the questions.
        prompt: a text, or messages.
        sampling: how it is to be answered.
        n: samples.
    """

    number: int
    prompt: Prompt
    sampling: Sampling
    n: int = 1

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.prompt, str)

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.is_chat else "/v1/completions"

    def body(self, state: str) -> dict[str, Any]:
        """The request, to one state."""
        how = self.sampling
        return {
            "model": state,
            "messages" if self.is_chat else "prompt": self.prompt,
            "max_tokens": how.max_new_tokens,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "seed": how.seed,
            "stop": list(how.stop),
            "n": self.n,
        }


@dataclass(frozen=True)
class Answer:
    """What a state writes, a text and a reason for its end for each sample, and tokens in all."""

    texts: tuple[str, ...]
    reasons: tuple[str, ...]
    n_tokens: int


Answers = dict[tuple[str, int], Answer]


class Reference:
    """A model with states, each asked alone, one prompt and one sample after the other.

    Attributes:
        model_folder: the model with a chat template, to be served.
    """

    def __init__(self, folder: Path) -> None:
        self.model_folder = folder / "model"
        shutil.copytree(POCKET_MODELS[MODEL], self.model_folder, ignore=shutil.ignore_patterns(STATES_FOLDER))
        (self.model_folder / "chat_template.jinja").write_text(TEMPLATE)
        self.model, self.tokenizer = load_model(self.model_folder, dtype=torch.float32)
        self._tuned = read(shipped_states(MODEL)[TASK], self.model)

    def write_state(self, folder: Path, seed: int) -> Path:
        """The state that ships with the model, moved somewhere else."""
        generator = torch.Generator().manual_seed(seed)
        moved = {
            name: tensor + _DISTANCE * tensor.std() * torch.randn(tensor.shape, generator=generator)
            for name, tensor in self._tuned.tensors.items()
        }
        wrapped = put(replace(self._tuned, tensors=moved, alpha=1.0), self.model, "default")
        wrapped.save_pretrained(str(folder))
        detach(wrapped, "default")
        return folder

    def answer(self, question: Question, state: str) -> Answer | None:
        """What a state that is on the model answers; None if rounding might choose another token somewhere."""
        how = replace(question.sampling, batch_rows=1)
        with alone(self.model, state), _watched_choices() as choices:
            (written,) = generate(self.model, self.tokenizer, [question.prompt], how, n=question.n)
        if not all(choices):
            return None
        return Answer(
            tuple(completion.text for completion in written),
            tuple("length" if completion.truncated else "stop" for completion in written),
            sum(completion.n_tokens for completion in written),
        )

    def answers(self, folders: Mapping[str, Path], questions: Sequence[Question]) -> Answers:
        """What states answer, by name and number: what leaves no doubt, and no other state answers as well.

        Args:
            folders: of the states, by name; the untouched model is asked as well, as "base".
            questions: that all are asked.
        """
        for name, folder in folders.items():
            self.model = load(folder, self.model, name)
        names = ("base", *folders)
        answers = {(name, q.number): answer for q in questions for name in names if (answer := self.answer(q, name))}
        times = Counter((number, answer.texts) for (_, number), answer in answers.items())
        kept = {key: answer for key, answer in answers.items() if times[key[1], answer.texts] == 1}
        for name in names:
            if not any(state == name for state, _ in kept):
                raise SystemExit(f"expected of {name} an answer of its own, got none; ask more questions")
        return kept


@contextmanager
def _watched_choices() -> Iterator[list[bool]]:
    """Whether each token chosen within this context would be so with logits that differ by more than rounding."""
    choices: list[bool] = []
    generator = torch.Generator().manual_seed(0)

    def watched(logits: torch.Tensor, *how: Any) -> list[int]:
        chosen = choose(logits, *how)
        for _ in range(_N_MOVES):
            moved = logits + _ROUNDING * torch.randn(logits.shape, generator=generator)
            choices.append(choose(moved, *how) == chosen)
        return chosen

    with mock.patch.object(batcher, "choose", watched):
        yield choices


def questions_of_all_kinds(n: int) -> list[Question]:
    """Long and short, chats and not, likeliest tokens and drawn ones, one answer and several."""
    problems = tasks.load(TASK).require_split("train")
    long = "".join(f"{problem.prompt}{problem.canonical_solution}\n" for problem in problems[-12:])
    return [_question(number, problem.prompt, long) for number, problem in enumerate(problems[:n])]


def _question(number: int, text: str, long: str) -> Question:
    kind = number % 6
    prompts: dict[int, Prompt] = {
        0: text[: len(text) // 2],  # there is more to be said of what is half said
        1: [{"role": "system", "content": "# short\n"}, {"role": "user", "content": text}],
        3: long + text,  # longer than the beginnings that a server keeps
    }
    how = Sampling(
        (24, 40, 32)[number % 3],
        temperature=0.0 if kind == 0 else 0.9,
        top_p=0.95 if kind == 2 else 1.0,
        stop=("\n\n",) if kind == 4 else (),
        seed=number,
    )
    return Question(number, prompts.get(kind, text), how, n=2 if kind == 5 else 1)


def kinds(questions: Sequence[Question]) -> dict[str, int]:
    """How many there are of each kind, for the record."""
    return {
        "all": len(questions),
        "chats": sum(question.is_chat for question in questions),
        "drawn": sum(question.sampling.temperature > 0 for question in questions),
        "several samples": sum(question.n > 1 for question in questions),
        "long prompts": sum(len(str(question.prompt)) > 1000 for question in questions),
    }
