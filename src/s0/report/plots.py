"""The plots of a report, each as PNG to keep and as SVG to show, for light and for dark pages.

Nothing here touches pyplot. The same record gives the same bytes with one version of matplotlib.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s0.record import Layer, Record, Scale
from s0.report.wording import number, p_words, percent, points, shortened, visible

PUBLISHED_SCALES = (0.07, 0.65)
"""Young 2026: for Qwen3.5 and for FalconH1."""

_WIDTH, _DPI = 4.4, 200  # inches: at this width a phone shrinks the letters by a quarter only
_NAME = 18  # characters of a variant's name


@dataclass(frozen=True)
class Ink:
    """Colours of a page. Series keep 3:1 against the paper; the untouched model is grey; none are told by hue alone."""

    paper: str
    text: str
    soft: str
    line: str
    base: str
    series: tuple[str, ...]


LIGHT = Ink(
    "#ffffff", "#1b1f24", "#57606a", "#d0d7de", "#6e7781",
    ("#0a6ebd", "#b8500c", "#00795a", "#96428c", "#7d6200", "#2f4bb8", "#b3243f"),
)  # fmt: skip
DARK = Ink(
    "#14171a", "#e6e8ea", "#a4acb5", "#363c43", "#9aa3ad",
    ("#5cb3f5", "#f0935a", "#3cc79b", "#dc92d2", "#d6b93a", "#9db1ff", "#ff8b9a"),
)  # fmt: skip
_DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_MARKERS = "osD^vPX*"


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
        with matplotlib.style.context(_STYLE, after_reset=True):
            drawn = {ink: drawing(record, ink) for ink in (LIGHT, DARK)}
            figure, alt = drawn[LIGHT] or (None, "")
            dark, _ = drawn[DARK] or (None, "")
            if figure and dark:
                width, height = (round(96 * inches) for inches in figure.get_size_inches())
                plots[name] = Plot(_png(figure), _svg(figure), _svg(dark), visible(alt), width, height)
    return plots


_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.2,
    "svg.hashsalt": "s0",
    "savefig.facecolor": "none",
}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor=LIGHT.paper, metadata={"Software": None})
    return file.getvalue()


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return file.getvalue()


def _name(text: str) -> str:
    """A name that the font can draw."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(char if ord(char) in glyphs else "\ufffd" for char in shortened(text, _NAME))


def _panel(
    ink: Ink, title: str, height: float, left: float, keys: Sequence[Sequence[Artist]] = ((),)
) -> tuple[Figure, list[Axes]]:
    """Axes of so many inches in height, one above the other, each with its legend below."""
    top, right, below = 0.37, 0.16, [0.52 + 0.19 * math.ceil(len(key) / 2) for key in keys]
    total = top + len(keys) * height + sum(below) + 0.15 * (len(keys) - 1)
    figure = Figure((_WIDTH, total))
    figure.text(0.08 / _WIDTH, 1 - 0.08 / total, title, weight="bold", color=ink.text, va="top")
    panes, bottom = [], total - top
    for key, room in zip(keys, below, strict=True):
        bottom -= height
        axes = figure.add_axes((left / _WIDTH, bottom / total, 1 - (left + right) / _WIDTH, height / total))
        bottom -= room + 0.15
        axes.set_facecolor("none")
        axes.tick_params(colors=ink.soft, width=0.7, length=3)
        for spine in axes.spines.values():
            spine.set_color(ink.soft)
        if key:
            place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.03, -0.42 / height), "borderaxespad": 0}
            axes.legend(handles=key, ncols=2, labelcolor=ink.text, **place)
        panes.append(axes)
    return figure, panes


def _rows(axes: Axes, ink: Ink, labels: Sequence[tuple[str, str]]) -> None:
    """Names at the left instead of a vertical axis, top down, each with an optional second line."""
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=ink.line, linewidth=0.6)
    axes.set_axisbelow(True)
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
    for row, (label, below) in enumerate(labels):
        axes.text(-0.02, row - (0.17 if below else 0), label, color=ink.text, **where)
        axes.text(-0.02, row + 0.2, below, color=ink.soft, fontsize=7.5, **where)


def _room(labels: Sequence[tuple[str, str]]) -> float:
    return 0.28 + 0.078 * max(len(text) for label in labels for text in label)


def _key(ink: Ink, label: str, **look: Any) -> Line2D:
    """A line of a legend; the space keeps names with a leading underscore, which matplotlib would leave out."""
    return Line2D([], [], label=f" {label}", **{"color": ink.soft, **look})


def _legend_above(axes: Axes, ink: Ink, handles: Sequence[Artist]) -> None:
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, labelcolor=ink.soft, borderaxespad=0.2
    )  # fmt: skip


def _colour(ink: Ink, record: Record, name: str) -> str:
    place = list(record.final).index(name)
    return ink.series[(place - 1) % len(ink.series)] if place else ink.base


