"""Write the tables and outputs of README.md and benchmarks/README.md from benchmarks/results.

    python benchmarks/pages.py [--check]

Each table stands between `<!-- NAME -->` and `<!-- /NAME -->`; --check changes nothing and fails where one is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")


def record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def pocket_seeds() -> str:
    found = record("pocket_seeds")
    runs = found["chosen_on_select"]["runs"]
    n = runs[0]["comparison"]["standard"]["n"]
    lines = [
        f"pass@1 on the final split ({n} problems), greedy, {len(runs)} seeds; gain: mean, 95% t-interval over seeds.",
        "",
        "| settings | scoring | untouched | tuned (mean; per seed) | gain in points | largest p (McNemar) |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("chosen_on_select", "published"):
        train = found[name]["runs"][0]["settings"]["train"]
        label = f"{name.replace('_', ' ')} (lr {train['lr']:g}, alpha {train['alpha'] or 0.07:g})"
        for scoring, rates in found[name]["over_seeds"].items():
            each = ", ".join(f"{100 * value:.1f}" for value in rates["tuned"])
            gain = f"{100 * rates['gain_mean']:+.1f} [{100 * rates['gain_low']:+.1f}, {100 * rates['gain_high']:+.1f}]"
            lines.append(
                f"| {label} | {scoring} | {100 * rates['base']:.1f} | {100 * rates['tuned_mean']:.1f} ({each}) "
                f"| {gain} | {rates['largest_mcnemar_p']:.1g} |"
            )
    return "\n".join(lines)


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
    names = {"s0": "S0", "lora_r24_unmerged": "LoRA r24, unmerged", "untouched_again": "a second copy of the untouched"}
    for key, name in names.items():
        for phase, values in inference[key].items():
            rows.append(
                f"| {phase}, {name} : untouched | {values['ratio']:.3f} [{values['low']:.3f}, {values['high']:.3f}], "
                f"{values['pairs']} pairs |"
            )
    return "\n".join(rows)


def demo() -> str:
    text = (ROOT / "benchmarks" / "results" / "demo.txt").read_text(encoding="utf-8")
    return "```text\n" + text.rstrip() + "\n```"


TABLES = {"demo": demo, "pocket_seeds": pocket_seeds, "speed": speed}


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
    if placed != set(TABLES):
        sys.exit(f"expected a place for each of {sorted(TABLES)} on some page, found {sorted(placed)}")
    if stale:
        print(("stale: " if check else "rewritten: ") + ", ".join(stale))
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
