"""Long benchmarks as units: one record file each, two processes of one thread; what is there is not run again.

Only a record whose task has risen to another version since is: its verdicts follow other rules.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from s0.record import Answer, Record, compressed, write_record
from s0.tasks import SCORINGS, TASKS


def run_units(units: Sequence[tuple[Any, ...]], work: Callable[..., dict[str, Any]], folder: Path, jobs: int) -> None:
    """Write `work(*unit)` to `folder`/name.json for every unit without such a file of its task's present version."""
    todo = [unit for unit in units if not is_recorded(path_of(folder, unit))]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _one_thread) as pool:
        running = {pool.submit(_run, work, unit): unit for unit in todo}
        for done in concurrent.futures.as_completed(running):
            record, seconds = done.result()
            write_record(path_of(folder, running[done]), record)
            print(f"{path_of(folder, running[done]).stem}: {seconds:.0f} s", flush=True)


def path_of(folder: Path, unit: tuple[Any, ...]) -> Path:
    return folder / ("-".join(str(part).replace("pocket:", "") for part in unit) + ".json")


def is_recorded(path: Path) -> bool:
    """Whether a unit's record is there, judged by the rules that hold now."""
    if not path.exists():
        return False
    task = json.loads(path.read_text(encoding="utf-8")).get("task")  # the first records did not name it
    return task is not None and bool(task["version"] == TASKS[task["name"]].version)


def task_facts(record: Record) -> dict[str, Any]:
    """What a unit's file says of its task."""
    return {"name": record.task.name, "version": record.task.version, "data_sha256": record.task.data_sha256}


def seconds_of(record: Record, name: str) -> dict[str, float]:
    """What the stages of a variant have taken."""
    return {stage: spent for stage, spent in record.seconds.items() if stage in (f"train {name}", f"evaluate {name}")}


def kept(answers: Sequence[Answer]) -> dict[str, Any]:
    """What a record keeps of answers, in order: by scoring a character each, 1 passed, 0 failed; and their texts."""
    return {
        "verdicts": {scoring: "".join(str(int(answer.passed[scoring])) for answer in answers) for scoring in SCORINGS},
        "completions": compressed([answer.completion for answer in answers]),
    }


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(work: Callable[..., dict[str, Any]], unit: tuple[Any, ...]) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    return work(*unit), time.perf_counter() - started
