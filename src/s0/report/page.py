"""One page that shows what a record says: offline, on a phone, in print, in light and dark, without scripts."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from s0.files import write_files
from s0.record import (
    UNCLEAR,
    Comparison,
    Difference,
    Estimate,
    Layer,
    Rate,
    Record,
    Sampled,
    SampledDifference,
    Scale,
    Summary,
    Training,
    plain,
)
from s0.report.flips import flips
from s0.report.marks import GENERATOR
from s0.report.plots import Plot, draw
from s0.report.wording import (
    finding,
    form_name,
    form_words,
    headline,
    left_out,
    not_judged,
    number,
    only_some,
    p_words,
    percent,
    points,
    problems_asked,
    reservation,
    shortened,
    too_little_to_ask,
    visible,
)

_LONGEST = 4000  # characters of a prompt, a completion or a setting
_NAME = 100  # characters of what stands within a line: names, problems, reasons
_TRUNCATED = 0.05  # a share of answers cut off that deserves a warning
_TOLD_ELSEWHERE = {"final", "comparisons", "sampled", "problems", "answers"}
_SERIES = {"losses", "norms", "select_losses", "curve", "layers"}


def write_report(record: Record, folder: str | Path) -> Path:
    """Write `report.html`, which needs nothing beside it, and the plots as PNG files under `plots/`.

    Args:
        record: whose texts are not trusted.
        folder: made if need be; earlier files of the same names are replaced.

    Returns:
        the path of `report.html`.
    """
    folder = Path(folder)
    plots = draw(record)
    page = _template().render(_view(record), plots={name: _shown(plot) for name, plot in plots.items()})
    pictures = {f"plots/{name}.png": plot.png for name, plot in plots.items()}
    write_files(folder, {**pictures, "report.html": page.encode()})
    return folder / "report.html"


def _template() -> Any:
    """The page. Every text that it writes is escaped and made visible, without the template having to say so."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda text: shortened(str(text), _NAME)
    environment.filters["cut"] = _cut
    return environment.from_string(files("s0.report").joinpath("page.html.j2").read_text(encoding="utf-8"))


def _shown(plot: Plot) -> dict[str, Any]:
    urls = {theme: base64.b64encode(getattr(plot, theme)).decode() for theme in ("light", "dark")}
    return {**vars(plot), **{theme: f"data:image/svg+xml;base64,{data}" for theme, data in urls.items()}}


def _view(record: Record) -> dict[str, Any]:
    """What the template writes, section by section."""
    gains = record.gains
    findings = [comparison for comparison in record.comparisons if comparison in gains or comparison.effect != UNCLEAR]
    return {
        "generator": GENERATOR,
        "headline": headline(record),
        "about": _about(record),
        "findings": [_finding(record, comparison) for comparison in findings],
        "untold": len(record.comparisons) - len(findings),
        "cautions": list(_cautions(record)),
        "rates": [_rates(name, summary.pass_at_1.items()) for name, summary in record.final.items()],
        "differences": [_difference(comparison) for comparison in record.comparisons],
        "sampled": None if record.sampled is None else _sampled(record.sampled),
        "scales": [_scale(name, run.scale) for name, run in record.variants.items() if run.scale],
        "training": [_training(name, run.training) for name, run in record.variants.items() if run.training],
        "forms": _forms(record.final),
        "flips": flips(record),
        "layers": [(name, _layers(run.layers)) for name, run in record.variants.items() if run.layers],
        "cost": _cost(record),
        "provenance": list(_facts({key: value for key, value in plain(record).items() if key not in _TOLD_ELSEWHERE})),
    }


def _about(record: Record) -> list[str]:
    asked = "asked through the chat template" if record.chat else "completing the prompt"
    rounding = [part for part in (record.model.dtype, record.model.device, record.model.kernels) if part]
    return [
        " ".join([record.model.name, *([f"({' on '.join(rounding)})"] if rounding else [])]),
        f"{record.task.name}, {problems_asked(record)} of the {record.split} split",
        f"greedy answers, {asked}",
        str(record.environment.get("time", "")),
    ]


