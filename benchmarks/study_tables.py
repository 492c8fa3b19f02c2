"""What the pages say of the studies in benchmarks/studies, from the records in benchmarks/results/studies.

`pages.py` writes it into docs/results.md, README.md and the cards of the pocket models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from s0.bench import t_interval
from s0.errors import DatasetError, GridNotDoneError
from s0.models import model_without_weights
from s0.study.figures import Plot, figures
from s0.study.grids import winner
from s0.study.lengths import by_length
from s0.study.markdown import heads, in_cells, points, spread
from s0.study.overview import label_of, legend, lengths_in_cells, overview
from s0.study.runner import DONE, Standing, opened, standing
from s0.study.spec import Study
from s0.study.store import Answered, VariantRecord
from s0.study.tables import Contrast, Row, Table, tables
from s0.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDS = RESULTS / "studies"
"""Of all studies; `make study` fills it."""
PLOTS = ROOT / "docs" / "results"

STUDIES = (
    "main",
    "examples",
    "rivals",
    "transfer",
    "pass_at_k",
    "alpha",
    "layers",
    "offset",
    "prefix",
    "sql_hard",
    "beyond_rank",
)
"""On the page, in this order."""
TUNED = ("pocket:gdn", "pocket:mamba2")
NAMES = {
    "pocket-code": "functions",
    "pocket-math": "word problems",
    "pocket-sql": "SQL",
    "pocket-sql-hard": "harder SQL",
}


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def study_of(name: str) -> Study:
    """What a study file says."""
    study, _ = opened(ROOT / "benchmarks" / "studies" / f"{name}.toml", RECORDS)
    return study


@cache
def done(name: str) -> Standing:
    """How far a study is."""
    return standing(*opened(ROOT / "benchmarks" / "studies" / f"{name}.toml", RECORDS))


@cache
def tables_of(name: str) -> tuple[Table, ...]:
    """Those of a study in which something is compared; none where nothing of it is done, or its grid is not."""
    try:
        here = done(name)
    except GridNotDoneError:
        return ()
    try:
        made = tables(here)
    except DatasetError:  # nothing is
        return ()
    return tuple(table for table in made if any(row.gain for row in table.rows))


@cache
def plots_of(name: str) -> dict[str, Plot]:
    return figures(study_of(name), tables_of(name)) if tables_of(name) else {}


def plots() -> dict[Path, bytes]:
    """The plots of all studies, by file."""
    return {PLOTS / f"{name}.svg": plot.svg for name in STUDIES for plot in plots_of(name).values()}


def section(name: str) -> str:
    """A study on the page: what it is about, how far it is, its plot, and its tables at a glance."""
    study, file = study_of(name), f"[Study file](../benchmarks/studies/{name}.toml)."
    if not tables_of(name):
        return f"{study.about} **Not run.** {file}"
    here = done(name)
    n_done, n_units = counted(here)
    problems = sorted({table.n_problems for table in tables_of(name)})
    measured = f"{len(study.seeds)} seeds, {' or '.join(map(str, problems))} {study.split} problems of each task."
    left = "" if n_done == n_units else f" **Not whole: {n_done} of {n_units} units are done.**"
    return "\n".join(
        [
            f"{study.about} {measured} {file}{left}",
            "",
            *(f"![{plot.alt}](results/{name}.svg)\n" for plot in plots_of(name).values()),
            legend(study),
            "",
            *overview(study, tables_of(name)),
            judged_by(here),
        ]
    ).rstrip()


def counted(here: Standing) -> tuple[int, int]:
    """Units that are done, and all."""
    return len(here.keys(DONE)), len(here.plan.units)


def judged_by(here: Standing) -> str:
    """Which version of each task's rules the records were judged by; different ones do not compare."""
    runs = [run for run in here.records.values() if isinstance(run, VariantRecord)]
    versions: dict[str, set[str]] = {}
    for run in runs:
        for answered in run.answered.values():
            versions.setdefault(answered.task.name, set()).add(answered.task.version)
    for name, taken in versions.items():
        if len(taken) > 1:
            sys.exit(f"expected records of one version of {name}, got {', '.join(sorted(taken))}; run `make study`")
    phrases = []
    for name, (version,) in sorted(versions.items()):
        since = "" if version == TASKS[name].version else f" ({TASKS[name].version} now)"
        phrases.append(f"version {version} of {name}{since}")
    return f"Judged by {', '.join(phrases)}."


