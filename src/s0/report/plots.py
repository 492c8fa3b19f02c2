"""The plots of a report, each as PNG to keep and as SVG to show, for light and for dark pages.

Nothing here touches pyplot. The same record gives the same bytes with one version of matplotlib.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s0.record import Layer, Record, Scale
from s0.report.plot_style import (
    DARK,
    LIGHT,
    STYLE,
    Ink,
    colour_of,
    drawable,
    fill,
    key,
    legend_above,
    look_of,
    panel,
    png,
    room_for,
    rows,
    svg,
)
from s0.report.wording import number, p_words, percent, points, visible

PUBLISHED_SCALES = (0.07, 0.65)
"""Young 2026: for Qwen3.5 and for FalconH1."""


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        png: for a file, on white.
        light, dark: SVG without a background, for a page of that colour.
        alt: what it shows, in words with its figures.
        width, height: in CSS pixels.
    """

    png: bytes
    light: bytes
    dark: bytes
    alt: str
    width: int
    height: int


Drawing = tuple[Figure, str]


def draw(record: Record) -> dict[str, Plot]:
    """Every plot that the record has data for, by name."""
    plots = {}
    for name, drawing in _DRAWINGS.items():
        # Whatever the user's own settings are; mathematics is off because names of variants may hold dollar signs.
        with matplotlib.style.context(STYLE, after_reset=True):
            drawn = {ink: drawing(record, ink) for ink in (LIGHT, DARK)}
            figure, alt = drawn[LIGHT] or (None, "")
            dark, _ = drawn[DARK] or (None, "")
            if figure and dark:
                width, height = (round(96 * inches) for inches in figure.get_size_inches())
                plots[name] = Plot(png(figure), svg(figure), svg(dark), visible(alt), width, height)
    return plots


def _pass_rates(record: Record, ink: Ink) -> Drawing | None:
    final = record.final
    labels = [(drawable(name), "") for name in final]
    figure, (axes,) = panel(ink, "Problems solved", 0.46 * len(final), room_for(labels))
    sentences = []
    for row, ((name, summary), (label, _)) in enumerate(zip(final.items(), labels, strict=True)):
        colour = colour_of(ink, record, name)
        for (scoring, rate), offset in zip(summary.pass_at_1.items(), (-0.19, 0.19), strict=True):
            value, low, high = 100 * rate.value, 100 * rate.low, 100 * rate.high
            axes.barh(row + offset, value, 0.34, edgecolor=colour, **fill(colour, scoring))
            axes.plot([low, high], [row + offset] * 2, color=ink.text, linewidth=1, solid_capstyle="butt")
            axes.text(high + 1.5, row + offset, f"{value:.1f}", color=ink.text, va="center", fontsize=8)
            sentences.append(f"{label}, {scoring}: {percent(rate.value)} ({percent(rate.low)} to {percent(rate.high)})")
    rows(axes, ink, labels)
    axes.set_xlim(0, 112)
    axes.xaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}%"))
    axes.set_xlabel("share of all, with 95% Wilson interval", color=ink.soft, loc="right")
    keys = {"standard": "standard scoring", "paper": "paper’s scoring"}
    handles = [Patch(edgecolor=ink.soft, label=label, **fill(ink.soft, scoring)) for scoring, label in keys.items()]
    legend_above(axes, ink, handles)
    return figure, "Bars of pass@1 with 95% intervals. " + "; ".join(sentences) + "."


def _differences(record: Record, ink: Ink) -> Drawing | None:
    comparisons = record.comparisons
    if not comparisons:
        return None
    labels = [(drawable(comparison.second), f"against {drawable(comparison.first)}") for comparison in comparisons]
    figure, (axes,) = panel(ink, "Points gained", 0.46 * len(comparisons), room_for(labels))
    axes.axvline(0, color=ink.text, linewidth=0.9)
    sentences = []
    for row, (comparison, (label, below)) in enumerate(zip(comparisons, labels, strict=True)):
        colour = colour_of(ink, record, comparison.second)
        for (scoring, compared), offset in zip(comparison.items(), (-0.15, 0.19), strict=True):
            value, low, high = 100 * compared.difference, 100 * compared.low, 100 * compared.high
            axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.8 if scoring == "standard" else 1.1)
            face = colour if scoring == "standard" else ink.paper
            axes.plot(value, row + offset, "o", color=colour, markerfacecolor=face, markersize=5.5, clip_on=False)
            sentences.append(
                f"{label} {below}, {scoring}: {points(compared.difference)} points "
                f"({points(compared.low)} to {points(compared.high)}), Holm’s p {p_words(compared.p_holm)}"
            )
    rows(axes, ink, labels)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -5), max(high, 5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: points(value / 100).removesuffix(".0")))
    axes.set_xlabel("points, with 95% interval for pairs", color=ink.soft, loc="right")
    hollow = {"markerfacecolor": ink.paper, "linewidth": 1.1}
    keys = [key(ink, "standard", marker="o", markersize=5.5), key(ink, "paper", marker="o", markersize=5.5, **hollow)]
    legend_above(axes, ink, keys)
    return figure, "Differences in pass@1 with 95% intervals. " + "; ".join(sentences) + "."