def _finding(record: Record, comparison: Comparison) -> dict[str, Any]:
    standard = comparison.standard
    rates = [record.final[name].pass_at_1.standard for name in (comparison.first, comparison.second)]
    return {
        "effect": comparison.effect,
        "sentence": finding(comparison, record.bases),
        "rates": [percent(rate.value) for rate in rates],
        "difference": points(standard.difference),
        "interval": _interval(standard),
        "p": p_words(standard.p_holm),
        "gained": len(standard.gained),
        "lost": len(standard.lost),
        "reservation": reservation(comparison),
    }


def _interval(compared: Difference | SampledDifference) -> str:
    return f"{points(compared.low)} to {points(compared.high)}"


def _cautions(record: Record) -> Iterator[str]:
    """What a reader must know before taking the figures for more than they are."""
    if record.model.name.startswith("pocket:"):
        yield (
            "The pocket models and their task were made so that tuning can help. This page shows how the method works; "
            "it is no evidence for its effect on other models."
        )
    if record.comparisons and (too_little := too_little_to_ask(record)):
        yield f"{too_little[0].upper()}{too_little[1:]}."
    if some := only_some(record):
        yield f"{some[0].upper()}{some[1:]}."
    if record.split != "final":
        split = shortened(record.split, _NAME)
        yield f"These are problems of the {split} split, on which settings may have been chosen."
    if any(run.training is not None for run in record.variants.values()):
        yield "Every method was trained once. The intervals cover the choice of problems, not the luck of a run."
    for name, run in record.variants.items():
        shown = shortened(name, _NAME)
        if run.content == "wrong":
            yield f"{shown} was trained on wrong completions in the right form: what it gains is a gain in format."
        training = run.training or Training()
        if training.interrupted:
            yield f"The training of {shown} did not come to its end."
        if not all(loss is not None and math.isfinite(loss) for loss in training.losses or ()):
            yield f"The training of {shown} broke down: some of its losses are not finite."
        for caution in run.cautions or ():
            yield f"{shown}: {caution}."
    for name, summary in record.final.items():
        if summary.truncated > _TRUNCATED:
            share, shown = percent(summary.truncated), shortened(name, _NAME)
            yield f"{share} of {shown}’s answers hit the limit of length and count as they are."
    for unjudged in not_judged(record):
        yield f"{unjudged}."
    if rows := left_out(record.task.left_out):
        yield f"{rows[0].upper()}{rows[1:]}."


def _rates(name: str, rates: Iterable[tuple[str, Rate]]) -> dict[str, Any]:
    cells = {
        scoring: {**_estimate(rate), "count": f"{number(rate.count)} of {number(rate.n)}"} for scoring, rate in rates
    }
    return {"name": name, **cells}


def _estimate(figure: Rate | Estimate) -> dict[str, str]:
    return {"value": percent(figure.value), "interval": f"{100 * figure.low:.1f} to {100 * figure.high:.1f}"}


def _difference(comparison: Comparison) -> dict[str, Any]:
    rows = [
        {
            "scoring": scoring,
            **_compared(difference),
            "gained": len(difference.gained),
            "lost": len(difference.lost),
        }
        for scoring, difference in comparison.items()
    ]
    return {"first": comparison.first, "second": comparison.second, "rows": rows}


def _compared(difference: Difference | SampledDifference) -> dict[str, str]:
    return {
        "difference": points(difference.difference),
        "interval": _interval(difference),
        "p": p_words(difference.p_value).removeprefix("= "),
        "p_holm": p_words(difference.p_holm).removeprefix("= "),
    }