def rows(name: str, variant: str) -> Iterator[tuple[Table, Row]]:
    """A variant wherever a study has measured it, on the task that it learned."""
    for table in tables_of(name):
        for row in table.rows:
            if row.variant == variant and table.asked == table.task:
                yield table, row


def contrasts(name: str, first: str, second: str) -> Iterator[tuple[Table, Contrast]]:
    """A contrast wherever a study has measured it."""
    for table in tables_of(name):
        for contrast in table.contrasts:
            if (contrast.first, contrast.second) == (first, second):
                yield table, contrast


def results() -> str:
    """Gains of every variant of the main table, on the hybrid models and all tasks."""
    study = study_of("main")
    places = [(model, task) for model in TUNED for task in study.tasks]
    cells = {(table.model, table.task): {row.variant: row for row in table.rows} for table in tables_of("main")}
    lines = heads(["", *(f"{model.removeprefix('pocket:')}, {NAMES[task]}" for model, task in places)])
    for variant in study.variants:
        here = [cells.get(place, {}).get(variant) for place in places]
        if any(here):
            lines.append(in_cells([label_of(study, variant, TUNED), *map(_gain, here)]))
    n_problems = sorted({table.n_problems for table in tables_of("main")})
    below = (
        "The untouched model's pass@1 in %, and gains over it in points with 95% t-intervals: "
        f"{len(study.seeds)} samplings of examples from 96 train problems, {' or '.join(map(str, n_problems))} final "
        "problems of each task, greedy, standard scoring. Empty: not run yet."
    )
    return "\n".join([*lines, "", below])


def _gain(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.standard[0]:.1f}" if row.gain is None else f"{row.gain[0]:+.1f}{spread(row.gain)}"


def models() -> str:
    """The pocket models on pocket-code, untouched and with the best of what S0 and LoRA make of them."""
    lines = heads(["model", "weights", "greedy, standard", "greedy, paper", "S0", "LoRA r24"])
    for table in tables_of("main"):
        by_variant = {row.variant: row for row in table.rows}
        if table.task == "pocket-code" and "base" in by_variant:
            solved = [f"{rate[0]:.1f}" for rate in (by_variant["base"].standard, by_variant["base"].paper)]
            tuned = [by_variant.get(name) for name in ("s0_auto", "lora_r24")]
            solved += [f"{row.standard[0]:.1f}" if row else "-" for row in tuned]
            lines.append(in_cells([table.model, f"{model_without_weights(table.model).num_parameters():,}", *solved]))
    below = (
        "pass@1 in % on the final problems of pocket-code; S0 and LoRA: greedy, standard scoring, mean over "
        f"{len(study_of('main').seeds)} samplings of examples."
    )
    return "\n".join([*lines, "", below])


_BY_LENGTH = ("base", "s0_auto", "lora_r24")


def lengths() -> str:
    """Accuracy by length of prompt and answer, on the main table, and how S0 and LoRA differ there."""
    lines: list[str] = []
    for table in tables_of("main"):
        if table.model not in TUNED or not {*_BY_LENGTH} <= {row.variant for row in table.rows}:
            continue
        for part in by_length(done("main"), table):
            lines += [f"**{table.model}, {NAMES[table.task]}, by length of the {part.of}, in characters**", ""]
            lines += lengths_in_cells(study_of("main"), table.model, part, _BY_LENGTH)
            tuned = [part.rates[variant] for variant in ("s0_auto", "lora_r24")]
            by_part = zip(*(zip(*rates, strict=True) for rates in tuned), strict=True)
            apart = [t_interval([a - b for a, b in zip(s0, lora, strict=True)]) for s0, lora in by_part]
            lines += [in_cells(["S0 - LoRA r24", *(points(difference, "+") for difference in apart)]), ""]
    below = "pass@1 in %, mean over seeds (so many problems in each part); differences with 95% t-intervals over seeds."
    return "\n".join([*lines, below])


