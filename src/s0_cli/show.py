"""Results as tables for people, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from s0.record import (
    Comparison,
    Difference,
    Estimate,
    Examples,
    Rate,
    Record,
    Sampled,
    SampledDifference,
    Summary,
    parsed,
)
from s0.report.wording import (
    FEW_PROBLEMS,
    few_problems,
    finding,
    form_name,
    form_words,
    left_out,
    not_judged,
    reservation,
)

_CONSOLE = Console(stderr=True, highlight=False, markup=False)  # looks sys.stderr up when it prints
_SCORINGS = ("standard", "paper")
_SPLITS = {"train": "to learn from", "select": "to choose settings on"}


def show(result: Mapping[str, Any]) -> None:
    """Print any command's result."""
    _SHOWN[str(result["kind"])](result)


def _evaluation(result: Mapping[str, Any]) -> None:
    record = parsed(result)
    if record.examples:
        _demo_header(record, record.examples)
    n = record.n_problems
    table = Table(
        title=f"{record.model.name} on {record.task.name}: greedy pass@1 in %, {n} problems",
        caption="[ , ] 95% interval, Wilson's",
        box=SIMPLE,
    )
    table.add_column("scoring")
    for scoring in _SCORINGS:
        table.add_column(scoring, justify="right")
    for name, summary in record.final.items():
        table.add_row(name, *(_rate(rate) for _, rate in summary.pass_at_1.items()))
    _CONSOLE.print(table)
    if record.comparisons:
        _CONSOLE.print(_differences(record.comparisons))
    if record.sampled is not None:
        _CONSOLE.print(_sampled(record.sampled))
        if record.sampled.comparisons:
            _CONSOLE.print(_sampled_differences(record.sampled))
    for scoring, note in record.task.scorings.items():
        _CONSOLE.print(f"  {scoring}: {note}", style="dim")
    _CONSOLE.print(_formats(record.final))
    for comparison in record.comparisons:
        if comparison.first == record.untouched:
            _CONSOLE.print(_in_words(comparison, record.untouched), soft_wrap=True)
    if record.comparisons and n < FEW_PROBLEMS:
        _CONSOLE.print(f"note: {few_problems(n)}", soft_wrap=True)
    for name, run in record.variants.items():
        _cautions(run.cautions or (), f"{name}: ")
    for unjudged in not_judged(record):
        _CONSOLE.print(f"note: {unjudged}", soft_wrap=True)
    if rows := left_out(record.task.left_out):
        _CONSOLE.print(f"note: {rows}", soft_wrap=True)
    if result["out"]:
        _CONSOLE.print(f"written to {result['out']}; look at {result['report']}", soft_wrap=True)


def _demo_header(record: Record, examples: Mapping[str, Examples]) -> None:
    for split, verified in examples.items():
        _CONSOLE.print(
            f"{split} examples: {verified.n} verified, from {verified.of_problems} problems {_SPLITS[split]}"
        )
    for name, run in record.variants.items():
        if run.training is not None:
            _CONSOLE.print(
                f"{name}: {run.parameters} numbers trained; loss in nats per token (lower is better) "
                f"{run.training.initial_loss:.3f} -> {run.training.final_loss:.3f}"
                + (f" at the scale (alpha) {run.scale.chosen:g}" if run.scale else ""),
                soft_wrap=True,
            )
    _CONSOLE.print(
        "seconds: " + ", ".join(f"{name} {spent:.0f}" for name, spent in record.seconds.items()), soft_wrap=True
    )


def _rate(rate: Rate | Estimate) -> str:
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _differences(comparisons: Sequence[Comparison]) -> Table:
    table = Table(
        title="differences in points, pair by pair",
        caption="[ , ] 95% interval, Tango's for pairs; p: chance of such flips without any effect, McNemar's exact "
        "test, raised for the number of comparisons (Holm); + / -: problems gained / lost",
        box=SIMPLE,
    )
    for name in ("", "scoring", "difference", "p", "+ / -"):
        table.add_column(name, justify="left" if name in ("", "scoring") else "right")
    for comparison in comparisons:
        pair = f"{comparison.second} - {comparison.first}"
        for scoring, difference in comparison.items():
            flips = f"{len(difference.gained)} / {len(difference.lost)}"
            table.add_row(pair, scoring, _points(difference), f"{difference.p_holm:.1g}", flips)
            pair = ""
    return table


