"""The tables of the study and of the single runs beside it, from benchmarks/results; `pages.py` writes them."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from grid import best

from s0.bench.stats import holm, paired_t, t_interval, welch
from s0.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


LABELS = {
    "base": "untouched",
    "s0_auto": "S0, scale chosen on select",
    "s0_published": "S0, published settings",
    "lora_r24": "LoRA r24",
    "lora_matched": "LoRA, as many numbers as S0",
    "prefix": "prefix tuning",
    "format_control": "S0 on right form, wrong content",
    "few_shot": "3 of the examples in the prompt",
}


def study_runs() -> dict[str, list[dict[str, Any]]]:
    """{model: its runs by seed}."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "benchmarks" / "results" / "study").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        by_model.setdefault(run["model"]["name"], []).append(run)
    judged_by([run for runs in by_model.values() for run in runs])
    return {model: sorted(runs, key=lambda run: run["seed"]) for model, runs in by_model.items()}


def judged_by(records: list[dict[str, Any]]) -> str:
    """Which version of each task's rules the records were judged by; different ones do not compare."""
    versions: dict[str, set[str]] = {}
    for record in records:
        versions.setdefault(record["task"]["name"], set()).add(record["task"]["version"])
    for task, taken in versions.items():
        if len(taken) > 1:
            sys.exit(f"expected records of one version of {task}, got {', '.join(sorted(taken))}; run `make study`")
    phrases = []
    for task, (version,) in versions.items():
        since = "" if version == TASKS[task].version else f" ({TASKS[task].version} now)"
        phrases.append(f"version {version} of {task}{since}")
    return f"Judged by {', '.join(phrases)}."


def rates(runs: list[dict[str, Any]], variant: str, scoring: str) -> list[float]:
    """pass@1 in points, by seed, counted from the verdicts."""
    by_seed = [run["variants"][variant]["verdicts"][scoring] for run in runs]
    return [100 * verdicts.count("1") / len(verdicts) for verdicts in by_seed]