def _look(ink: Ink, record: Record, name: str) -> dict[str, Any]:
    """Colour, dashes and marker of a variant: any one of them tells it from its neighbours."""
    place = list(record.final).index(name)
    return {
        "color": _colour(ink, record, name),
        "linestyle": _DASHES[(place - 1) % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def _fill(colour: str, scoring: str) -> dict[str, Any]:
    """Solid for the standard scoring, hatched for the paper's."""
    return {
        "linewidth": 0.8,
        **({"facecolor": colour} if scoring == "standard" else {"facecolor": "none", "hatch": "/////"}),
    }


def _pass_rates(record: Record, ink: Ink) -> Drawing | None:
    final = record.final
    labels = [(_name(name), "") for name in final]
    figure, (axes,) = _panel(ink, "Problems solved", 0.46 * len(final), _room(labels))
    told = []
    for row, ((name, summary), (label, _)) in enumerate(zip(final.items(), labels, strict=True)):
        colour = _colour(ink, record, name)
        for (scoring, rate), offset in zip(summary.pass_at_1.items(), (-0.19, 0.19), strict=True):
            value, low, high = 100 * rate.value, 100 * rate.low, 100 * rate.high
            axes.barh(row + offset, value, 0.34, edgecolor=colour, **_fill(colour, scoring))
            axes.plot([low, high], [row + offset] * 2, color=ink.text, linewidth=1, solid_capstyle="butt")
            axes.text(high + 1.5, row + offset, f"{value:.1f}", color=ink.text, va="center", fontsize=8)
            told.append(f"{label}, {scoring}: {percent(rate.value)} ({percent(rate.low)} to {percent(rate.high)})")
    _rows(axes, ink, labels)
    axes.set_xlim(0, 112)
    axes.xaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}%"))
    axes.set_xlabel("share of all, with 95% Wilson interval", color=ink.soft, loc="right")
    keys = {"standard": "standard scoring", "paper": "paper’s scoring"}
    handles = [Patch(edgecolor=ink.soft, label=label, **_fill(ink.soft, scoring)) for scoring, label in keys.items()]
    _legend_above(axes, ink, handles)
    return figure, "Bars of pass@1 with 95% intervals. " + "; ".join(told) + "."


def _differences(record: Record, ink: Ink) -> Drawing | None:
    comparisons = record.comparisons
    if not comparisons:
        return None
    labels = [(_name(comparison.second), f"against {_name(comparison.first)}") for comparison in comparisons]
    figure, (axes,) = _panel(ink, "Points gained", 0.46 * len(comparisons), _room(labels))
    axes.axvline(0, color=ink.text, linewidth=0.9)
    told = []
    for row, (comparison, (label, below)) in enumerate(zip(comparisons, labels, strict=True)):
        colour = _colour(ink, record, comparison.second)
        for (scoring, compared), offset in zip(comparison.items(), (-0.15, 0.19), strict=True):
            value, low, high = 100 * compared.difference, 100 * compared.low, 100 * compared.high
            axes.plot([low, high], [row + offset] * 2, color=colour, linewidth=1.8 if scoring == "standard" else 1.1)
            face = colour if scoring == "standard" else ink.paper
            axes.plot(value, row + offset, "o", color=colour, markerfacecolor=face, markersize=5.5, clip_on=False)
            told.append(
                f"{label} {below}, {scoring}: {points(compared.difference)} points "
                f"({points(compared.low)} to {points(compared.high)}), Holm’s p {p_words(compared.p_holm)}"
            )
    _rows(axes, ink, labels)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -5), max(high, 5))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: points(value / 100).removesuffix(".0")))
    axes.set_xlabel("points, with 95% interval for pairs", color=ink.soft, loc="right")
    hollow = {"markerfacecolor": ink.paper, "linewidth": 1.1}
    keys = [_key(ink, "standard", marker="o", markersize=5.5), _key(ink, "paper", marker="o", markersize=5.5, **hollow)]
    _legend_above(axes, ink, keys)
    return figure, "Differences in pass@1 with 95% intervals. " + "; ".join(told) + "."


def _sampled(record: Record, ink: Ink) -> Drawing | None:
    sampled = record.sampled
    if sampled is None:
        return None
    keys = [_key(ink, _name(name), **_look(ink, record, name)) for name in sampled.final]
    figure, (axes,) = _panel(ink, "Solved by one of k samples", 1.75, 0.62, [keys])
    told: list[str] = []
    ks: list[int] = []
    for index, (name, summary) in enumerate(sampled.final.items()):
        estimates = {int(k): estimate for k, estimate in summary.pass_at_k.standard.items()}
        ks, look = sorted(estimates), _look(ink, record, name)
        ordered = [estimates[k] for k in ks]
        beside = [k * 1.05 ** (index - (len(sampled.final) - 1) / 2) for k in ks]
        axes.plot(beside, [100 * estimate.value for estimate in ordered], **look)
        lows, highs = [100 * estimate.low for estimate in ordered], [100 * estimate.high for estimate in ordered]
        axes.vlines(beside, lows, highs, color=look["color"], linewidth=1)
        first, last = percent(ordered[0].value), percent(ordered[-1].value)
        told.append(f"{_name(name)}: pass@{ks[0]} {first}, pass@{ks[-1]} {last}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_ylim(0, 104)
    axes.set_xlabel("k; standard scoring, with 95% interval", color=ink.soft, loc="right")
    axes.set_ylabel("passed, %", color=ink.soft)
    return figure, "pass@k by k, standard scoring. " + "; ".join(told) + "."


def _scale(record: Record, ink: Ink) -> Drawing | None:
    scales = {name: run.scale for name, run in record.variants.items() if run.scale is not None and run.scale.curve}
    if not scales:
        return None
    kinds = sorted({scale.by for scale in scales.values()})
    keys: list[list[Artist]] = [[] for _ in kinds]
    for name, scale in scales.items():
        chosen, shown = number(scale.chosen), keys[kinds.index(scale.by)]
        shown.append(_key(ink, f"{_name(name)}: {chosen}", **_look(ink, record, name)))
        if 0 in dict(_measured(scale)):
            shown.append(_key(ink, "at scale 0", **_untouched(ink, record, name)))
    figure, panes = _panel(ink, "Select examples by scale", 1.75, 0.62, keys)
    for axes, kind in zip(panes, kinds, strict=True):
        heights: list[float] = []
        for name, scale in scales.items():
            if scale.by != kind:
                continue
            look, measured = _look(ink, record, name), dict(_measured(scale))
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
    told = [f"{_name(name)}: chosen {number(scale.chosen)}" for name, scale in scales.items()]
    return figure, "The scale of the state on the select examples. " + "; ".join(told) + "."


def _untouched(ink: Ink, record: Record, name: str) -> dict[str, Any]:
    return {"color": _colour(ink, record, name), "linewidth": 0.9, "linestyle": (0, (4, 3))}


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
    keys = [_key(ink, _name(name), **{**_look(ink, record, name), "marker": ""}) for name in trained]
    if any(training.select_losses for training in trained.values()):
        keys.append(_key(ink, "select examples", linewidth=0.9, marker="."))
    figure, (axes,) = _panel(ink, "Loss by step", 1.75, 0.62, [keys])
    heights, told = [], []
    for name, training in trained.items():
        series = (("training", training.losses, "", 1.6), ("select", training.select_losses, ".", 0.9))
        for examples, losses, marker, width in series:
            values = [math.nan if loss is None else loss for loss in losses or ()]
            drawn = [value if math.isfinite(value) else math.nan for value in values]
            finite = [value for value in values if math.isfinite(value)]
            look = {**_look(ink, record, name), "marker": marker, "linewidth": width}
            axes.plot(range(1, len(values) + 1), drawn, **look)
            heights += finite
            if finite:
                told.append(f"{_name(name)}, {examples} examples: {number(finite[0])} to {number(finite[-1])}")
    if heights:
        _wide(axes, heights)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step", color=ink.soft, loc="right")
    axes.set_ylabel("nats per token", color=ink.soft)
    return figure, "Loss by step, in nats per token. " + "; ".join(told) + "."


def _norms(record: Record, ink: Ink) -> Drawing | None:
    states = {name: run.layers for name, run in record.variants.items() if run.layers}
    if not states:
        return None
    looks = {name: {**_look(ink, record, name), "linestyle": ""} for name in states}
    keys = [_key(ink, _name(name), **look) for name, look in looks.items()] if len(states) > 1 else []
    figure, (axes,) = _panel(ink, "Norm by layer", 1.75, 0.62, [keys])
    numbered = all(places is not None for places in map(_places, states.values()))
    heights, told = [], []
    for index, (name, layers) in enumerate(states.items()):
        norms = [layer.norm for layer in layers]
        heights += [norm for norm in norms if math.isfinite(norm)]
        places = (_places(layers) if numbered else None) or list(range(1, len(layers) + 1))
        beside = [place + 0.16 * (index - (len(states) - 1) / 2) for place in places]
        axes.vlines(beside, 0, norms, color=looks[name]["color"], linewidth=1)
        axes.plot(beside, norms, **looks[name])
        told.append(f"{_name(name)}: {number(min(norms))} to {number(max(norms))} over {len(norms)} layers")
    axes.set_ylim(0, 1.1 * max(heights, default=0.0) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("layer of the model" if numbered else "layer, in order", color=ink.soft, loc="right")
    axes.set_ylabel("norm", color=ink.soft)
    return figure, "Norm of the learned state in each layer. " + "; ".join(told) + "."


def _places(layers: Sequence[Layer]) -> list[int] | None:
    """The number in each layer's name, where every name has one of its own."""
    numbers = [re.findall(r"[0-9]{1,6}", layer.name) for layer in layers]
    places = [int(found[0]) for found in numbers if len(found) == 1]
    return places if len(set(places)) == len(layers) else None


_DRAWINGS: Mapping[str, Callable[[Record, Ink], Drawing | None]] = {
    "passrates": _pass_rates,
    "differences": _differences,
    "sampled": _sampled,
    "scale": _scale,
    "loss": _loss,
    "norms": _norms,
}
