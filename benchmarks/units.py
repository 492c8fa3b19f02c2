"""Long benchmarks as units: one record file each, two processes of one thread; what is there is not run again."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from s0.bench import write_record


def run_units(units: Sequence[tuple[Any, ...]], work: Callable[..., dict[str, Any]], folder: Path, jobs: int) -> None:
    """Write `work(*unit)` to `folder`/name.json for every unit without such a file."""
    todo = [unit for unit in units if not path_of(folder, unit).exists()]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _one_thread) as pool:
        running = {pool.submit(_run, work, unit): unit for unit in todo}
        for done in concurrent.futures.as_completed(running):
            record, seconds = done.result()
            write_record(path_of(folder, running[done]), record)
            print(f"{path_of(folder, running[done]).stem}: {seconds:.0f} s", flush=True)


def path_of(folder: Path, unit: tuple[Any, ...]) -> Path:
    return folder / ("-".join(str(part).replace("pocket:", "") for part in unit) + ".json")


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(work: Callable[..., dict[str, Any]], unit: tuple[Any, ...]) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    return work(*unit), time.perf_counter() - started
