"""Results as tables for people, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

_CONSOLE = Console(stderr=True, highlight=False)  # looks sys.stderr up when it prints
_SCORING_NOTES = {
    "standard": "code found by a parser, in any form",
    "paper": "the published harness: a body alone fails, a whole function passes",
}


def show(result: Mapping[str, Any]) -> None:
    """Print any command's result."""
    _SHOWN[str(result["kind"])](result)


def _evaluation(record: Mapping[str, Any]) -> None:
    if "examples" in record:
        _demo_header(record)
    variants = record["final"]
    first = next(iter(variants.values()))
    n = first["pass_at_1"]["standard"]["n"]
    table = Table(
        title=f"{record['model']['name']} on {record['task']['name']}: greedy pass@1 in %, {n} problems",
        caption="[ , ] 95%: Wilson for rates, paired bootstrap for the difference",
        box=SIMPLE,
    )
    table.add_column("scoring")
    for scoring in _SCORING_NOTES:
        table.add_column(scoring, justify="right")
    for name, values in variants.items():
        table.add_row(name, *(_rate(values["pass_at_1"][scoring]) for scoring in _SCORING_NOTES))
    if record["comparison"]:
        differences = [_difference(record["comparison"][scoring]) for scoring in _SCORING_NOTES]
        for label, cells in zip(
            ("difference", "McNemar's exact p", "gained / lost"), zip(*differences, strict=True), strict=True
        ):
            table.add_row(label, *cells)
    _CONSOLE.print(table)
    for scoring, note in _SCORING_NOTES.items():
        _CONSOLE.print(f"  {scoring}: {note}", style="dim")
    _CONSOLE.print(_formats(variants))
    if record["comparison"]:
        _CONSOLE.print(_in_words(record["comparison"]))
    if record["out"]:
        _CONSOLE.print(f"written to {record['out']}")


def _demo_header(record: Mapping[str, Any]) -> None:
    examples, training, seconds = record["examples"], record["training"], record["seconds"]
    _CONSOLE.print(
        f"examples: {examples['n']} verified, from {examples['of_problems']} training problems\n"
        f"training: completion loss {training['initial_loss']:.3f} -> {training['final_loss']:.3f} nats per token "
        f"at the deployed scale\n"
        "seconds:  " + ", ".join(f"{name} {spent:.0f}" for name, spent in seconds.items())
    )


def _rate(rate: Mapping[str, float]) -> str:
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _difference(compared: Mapping[str, Any]) -> list[str]:
    points = f"{100 * compared['difference']:+.1f} [{100 * compared['low']:+.1f}, {100 * compared['high']:+.1f}]"
    return [points, f"{compared['p_value']:.1g}", f"{len(compared['gained'])} / {len(compared['lost'])}"]


def _formats(variants: Mapping[str, Any]) -> Table:
    forms = next(iter(variants.values()))["formats"]
    table = Table(title="form of the answers, in %", box=SIMPLE)
    table.add_column("")
    for name in variants:
        table.add_column(name, justify="right")
    for form in forms:
        table.add_row(
            form.replace("_", ", "), *(f"{100 * values['formats'][form]:.1f}" for values in variants.values())
        )
    table.add_row("truncated", *(f"{100 * values['truncated']:.1f}" for values in variants.values()))
    return table


def _in_words(comparison: Mapping[str, Any]) -> str:
    standard, paper = comparison["standard"], comparison["paper"]
    helped = "helped" if standard["low"] > 0 else "hurt" if standard["high"] < 0 else "made no clear difference"
    text = f"Under the standard scoring the state {helped}"
    if standard["low"] <= 0 < paper["low"]:
        text += "; its gain under the paper's scoring is a gain in format, not in skill"
    return text + "."


def _fields(result: Mapping[str, Any]) -> None:
    for name, value in result.items():
        if name not in ("kind", "layers"):
            _CONSOLE.print(f"{name}: {value}")


def _layers(result: Mapping[str, Any]) -> None:
    _fields(result)
    columns = list(result["layers"][0])
    table = Table(title="layers", box=SIMPLE)
    for column in columns:
        table.add_column(column)
    for layer in result["layers"]:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in layer.values()))
    _CONSOLE.print(table)


_SHOWN: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "demo": _evaluation,
    "eval": _evaluation,
    "collect": _fields,
    "train": _fields,
    "export": _fields,
    "model": _layers,
    "state": _layers,
}