def _sampled(sampled: Sampled) -> Table:
    table = Table(
        title=f"pass@k in %, {sampled.n} samples a problem, temperature {sampled.temperature:g}, "
        f"top_p {sampled.top_p:g}",
        caption="unbiased; [ , ] 95% over problems, Wilson at the effective number of problems",
        box=SIMPLE,
    )
    table.add_column("")
    table.add_column("k", justify="right")
    for scoring in _SCORINGS:
        table.add_column(scoring, justify="right")
    for name, summary in sampled.final.items():
        for i, (k, estimate) in enumerate(summary.pass_at_k.standard.items()):
            table.add_row("" if i else name, k, _rate(estimate), _rate(summary.pass_at_k.paper[k]))
    return table


def _sampled_differences(sampled: Sampled) -> Table:
    table = Table(
        title="differences in pass@k in points, problem by problem",
        caption="[ , ] 95%; p: paired t-test over problems, Holm-adjusted",
        box=SIMPLE,
    )
    for name in ("", "k", "scoring", "difference", "p"):
        table.add_column(name, justify="left" if name in ("", "scoring") else "right")
    for comparison in sampled.comparisons:
        pair = f"{comparison.second} - {comparison.first}"
        for scoring, differences in comparison.items():
            for k, difference in differences.items():
                table.add_row(pair, k, scoring, _points(difference), f"{difference.p_holm:.1g}")
                pair = ""
    return table


def _points(compared: Difference | SampledDifference) -> str:
    return f"{100 * compared.difference:+.1f} [{100 * compared.low:+.1f}, {100 * compared.high:+.1f}]"


def _formats(final: Mapping[str, Summary]) -> Table:
    failures = ("unparsable", "empty")
    forms = {form for summary in final.values() for form in summary.formats}
    table = Table(title="form of the answers, in %", box=SIMPLE)
    table.add_column("")
    for name in final:
        table.add_column(name, justify="right")
    for form in [*sorted(forms - {*failures}), *failures]:
        rates = (summary.formats.get(form, 0.0) for summary in final.values())
        table.add_row(form_name(form), *(f"{100 * rate:.1f}" for rate in rates))
    table.add_row("truncated", *(f"{100 * summary.truncated:.1f}" for summary in final.values()))
    table.caption = f"{form_words([*forms, *failures])}; truncated: cut off at the limit of length"
    return table


def _in_words(comparison: Comparison, untouched: str) -> str:
    return f"Under the standard scoring {finding(comparison, untouched)}. {reservation(comparison)}".rstrip()


def _tasks(result: Mapping[str, Any]) -> None:
    table = Table(title="tasks", box=SIMPLE, caption="problems come from the source, or from --data")
    for column in ("name", "what", "version", "source"):
        table.add_column(column, overflow="fold")
    for task in result["tasks"]:
        table.add_row(*map(str, task.values()))
    _CONSOLE.print(table)


def _families(result: Mapping[str, Any]) -> None:
    families = Table(title="families whose state can be tuned", box=SIMPLE)
    for column in ("family", "mixer in a layer", "recurrence"):
        families.add_column(column, overflow="fold")
    recurrences = Table(title="their recurrences", box=SIMPLE)
    for column in ("recurrence", "state", "alpha", "alpha from"):
        recurrences.add_column(column, overflow="fold")
    notes: dict[str, list[str]] = {}
    kinds: dict[tuple[str, ...], None] = {}
    for family in result["families"]:
        name, layer, *kind, note = map(str, family.values())
        families.add_row(name, layer, kind[0])
        kinds[tuple(kind)] = None
        notes.setdefault(note, []).append(name)
    for kind_facts in kinds:
        recurrences.add_row(*kind_facts)
    _CONSOLE.print(families)
    _CONSOLE.print(recurrences)
    for note, names in notes.items():
        if note:
            _CONSOLE.print(f"{', '.join(names)}: {note}", soft_wrap=True)
    for refused in result["refused"]:
        _CONSOLE.print(f"{refused['family']} cannot be tuned: {refused['reason']}", soft_wrap=True)


