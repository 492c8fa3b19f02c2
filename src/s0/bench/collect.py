"""Verified examples: sample from the untouched model, run what it writes, keep what passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from s0.core.fingerprint import fingerprint
from s0.decode import Sampling, complete
from s0.errors import DatasetError
from s0.examples import Example, write_examples
from s0.files import write_text
from s0.tasks import Problem, Task
from s0.tasks.sandbox import Sandbox


@dataclass(frozen=True)
class CollectSettings:
    """How to sample; the defaults are the paper's.

    Attributes:
        temperature, top_p: of the sampling.
        samples: at most this many per problem; a problem is left as soon as one passes.
        per_round: samples per problem between two looks at the verdicts.
        seed: of the sampling.
        chat: ask through the chat template.
        max_new_tokens: None for the task's own limit.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    samples: int = 16
    per_round: int = 4
    seed: int = 0
    chat: bool = False
    max_new_tokens: int | None = None


def collect(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    out: str | Path,
    settings: CollectSettings,
    *,
    sandbox: Sandbox | None = None,
    on_round: Callable[[int, int, int], None] = lambda done, rounds, solved: None,
) -> list[Example]:
    """Collect one verified example for every problem the model solves, and write them to `out` (JSONL).

    Interrupted, it leaves finished rounds in `out` + ".rounds" and goes on from there when called again with the same
    model, problems and settings.

    Args:
        model: sampled as it is now: switch states off to sample from the untouched model.
        tokenizer: the model's.
        task: judges by its standard scoring.
        problems: to sample for; not those of the final split.
        out: the file to write.
        settings: how to sample.
        sandbox: None for the strongest of this machine.
        on_round: told (rounds done, rounds in all, problems solved).

    Raises:
        DatasetError: no problems, final problems among them, or nothing passed.
        SandboxError: there is no verdict to be had on this machine.
    """
    if not problems or any(problem.split == "final" for problem in problems):
        raise DatasetError(
            "expected problems of the train or select split, got "
            + ("some of the final split, on which nothing may be learned" if problems else "none")
        )
    origin = {"task": task.name, "task_version": task.version, "data_sha256": task.data_sha256}
    origin |= {"base": fingerprint(model), **asdict(settings)}
    journal = _Journal(Path(f"{out}.rounds"), {**origin, "problems": [problem.id for problem in problems]})
    rounds = -(-settings.samples // settings.per_round)
    solved = {problem: found for done in journal.rounds for problem, found in done.items()}
    for number in range(len(journal.rounds), rounds):
        left = [problem for problem in problems if problem.id not in solved]
        samples = min(settings.per_round, settings.samples - number * settings.per_round)
        found = _sample_round(model, tokenizer, task, left, samples, number, settings, sandbox) if left else {}
        journal.add(found)
        solved |= found
        on_round(number + 1, rounds, len(solved))
    if not solved:
        raise DatasetError(
            f"expected some of {settings.samples} samples for each of {len(problems)} problems to pass, none did; "
            "try more samples, a chat prompt (--chat), or a stronger model"
        )
    examples = [
        Example(task.prompt(problem, settings.chat), completion, {**origin, "problem": problem.id})
        for problem in problems
        if (completion := solved.get(problem.id)) is not None
    ]
    write_examples(out, examples)
    journal.path.unlink()
    return examples


def _sample_round(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Sequence[Problem],
    samples: int,
    number: int,
    settings: CollectSettings,
    sandbox: Sandbox | None,
) -> dict[str, str]:
    """{problem id: its first passing completion of this round}."""
    sampling = Sampling(
        max_new_tokens=settings.max_new_tokens or task.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        stop=() if settings.chat else tuple(task.stop),
    )
    asked = [problem for problem in problems for _ in range(samples)]
    prompts = [task.prompt(problem, settings.chat) for problem in asked]
    # Seeds of different rounds must differ, and a resumed run must repeat them.
    written = complete(model, tokenizer, prompts, sampling, seed=settings.seed * 1_000_003 + number)
    # A completion without an end is no example: the end token is learned too.
    replies = [(problem, one.text) for problem, one in zip(asked, written, strict=True) if not one.truncated]
    found: dict[str, str] = {}
    for (problem, text), verdict in zip(replies, task.verdicts(replies, sandbox=sandbox), strict=True):
        if verdict.passed and problem.id not in found:
            found[problem.id] = text
    return found


class _Journal:
    """The finished rounds of one collection: a header line that says which, then a line per round."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.rounds: list[dict[str, str]] = []
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == json.dumps(header):
            for line in lines[1:]:
                try:
                    self.rounds.append(json.loads(line))
                except ValueError:
                    break  # the last line was cut off when the run was
        kept = [json.dumps(header), *(json.dumps(done) for done in self.rounds)]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def add(self, found: dict[str, str]) -> None:
        self.rounds.append(found)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