def _sampled(sampled: Sampled) -> dict[str, Any]:
    """pass@k: a row per variant and k, the differences, and how the samples were drawn."""
    drawn = {"n": sampled.n, "temperature": sampled.temperature, "top_p": sampled.top_p, "seed": sampled.seed}
    return {
        "drawn": {name: number(value) for name, value in drawn.items()},
        "variants": [
            {
                "name": name,
                "rows": [
                    {"k": k, "standard": _estimate(estimate), "paper": _estimate(summary.pass_at_k.paper[k])}
                    for k, estimate in summary.pass_at_k.standard.items()
                ],
                "truncated": percent(summary.truncated),
                "unparsable": percent(summary.formats.get("unparsable", 0.0)),
                "empty": percent(summary.formats.get("empty", 0.0)),
            }
            for name, summary in sampled.final.items()
        ],
        "differences": [
            {
                "first": comparison.first,
                "second": comparison.second,
                "rows": [
                    {"k": k, "scoring": scoring, **_compared(difference)}
                    for scoring, differences in comparison.items()
                    for k, difference in differences.items()
                ],
            }
            for comparison in sampled.comparisons
        ],
    }


def _scale(name: str, scale: Scale) -> dict[str, Any]:
    curve = {
        point.alpha: _figure(point.value) if scale.by == "loss" or point.value is None else percent(point.value)
        for point in scale.curve
    }
    return {
        "name": name,
        "by": scale.by,
        "chosen": number(scale.chosen),
        "at_chosen": curve.get(scale.chosen),
        "at_zero": curve.get(0.0),
        "curve": [(number(alpha), value, alpha == scale.chosen) for alpha, value in curve.items()],
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else number(value)


def _training(name: str, training: Training) -> dict[str, Any]:
    steps = len(training.losses or ())
    kept = steps if training.best_step is None else training.best_step
    losses = (training.initial_loss, training.training_loss, training.final_loss)
    return {
        "name": name,
        "steps": steps,
        "kept": kept,
        "keeps_a_step": kept != steps,
        "losses": [_figure(loss) for loss in losses],
        "select": [_figure(loss) for loss in (training.select_initial_loss, training.select_final_loss)],
    }


def _forms(final: Mapping[str, Summary]) -> dict[str, Any]:
    forms = dict.fromkeys(form for summary in final.values() for form in summary.formats)
    rows = [
        (form_name(form), [percent(summary.formats.get(form, 0.0)) for summary in final.values()]) for form in forms
    ]
    rows.append(("cut off at the limit", [percent(summary.truncated) for summary in final.values()]))
    return {
        "names": list(final),
        "words": form_words(forms),
        "rows": rows,
        "tokens": [f"{summary.mean_tokens:.1f}" for summary in final.values()],
    }


def _cut(text: str) -> str:
    rest = len(text) - _LONGEST
    return text if rest <= 0 else f"{text[:_LONGEST]}\n… {rest} more characters"


def _cost(record: Record) -> dict[str, Any]:
    seconds = dict(record.seconds)
    rows = [
        {
            "name": name,
            "method": record.variants[name].method,
            "parameters": _figure(record.variants[name].parameters),
            "train": _seconds(seconds.pop(f"train {name}", None)),
            "evaluate": _seconds(seconds.pop(f"evaluate {name}", None)),
            "tokens": f"{summary.mean_tokens:.1f}",
        }
        for name, summary in record.final.items()
    ]
    return {"rows": rows, "stages": [(stage, _seconds(spent)) for stage, spent in seconds.items()]}


def _seconds(spent: float | None) -> str:
    return "–" if spent is None else f"{spent:.1f}"


def _layers(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    return [{"name": layer.name, "shape": list(layer.shape), "norm": number(layer.norm)} for layer in layers]


def _facts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every setting, version and hash as (dotted path, value); what has a section of its own is left out."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if key not in _SERIES:
                yield from _facts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str):
        yield path, value
    else:
        yield path, json.dumps(value, ensure_ascii=False)
