"""The plots of a study: what each variant gains, and how that grows with the number of examples.

Series differ in colour, marker and dashes, so that prints without colour tell neighbours apart. The same tables give
the same bytes with one version of matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from s0.report.plot_style import DASHES, LIGHT, MARKERS, STYLE, room_for, svg
from s0.study.overview import Place, groups, label_of
from s0.study.spec import Study
from s0.study.tables import Interval, Row, Table

_WIDTH, _TOP, _RIGHT, _GAP, _AXIS = 8.6, 0.35, 0.15, 0.2, 0.55  # inches
_TITLE = 112.0  # points of a letter, times letters, in an inch
_CURVES, _ROW = 2.6, 0.22
"""Inches: the height of a panel of curves, and of a mark in a panel of gains."""
_AT_MOST_ACROSS, _AT_MOST_DOWN = 3, 20
"""Panels beside each other, and variants below each other: with more, a table says it better."""
_APART = 0.8
"""Of a row's height, what the marks of one variant share."""


@dataclass(frozen=True)
class Plot:
    """A plot as SVG on white, and what it shows, in words; its figures are those of the tables."""

    svg: bytes
    alt: str


def figures(study: Study, tables: Sequence[Table]) -> dict[str, Plot]:
    """The plots that a study's tables have data for, by name.

    Returns:
        "examples" where their number varies, otherwise "gains"; none where nothing is compared, or too much.
    """
    compared = [table for table in tables if any(row.gain for row in table.rows)]
    variants = list(dict.fromkeys(row.variant for table in compared for row in table.rows if row.gain))
    if not variants or len(variants) > _AT_MOST_DOWN:
        return {}
    with matplotlib.style.context(STYLE, after_reset=True):
        if len({table.amount for table in compared}) > 1:
            return {"examples": _examples(study, compared, variants)}
        return {"gains": _gains(study, compared, variants)}


def _examples(study: Study, tables: Sequence[Table], variants: Sequence[str]) -> Plot:
    """Gain against the number of examples, a panel for each model and whatever else varies."""
    panels: dict[str, list[Table]] = {}
    for table in tables:
        panels.setdefault(_curve_of(study, table), []).append(table)

    def draw(axes: Axes, title: str) -> None:
        for number, variant in enumerate(variants):
            gains = {
                _n_examples(each): row.gain for each in panels[title] for row in each.rows if row.variant == variant
            }
            shift = 1.03 ** (number - (len(variants) - 1) / 2)  # so that intervals do not hide each other
            measured = [(n * shift, gain) for n, gain in sorted(gains.items()) if gain]
            if measured:
                _curve(axes, measured, {**_look(number), "label": label_of(study, variant, study.models)})
        axes.axhline(0, color=LIGHT.base, linewidth=0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted({_n_examples(table) for table in tables})))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.set_xlabel("examples", color=LIGHT.soft)

    reference = label_of(study, study.reference, study.models)
    figure, axes = _panels(list(panels), draw, height=_CURVES, left=0.65)
    for each in axes[::_AT_MOST_ACROSS]:
        each.set_ylabel(f"gain over {reference}, points", color=LIGHT.soft)
    return Plot(
        svg(figure, LIGHT.paper),
        f"Gain over {reference} in points against the number of examples, with 95% intervals",
    )


def _curve_of(study: Study, table: Table) -> str:
    """What a curve is of, beside the variant."""
    tasks = [table.task] if len(study.tasks) > 1 else []
    asked = [f"asked {table.asked}"] if len(study.asked) > 1 else []
    return ", ".join([table.model, *tasks, *asked])


def _n_examples(table: Table) -> float:
    return table.amount or table.n_examples or 1


def _curve(axes: Axes, measured: Sequence[tuple[float, Interval]], look: dict[str, Any]) -> None:
    amounts, gains = zip(*measured, strict=True)
    axes.errorbar(amounts, [gain[0] for gain in gains], _reach(gains), elinewidth=0.9, capsize=2, **look)