def _sampled(record: Record, ink: Ink) -> Drawing | None:
    sampled = record.sampled
    if sampled is None:
        return None
    keys = [key(ink, drawable(name), **look_of(ink, record, name)) for name in sampled.final]
    figure, (axes,) = panel(ink, "Solved by one of k samples", 1.75, 0.62, [keys])
    sentences: list[str] = []
    ks: list[int] = []
    for index, (name, summary) in enumerate(sampled.final.items()):
        estimates = {int(k): estimate for k, estimate in summary.pass_at_k.standard.items()}
        ks, look = sorted(estimates), look_of(ink, record, name)
        ordered = [estimates[k] for k in ks]
        beside = [k * 1.05 ** (index - (len(sampled.final) - 1) / 2) for k in ks]
        axes.plot(beside, [100 * estimate.value for estimate in ordered], **look)
        lows, highs = [100 * estimate.low for estimate in ordered], [100 * estimate.high for estimate in ordered]
        axes.vlines(beside, lows, highs, color=look["color"], linewidth=1)
        first, last = percent(ordered[0].value), percent(ordered[-1].value)
        sentences.append(f"{drawable(name)}: pass@{ks[0]} {first}, pass@{ks[-1]} {last}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_ylim(0, 104)
    axes.set_xlabel("k; standard scoring, with 95% interval", color=ink.soft, loc="right")
    axes.set_ylabel("passed, %", color=ink.soft)
    return figure, "pass@k by k, standard scoring. " + "; ".join(sentences) + "."


def _scale(record: Record, ink: Ink) -> Drawing | None:
    scales = {name: run.scale for name, run in record.variants.items() if run.scale is not None and run.scale.curve}
    if not scales:
        return None
    kinds = sorted({scale.by for scale in scales.values()})
    keys: list[list[Artist]] = [[] for _ in kinds]
    for name, scale in scales.items():
        chosen, shown = number(scale.chosen), keys[kinds.index(scale.by)]
        shown.append(key(ink, f"{drawable(name)}: {chosen}", **look_of(ink, record, name)))
        if 0 in dict(_measured(scale)):
            shown.append(key(ink, "at scale 0", **_untouched(ink, record, name)))
    figure, panes = panel(ink, "Select examples by scale", 1.75, 0.62, keys)
    for axes, kind in zip(panes, kinds, strict=True):
        heights: list[float] = []
        for name, scale in scales.items():
            if scale.by != kind:
                continue
            look, measured = look_of(ink, record, name), dict(_measured(scale))
            rungs = sorted(alpha for alpha in measured if alpha > 0)
            heights += measured.values()
            axes.plot(rungs, [measured[alpha] for alpha in rungs], **look)
            if 0 in measured:
                axes.axhline(measured[0], **_untouched(ink, record, name))
            if (best := scale.chosen) in rungs:
                axes.plot(best, measured[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=ink.text)
        _logarithmic(axes, [point.alpha for scale in scales.values() for point in scale.curve])
        for published in PUBLISHED_SCALES:
            axes.axvline(published, color=ink.soft, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
            place: dict[str, Any] = {"ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
            axes.text(published, 1.0, number(published), color=ink.soft, fontsize=7.5, **place)
        if kind == "loss" and heights:
            _wide(axes, heights)
        axes.set_ylabel("loss, nats per token" if kind == "loss" else "passed, %", color=ink.soft)
        axes.set_xlabel("scale; dotted: the published values; ring: chosen", color=ink.soft, loc="right")
    sentences = [f"{drawable(name)}: chosen {number(scale.chosen)}" for name, scale in scales.items()]
    return figure, "The scale of the state on the select examples. " + "; ".join(sentences) + "."


def _untouched(ink: Ink, record: Record, name: str) -> dict[str, Any]:
    return {"color": colour_of(ink, record, name), "linewidth": 0.9, "linestyle": (0, (4, 3))}


def _measured(scale: Scale) -> Iterator[tuple[float, float]]:
    """(alpha, loss or percentage) of a scale's curve, where it is finite."""
    for point in scale.curve:
        if point.value is not None and math.isfinite(point.value):
            yield point.alpha, point.value * (1 if scale.by == "loss" else 100)


def _logarithmic(axes: Axes, alphas: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are plain numbers."""
    above = [alpha for alpha in (*alphas, *PUBLISHED_SCALES) if alpha > 0]
    axes.set_xscale("log")
    axes.set_xlim(min(above) / 1.3, max(above) * 1.3)
    decades = range(math.floor(math.log10(min(above))), math.ceil(math.log10(max(above))) + 1)
    steps = (1, 2, 5) if len(decades) <= 3 else (1, 3) if len(decades) <= 5 else (1,)
    axes.xaxis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in steps]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _wide(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic vertical axis where the values span more than a factor of 30, else one from 0."""
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 300 * min(values) else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    else:
        axes.set_ylim(min(0, *values), 1.08 * max(values) or 1)


def _loss(record: Record, ink: Ink) -> Drawing | None:
    trained = {name: run.training for name, run in record.variants.items() if run.training and run.training.losses}
    if not trained:
        return None
    keys = [key(ink, drawable(name), **{**look_of(ink, record, name), "marker": ""}) for name in trained]
    if any(training.select_losses for training in trained.values()):
        keys.append(key(ink, "select examples", linewidth=0.9, marker="."))
    figure, (axes,) = panel(ink, "Loss by step", 1.75, 0.62, [keys])
    heights, sentences = [], []
    for name, training in trained.items():
        series = (("training", training.losses, "", 1.6), ("select", training.select_losses, ".", 0.9))
        for examples, losses, marker, width in series:
            values = [math.nan if loss is None else loss for loss in losses or ()]
            drawn = [value if math.isfinite(value) else math.nan for value in values]
            finite = [value for value in values if math.isfinite(value)]
            look = {**look_of(ink, record, name), "marker": marker, "linewidth": width}
            axes.plot(range(1, len(values) + 1), drawn, **look)
            heights += finite
            if finite:
                sentences.append(f"{drawable(name)}, {examples} examples: {number(finite[0])} to {number(finite[-1])}")
    if heights:
        _wide(axes, heights)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step", color=ink.soft, loc="right")
    axes.set_ylabel("nats per token", color=ink.soft)
    return figure, "Loss by step, in nats per token. " + "; ".join(sentences) + "."


def _norms(record: Record, ink: Ink) -> Drawing | None:
    states = {name: run.layers for name, run in record.variants.items() if run.layers}
    if not states:
        return None
    looks = {name: {**look_of(ink, record, name), "linestyle": ""} for name in states}
    keys = [key(ink, drawable(name), **look) for name, look in looks.items()] if len(states) > 1 else []
    figure, (axes,) = panel(ink, "Norm by layer", 1.75, 0.62, [keys])
    numbered = all(places is not None for places in map(_places, states.values()))
    heights, sentences = [], []
    for index, (name, layers) in enumerate(states.items()):
        norms = [layer.norm for layer in layers]
        heights += [norm for norm in norms if math.isfinite(norm)]
        places = (_places(layers) if numbered else None) or list(range(1, len(layers) + 1))
        beside = [place + 0.16 * (index - (len(states) - 1) / 2) for place in places]
        axes.vlines(beside, 0, norms, color=looks[name]["color"], linewidth=1)
        axes.plot(beside, norms, **looks[name])
        sentences.append(f"{drawable(name)}: {number(min(norms))} to {number(max(norms))} over {len(norms)} layers")
    axes.set_ylim(0, 1.1 * max(heights, default=0.0) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("layer of the model" if numbered else "layer, in order", color=ink.soft, loc="right")
    axes.set_ylabel("norm", color=ink.soft)
    return figure, "Norm of the learned state in each layer. " + "; ".join(sentences) + "."


def _places(layers: Sequence[Layer]) -> list[int] | None:
    """The number in each layer's name, where every name has one of its own."""
    numbers = [re.findall(r"[0-9]{1,6}", layer.name) for layer in layers]
    places = [int(digits[0]) for digits in numbers if len(digits) == 1]
    return places if len(set(places)) == len(layers) else None


_DRAWINGS: Mapping[str, Callable[[Record, Ink], Drawing | None]] = {
    "passrates": _pass_rates,
    "differences": _differences,
    "sampled": _sampled,
    "scale": _scale,
    "loss": _loss,
    "norms": _norms,
}
