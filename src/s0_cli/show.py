"""Results as tables for people, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from s0.record import parsed
from s0.report.terminal import CONSOLE, show_record
from s0_cli.exits import put
from s0_cli.memory import needed, size

_WITH_CHECKPOINTING = " with --gradient-checkpointing"


def show(result: Mapping[str, Any]) -> None:
    """Print any command's result."""
    _SHOWN[str(result["kind"])](result)


def _evaluation(result: Mapping[str, Any]) -> None:
    show_record(parsed(result))
    if result["out"]:
        CONSOLE.print(f"written to {result['out']}; look at {result['report']}", soft_wrap=True)


def _tasks(result: Mapping[str, Any]) -> None:
    table = Table(title="tasks", box=SIMPLE, caption="problems come from the source, or from --data")
    for column in ("name", "what", "version", "source"):
        table.add_column(column, overflow="fold", no_wrap=column != "what")  # an id that is cut cannot be copied
    for task in result["tasks"]:
        name, what, version, source = map(str, task.values())
        table.add_row(name, what, version, source.replace(", ", "\n"))
    CONSOLE.print(table)


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
    CONSOLE.print(families)
    CONSOLE.print(recurrences)
    for note, names in notes.items():
        if note:
            CONSOLE.print(f"{', '.join(names)}: {note}", soft_wrap=True)
    for refused in result["refused"]:
        CONSOLE.print(f"{refused['family']} cannot be tuned: {refused['reason']}", soft_wrap=True)


def _fields(result: Mapping[str, Any]) -> None:
    for name, value in result.items():
        if name not in ("kind", "layers", "memory"):
            CONSOLE.print(f"{name}: {_in_a_line(value) if isinstance(value, Mapping) else value}", soft_wrap=True)


def _in_a_line(facts: Mapping[str, Any]) -> str:
    """Those that are words and numbers; the others are in --json."""
    plain = {name: value for name, value in facts.items() if isinstance(value, (str, int, float))}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()
    )


def _collection(result: Mapping[str, Any]) -> None:
    examples = "1 example" if result["examples"] == 1 else f"{result['examples']} examples"
    CONSOLE.print(
        f"{examples} from {result['solved']} of {result['problems']} problems, written to "
        f"{result['out']}; every sample with its verdict is in {result['samples']}",
        soft_wrap=True,
    )
    _next(result)


def _training(result: Mapping[str, Any]) -> None:
    CONSOLE.print(f"{result['method']}: {result['parameters']} numbers learned from {result['examples']} examples")
    for name, before, after in (
        ("training examples", "initial_loss", "final_loss"),
        ("select examples", "select_initial_loss", "select_final_loss"),
    ):
        if after in result:
            CONSOLE.print(
                f"loss on the {name}, in nats per token (lower is better): {result[before]:.4g} untouched -> "
                f"{result[after]:.4g} as deployed",
                soft_wrap=True,
            )
    if scale := result.get("scale"):
        CONSOLE.print(
            f"scale (alpha): {scale['chosen']:g}, the best by {scale['by']} on the select split of those tried, of "
            f"equal ones the smallest ({_curve(scale['curve'])})",
            soft_wrap=True,
        )
    elif "alpha" in result:
        CONSOLE.print(f"scale (alpha): {result['alpha']:g}, not chosen on select examples")
    _cautions(result.get("cautions", ()))
    CONSOLE.print(f"written to {result['out']}", soft_wrap=True)
    _next(result)


def _rounds(result: Mapping[str, Any]) -> None:
    n_train, n_select = result["problems"].values()
    table = Table(title=f"rounds of {result['method']}", box=SIMPLE)
    for column in ("round", "new answers", "learned from", f"of {n_train} train problems", f"select, of {n_select}"):
        table.add_column(column, justify="right")
    table.add_row("untouched", "", "", "", str(result["untouched"]["select_solved"]))
    for each in result["rounds"]:
        table.add_row(*(str(each[name]) for name in ("round", "new", "examples", "solved", "select_solved")))
    CONSOLE.print(table)
    CONSOLE.print(
        f"the best on select is round {result['best']}, of equal ones the first; ended by {result['ended_by']}",
        soft_wrap=True,
    )
    if all(each["select_solved"] <= result["untouched"]["select_solved"] for each in result["rounds"]):
        _cautions(["no round has solved more select problems than the untouched model"])
    _cautions(result.get("cautions", ()))
    CONSOLE.print(f"written to {result['out']}; the rounds are in {result['folder']}", soft_wrap=True)
    _next(result)