def _gains(study: Study, tables: Sequence[Table], variants: Sequence[str]) -> Plot:
    """The gain of every variant, a panel for each group of tables and a mark for each table in it."""
    panels = _panels_of(groups(study, tables))
    names = list(dict.fromkeys(place.name for places in panels.values() for place in places))
    labels = [label_of(study, variant, study.models) for variant in variants]

    def draw(axes: Axes, title: str) -> None:
        for place in panels[title]:
            number = names.index(place.name)
            shift = _APART * ((number + 0.5) / len(names) - 0.5)
            look = {**_look(number), "linestyle": "none", "label": place.name}
            rows = [row for row in place.table.rows if row.gain]
            _marks(axes, rows, [variants.index(row.variant) + shift for row in rows], look)
        axes.axvline(0, color=LIGHT.base, linewidth=0.7)
        axes.set_ylim(len(variants) - 0.45, -0.55)
        axes.yaxis.set_major_locator(NullLocator())
        axes.grid(axis="x", color=LIGHT.line, linewidth=0.6)
        for number in range(1, len(variants), 2):
            axes.axhspan(number - 0.5, number + 0.5, color=LIGHT.line, alpha=0.3, linewidth=0)
        axes.set_xlabel("points", color=LIGHT.soft)

    height = max(_ROW * max(1.4, len(names)) * len(variants), 0.8)
    figure, axes = _panels(list(panels), draw, height, left=room_for([(label, "") for label in labels]))
    for each in axes[::_AT_MOST_ACROSS]:
        for number, label in enumerate(labels):
            place: dict[str, Any] = {"transform": each.get_yaxis_transform(), "ha": "right", "va": "center"}
            each.text(-0.03, number, label, color=LIGHT.text, **place)
    reference = label_of(study, study.reference, study.models)
    return Plot(svg(figure, LIGHT.paper), f"Gain of every variant over {reference} in points, with 95% intervals")


def _panels_of(grouped: dict[str, list[Place]]) -> dict[str, list[Place]]:
    """Places by panel: by group, or one each where there is one group of all."""
    if list(grouped) != [""]:
        return grouped
    return {place.name: [Place("", place.table)] for place in grouped[""]}


def _marks(axes: Axes, rows: Sequence[Row], heights: Sequence[float], look: dict[str, Any]) -> None:
    gains = [row.gain for row in rows if row.gain]
    means = [gain[0] for gain in gains]
    axes.errorbar(means, heights, xerr=_reach(gains), elinewidth=1, capsize=2, markersize=3.5, **look)


def _reach(intervals: Sequence[Interval]) -> list[list[float]]:
    """How far the intervals reach below and above their means."""
    return [[mean - low for mean, low, _ in intervals], [high - mean for mean, _, high in intervals]]


def _panels(
    titles: Sequence[str], draw: Callable[[Axes, str], None], height: float, left: float
) -> tuple[Figure, list[Axes]]:
    """Panels of so many inches in height, some beside each other, which share their scales, and one legend below."""
    across = min(len(titles), _AT_MOST_ACROSS)
    down = math.ceil(len(titles) / across)
    width = (_WIDTH - left - _RIGHT - _GAP * (across - 1)) / across
    figure, panes = Figure((_WIDTH, 1)), list[Axes]()
    for title in titles:
        sharing: dict[str, Any] = {"sharex": panes[0], "sharey": panes[0]} if panes else {}
        panes.append(figure.add_axes((0, 0, 1, 1), label=title, **sharing))
        draw(panes[-1], title)
    legend = _legend(panes)
    columns = min(len(legend), max(1, int(9 / (1 + max((len(name) for name in legend), default=0) / 13))))
    below = 0.1 + 0.2 * math.ceil(len(legend) / columns) if legend else 0.0
    total = down * (_TOP + height + _AXIS) + below
    figure.set_size_inches(_WIDTH, total)
    for number, (title, axes) in enumerate(zip(titles, panes, strict=True)):
        row, column = divmod(number, across)
        bottom = total - (row + 1) * (_TOP + height) - row * _AXIS
        corner = (left + column * (width + _GAP)) / _WIDTH
        axes.set_position((corner, bottom / total, width / _WIDTH, height / total))
        axes.set_title(title, color=LIGHT.text, fontsize=min(9.0, _TITLE * width / len(title)), weight="bold")
        axes.tick_params(colors=LIGHT.soft, width=0.7, length=3, labelleft=column == 0)
    if legend:
        place: dict[str, Any] = {"loc": "lower center", "ncols": columns, "borderaxespad": 0.1}
        figure.legend(legend.values(), legend.keys(), labelcolor=LIGHT.text, **place)
    return figure, panes


def _legend(panes: Sequence[Axes]) -> dict[str, Artist]:
    """What a legend names, once for all panels."""
    named: dict[str, Artist] = {}
    for axes in panes:
        artists, names = axes.get_legend_handles_labels()
        for name, artist in zip(names, artists, strict=True):
            named.setdefault(name, artist)
    return {name: artist for name, artist in named.items() if name}


def _look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker: each of them tells a series from its neighbours."""
    return {
        "color": LIGHT.series[number % len(LIGHT.series)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }
