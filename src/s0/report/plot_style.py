"""What all plots of a report share: colours, style, panels, legends, and how a figure becomes a file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from s0.record import Record
from s0.report.wording import shortened

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
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPX*"


STYLE: dict[str, Any] = {
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


def png(figure: Figure) -> bytes:
    """A figure for a file, on white."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor=LIGHT.paper, metadata={"Software": None})
    return file.getvalue()


def svg(figure: Figure, paper: str = "none") -> bytes:
    """A figure for a page: without a background where it is made for the page's colour, or on paper of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", facecolor=paper, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return file.getvalue()


def drawable(text: str) -> str:
    """A name that the font can draw."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(char if ord(char) in glyphs else "\ufffd" for char in shortened(text, _NAME))


def panel(
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


def rows(axes: Axes, ink: Ink, labels: Sequence[tuple[str, str]]) -> None:
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


def room_for(labels: Sequence[tuple[str, str]]) -> float:
    """How many inches the widest of these labels takes."""
    return 0.28 + 0.078 * max(len(text) for label in labels for text in label)


def key(ink: Ink, label: str, **look: Any) -> Line2D:
    """A line of a legend; the space keeps names with a leading underscore, which matplotlib would leave out."""
    return Line2D([], [], label=f" {label}", **{"color": ink.soft, **look})


def legend_above(axes: Axes, ink: Ink, handles: Sequence[Artist]) -> None:
    """A legend on top of the axes, at the right."""
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, labelcolor=ink.soft, borderaxespad=0.2
    )  # fmt: skip


def colour_of(ink: Ink, record: Record, name: str) -> str:
    """A variant's; the untouched model is grey."""
    place = list(record.final).index(name)
    return ink.series[(place - 1) % len(ink.series)] if place else ink.base


def look_of(ink: Ink, record: Record, name: str) -> dict[str, Any]:
    """Colour, dashes and marker of a variant: any one of them tells it from its neighbours."""
    place = list(record.final).index(name)
    return {
        "color": colour_of(ink, record, name),
        "linestyle": DASHES[(place - 1) % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def fill(colour: str, scoring: str) -> dict[str, Any]:
    """Solid for the standard scoring, hatched for the paper's."""
    return {
        "linewidth": 0.8,
        **({"facecolor": colour} if scoring == "standard" else {"facecolor": "none", "hatch": "/////"}),
    }
