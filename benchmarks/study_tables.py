"""The tables of the studies in benchmarks/studies, from the records in benchmarks/results; `pages.py` writes them."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from s0.bench import Samples
from s0.bench.stats import compare, holm, paired_t, t_interval, welch
from s0.models import model_without_weights
from s0.study.grids import winner
from s0.study.plan import plan
from s0.study.runner import opened, standing
from s0.study.spec import Study
from s0.study.store import Answered, Store, VariantRecord
from s0.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDS = RESULTS / "studies"
"""Of all studies; `make study` fills it."""


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def study_on(name: str, task: str) -> tuple[Study, Store]:
    """A study, one task of it, and the folder of its records."""
    study, store = opened(ROOT / "benchmarks" / "studies" / f"{name}.toml", RECORDS)
    everywhere = {name: replace(variant, tasks=None) for name, variant in study.variants.items()}
    return replace(study, tasks=(task,), variants=everywhere), store


@cache
def runs_of(name: str, task: str) -> dict[str, dict[str, list[VariantRecord]]]:
    """What a study has recorded of a task: {model: {variant: runs by seed}}."""
    study, store = study_on(name, task)
    done = standing(study, store)
    runs: dict[str, dict[str, list[VariantRecord]]] = {}
    for cell in done.plan.cells:
        unit_record = done.records.get(cell.key)
        if not isinstance(unit_record, VariantRecord):
            sys.exit(f"expected a record of {cell.variant} on {cell.model}, seed {cell.seed}, got none; `make study`")
        runs.setdefault(cell.model, {}).setdefault(cell.variant, []).append(unit_record)
    return runs


def study_runs() -> dict[str, dict[str, list[VariantRecord]]]:
    """The main table's on pocket-code."""
    return runs_of("main", "pocket-code")


def answers_in(run: VariantRecord) -> Answered:
    """The answers to the one task that was asked."""
    (answered,) = run.answered.values()
    return answered


def judged_by(runs: Sequence[VariantRecord]) -> str:
    """Which version of each task's rules the records were judged by; different ones do not compare."""
    versions: dict[str, set[str]] = {}
    for run in runs:
        task = answers_in(run).task
        versions.setdefault(task.name, set()).add(task.version)
    for name, taken in versions.items():
        if len(taken) > 1:
            sys.exit(f"expected records of one version of {name}, got {', '.join(sorted(taken))}; run `make study`")
    phrases = []
    for name, (version,) in versions.items():
        since = "" if version == TASKS[name].version else f" ({TASKS[name].version} now)"
        phrases.append(f"version {version} of {name}{since}")
    return f"Judged by {', '.join(phrases)}."


def every(by_model: Mapping[str, Mapping[str, Sequence[VariantRecord]]]) -> list[VariantRecord]:
    return [run for variants in by_model.values() for runs in variants.values() for run in runs]


def rates(runs: Sequence[VariantRecord], scoring: str) -> list[float]:
    """pass@1 in points, by seed, counted from the verdicts."""
    by_seed = [answers_in(run).verdicts[scoring] for run in runs]
    return [100 * verdicts.count("1") / len(verdicts) for verdicts in by_seed]


