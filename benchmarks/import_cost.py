"""What it costs to start: CPU seconds of fresh processes, ours beside those of the libraries that it builds on.

    python benchmarks/import_cost.py [--repeats 7] [--out benchmarks/results/import_cost.json]

Every process is a new Python, and its user and system time are counted to its end. The starts take turns, so that a
busy spell of the machine falls on all of them; the record holds each one's seconds and their median. A first turn is
not counted: it writes the byte code and brings the files into memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

STARTS = {
    "import torch": ["-c", "import torch"],
    "import transformers": ["-c", "import transformers"],
    "import peft": ["-c", "import peft"],
    "import s0": ["-c", "import s0"],
    "from s0 import S0Trainer": ["-c", "from s0 import S0Trainer"],
    "s0 --help": ["-m", "s0_cli", "--help"],
    "s0 --version": ["-m", "s0_cli", "--version"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a new Python that is called with `arguments`."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    seconds: dict[str, list[float]] = {start: [] for start in STARTS}
    for turn in range(chosen.repeats + 1):
        for start, arguments in STARTS.items():
            spent = cpu_seconds(arguments)
            if turn > 0:
                seconds[start].append(round(spent, 3))

    from s0.bench import environment
    from s0.record import write_record

    record = {
        "benchmark": "import_cost",
        "environment": environment(),
        "repeats": chosen.repeats,
        "load": round(os.getloadavg()[0], 2),
        "cpu_seconds": seconds,
        "median": {start: round(statistics.median(values), 3) for start, values in seconds.items()},
    }
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
