"""What does the sandbox cost? Every backend beside two ways that protect nothing.

    python benchmarks/sandbox_speed.py [--programs 60] [--rounds 3] [--against CHECKOUT] [--mbppplus FILE]
                                       [--out benchmarks/results/sandbox_speed.json]

The same right answers to pocket-code problems go through each executor, which runs in a Python of its own:

    subprocess   `python -c "program, test, call"`, one after the other: what people write first
    in_process   the way human-eval's own executor works, rewritten from its description: a forked
                 `multiprocessing.Process` per program, a Manager's list for its result, an alarm for its time, and
                 test and program in one namespace, after functions that could do harm were set to None
    the sandbox  on every backend that works here, servers started beforehand

One at a time: median milliseconds from a program to its verdict, less the median of executing the same programs
right here; that is the overhead. Then two at a time: verdicts per second. CPU seconds are those of the executor and
all it started. With --against, the sandbox of another checkout of this repository takes its turns, too, and the record
has the ratio of our verdicts a second to its. With --mbppplus, a file of MBPP+ as `s0.tasks` reads it, the row that
copies most (630) is judged beside running the same right here.

Executors take turns, round by round, and the median round counts: on a machine that others use, trust
CPU seconds and ratios within one record, not seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIMIT_S = 10.0
JOBS = 2


def script(program: dict[str, str]) -> str:
    return f"{program['source']}\n{program['test']}\ncheck({program['entry_point']})\n"


def by_subprocess(program: dict[str, str]) -> bool:
    command = [sys.executable, "-c", script(program)]
    return subprocess.run(command, capture_output=True, timeout=LIMIT_S).returncode == 0


def in_process(program: dict[str, str]) -> bool:
    with multiprocessing.Manager() as manager:
        result = manager.list()
        process = multiprocessing.get_context("fork").Process(target=guarded, args=(program, result))
        process.start()
        process.join(LIMIT_S + 1)
        if process.is_alive():
            process.kill()
            process.join()
        return list(result) == ["passed"]


def guarded(program: dict[str, str], result: Any) -> None:
    """In the forked process. `result` is a list shared with the parent; a program can find and fill it, too."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        taken = [(module, name, getattr(module, name)) for module, names in HARMFUL.items() for name in names]
        for module, name, _ in taken:
            setattr(module, name, None)
        signal.signal(signal.SIGALRM, out_of_time)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(script(program), {})
            result.append("passed")
        except BaseException as error:
            result.append(type(error).__name__)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for module, name, function in taken:  # removing the folder needs them
                setattr(module, name, function)


HARMFUL: dict[Any, tuple[str, ...]] = {
    os: ("kill", "system", "remove", "unlink", "rmdir", "fork", "rename", "chmod", "chown", "setuid", "chdir"),
    shutil: ("rmtree", "move", "chown"),
    subprocess: ("Popen",),
}


def out_of_time(*_: object) -> None:
    raise TimeoutError


@contextlib.contextmanager
def executor(name: str) -> Any:
    if name in ("subprocess", "in_process"):
        yield {"subprocess": by_subprocess, "in_process": in_process}[name]
        return
    from s0.tasks.sandbox import Limits, Program, Sandbox

    with Sandbox(name, Limits(timeout_s=LIMIT_S)) as sandbox:
        yield lambda program: sandbox.judge([Program(**program)], jobs=1)[0].passed


def cpu_seconds() -> float:
    """Of this process and all below it, living or waited for."""
    parents, used = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            parents[process.name] = fields[1]
            used[process.name] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family = {str(os.getpid())}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(used[name] for name in family)


def timed(judge: Callable[[dict[str, str]], bool], program: dict[str, str]) -> float:
    started_s = time.perf_counter()
    assert judge(program), program["source"]
    return time.perf_counter() - started_s


def solved(problem: Any) -> dict[str, str]:
    """The program of a problem's own solution."""
    source = problem.prompt + problem.canonical_solution
    return {"source": source, "prompt": "", "test": problem.test, "entry_point": problem.entry_point}


def run_here(program: dict[str, str]) -> bool:
    exec(script(program), {})
    return True


