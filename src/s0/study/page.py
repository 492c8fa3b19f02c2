"""The page of a study, in Markdown: its tables, and in words what their figures are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from s0.files import write_files
from s0.study.runner import LEFT, Standing
from s0.study.tables import Interval, Row, Table, facts

PAGE, FIGURES = "report.md", "report.json"


def write_page(standing: Standing, tables: Sequence[Table], out: str | Path) -> Path:
    """Write a study's page, and beside it its figures as JSON.

    Args:
        standing: how far the study is.
        tables: of it.
        out: the folder; made if need be.

    Returns:
        where the page is.

    Raises:
        OSError: it cannot be written.
    """
    figures = json.dumps(facts(standing, tables), indent=1, ensure_ascii=False) + "\n"
    write_files(out, {FIGURES: figures.encode(), PAGE: page(standing, tables).encode()})
    return Path(out) / PAGE


def page(standing: Standing, tables: Sequence[Table]) -> str:
    """The page of a study with these tables."""
    study = standing.study
    parts = [f"# {study.title or study.name}", "", *_about(standing), ""]
    for table in tables:
        parts += [f"## {heading(table)}", "", *_lines(table, study.reference), ""]
    return "\n".join(parts)


def heading(table: Table) -> str:
    """What a table is of."""
    amount = "all examples" if table.amount is None else f"{table.amount} examples"
    asked = "" if table.asked == table.task else f", asked {table.asked}"
    return f"{table.model}, {amount} of {table.task}{asked}"


def _about(standing: Standing) -> list[str]:
    study = standing.study
    lines = [
        f"Greedy pass@1 in % on {study.split} problems, {_counted(len(study.seeds), 'seed')}; 95% intervals: "
        + ("Student's over seeds, for these problems." if len(study.seeds) > 1 else "Wilson's over problems."),
        f"Gains in points over {study.reference}, standard scoring, paired by seed; crossed: for other problems too, a "
        "bootstrap over both. p by Holm over the rows of a table (t-test, two-sided), - where no test says anything.",
    ]
    if study.is_quick:
        lines.insert(0, "**A quick run, which shows that the study runs and nothing else.**")
    not_done = [f"{len(standing.keys(LEFT))} left"] if standing.keys(LEFT) else []
    not_done += [f"{len(standing.failures)} failed"] if standing.failures else []
    return [*lines, f"Of {len(standing.plan.units)} units: {', '.join(not_done)}."] if not_done else lines


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _lines(table: Table, reference: str) -> list[str]:
    ks = list(next((row.pass_at_k for row in table.rows if row.pass_at_k), {}))
    is_published = any(row.published for row in table.rows)
    head = ["variant", "numbers trained", "standard", "paper", f"gain over {reference}", "crossed", "p"]
    head += [f"sampled pass@{k}" for k in ks] + (["published"] if is_published else [])
    lines = [_in_cells(head), "|" + "---|" * len(head)]
    for row in table.rows:
        sampled = [f"{row.pass_at_k[k]:.1f}" if row.pass_at_k else "" for k in ks]
        lines.append(_in_cells([*_cells(row), *sampled, *([row.published] if is_published else [])]))
    lines += ["", f"{table.n_problems} problems."]
    if table.contrasts:
        lines += ["", _in_cells(["second - first", "points", "crossed", "p"]), "|---|---|---|---|"]
        lines += [
            _in_cells([f"{each.second} - {each.first}", *_differences(each.difference, each.crossed, each.p_holm)])
            for each in table.contrasts
        ]
    if table.missing:
        lines += ["", "Not done: " + _seeds_done(table.missing) + "."]
    return lines


def _cells(row: Row) -> list[str]:
    differences = _differences(row.gain, row.crossed, row.p_holm) if row.gain else ["", "", ""]
    return [row.label, f"{row.parameters:,}", _points(row.standard), _points(row.paper), *differences]


def _differences(difference: Interval, crossed: Interval | None, p_holm: float | None) -> list[str]:
    return [_points(difference, "+"), _range(crossed) if crossed else "", _p(p_holm, difference)]


def _seeds_done(missing: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({_counted(n, 'seed')} done)" for name, n in missing.items())


def _in_cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _points(interval: Interval, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.1f}" for value in interval)
    return f"{mean} [{low}, {high}]" if interval[2] - interval[1] > 1e-9 else mean


def _range(interval: Interval) -> str:
    _, low, high = interval
    return f"[{low:+.1f}, {high:+.1f}]"


def _p(p_value: float | None, tested: Interval) -> str:
    """A p-value; a test of differences that are all the same says nothing."""
    _, low, high = tested
    return "-" if p_value is None or high - low < 1e-9 else f"{p_value:.1g}"