def difference(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Second minus first, paired by seed: mean and 95% t-interval."""
    return t_interval([b - a for a, b in zip(first, second, strict=True)])


def shown(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" if high - low > 1e-9 else f"{mean:+.1f}"


def small(p_value: float) -> str:
    return f"{p_value:.1g}" if p_value > 0 else "-"  # a t-test of differences that are all the same says nothing


def labels() -> dict[str, str]:
    """What the variants of the main table are called."""
    study, _ = study_on("main", "pocket-code")
    return {name: variant.label for name, variant in study.variants.items()}


def results() -> str:
    """pass@1 of every variant on every model, and what it gains."""
    by_model = study_runs()
    lines = ["| | " + " | ".join(by_model) + " |", "|---|" + "---|" * len(by_model)]
    for name, label in labels().items():
        cells = [label]
        for runs in by_model.values():
            if name not in runs:
                cells.append("")
                continue
            each = rates(runs[name], "standard")
            gain = "" if name == "base" else f", {shown(difference(rates(runs['base'], 'standard'), each))}"
            cells.append(f"{statistics.mean(each):.1f}{gain}")
        lines.append("| " + " | ".join(cells) + " |")
    runs = every(by_model)
    sizes = [run.n_examples["train"] for run in runs if "train" in run.n_examples]
    n_problems, n_seeds = len(answers_in(runs[0]).problems), len(next(iter(by_model.values()))["base"])
    below = (
        f"pass@1 in % on {n_problems} problems that nothing was chosen on, greedy, standard scoring: "
        f"mean over {n_seeds} samplings of {min(sizes)} to {max(sizes)} examples,\nand the gain in "
        "points over the untouched model, paired by seed, with its 95% t-interval (none where all seeds agree)."
    )
    return "\n".join([*lines, "", below, judged_by(runs)])


def study() -> str:
    """Every variant of every model: pass@1 under both scorings, gain in skill and gain in format."""
    by_model = study_runs()
    lines = [
        f"pass@1 in % on the {len(answers_in(every(by_model)[0]).problems)} final problems, greedy: mean over seeds +- "
        "standard deviation. Gains in points over",
        "the untouched model, paired by seed, with 95% t-intervals: *skill* under the standard scoring, which takes",
        "a right answer as body or whole function; *format* is the gain under the paper's scoring minus that: below 0",
        "where answers come in forms that it does not take, above 0 where skill is lost that it never saw.",
        "p: two-sided t-test of the gain in skill over seeds, Holm over the variants of a model; - where seeds agree.",
        judged_by(every(by_model)),
        "",
    ]
    for model, variants in by_model.items():
        lines += [
            f"**{model}**, {len(variants['base'])} seeds",
            "",
            "| variant | numbers trained | standard | paper | gain in skill | p | gain in format |",
            "|---|---|---|---|---|---|---|",
            *rows_of(variants),
            "",
        ]
    return "\n".join(lines).rstrip()


def rows_of(variants: Mapping[str, Sequence[VariantRecord]]) -> list[str]:
    """The rows of a model."""
    base = {scoring: rates(variants["base"], scoring) for scoring in ("standard", "paper")}
    tuned = [name for name in variants if name != "base"]
    tested = [paired_t(base["standard"], rates(variants[name], "standard")).p_value for name in tuned]
    adjusted = dict(zip(tuned, holm(tested), strict=True))
    rows = []
    for name, runs in variants.items():
        cells = [labels()[name], f"{runs[0].run.parameters or 0:,}"]
        each = {scoring: rates(runs, scoring) for scoring in base}
        cells += [f"{statistics.mean(points):.1f} +- {statistics.stdev(points):.1f}" for points in each.values()]
        if name == "base":
            cells += ["", "", ""]
        else:
            gains = {s: [b - a for a, b in zip(base[s], each[s], strict=True)] for s in base}
            format_gain = [p - s for s, p in zip(gains["standard"], gains["paper"], strict=True)]
            cells += [shown(t_interval(gains["standard"])), small(adjusted[name]), shown(t_interval(format_gain))]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def contrasts() -> str:
    """Methods against each other, paired by seed, and Welch's test as the paper used it."""
    lines = [
        "| model | second - first | standard, paired by seed | p paired | p Welch |",
        "|---|---|---|---|---|",
    ]
    named, names = study_on("main", "pocket-code")[0].contrasts, labels()
    for model, variants in study_runs().items():
        pairs = [pair for pair in named if set(pair) <= set(variants)]
        values = [(rates(variants[base], "standard"), rates(variants[method], "standard")) for base, method in pairs]
        paired = holm([paired_t(*pair).p_value for pair in values])
        welched = holm([welch(*pair).p_value for pair in values])
        for (base, method), (first, second), p, p_welch in zip(pairs, values, paired, welched, strict=True):
            lines.append(
                f"| {model} | {names[method]} - {names[base]} | {shown(difference(first, second))} | {small(p)} "
                f"| {small(p_welch)} |"
            )
    return "\n".join([*lines, "", "p: two-sided, Holm over the contrasts of a model."])


def models() -> str:
    """The pocket models on pocket-code, untouched and with the best of what S0 and LoRA make of them."""
    lines = [
        "| model | weights | greedy, standard | greedy, paper | sampled pass@1 | pass@16 | S0 | LoRA r24 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_model, asked = study_runs(), runs_of("pocket", "pocket-code")
    for model, variants in asked.items():
        answered = answers_in(variants["base"][0])
        cells = [model, f"{model_without_weights(model).num_parameters():,}"]
        cells += [f"{100 * rate.value:.1f}" for _, rate in answered.summary.pass_at_1.items()]
        cells += [f"{100 * sampled_in(answered, k):.1f}" for k in ("1", "16")]
        for variant in ("s0_auto", "lora_r24"):
            is_tuned = variant in by_model[model]
            cells.append(f"{statistics.mean(rates(by_model[model][variant], 'standard')):.1f}" if is_tuned else "-")
        lines.append("| " + " | ".join(cells) + " |")
    runs, n_seeds = every(asked), len(by_model["pocket:gdn"]["base"])
    return "\n".join(
        [
            *lines,
            "",
            f"pass@1 in % on the {len(answers_in(runs[0]).problems)} final problems; sampled at temperature "
            f"{sampling().temperature:g}, {sampling().n} samples each, standard scoring;",
            f"S0 and LoRA: greedy, standard scoring, mean over {n_seeds} samplings of examples.",
            judged_by([*runs, *every(by_model)]),
        ]
    )


def sampling() -> Samples:
    """How the answers of the pocket study were drawn."""
    drawn = study_on("pocket", "pocket-code")[0].drawn
    assert drawn is not None
    return drawn


def sampled_in(answered: Answered, k: str) -> float:
    """pass@k of the answers that were drawn, standard scoring."""
    assert answered.drawn is not None
    return answered.drawn.summary.pass_at_k.standard[k].value


def tasks() -> str:
    """Collect, train, evaluate on every pocket task: one run each, both scorings, failures shown."""
    lines = [
        "| task | model | examples | standard | paper | sampled pass@1 | pass@16 | unparsable, empty, cut off |",
        "|---|---|---|---|---|---|---|---|",
    ]
    runs: list[VariantRecord] = []
    for task in ("pocket-code", "pocket-math", "pocket-sql"):
        by_model = runs_of("pocket", task)
        runs += every(by_model)
        lines += [
            task_row(task, model, [each[0] for each in variants.values()]) for model, variants in by_model.items()
        ]
    below = (
        f"In %, on {len(answers_in(runs[0]).problems)} final problems each, untouched -> with the tuned state; greedy, "
        "with the gain in points and its 95% interval (Tango's, paired\nby problem), one run each; sampled: "
        f"{sampling().n} samples, temperature {sampling().temperature:g}, standard scoring. Examples: of 96 train "
        "problems, up to 16 samples each."
    )
    return "\n".join([*lines, "", below, judged_by(runs)])


def task_row(task: str, model: str, runs: Sequence[VariantRecord]) -> str:
    """A model on a task: untouched and, where it has a state, tuned."""
    answered = [answers_in(run) for run in runs]
    cells = [task, model, str(runs[-1].n_examples.get("train", "-"))]
    for scoring in ("standard", "paper"):
        shares = [f"{100 * getattr(each.summary.pass_at_1, scoring).value:.1f}" for each in answered]
        gains = [gain(answered[0], each, scoring) for each in answered[1:]]
        cells.append(" -> ".join(shares) + "".join(f", {each}" for each in gains))
    cells += [" -> ".join(f"{100 * sampled_in(each, k):.1f}" for each in answered) for k in ("1", "16")]
    failures = [(each.summary.formats, each.summary.truncated) for each in answered]
    cells.append(
        " -> ".join(
            ", ".join(f"{100 * share:.1f}" for share in (forms["unparsable"], forms["empty"], cut))
            for forms, cut in failures
        )
    )
    return "| " + " | ".join(cells) + " |"


def gain(first: Answered, second: Answered, scoring: str) -> str:
    """Second minus first on the same problems, in points with Tango's interval."""
    passed = [[verdict == "1" for verdict in each.verdicts[scoring]] for each in (first, second)]
    difference = compare(*passed)
    return shown((100 * difference.difference, 100 * difference.low, 100 * difference.high))


def scales() -> str:
    """The scales that were chosen, beside the published ones."""
    lines = ["| model | chosen alpha, by seed | published |", "|---|---|---|"]
    published = {"pocket:gdn": 0.07, "pocket:mamba2": 0.65}
    for model, variants in study_runs().items():
        if model in published:
            chosen = [f"{run.run.scale.chosen:g}" for run in variants["s0_auto"] if run.run.scale]
            lines.append(f"| {model} | {', '.join(chosen)} | {published[model]:g} |")
    return "\n".join(lines)


GRIDS = ("lora", "lora_matched", "prefix", "s0")
"""Those that the main table takes its settings from."""


def grid() -> str:
    """All settings that were tried, on the select split."""
    lines = ["| model | method | tried: lr x steps (pass@1 on select in %) | numbers trained |", "|---|---|---|---|"]
    tried, store = study_on("grid", "pocket-code")
    for model in tried.models:
        for kind in (name for name in GRIDS if model in (tried.variants[name].models or tried.models)):
            best = winner(tried, store, kind, model, "pocket-code").variant
            cells, sizes = [], set()
            for name, run in entries_of(kind, model).items():
                text = entry(run)
                cells.append(f"**{text}**" if name == best else text)
                sizes.add(run.run.parameters or 0)
            numbers = ", ".join(f"{n:,}" for n in sorted(sizes))
            lines.append(f"| {model} | {kind.replace('_', ', ')} | {'; '.join(cells)} | {numbers} |")
    return "\n".join(lines)


def entries_of(kind: str, model: str) -> dict[str, VariantRecord]:
    """The entries of a grid, by name."""
    study, store = study_on("grid", "pocket-code")
    entries = {}
    for cell in plan(study).cells:
        if cell.model == model and cell.variant.rpartition(" ")[0] == kind:
            run = store.finished(cell.key, VariantRecord)
            entries[cell.variant] = run if run else sys.exit(f"expected {cell.variant} to be done; run `make study`")
    return entries


def entry(run: VariantRecord) -> str:
    """An entry of a grid: its settings, and what it passes."""
    settings = run.run.settings or {}
    text = f"{settings['lr']:g} x {settings['n_steps']}"
    text += "" if settings.get("projection", True) else " without projection"
    return f"{text} ({100 * answers_in(run).summary.pass_at_1.standard.value:.1f})"