def difference(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Second minus first, paired by seed: mean and 95% t-interval."""
    return t_interval([b - a for a, b in zip(first, second, strict=True)])


def shown(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" if high - low > 1e-9 else f"{mean:+.1f}"


def small(p_value: float) -> str:
    return f"{p_value:.1g}" if p_value > 0 else "-"  # a t-test of differences that are all the same says nothing


def results() -> str:
    """pass@1 of every variant on every model, and what it gains."""
    by_model = study_runs()
    variants = dict.fromkeys(name for runs in by_model.values() for name in runs[0]["variants"])
    lines = ["| | " + " | ".join(by_model) + " |", "|---|" + "---|" * len(by_model)]
    for name in (name for name in LABELS if name in variants):
        cells = [LABELS[name]]
        for runs in by_model.values():
            if name not in runs[0]["variants"]:
                cells.append("")
                continue
            each = rates(runs, name, "standard")
            gain = "" if name == "base" else f", {shown(difference(rates(runs, 'base', 'standard'), each))}"
            cells.append(f"{statistics.mean(each):.1f}{gain}")
        lines.append("| " + " | ".join(cells) + " |")
    first = next(iter(by_model.values()))
    sizes = [run["examples"]["train"]["n"] for runs in by_model.values() for run in runs]
    below = (
        f"pass@1 in % on {len(first[0]['problems'])} problems that nothing was chosen on, greedy, standard scoring: "
        f"mean over {len(first)} samplings of {min(sizes)} to {max(sizes)} examples,\nand the gain in "
        "points over the untouched model, paired by seed, with its 95% t-interval (none where all seeds agree)."
    )
    return "\n".join([*lines, "", below, judged_by([run for runs in by_model.values() for run in runs])])


def study() -> str:
    """Every variant of every model: pass@1 under both scorings, gain in skill and gain in format."""
    by_model = study_runs()
    n = len(next(iter(by_model.values()))[0]["problems"])
    lines = [
        f"pass@1 in % on the {n} final problems, greedy: mean over seeds +- standard deviation. Gains in points over",
        "the untouched model, paired by seed, with 95% t-intervals: *skill* under the standard scoring, which takes",
        "a right answer as body or whole function; *format* is the gain under the paper's scoring minus that: below 0",
        "where answers come in forms that it does not take, above 0 where skill is lost that it never saw.",
        "p: two-sided t-test of the gain in skill over seeds, Holm over the variants of a model; - where seeds agree.",
        judged_by([run for runs in by_model.values() for run in runs]),
        "",
    ]
    for model, runs in by_model.items():
        variants = list(runs[0]["variants"])
        base = {scoring: rates(runs, "base", scoring) for scoring in ("standard", "paper")}
        tested = {name: paired_t(base["standard"], rates(runs, name, "standard")) for name in variants[1:]}
        adjusted = dict(zip(tested, holm([result.p_value for result in tested.values()]), strict=True))
        lines += [
            f"**{model}**, {len(runs)} seeds",
            "",
            "| variant | numbers trained | standard | paper | gain in skill | p | gain in format |",
            "|---|---|---|---|---|---|---|",
        ]
        for name in variants:
            cells = [LABELS[name], f"{runs[0]['variants'][name].get('parameters', 0):,}"]
            for scoring in ("standard", "paper"):
                each = rates(runs, name, scoring)
                cells.append(f"{statistics.mean(each):.1f} +- {statistics.stdev(each):.1f}")
            if name == "base":
                cells += ["", "", ""]
            else:
                gains = {
                    scoring: [b - a for a, b in zip(base[scoring], rates(runs, name, scoring), strict=True)]
                    for scoring in base
                }
                format_gain = [p - s for s, p in zip(gains["standard"], gains["paper"], strict=True)]
                cells += [shown(t_interval(gains["standard"])), small(adjusted[name]), shown(t_interval(format_gain))]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


CONTRASTS = (
    ("lora_r24", "s0_auto"),
    ("lora_matched", "s0_auto"),
    ("s0_published", "s0_auto"),
    ("format_control", "s0_auto"),
    ("few_shot", "s0_auto"),
    ("lora_r24", "prefix"),
)


def contrasts() -> str:
    """Methods against each other, paired by seed, and Welch's test as the paper used it."""
    lines = [
        "| model | second - first | standard, paired by seed | p paired | p Welch |",
        "|---|---|---|---|---|",
    ]
    for model, runs in study_runs().items():
        pairs = [pair for pair in CONTRASTS if set(pair) <= set(runs[0]["variants"])]
        values = [(rates(runs, base, "standard"), rates(runs, method, "standard")) for base, method in pairs]
        paired = holm([paired_t(*pair).p_value for pair in values])
        welched = holm([welch(*pair).p_value for pair in values])
        for (base, method), (first, second), p, p_welch in zip(pairs, values, paired, welched, strict=True):
            lines.append(
                f"| {model} | {LABELS[method]} - {LABELS[base]} | {shown(difference(first, second))} | {small(p)} "
                f"| {small(p_welch)} |"
            )
    return "\n".join([*lines, "", "p: two-sided, Holm over the contrasts of a model."])


MODELS = ("pocket:gdn", "pocket:mamba2", "pocket:transformer")


def on_task(model: str, task: str) -> dict[str, Any]:
    """The record of a pocket model on a pocket task."""
    return record(f"pocket/{model.removeprefix('pocket:')}-{task}")


def models() -> str:
    """The pocket models on pocket-code, untouched and with the best of what S0 and LoRA make of them."""
    lines = [
        "| model | weights | greedy, standard | greedy, paper | sampled pass@1 | pass@16 | S0 | LoRA r24 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_model = study_runs()
    for model in MODELS:
        record = on_task(model, "pocket-code")
        greedy, sampled = record["final"]["base"]["pass_at_1"], record["sampled"]["final"]["base"]["pass_at_k"]
        cells = [model, f"{record['weights']:,}"]
        cells += [f"{100 * greedy[scoring]['value']:.1f}" for scoring in ("standard", "paper")]
        cells += [f"{100 * sampled['standard'][k]['value']:.1f}" for k in ("1", "16")]
        for variant in ("s0_auto", "lora_r24"):
            is_tuned = variant in by_model[model][0]["variants"]
            cells.append(f"{statistics.mean(rates(by_model[model], variant, 'standard')):.1f}" if is_tuned else "-")
        lines.append("| " + " | ".join(cells) + " |")
    n, seeds = greedy["standard"]["n"], len(by_model["pocket:gdn"])
    return "\n".join(
        [
            *lines,
            "",
            f"pass@1 in % on the {n} final problems; sampled at temperature {record['sampled']['temperature']:g}, "
            f"{record['sampled']['n']} samples each, standard scoring;",
            f"S0 and LoRA: greedy, standard scoring, mean over {seeds} samplings of examples.",
            judged_by(
                [
                    *(on_task(model, "pocket-code") for model in MODELS),
                    *(run for runs in by_model.values() for run in runs),
                ]
            ),
        ]
    )


def tasks() -> str:
    """Collect, train, evaluate on every pocket task: one run each, both scorings, failures shown."""
    lines = [
        "| task | model | examples | standard | paper | sampled pass@1 | pass@16 | unparsable, empty, cut off |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in ("pocket-code", "pocket-math", "pocket-sql"):
        for model in MODELS:
            record = on_task(model, task)
            names, sampled = list(record["final"]), record["sampled"]["final"]
            cells = [task, model, str(record["examples"]["train"]["n"])]
            for scoring in ("standard", "paper"):
                shares = [f"{100 * record['final'][name]['pass_at_1'][scoring]['value']:.1f}" for name in names]
                gains = [interval(comparison[scoring]) for comparison in record["comparisons"]]
                cells.append(" -> ".join(shares) + "".join(f", {gain}" for gain in gains))
            for k in ("1", "16"):
                cells.append(
                    " -> ".join(f"{100 * sampled[name]['pass_at_k']['standard'][k]['value']:.1f}" for name in names)
                )
            failures = [(record["final"][name]["formats"], record["final"][name]["truncated"]) for name in names]
            cells.append(
                " -> ".join(
                    ", ".join(f"{100 * share:.1f}" for share in (forms["unparsable"], forms["empty"], cut))
                    for forms, cut in failures
                )
            )
            lines.append("| " + " | ".join(cells) + " |")
    first = on_task("pocket:gdn", "pocket-code")
    n = first["final"]["base"]["pass_at_1"]["standard"]["n"]
    below = (
        f"In %, on {n} final problems each, untouched -> with the tuned state; greedy, with the gain in points and its "
        f"95% interval (Tango's, paired\nby problem), one run each; sampled: {first['sampled']['n']} samples, "
        f"temperature {first['sampled']['temperature']:g}, standard scoring. Examples: of 96 train problems, up to 16 "
        "samples each."
    )
    records = [on_task(model, task) for task in ("pocket-code", "pocket-math", "pocket-sql") for model in MODELS]
    return "\n".join([*lines, "", below, judged_by(records)])


def interval(compared: dict[str, float]) -> str:
    """A difference in points with its interval."""
    return shown((100 * compared["difference"], 100 * compared["low"], 100 * compared["high"]))


def scales() -> str:
    """The scales that were chosen, beside the published ones."""
    lines = ["| model | chosen alpha, by seed | published |", "|---|---|---|"]
    published = {"pocket:gdn": 0.07, "pocket:mamba2": 0.65}
    for model, runs in study_runs().items():
        if model in published:
            chosen = [f"{run['variants']['s0_auto']['scale']['chosen']:g}" for run in runs]
            lines.append(f"| {model} | {', '.join(chosen)} | {published[model]:g} |")
    return "\n".join(lines)


def grid() -> str:
    """All settings that were tried, on the select split."""
    lines = ["| model | method | tried: lr x steps (pass@1 on select in %) | numbers trained |", "|---|---|---|---|"]
    for path in sorted((ROOT / "benchmarks" / "results" / "grid").glob("*.json")):
        choice = json.loads(path.read_text(encoding="utf-8"))
        cells = []
        for i, row in enumerate(choice["rows"]):
            settings, value = row["settings"], 100 * row["select"]["standard"]["value"]
            text = f"{settings['lr']:g} x {settings['n_steps']}"
            text += "" if settings.get("projection", True) else " without projection"
            text += f" ({value:.1f})"
            cells.append(f"**{text}**" if i == best(choice["rows"]) else text)
        sizes = sorted({row["parameters"] for row in choice["rows"]})
        kind = choice["kind"].replace("_", ", ")
        lines.append(f"| {choice['model']} | {kind} | {'; '.join(cells)} | {', '.join(f'{n:,}' for n in sizes)} |")
    return "\n".join(lines)
