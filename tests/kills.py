"""Real kills: work in forked processes that get SIGKILL at random moments, until some of it comes to its end.

Everything is in a fresh process that has imported all it needs and computes nothing itself: threads that a library has
started do not survive a fork, and no killed process starts slow. It is none of `tests.forking`: a torch whose threads
were set in a forked process has none to set in what that forks ("Invalid thread pool", 2.13).
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s0.bench import judging


@dataclass(frozen=True)
class Job:
    """Work that goes on where it was killed.

    Attributes:
        run: does it, in a folder; raises or exits with another status than 0 where it does not come to its end.
        outcome: what is in the folder at the end, but for times; None before.
        n_kills: so often it is killed.
    """

    run: Callable[[Path], object]
    outcome: Callable[[Path], str | None]
    n_kills: int


def forked(job: Job, folder: Path, n_changes: float = math.inf, seconds: float = 0.0) -> int | None:
    """Do a job in a process that is killed so long after so many changes of the folder.

    Returns:
        the number of changes seen, where it came to its end; None where it was killed.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job.run(folder)
            code = 0
        except SystemExit as end:
            code = int(str(end.code or 0))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    n_seen, seen, last = 0, sizes_in(folder), time.monotonic()
    while n_seen < n_changes or time.monotonic() < last + seconds:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"status {status} in {folder}"
            return n_seen
        time.sleep(0.002)
        before, seen = seen, sizes_in(folder)
        if seen != before:
            n_seen, last = n_seen + 1, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def killed_again_and_again(job: Job, place: Path) -> dict[str, Any]:
    """What became of a job: whether it ended as one that was not killed, and how much was there after each kill."""
    chance, folder, whole = random.Random(5), place / "run", place / "whole"
    for path in (folder, whole):
        path.mkdir(parents=True)
    begun = time.monotonic()
    most = forked(job, whole)
    longest = time.monotonic() - begun
    assert most is not None
    sizes: list[int] = []
    equal, names = [], []
    while len(sizes) < job.n_kills or not names:
        n_changes: float = chance.randint(0, most // 2) if len(sizes) < job.n_kills else math.inf
        ended = forked(job, folder, n_changes, chance.uniform(0, 0.02 if n_changes else 0.5 * longest)) is not None
        if job.outcome(folder) is None:
            sizes.append(sum(sizes_in(folder).values()))
            continue
        equal.append(job.outcome(folder) == job.outcome(whole))
        names += [names_in(folder) == names_in(whole)] if ended else []
        shutil.rmtree(folder)
        folder.mkdir()
    return {"equal": equal, "names": names, "sizes": sizes}


def sizes_in(folder: Path) -> dict[Path, int]:
    """The files in a folder, with their sizes in bytes; those that vanish meanwhile may be missing."""
    sizes = {}
    for place, _, names in os.walk(folder):  # which passes over a folder that has vanished
        for name in names:
            with suppress(FileNotFoundError):
                path = Path(place, name)
                sizes[path] = path.stat().st_size
    return sizes


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, and in the folders in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def serve(jobs: dict[str, Job], place: str) -> None:
    """All of it, in the process that forks."""
    torch.set_num_threads(1)
    judging._JUDGED_AT_ONCE = 2
    report = {name: killed_again_and_again(job, Path(place, name)) for name, job in jobs.items()}
    Path(place, "report.json").write_text(json.dumps(report))


def report_of(module: str, place: Path, early: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """What became of the `JOBS` of a module of tests; the modules `early` are imported before anything is forked."""
    imports = "".join(f"import {name}; " for name in early)
    code = f"{imports}from {module} import JOBS; from tests.kills import serve; serve(JOBS, {str(place)!r})"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, dict[str, Any]] = json.loads((place / "report.json").read_text())
    return report
