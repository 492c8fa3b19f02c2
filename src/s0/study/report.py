"""One page that shows what a record says: offline, on a phone, in print, in light and dark, without scripts."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from s0.errors import DatasetError
from s0.files import write_files
from s0.record import effect
from s0.study.marks import GENERATOR
from s0.study.plots import Plot, draw
from s0.study.wording import (
    FEW_PROBLEMS,
    few_problems,
    finding,
    form_name,
    form_words,
    headline,
    left_out,
    not_judged,
    number,
    p_words,
    percent,
    points,
    reservation,
    shortened,
    visible,
)

FLIPS_SHOWN = 40
_LONGEST = 4000  # characters of a prompt, a completion or a setting
_NAME = 100  # characters of what stands within a line: names, problems, reasons
_TRUNCATED = 0.05  # a share of answers cut off that deserves a warning
_TOLD_ELSEWHERE = {"final", "comparisons", "sampled", "problems", "answers"}
_SERIES = {"losses", "norms", "select_losses", "curve", "layers"}


def write_report(record: Mapping[str, Any], folder: str | Path) -> Path:
    """Write `report.html`, which needs nothing beside it, and the plots as PNG files under `plots/`.

    Args:
        record: as `s0 demo` and `s0 eval` write it; nothing in it is trusted.
        folder: made if need be; earlier files of the same names are replaced.

    Returns:
        the path of `report.html`.

    Raises:
        DatasetError: it is no such record, or a damaged one.
    """
    folder = Path(folder)
    try:
        plots = draw(record)
        page = _template().render(_view(record), plots={name: _shown(plot) for name, plot in plots.items()})
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DatasetError(
            f"expected a record as `s0 demo` and `s0 eval` write it, got one that cannot be read ({error!r:.200}); "
            "make it again with this version"
        ) from error
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
    return environment.from_string(files("s0.study").joinpath("report.html.j2").read_text(encoding="utf-8"))


def _shown(plot: Plot) -> dict[str, Any]:
    urls = {theme: base64.b64encode(getattr(plot, theme)).decode() for theme in ("light", "dark")}
    return {**vars(plot), **{theme: f"data:image/svg+xml;base64,{data}" for theme, data in urls.items()}}


def _view(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template writes, section by section."""
    if record["kind"] not in ("demo", "eval"):
        raise ValueError(f"kind {record['kind']!r}")
    untouched, variants = next(iter(record["final"])), list(record["variants"].items())
    told = [one for one in record["comparisons"] if one["first"] == untouched or effect(one) != "no clear difference"]
    return {
        "generator": GENERATOR,
        "headline": headline(record),
        "about": _about(record),
        "findings": [_finding(record, one) for one in told],
        "untold": len(record["comparisons"]) - len(told),
        "cautions": list(_cautions(record)),
        "rates": [_rates(record, name) for name in record["final"]],
        "differences": [_difference(one) for one in record["comparisons"]],
        "sampled": _sampled(record["sampled"]) if record["sampled"] else None,
        "scales": [_scale(name, facts["scale"]) for name, facts in variants if "scale" in facts],
        "training": [_training(name, facts["training"]) for name, facts in variants if facts.get("training")],
        "forms": _forms(record["final"]),
        "flips": _flips(record),
        "layers": [(name, _layers(facts)) for name, facts in variants if facts.get("layers")],
        "cost": _cost(record),
        "provenance": list(_facts({key: value for key, value in record.items() if key not in _TOLD_ELSEWHERE})),
    }


def _about(record: Mapping[str, Any]) -> list[str]:
    n = next(iter(record["final"].values()))["pass_at_1"]["standard"]["n"]
    asked = "asked through the chat template" if record["chat"] else "completing the prompt"
    return [
        str(record["model"]["name"]),
        f"{record['task']['name']}, {n} problems of the {record['split']} split",
        f"greedy answers, {asked}",
        str(record["environment"]["time"]),
    ]


def _finding(record: Mapping[str, Any], compared: Mapping[str, Any]) -> dict[str, Any]:
    standard = compared["standard"]
    rates = [record["final"][compared[side]]["pass_at_1"]["standard"]["value"] for side in ("first", "second")]
    return {
        "effect": effect(compared),
        "sentence": finding(compared, next(iter(record["final"]))),
        "rates": [percent(rate) for rate in rates],
        "difference": points(standard["difference"]),
        "interval": _interval(standard),
        "p": p_words(standard["p_holm"]),
        "gained": len(standard["gained"]),
        "lost": len(standard["lost"]),
        "reservation": reservation(compared),
    }


def _interval(compared: Mapping[str, Any]) -> str:
    return f"{points(compared['low'])} to {points(compared['high'])}"


