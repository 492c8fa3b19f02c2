"""Rounds of collecting and learning: each collects with what the round before has learned, and learns anew from zero.

    round 1    the untouched model writes             what passes is learned
    round 2    what round 1 has learned writes        all that has passed so far is learned, from zero
    ...

A model that was tuned solves problems which the untouched one does not, so that later rounds learn from more of them.
Of a problem a few different answers are kept, the earliest ones, and all problems count alike. Every round answers the
select problems greedily; the one that solves most of them is the result, of equal ones the first. Final problems are
never asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from s0.bench.asking import Answerer, Questions
from s0.bench.collection import CollectSettings, collect
from s0.bench.variants import Outcome, Variant, answer, run_variant
from s0.errors import ConfigError
from s0.examples import Example, write_examples
from s0.progress import Stage, named, silent

LEARNED_FILE = "learned.jsonl"
"""The examples that a round has learned from, in its folder."""
TUNED_FOLDER = "tuned"
"""What it has learned, there."""
_DECIDES = "standard"
"""The scoring that rounds are compared by."""


@dataclass(frozen=True)
class ImproveSettings:
    """How rounds go; sampling is the paper's.

    Attributes:
        variant: what learns, in every round.
        rounds: at most so many.
        keep: different answers of a problem that are learned from, at most.
        samples, select_samples: drawn of each train and select problem in each round.
        temperature, top_p: of the sampling.
        seed: of the sampling of the first round; each later round has the next one.
    """

    variant: Variant
    rounds: int = 3
    keep: int = 4
    samples: int = 16
    select_samples: int = 4
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant.settings is None or self.variant.content != "right":
            raise ConfigError(f"expected a `variant` that learns from what passes, got {self.variant}")
        if min(self.rounds, self.keep) < 1:
            raise ConfigError(f"expected `rounds` and `keep` of at least 1, got {self.rounds} and {self.keep}")
        for split in ("train", "select"):
            self.collecting(split, 1)  # checks the rest

    def collecting(self, split: str, number: int) -> CollectSettings:
        """How a round samples from the problems of a split."""
        samples = self.samples if split == "train" else self.select_samples
        return CollectSettings(self.temperature, self.top_p, samples, keep="all", seed=self.seed + number - 1)


@dataclass(frozen=True)
class Round:
    """What a round has come to.

    Attributes:
        number: from 1.
        n_new: answers of train problems that it has added to what is learned.
        n_examples: learned from.
        n_solved: train problems with an answer that passes, so far.
        n_select: select problems solved greedily with what was learned.
        outcome: facts, answers to the select problems and seconds.
        folder: of its examples, and of what it has learned.
    """

    number: int
    n_new: int
    n_examples: int
    n_solved: int
    n_select: int
    outcome: Outcome
    folder: Path


@dataclass(frozen=True)
class Improvement:
    """All rounds.

    Attributes:
        n_select_before: select problems solved by the untouched model.
        rounds: in order, at least one.
        ended_by: "rounds", as many as were asked for; "select", after a round that has solved fewer select problems
            than the best before it; or "no new answers".
    """

    n_select_before: int
    rounds: Sequence[Round]
    ended_by: str

    @property
    def best(self) -> Round:
        """The round that has solved most select problems; of equal ones the first."""
        return max(self.rounds, key=lambda each: (each.n_select, -each.number))


def improve(
    base: Answerer,
    questions: Mapping[str, Questions],
    out: str | Path,
    settings: ImproveSettings,
    *,
    overwrite: bool = False,
    stage: Stage = silent,
) -> Improvement:
    """Collect and learn in rounds; leaves the model untouched.

    Killed at any point, it goes on from there, also where more rounds are asked for.

    Args:
        base: the model, with nothing attached; answers to select problems are kept in its journal, if it has one.
        questions: "train" to learn from, and "select", other problems, to choose scales and the round on.
        out: folder for the rounds, `round-1` and so on, with `LEARNED_FILE` and `TUNED_FOLDER` in each.
        settings: how.
        overwrite: start anew where rounds of other settings are in the place of these.
        stage: shows progress.

    Raises:
        ConfigError: problems of other splits; a method that cannot be put on the model; what lies in `out` was made
            otherwise.
        DatasetError: no answer of the untouched model to a train problem, or none to a select problem, passes.
        S0Error: as of collecting, training and evaluating.
    """
    _require_splits(questions)
    settings.variant.trainer(base.model, base.tokenizer).detach()  # refused before anything is asked, if at all
    learned: dict[str, list[Example]] = {split: [] for split in questions}
    select = questions["select"]
    before = answer(base, select, {"method": "base"}, stage=named(stage, "untouched"))
    n_before = _n_solved(before)
    rounds: list[Round] = []
    for number in range(1, settings.rounds + 1):
        folder, shown = Path(out) / f"round-{number}", named(stage, f"round {number}")
        n_known = len(learned["train"])
        last = base.tuned_from(rounds[-1].folder / TUNED_FOLDER) if rounds else nullcontext(base)
        with last as answerer:
            for split, asked in questions.items():
                how, file = settings.collecting(split, number), folder / f"{split}.jsonl"
                with shown(f"collect {split}", how.samples * len(asked.problems)) as advance:
                    new = collect(answerer, asked, file, how, overwrite=overwrite, on_done=advance)
                learned[split] = _merged(learned[split], new, asked, settings.keep)
        n_new = len(learned["train"]) - n_known
        if not n_new:
            return Improvement(n_before, rounds, "no new answers")
        write_examples(folder / LEARNED_FILE, learned["train"])
        outcome = run_variant(settings.variant, base, select, learned, out=folder / TUNED_FOLDER, stage=shown)
        n_solved = len({_problem(example) for example in learned["train"]})
        rounds.append(Round(number, n_new, len(learned["train"]), n_solved, _n_solved(outcome), outcome, folder))
        if _has_fallen_behind(n_before, rounds):
            return Improvement(n_before, rounds, "select")
    return Improvement(n_before, rounds, "rounds")


def _require_splits(questions: Mapping[str, Questions]) -> None:
    splits = {name: asked.split for name, asked in questions.items()}
    if splits != {"train": "train", "select": "select"}:
        raise ConfigError(f"expected problems of the splits train and select, under these names, got {splits}")


def _merged(earlier: Sequence[Example], new: Sequence[Example], questions: Questions, keep: int) -> list[Example]:
    """Up to `keep` different answers of each problem, the earliest ones, so weighted that all problems count alike."""
    answers: defaultdict[str, dict[str, Example]] = defaultdict(dict)
    for example in (*earlier, *new):
        of_problem = answers[_problem(example)]
        if len(of_problem) < keep:
            of_problem.setdefault(example.completion, example)
    return [
        replace(example, weight=1 / len(of_problem))
        for of_problem in (answers[problem.id] for problem in questions.problems)
        for example in of_problem.values()
    ]


def _has_fallen_behind(n_before: int, rounds: Sequence[Round]) -> bool:
    """Whether the last round has solved fewer select problems than the best before it, or the untouched model."""
    *earlier, last = n_before, *(each.n_select for each in rounds)
    return last < max(earlier)


def _problem(example: Example) -> str:
    return str(example.provenance["problem"])


def _n_solved(outcome: Outcome) -> int:
    return sum(answer.passed[_DECIDES] for answer in outcome.answers)
