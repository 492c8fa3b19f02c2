"""The plots of a study: what each variant gains, and how that grows with the number of examples.

Variants differ in colour, marker and dashes, so that prints without colour tell them apart. The same tables give the
same bytes with one version of matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from s0.report.plot_style import DASHES, LIGHT, MARKERS, STYLE
from s0.study.overview import Place, groups, label_of
from s0.study.spec import Study
from s0.study.tables import Interval, Row, Table

_WIDTH, _PANEL, _LEFT, _ROW = 8.6, 2.9, 2.5, 0.3  # inches
_APART = 0.75
"""Of a row's height, what the places of one variant share."""


@dataclass(frozen=True)
class Plot:
    """A plot as SVG on white, and what it shows in words with its figures."""

    svg: bytes
    alt: str


def figures(study: Study, tables: Sequence[Table]) -> dict[str, Plot]:
    """The plots that a study's tables have data for, by name.

    Returns:
        "examples" where their number varies, otherwise "gains"; none where nothing is compared.
    """
    with matplotlib.style.context(STYLE, after_reset=True):
        if len({table.amount for table in tables if table.amount is not None}) > 1:
            return {"examples": _examples(study, tables)}
        return {"gains": _gains(study, tables)} if any(row.gain for table in tables for row in table.rows) else {}


def _examples(study: Study, tables: Sequence[Table]) -> Plot:
    """Gain against the number of examples, a panel for each model and task."""
    panels: dict[str, list[Table]] = {}
    for table in tables:
        if table.amount is not None:
            task = f", {table.asked}" if len({each.asked for each in tables}) > 1 else ""
            panels.setdefault(table.model + task, []).append(table)
    variants = list(dict.fromkeys(row.variant for table in tables for row in table.rows if row.gain))
    figure, axes = _panels(list(panels), height=2.9, left=0.6)
    words = []
    for pane, (title, those) in zip(axes, panels.items(), strict=True):
        amounts = sorted({table.amount for table in those if table.amount is not None})
        for place, variant in enumerate(variants):
            gains = {
                table.amount: row.gain for table in those for row in table.rows if row.variant == variant and row.gain
            }
            if not gains:
                continue
            label = label_of(study, variant, study.models)
            shift = 1.04 ** (place - (len(variants) - 1) / 2)  # so that intervals do not hide each other
            _curve(pane, [amount * shift for amount in gains if amount], list(gains.values()), place, label)
            curve = ", ".join(f"{gain[0]:+.1f} from {amount}" for amount, gain in gains.items())
            words.append(f"{title}, {label}: {curve}")
        pane.axhline(0, color=LIGHT.base, linewidth=0.7)
        pane.set_xscale("log")
        pane.xaxis.set_major_locator(FixedLocator(amounts))
        pane.xaxis.set_minor_locator(NullLocator())
        pane.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        pane.set_xlabel("examples", color=LIGHT.soft)
    axes[0].set_ylabel(f"gain over {study.reference}, points", color=LIGHT.soft)
    _legend(figure, axes)
    return Plot(
        _svg(figure), "Gain against the number of examples, with 95% intervals over seeds. " + "; ".join(words) + "."
    )


def _curve(axes: Axes, amounts: Sequence[float], gains: Sequence[Interval], place: int, label: str) -> None:
    means = [gain[0] for gain in gains]
    reach = [[gain[0] - gain[1] for gain in gains], [gain[2] - gain[0] for gain in gains]]
    axes.errorbar(amounts, means, reach, label=label, elinewidth=0.9, capsize=2, **_look(place))


def _gains(study: Study, tables: Sequence[Table]) -> Plot:
    """The gain of every variant, a panel for each group of tables and a mark for each table in it."""
    panels = groups(study, tables)
    if list(panels) == [""]:
        panels = {place.name: [Place("", place.table)] for place in panels[""]}
    variants = list(dict.fromkeys(row.variant for table in tables for row in table.rows if row.gain))
    labels = [label_of(study, variant, study.models) for variant in variants]
    names = list(dict.fromkeys(place.name for places in panels.values() for place in places))
    figure, axes = _panels(list(panels), height=_ROW * max(1.0, len(names) / 2.2) * len(variants), left=_LEFT)
    words = []
    for pane, (title, places) in zip(axes, panels.items(), strict=True):
        for place in places:
            for row in place.table.rows:
                if row.gain:
                    number = names.index(place.name)
                    shift = _APART * ((number + 0.5) / len(names) - 0.5)
                    _mark(pane, row, variants.index(row.variant) + shift, number, place.name)
                    words.append(f"{', '.join(filter(None, (title, place.name)))}, {row.label}: {row.gain[0]:+.1f}")
        pane.axvline(0, color=LIGHT.base, linewidth=0.7)
        pane.set_ylim(len(variants) - 0.45, -0.55)
        pane.yaxis.set_major_locator(NullLocator())
        pane.grid(axis="x", color=LIGHT.line, linewidth=0.6)
        pane.set_xlabel("points", color=LIGHT.soft)
    _name_rows(axes[0], labels)
    _legend(figure, axes)
    return Plot(_svg(figure), f"Gain over {study.reference} in points, with 95% intervals. " + "; ".join(words) + ".")


def _mark(axes: Axes, row: Row, height: float, number: int, name: str) -> None:
    assert row.gain is not None
    mean, low, high = row.gain
    known = axes.get_legend_handles_labels()[1]
    look = {**_look(number), "linestyle": "none", "label": name if name not in known else None}
    axes.errorbar([mean], [height], xerr=[[mean - low], [high - mean]], elinewidth=1, capsize=2, **look)


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    for row, label in enumerate(labels):
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        axes.text(-0.04, row, label, color=LIGHT.text, **place)


def _panels(titles: Sequence[str], height: float, left: float) -> tuple[Figure, list[Axes]]:
    """Axes side by side, which share their scale."""
    top, below, right, gap = 0.35, 0.85, 0.15, 0.2
    total = top + height + below
    figure = Figure((_WIDTH, total))
    width = (_WIDTH - left - right - gap * (len(titles) - 1)) / len(titles)
    panes: list[Axes] = []
    for number, title in enumerate(titles):
        corner = (left + number * (width + gap)) / _WIDTH
        sharing: dict[str, Any] = {"sharex": panes[0], "sharey": panes[0]} if panes else {}
        axes = figure.add_axes((corner, below / total, width / _WIDTH, height / total), **sharing)
        axes.set_title(title, color=LIGHT.text, fontsize=9, weight="bold")
        axes.axhline(0, color=LIGHT.base, linewidth=0.7) if left < _LEFT else axes.axvline(
            0, color=LIGHT.base, linewidth=0.7
        )
        axes.tick_params(colors=LIGHT.soft, width=0.7, length=3, labelleft=not panes)
        panes.append(axes)
    return figure, panes


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels, below them."""
    handles: dict[str, Artist] = {}
    for pane in axes:
        artists, names = pane.get_legend_handles_labels()
        handles |= {name: artist for name, artist in zip(names, artists, strict=True) if name}
    if handles:
        place: dict[str, Any] = {"loc": "lower center", "ncols": min(4, len(handles)), "borderaxespad": 0.1}
        figure.legend(handles.values(), handles.keys(), labelcolor=LIGHT.text, **place)


def _look(place: int) -> dict[str, Any]:
    """Colour, dashes and marker: any one of them tells a series from its neighbours."""
    return {
        "color": LIGHT.series[place % len(LIGHT.series)],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def _svg(figure: Figure) -> bytes:
    """For a page of whatever colour, on white."""
    file = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", facecolor=LIGHT.paper, metadata=metadata)
    return file.getvalue()