def _cautions(record: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before taking the figures for more than they are."""
    if record["model"]["name"].startswith("pocket:"):
        yield (
            "The pocket models and their task were made so that tuning can help. This page shows how the method works; "
            "it is no evidence for its effect on other models."
        )
    n_problems = next(iter(record["final"].values()))["pass_at_1"]["standard"]["n"]
    if record["comparisons"] and n_problems < FEW_PROBLEMS:
        said = few_problems(n_problems)
        yield f"{said[0].upper()}{said[1:]}."
    if record["split"] != "final":
        split = shortened(record["split"], _NAME)
        yield f"These are problems of the {split} split, on which settings may have been chosen."
    if any(facts.get("training") for facts in record["variants"].values()):
        yield "Every method was trained once. The intervals cover the choice of problems, not the luck of a run."
    for name, facts in record["variants"].items():
        shown = shortened(name, _NAME)
        if facts.get("content") == "wrong":
            yield f"{shown} was trained on wrong completions in the right form: what it gains is a gain in format."
        training = facts.get("training", {})
        if training.get("interrupted"):
            yield f"The training of {shown} did not come to its end."
        losses = training.get("losses") or ()
        if not all(loss is not None and math.isfinite(loss) for loss in losses):
            yield f"The training of {shown} broke down: some of its losses are not finite."
        for caution in facts.get("cautions", ()):
            yield f"{shown}: {caution}."
    for name, values in record["final"].items():
        if values["truncated"] > _TRUNCATED:
            share, shown = percent(values["truncated"]), shortened(name, _NAME)
            yield f"{share} of {shown}’s answers hit the limit of length and count as they are."
    for unjudged in not_judged(record):
        yield f"{unjudged}."
    if rows := left_out(record["task"].get("left_out", ())):
        yield f"{rows[0].upper()}{rows[1:]}."


def _rates(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    rates = record["final"][name]["pass_at_1"]
    cells = {
        scoring: {
            "value": percent(rate["value"]),
            "interval": f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f}",
            "count": f"{number(rate['count'])} of {number(rate['n'])}",
        }
        for scoring, rate in rates.items()
    }
    return {"name": name, "standard": cells["standard"], "paper": cells["paper"]}


def _difference(compared: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "scoring": scoring,
            "difference": points(compared[scoring]["difference"]),
            "interval": _interval(compared[scoring]),
            "p": p_words(compared[scoring]["p_value"]).removeprefix("= "),
            "p_holm": p_words(compared[scoring]["p_holm"]).removeprefix("= "),
            "gained": len(compared[scoring]["gained"]),
            "lost": len(compared[scoring]["lost"]),
        }
        for scoring in ("standard", "paper")
    ]
    return {"first": compared["first"], "second": compared["second"], "rows": rows}


def _sampled(sampled: Mapping[str, Any]) -> dict[str, Any]:
    """pass@k: a row per variant and k, the differences, and how the samples were drawn."""

    def cell(found: Mapping[str, float]) -> dict[str, str]:
        return {"value": percent(found["value"]), "interval": f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"}

    return {
        "drawn": {key: number(sampled[key]) for key in ("n", "temperature", "top_p", "seed")},
        "variants": [
            {
                "name": name,
                "rows": [
                    {"k": k, "standard": cell(one), "paper": cell(values["pass_at_k"]["paper"][k])}
                    for k, one in values["pass_at_k"]["standard"].items()
                ],
                "truncated": percent(values["truncated"]),
                "unparsable": percent(values["formats"]["unparsable"]),
                "empty": percent(values["formats"]["empty"]),
            }
            for name, values in sampled["final"].items()
        ],
        "differences": [
            {
                "first": one["first"],
                "second": one["second"],
                "rows": [
                    {
                        "k": k,
                        "scoring": scoring,
                        "difference": points(found["difference"]),
                        "interval": _interval(found),
                        "p": p_words(found["p_value"]).removeprefix("= "),
                        "p_holm": p_words(found["p_holm"]).removeprefix("= "),
                    }
                    for scoring in ("standard", "paper")
                    for k, found in one[scoring].items()
                ],
            }
            for one in sampled["comparisons"]
        ],
    }


def _scale(name: str, scale: Mapping[str, Any]) -> dict[str, Any]:
    chosen = float(scale["chosen"])
    curve = {
        float(point["alpha"]): _figure(point["value"])
        if scale["by"] == "loss" or point["value"] is None
        else percent(point["value"])
        for point in scale["curve"]
    }
    return {
        "name": name,
        "by": scale["by"],
        "chosen": number(chosen),
        "at_chosen": curve.get(chosen),
        "at_zero": curve.get(0.0),
        "curve": [(number(alpha), value, alpha == chosen) for alpha, value in curve.items()],
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else number(value)


def _training(name: str, training: Mapping[str, Any]) -> dict[str, Any]:
    steps = len(training.get("losses") or ())
    return {
        "name": name,
        "steps": steps,
        "kept": training.get("best_step", steps),
        "losses": [_figure(training.get(key)) for key in ("initial_loss", "training_loss", "final_loss")],
        "select": [_figure(training.get(key)) for key in ("select_initial_loss", "select_final_loss")],
    }


def _forms(final: Mapping[str, Any]) -> dict[str, Any]:
    forms = dict.fromkeys(form for values in final.values() for form in values["formats"])
    rows = [
        (form_name(form), [percent(values["formats"].get(form, 0.0)) for values in final.values()]) for form in forms
    ]
    rows.append(("cut off at the limit", [percent(values["truncated"]) for values in final.values()]))
    return {
        "names": list(final),
        "words": form_words(forms),
        "rows": rows,
        "tokens": [f"{values['mean_tokens']:.1f}" for values in final.values()],
    }


def _flips(record: Mapping[str, Any]) -> dict[str, Any]:
    """The problems whose verdict changed. Losses stand before gains, and each group has its share of the room."""
    answers = {name: {one["problem"]: one for one in given} for name, given in record["answers"].items()}
    groups = [
        {"compared": compared, "scoring": "standard", "kind": kind, "ids": list(compared["standard"][kind])}
        for compared in record["comparisons"]
        for kind in ("lost", "gained")
    ]
    for compared in record["comparisons"]:
        seen = {*compared["standard"]["lost"], *compared["standard"]["gained"]}
        for kind in ("lost", "gained"):
            only = [problem for problem in compared["paper"][kind] if problem not in seen]
            groups.append({"compared": compared, "scoring": "paper", "kind": kind, "ids": only})
    half = 2 * len(record["comparisons"])
    shares = _dealt([len(group["ids"]) for group in groups[:half]], FLIPS_SHOWN)
    shares += _dealt([len(group["ids"]) for group in groups[half:]], FLIPS_SHOWN - sum(shares))
    told = []
    for compared in record["comparisons"]:
        parts = [
            {
                "scoring": group["scoring"],
                "kind": group["kind"],
                "n": len(group["ids"]),
                "rest": len(group["ids"]) - share,
                "problems": [_flip(record, answers, group, problem) for problem in group["ids"][:share]],
            }
            for group, share in zip(groups, shares, strict=True)
            if group["compared"] is compared and (group["scoring"] == "standard" or group["ids"])
        ]
        told.append({"first": compared["first"], "second": compared["second"], "groups": parts})
    return {"comparisons": told, "shown": sum(shares), "n": sum(len(group["ids"]) for group in groups)}


def _dealt(sizes: Sequence[int], room: int) -> list[int]:
    """How many of each group there is room for, dealt out one by one."""
    shares = [0] * len(sizes)
    while room > 0 and shares != list(sizes):
        for i, size in enumerate(sizes):
            if shares[i] < size and room > 0:
                shares[i] += 1
                room -= 1
    return shares


def _flip(
    record: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]], group: Mapping[str, Any], problem: str
) -> dict[str, Any]:
    sides = []
    for name in (group["compared"]["first"], group["compared"]["second"]):
        one = answers[name][problem]
        verdicts = [
            {"scoring": scoring, "passed": bool(one["passed"][scoring]), "reason": one["reason"][scoring]}
            for scoring in ("standard", "paper")
        ]
        sides.append(
            {
                "name": name,
                "text": one["completion"],
                "verdicts": verdicts,
                "form": form_name(one["format"]),
                "tokens": one["n_tokens"],
                "truncated": bool(one["truncated"]),
            }
        )
    failing = sides[0 if group["kind"] == "gained" else 1]
    reason = next(one["reason"] for one in failing["verdicts"] if one["scoring"] == group["scoring"])
    return {
        "problem": problem,
        "failed": failing["name"],
        "reason": reason,
        "prompt": record["problems"][problem],
        "sides": sides,
    }


def _cut(text: str) -> str:
    rest = len(text) - _LONGEST
    return text if rest <= 0 else f"{text[:_LONGEST]}\n… {rest} more characters"


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    seconds = dict(record["seconds"])
    rows = [
        {
            "name": name,
            "method": record["variants"][name]["method"],
            "parameters": _figure(record["variants"][name].get("parameters")),
            "train": _seconds(seconds.pop(f"train {name}", None)),
            "evaluate": _seconds(seconds.pop(f"evaluate {name}", None)),
            "tokens": f"{values['mean_tokens']:.1f}",
        }
        for name, values in record["final"].items()
    ]
    return {"rows": rows, "stages": [(stage, _seconds(spent)) for stage, spent in seconds.items()]}


def _seconds(spent: float | None) -> str:
    return "–" if spent is None else f"{spent:.1f}"


def _layers(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": layer["name"], "shape": list(layer["shape"]), "norm": number(layer["norm"])}
        for layer in facts["layers"]
    ]


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
