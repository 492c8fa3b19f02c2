"""The page of a study, in Markdown: at a glance, its figures as plots, and every table with all that was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from s0.files import write_files
from s0.study.figures import figures
from s0.study.lengths import Lengths, by_length
from s0.study.markdown import heads, in_cells, p_value, points, spread
from s0.study.overview import amount_in_words, contrasts, label_of, legend, lengths_in_cells, overview
from s0.study.report_files import FIGURES, PAGE
from s0.study.runner import LEFT, Standing
from s0.study.spec import Study
from s0.study.tables import Row, Table, facts


def write_page(standing: Standing, tables: Sequence[Table], out: str | Path) -> Path:
    """Write a study's page, and beside it its figures as JSON and as plots.

    Args:
        standing: how far the study is.
        tables: of it.
        out: the folder; made if need be.

    Returns:
        where the page is.

    Raises:
        OSError: it cannot be written.
    """
    plots = figures(standing.study, tables)
    names = {name: f"{name}.svg" for name in plots}
    text = page(standing, tables, {names[name]: plot.alt for name, plot in plots.items()})
    figures_json = json.dumps(facts(standing, tables), indent=1, ensure_ascii=False) + "\n"
    drawn = {names[name]: plot.svg for name, plot in plots.items()}
    write_files(out, {FIGURES: figures_json.encode(), PAGE: text.encode(), **drawn})
    return Path(out) / PAGE


def page(standing: Standing, tables: Sequence[Table], plots: Mapping[str, str] | None = None) -> str:
    """The page of a study.

    Args:
        standing: how far it is.
        tables: of it.
        plots: files of plots beside it, with what they show in words.
    """
    study = standing.study
    parts = [f"# {study.title or study.name}", "", *([study.about, ""] if study.about else []), *_about(standing), ""]
    for file, alt in (plots or {}).items():
        parts += [f"![{alt}]({file})", ""]
    parts += ["## At a glance", "", legend(study), "", *overview(study, tables)]
    for table in tables:
        parts += [
            f"## {heading(table)}",
            "",
            *_lines(study, table),
            *_lengths(study, table, by_length(standing, table)),
        ]
    return "\n".join(parts).rstrip() + "\n"


def heading(table: Table) -> str:
    """What a table is of."""
    asked = "" if table.asked == table.task else f", asked {table.asked}"
    return f"{table.model}, {amount_in_words(table.amount)} of {table.task}{asked}"


def _about(standing: Standing) -> list[str]:
    study = standing.study
    many = len(study.seeds) > 1
    spreads = "Student's over seeds, for these problems" if many else "over problems, Wilson's, of gains Tango's"
    test = "t-test" if many else "McNemar's test, which holds for this one training"
    lines = [
        f"Greedy pass@1 in % on {study.split} problems, {_counted(len(study.seeds), 'seed')}; "
        f"95% intervals: {spreads}.",
        f"Gains in points over {label_of(study, study.reference, study.models)}, paired by seed; for other problems: a "
        "bootstrap over seeds and problems.",
        f"p by Holm over all rows of a table, those that are not done too ({test}, two-sided); - where nothing was "
        "tested.",
    ]
    if study.is_quick:
        lines.insert(0, "**A quick run, which shows that the study runs and nothing else.**")
    not_done = [f"{len(standing.keys(LEFT))} left"] if standing.keys(LEFT) else []
    not_done += [f"{len(standing.failures)} failed"] if standing.failures else []
    if not_done:
        lines.append(f"Of {len(standing.plan.units)} units: {', '.join(not_done)}.")
    return [*lines, *(f"- failed: {key}: {failure.error:.200}" for key, failure in standing.failures.items())]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _lines(study: Study, table: Table) -> list[str]:
    ks = list(next((row.pass_at_k for row in table.rows if row.pass_at_k), {}))
    is_published = any(row.published for row in table.rows)
    head = ["variant", "numbers trained", "standard", "gain", "for other problems", "p", "paper", "gain, paper"]
    head += [f"sampled pass@{k}" for k in ks] + (["published"] if is_published else [])
    lines = heads(head)
    for row in table.rows:
        sampled = [f"{row.pass_at_k[k]:.1f}" if row.pass_at_k else "" for k in ks]
        lines.append(in_cells([*_cells(row), *sampled, *([row.published] if is_published else [])]))
    lines += ["", f"{table.n_problems} problems.", "", *contrasts(study, table)]
    if all(row.variant != study.reference for row in table.rows):
        lines += [f"No gains: {label_of(study, study.reference, study.models)} was not measured here.", ""]
    if table.missing:
        lines += ["Not done: " + _seeds_done(table.missing) + ".", ""]
    return lines


def _cells(row: Row) -> list[str]:
    cells = [row.label, f"{row.parameters:,}", points(row.standard)]
    if row.gain is None or row.paper_gain is None:
        return [*cells, "", "", "", points(row.paper), ""]
    tested = [points(row.gain, "+"), spread(row.crossed).strip(), p_value(row.p_holm)]
    return [*cells, *tested, points(row.paper), points(row.paper_gain, "+")]


def _seeds_done(missing: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({_counted(n, 'seed')} done)" for name, n in missing.items())


def _lengths(study: Study, table: Table, parts: Sequence[Lengths]) -> list[str]:
    lines = []
    for lengths in parts:
        lines += [f"By length of the {lengths.of}, in characters (so many problems): pass@1 in %.", ""]
        lines += [*lengths_in_cells(study, table.model, lengths, lengths.rates), ""]
    return lines