def one_round(name: str, programs: list[dict[str, str]]) -> dict[str, float]:
    with executor(name) as judge, ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(judge, programs[: 2 * JOBS]))  # starts servers
        cpu_s = cpu_seconds()
        seconds = [timed(judge, program) for program in programs]
        cpu_s = cpu_seconds() - cpu_s
        started_s = time.perf_counter()
        assert all(threads.map(judge, programs))
        both_s = time.perf_counter() - started_s
    bare = statistics.median(timed(run_here, program) for program in programs)
    return {
        "overhead_ms": round(1e3 * (statistics.median(seconds) - bare), 2),
        "cpu_ms": round(1e3 * cpu_s / len(programs), 2),
        "per_second": round(len(programs) / both_s, 1),
    }


def one_turn(name: str, source: Path | None, programs: list[dict[str, str]]) -> dict[str, float]:
    """One round in a Python of its own, which imports this package or that of another checkout."""
    command = [sys.executable, __file__, "--executor", name]
    env = {**os.environ, "PYTHONPATH": str(source)} if source else None
    done = subprocess.run(command, input=json.dumps(programs), stdout=subprocess.PIPE, text=True, check=True, env=env)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def largest_row(file: Path) -> dict[str, Any]:
    """MBPP+ 630: milliseconds of the sandbox, and of the same right here."""
    from s0.tasks import load
    from s0.tasks.sandbox import Program, Sandbox

    (problem,) = [problem for problem in load("mbpp+", file).problems if problem.id.endswith("630")]
    program = {"source": problem.canonical_solution, "test": problem.test, "entry_point": problem.entry_point}
    started_s = time.perf_counter()
    exec(script(program), {})
    here_s = time.perf_counter() - started_s
    with Sandbox() as sandbox:
        sandbox.judge([Program("def f():\n    pass\n", "", "def check(f):\n    f()\n", "f")])  # starts servers
        started_s = time.perf_counter()
        (verdict,) = sandbox.judge([Program(**program, prompt="")])
        judged_s = time.perf_counter() - started_s
    return {"verdict": verdict.reason, "sandbox_ms": round(1e3 * judged_s, 1), "here_ms": round(1e3 * here_s, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout of this repository")
    parser.add_argument("--mbppplus", type=Path, metavar="FILE", help="rows of MBPP+ as on the Hugging Face hub")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--executor", help=argparse.SUPPRESS)  # of a round; the programs come on stdin
    chosen = parser.parse_args()
    if chosen.executor:
        print(json.dumps(one_round(chosen.executor, json.load(sys.stdin))))
        return

    from s0.bench import environment
    from s0.record import write_record
    from s0.tasks import load
    from s0.tasks.sandbox import BACKENDS
    from s0.tasks.sandbox.backends import trouble_with

    problems = load("pocket-code").problems[: chosen.programs]
    programs = [solved(problem) for problem in problems]
    works = [name for name in BACKENDS if trouble_with(name) is None]
    executors: dict[str, tuple[str, Path | None]] = {
        name: (name, None) for name in ("subprocess", "in_process", *works)
    }
    if chosen.against:
        executors |= {f"{name} of the other": (name, chosen.against / "src") for name in works}
    rounds: dict[str, list[dict[str, float]]] = {label: [] for label in executors}
    for _ in range(chosen.rounds):
        for label, (name, source) in executors.items():
            rounds[label].append(one_turn(name, source, programs))
    figures = {
        name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for name, turns in rounds.items()
    }
    record = {
        "benchmark": "sandbox_speed",
        "environment": environment(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "programs": len(programs),
        "jobs": JOBS,
        "rounds": rounds,
        "median": figures,
    }
    if chosen.against:
        record["verdicts_per_second_over_the_other"] = {
            name: round(figures[name]["per_second"] / figures[f"{name} of the other"]["per_second"], 3)
            for name in works
        }
    if chosen.mbppplus:
        record["mbppplus_630"] = largest_row(chosen.mbppplus)
    print(json.dumps(record, indent=1))
    if chosen.out:
        write_record(chosen.out, record)


if __name__ == "__main__":
    main()