def _curve(points: Sequence[Mapping[str, Any]]) -> str:
    values = [_measured(point) for point in points]
    if len({*values}) == 1:
        return f"{points[0]['alpha']:g} to {points[-1]['alpha']:g}, all {values[0]}"
    return ", ".join(f"{point['alpha']:g}: {value}" for point, value in zip(points, values, strict=True))


def _cautions(cautions: Sequence[str]) -> None:
    for caution in cautions:
        CONSOLE.print(f"note: {caution}", soft_wrap=True)


def _next(result: Mapping[str, Any]) -> None:
    CONSOLE.print(f"next: {result['next']}", soft_wrap=True)


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
    for check in result["checks"]:
        figures = ("" if check[name] is None else f"{check[name]:.1g}" for name in ("error", "tolerance"))
        table.add_row(check["name"], check["status"], *figures)
    CONSOLE.print(table)
    for check in result["checks"]:
        if check["status"] != "holds":
            line = f"{check['name']} ({check['what']}): {check['status']}"
            CONSOLE.print(f"{line}; {check['note']}" if check["note"] else line, soft_wrap=True)
    CONSOLE.print(", ".join(f"{status}: {count}" for status, count in result["counts"].items()))
    if result["advice"]:
        CONSOLE.print(result["advice"], soft_wrap=True)


def _model(result: Mapping[str, Any]) -> None:
    _layers(result)
    memory = result["memory"]
    parts = ("weights", "states", "activations", "logits")
    for step in memory["steps"]:
        needed = ", ".join(f"{part} {size(step[part])}" for part in parts)
        most = step["most_batch_tokens"]
        advice = f"up to --batch-tokens {most}" if most else "too little for this model"
        CONSOLE.print(
            f"a step that trains its state on {step['batch_tokens']} tokens, in rows of {step['row_tokens']}"
            f"{_WITH_CHECKPOINTING * step['gradient_checkpointing']}, needs about {size(step['total'])} ({needed}); "
            f"{memory['device']} has {size(memory['device_bytes'])}: {advice}",
            soft_wrap=True,
        )
    if memory["trouble"]:
        CONSOLE.print(f"memory of a training step: not known; {memory['trouble']}", soft_wrap=True)


def _layers(result: Mapping[str, Any]) -> None:
    _fields(result)
    columns = list(result["layers"][0])
    table = Table(title="layers", box=SIMPLE)
    for column in columns:
        table.add_column(column)
    for layer in result["layers"]:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in layer.values()))
    CONSOLE.print(table)


def _studies(result: Mapping[str, Any]) -> None:
    for study in result["studies"]:
        _study(study)
    CONSOLE.print(f"records are in {result['records']}", soft_wrap=True)


def _study(study: Mapping[str, Any]) -> None:
    figures = f"{study['done']} of {study['units']} units done, {len(study['failed'])} failed, {study['left']} left"
    CONSOLE.print(f"{study['study']}: {figures}", soft_wrap=True)
    for failure in study["failed"]:
        CONSOLE.print(f"failed: {failure['unit']}: {failure['error']} ({failure['record']})", soft_wrap=True)


def _study_units(result: Mapping[str, Any]) -> None:
    table = Table(title=f"units of {result['study']}", box=SIMPLE)
    table.add_column("unit", overflow="fold")
    table.add_column("")
    table.add_column("seconds", justify="right")
    for unit in result["listed"]:
        seconds = "" if unit["seconds"] is None else f"{unit['seconds']:.0f}"
        table.add_row(unit["unit"], unit["standing"], seconds)
    CONSOLE.print(table)
    _study(result)
    if result["estimated"]:
        CONSOLE.print(result["estimated"], soft_wrap=True)
    for facts in result["memory"]:
        CONSOLE.print(needed(facts), soft_wrap=True)


def _study_report(result: Mapping[str, Any]) -> None:
    put(result["page"])
    if result["out"]:
        CONSOLE.print(f"written to {result['out']}", soft_wrap=True)


_SHOWN: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "demo": _evaluation,
    "eval": _evaluation,
    "collect": _collection,
    "train": _training,
    "improve": _rounds,
    "export": _fields,
    "tasks": _tasks,
    "families": _families,
    "verification": _verification,
    "model": _model,
    "state": _layers,
    "adapter": _layers,
    "study": _studies,
    "study list": _study_units,
    "study report": _study_report,
}