def scales() -> str:
    """The scales that were chosen, beside the published ones."""
    lines = heads(["model", "task", "chosen alpha, by seed", "published"])
    for model, usual in (("pocket:gdn", 0.07), ("pocket:mamba2", 0.65)):
        for task in study_of("main").tasks:
            runs = runs_of("main", "s0_auto", model, task).values()
            chosen = [f"{run.run.scale.chosen:g}" for run in runs if run.run.scale]
            if chosen:
                lines.append(in_cells([model, NAMES[task], ", ".join(chosen), f"{usual:g}"]))
    return "\n".join(lines)


def grid() -> str:
    """All settings that were tried, on the select split."""
    tried, store = opened(ROOT / "benchmarks" / "studies" / "grid.toml", RECORDS)
    lines = heads(["model", "task", "method", "tried: lr x steps (pass@1 on select in %)", "numbers trained"])
    for model in tried.models:
        for task in tried.tasks:
            for name, variant in tried.variants.items():
                entries = [f"{name} {number}" for number in range(1, 1 + len(variant.grid))]
                runs = {each: run for each in entries for run in runs_of("grid", each, model, task).values()}
                if not entries or len(runs) < len(entries):
                    continue
                best = winner(tried, store, name, model, task).variant
                cells = [f"**{entry(run)}**" if key == best else entry(run) for key, run in runs.items()]
                numbers = ", ".join(f"{n:,}" for n in sorted({run.run.parameters or 0 for run in runs.values()}))
                lines.append(in_cells([model, NAMES[task], variant.label or name, "; ".join(cells), numbers]))
    return "\n".join(lines)


def entry(run: VariantRecord) -> str:
    """An entry of a grid: its settings, and what it passes."""
    settings = run.run.settings or {}
    text = f"{settings['lr']:g} x {settings['n_steps']}"
    text += "" if settings.get("projection", True) else " without projection"
    return f"{text} ({100 * answers_in(run).summary.pass_at_1.standard.value:.1f})"


def runs_of(name: str, variant: str, model: str, task: str) -> dict[int, VariantRecord]:
    """What a study without draws of examples has recorded of a variant, by seed."""
    here = done(name)
    return {
        cell.seed: run
        for cell in here.plan.cells
        if (cell.variant, cell.model, cell.task) == (variant, model, task)
        and isinstance(run := here.records.get(cell.key), VariantRecord)
    }


def answers_in(run: VariantRecord) -> Answered:
    """The answers to the one task that was asked."""
    (answered,) = run.answered.values()
    return answered


def recorded(name: str, variant: str, model: str, task: str, seed: int) -> VariantRecord:
    """The record of a unit."""
    run = runs_of(name, variant, model, task).get(seed)
    return run or sys.exit(f"expected a record of {variant}; `make study`")


def missing() -> str:
    """What of all studies is not done, and what failed."""
    lines = []
    for file in sorted((ROOT / "benchmarks" / "studies").glob("*.toml")):
        try:
            here = done(file.stem)
        except GridNotDoneError:
            lines.append(f"- {file.stem}: waits for its grid")
            continue
        n_done, n_units = counted(here)
        if n_done < n_units:
            lines.append(f"- {file.stem}: {n_done} of {n_units} units are done")
        lines += [f"- {file.stem}, failed: {failure.error:.200}" for failure in here.failures.values()]
    return "\n".join(lines) or "Nothing: every unit of every study is done."