def _fields(result: Mapping[str, Any]) -> None:
    for name, value in result.items():
        if name not in ("kind", "layers"):
            _CONSOLE.print(f"{name}: {value}")


def _collection(result: Mapping[str, Any]) -> None:
    _CONSOLE.print(
        f"{result['examples']} examples from {result['solved']} of {result['problems']} problems, written to "
        f"{result['out']}; every sample with its verdict is in {result['samples']}",
        soft_wrap=True,
    )
    _next(result)


def _training(result: Mapping[str, Any]) -> None:
    _CONSOLE.print(f"{result['method']}: {result['parameters']} numbers learned from {result['examples']} examples")
    for name, before, after in (
        ("training examples", "initial_loss", "final_loss"),
        ("select examples", "select_initial_loss", "select_final_loss"),
    ):
        if after in result:
            _CONSOLE.print(
                f"loss on the {name}, in nats per token (lower is better): {result[before]:.4g} untouched -> "
                f"{result[after]:.4g} as deployed",
                soft_wrap=True,
            )
    if scale := result.get("scale"):
        curve = ", ".join(f"{point['alpha']:g}: {_measured(point)}" for point in scale["curve"])
        _CONSOLE.print(
            f"scale (alpha): {scale['chosen']:g}, the best by {scale['by']} on the select split of those tried "
            f"({curve})",
            soft_wrap=True,
        )
    elif "alpha" in result:
        _CONSOLE.print(f"scale (alpha): {result['alpha']:g}, not chosen on select examples")
    _cautions(result.get("cautions", ()))
    _CONSOLE.print(f"written to {result['out']}", soft_wrap=True)
    _next(result)


def _cautions(cautions: Sequence[str], whose: str = "") -> None:
    for caution in cautions:
        _CONSOLE.print(f"note: {whose}{caution}", soft_wrap=True)


def _next(result: Mapping[str, Any]) -> None:
    _CONSOLE.print(f"next: {result['next']}", soft_wrap=True)


def _measured(point: Mapping[str, Any]) -> str:
    return "not finite" if point["value"] is None else f"{point['value']:.3g}"


def _verification(result: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{result['model']}: {result['class']} ({result['family']})",
        caption="largest error and what is allowed: logits and gradients as shares of their largest, tokens as the "
        "share that differs; 0 is bit-identical",
        box=SIMPLE,
    )
    for column in ("check", "", "error", "allowed"):
        table.add_column(column, justify="right" if column in ("error", "allowed") else "left")
    for one in result["checks"]:
        figures = ("" if one[name] is None else f"{one[name]:.1g}" for name in ("error", "tolerance"))
        table.add_row(one["name"], one["status"], *figures)
    _CONSOLE.print(table)
    for one in result["checks"]:
        if one["status"] != "holds":
            told = f"{one['name']} ({one['what']}): {one['status']}"
            _CONSOLE.print(f"{told}; {one['note']}" if one["note"] else told, soft_wrap=True)
    _CONSOLE.print(", ".join(f"{status}: {count}" for status, count in result["counts"].items()))
    if result["advice"]:
        _CONSOLE.print(result["advice"], soft_wrap=True)


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
    "collect": _collection,
    "train": _training,
    "export": _fields,
    "tasks": _tasks,
    "families": _families,
    "verification": _verification,
    "model": _layers,
    "state": _layers,
    "adapter": _layers,
}
