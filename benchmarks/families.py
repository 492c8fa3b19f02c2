"""Run the conformance suite on a tiny random model of every family that the installed transformers has.

    python -m benchmarks.families [--out benchmarks/results/families/5.24.json]   (in the checkout: it needs tests.zoo)

What the file holds already is not run again; remove it to start over. Exit status 1 where a check fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from s0.bench import environment
from s0.core.families import family_of, find_mixers, recurrence_of
from s0.record import write_record
from s0.verify import FAILS, verify
from s0.verify.subject import TOLERANCE
from tests import zoo

RELEASE = ".".join(version("transformers").split(".")[:2])
OUT = Path(__file__).resolve().parent / "results" / "families" / f"{RELEASE}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    families = json.loads(out.read_text(encoding="utf-8"))["families"] if out.exists() else {}
    for name in zoo.FAMILIES:
        if name in families:
            continue
        model = zoo.make(name)
        results = verify(model)
        families[name] = {
            "family": family_of(model),
            "recurrence": recurrence_of(next(iter(find_mixers(model).values()))).name,
            "checks": {
                check.name: {
                    "status": check.status,
                    "error": check.error,
                    "tolerance": check.tolerance,
                    "note": check.note,
                }
                for check in results
            },
        }
        write_record(out, {"environment": environment(), "tolerance": TOLERANCE, "families": families})
        print(f"{name}: {sum(check.status == 'holds' for check in results)} of {len(results)} hold", flush=True)
    failed = [
        f"{name}: {check}"
        for name, facts in families.items()
        for check, result in facts["checks"].items()
        if result["status"] == FAILS
    ]
    sys.exit("\n".join(["failed:", *failed]) if failed else 0)


if __name__ == "__main__":
    main()
