"""The comparison that goes beyond the paper, judged by its rules (studies/beyond.md), from the records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study_tables import NAMES, answers_in, done, study_of

from s0.bench import crossed, holm
from s0.bench.stats import CrossedDifference
from s0.errors import GridNotDoneError
from s0.study.markdown import heads, in_cells, points
from s0.study.runner import LEFT
from s0.study.store import Failure, Record, VariantRecord

CELLS = tuple(f"beyond_{model}_{task}" for model in ("gdn", "mamba2") for task in ("code", "math", "sql"))
CANDIDATES, RIVAL, UNTOUCHED = ("s0", "s0_gains"), "lora", "base"
_ALL = (UNTOUCHED, *CANDIDATES, RIVAL)
MARGIN, LEAD, LEVEL = 0.02, 0.03, 0.05
WANTED_AHEAD = 2


@dataclass(frozen=True)
class Claim:
    """What a cell comes to.

    Attributes:
        name: of its study.
        candidate: of `CANDIDATES`, chosen on select problems.
        on_select: how many problems each of them solves there, the mean over seeds.
        result: candidate minus rival, on the fresh problems.
        broken: runs that count as the untouched model.
    """

    name: str
    candidate: str
    on_select: Mapping[str, float]
    result: CrossedDifference
    broken: Sequence[str]


def claim(name: str) -> Claim | None:
    """The claim of a cell; None until all of it is done."""
    try:
        here = done(name)
    except GridNotDoneError:
        return None
    if here.keys(LEFT):
        return None
    keys = {variant: [cell.key for cell in here.plan.cells if cell.variant == variant] for variant in _ALL}
    runs = {variant: [here.records[key] for key in keys[variant]] for variant in _ALL}
    untouched = runs[UNTOUCHED][0]  # of all seeds
    if not isinstance(untouched, VariantRecord):
        return None
    on_select = {variant: statistics.fmean(_solved_on_select(runs[variant])) for variant in CANDIDATES}
    candidate = max(CANDIDATES, key=lambda variant: on_select[variant])
    verdicts = {
        variant: [_verdicts(run if isinstance(run, VariantRecord) else untouched) for run in runs[variant]]
        for variant in (RIVAL, candidate)
    }
    broken = [f"{variant}: {run.error}" for variant in _ALL for run in runs[variant] if isinstance(run, Failure)]
    return Claim(name, candidate, on_select, crossed(verdicts[RIVAL], verdicts[candidate]), broken)


def _verdicts(run: VariantRecord) -> list[bool]:
    return [verdict == "1" for verdict in answers_in(run).verdicts["standard"]]


def _solved_on_select(runs: Sequence[Record]) -> list[int]:
    """By the round that answers; a run that broke down has solved what the untouched model does."""
    rounds = [run.rounds for run in runs if isinstance(run, VariantRecord) and run.rounds]
    untouched = rounds[0].n_select_before if rounds else 0
    solved = [each.rounds[each.best - 1].n_select for each in rounds]
    return solved + [untouched] * (len(runs) - len(rounds))


def claims() -> str:
    """The six cells, and whether the goal is met."""
    cells = {name: claim(name) for name in CELLS}
    made = [each for each in cells.values() if each]
    if not made:
        return "**Not run.** The rules were committed before any run."
    lines = heads(["cell", "candidate", "minus LoRA r24, fresh problems", "not inferior, p", "ahead, p"])
    not_inferior, ahead = (_adjusted(made, threshold) for threshold in (-MARGIN, 0.0))
    for each, p_not_inferior, p_ahead in zip(made, not_inferior, ahead, strict=True):
        result = each.result
        shown = points((100 * result.difference, 100 * result.low, 100 * result.high), "+")
        lines.append(in_cells([_words(each.name), each.candidate, shown, f"{p_not_inferior:.2g}", f"{p_ahead:.2g}"]))
    n_not_inferior = sum(p < LEVEL for p in not_inferior)
    n_ahead = sum(p < LEVEL and each.result.difference >= LEAD for p, each in zip(ahead, made, strict=True))
    is_met = len(made) == len(CELLS) == n_not_inferior and n_ahead >= WANTED_AHEAD
    verdict = (
        f"Not inferior in {n_not_inferior} of {len(made)}, ahead by {100 * LEAD:.0f} points or more in {n_ahead}: "
        f"the goal, all {len(CELLS)} and {WANTED_AHEAD}, is {'met' if is_met else 'not met'}."
    )
    lines += ["", verdict]
    left = [name for name, each in cells.items() if each is None]
    lines += ["", f"Not done: {', '.join(map(_words, left))}."] if left else []
    broken = [f"- {_words(each.name)}, {line}" for each in made for line in each.broken]
    return "\n".join([*lines, *(["", "Broken down, counted as the untouched model:", "", *broken] if broken else [])])


def _adjusted(made: Sequence[Claim], threshold: float) -> list[float]:
    """p-values by Holm over all cells; one that is not done counts as 1."""
    return holm([each.result.p_above(threshold) for each in made] + [1.0] * (len(CELLS) - len(made)))[: len(made)]


def _words(name: str) -> str:
    study = study_of(name)
    return f"{study.models[0]}, {NAMES[study.tasks[0]]}"
