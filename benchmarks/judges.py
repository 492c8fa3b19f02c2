r"""Whose verdicts are right? Ours beside Math-Verify's, EvalPlus's and lm-eval's, on the same replies.

    python -m benchmarks.judges [--golds N] [--beside 150] [--data FOLDER] [--out benchmarks/results/judges.json]

Every row of a table is a problem, a reply and the verdict that is right. A *wrong pass* is a wrong reply that passes, a
*wrong failure* a right one that does not; a judge that breaks or says nothing for a minute has not passed the reply.

    spellings       the tables of `tests/tasks/spellings`; queries are judged by nobody else, and whole replies around
                    formulas only by Math-Verify, since lm-eval's rules know one form each
    mutations       right answers of MATH and GSM8K changed in one step, shown to be wrong without any judge
                    (`tests/tasks/mutations`): all of them for us, those of a sample of the answers for everybody
    worked          the solutions that MATH and GSM8K print, as replies
    canonical       the reference programs of HumanEval, HumanEval+, MBPP and MBPP+, and for each problem a function
                    that returns None, which is wrong

Other judges run their own code in an environment of their own (`peers.py`, `judges.txt`):

    Math-Verify     `verify(parse("$right$"), parse(reply))`, settings as published. lm-eval's minerva_math reports it
                    as a second metric
    minerva_math    exact match: the text between "Final Answer: The final answer is" and "I hope it is correct.",
                    which its examples teach a model to write, in normal form, then by sympy
    hendrycks_math  what stands between the first and the last dollar sign, in normal form, as text
    gsm8k           both filters of its settings, and its exact match
    humaneval, humaneval_instruct, mbpp_instruct
                    lm-eval's filters, after its stop strings; what they make of the reply is executed with the row's
                    own test in our sandbox, since its own executor protects nothing
    EvalPlus        its sanitizer, on the reply alone (as for chat models) and on prompt and reply (as for base models);
                    for rows with EvalPlus's inputs also its checker, the whole of it in a bubblewrap jail that sees
                    the interpreter and that environment only; for other rows what it makes of the reply is executed
                    with the row's own test in our sandbox

So that each judge of answers finds the answer where it looks, an answer is written as a reply in a box and again after
"Final Answer:"; worked solutions are followed by that line. A canonical program goes on from its prompt, as lm-eval's
and EvalPlus's base models answer. For mbpp_instruct, which has opened a fence, MBPP's end with one and begin with an
empty line, since it takes a first word for the fence's language. Bubblewrap must be installed.

Seconds are CPU seconds of the judge and all it starts, once it is running. The others' limits of time are by the clock:
on a machine that is busy otherwise they refuse more.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.judge_tables import (
    JOBS,
    Row,
    Table,
    canonical,
    golds_in,
    mutations,
    spellings,
    stated,
    worked,
)
from benchmarks.sandbox_speed import cpu_seconds
from s0.bench import environment
from s0.record import write_record
from s0.tasks import CodeProblem, MathProblem
from s0.tasks.code.extraction import prompt_with_stub
from s0.tasks.sandbox import Program, shared
from s0.tasks.sandbox.launch import readable
from s0.tasks.workers import each_once

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
MOST_SHOWN = 40
OURS = "s0"
PEERS = ("evalplus", "lm_eval", "math-verify")
# --- Judges ---


def ours(table: Table) -> list[bool | None]:
    """None where we say that judging is not possible."""
    asked = [(row.problem, row.reply) for row in table.rows]
    return [
        verdict.passed if verdict.judged else None for verdict in table.scorer.verdicts(asked, "standard", JOBS, None)
    ]


class Peer:
    """A process of one of `peers.JUDGES`, started again where it ends or says nothing for too long."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._start()

    def judge(self, job: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(job.encode() + b"\n")
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
            line = self._process.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        self._start()
        return {"failed": "no answer"}

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )


@contextmanager
def running(name: str, python: Path) -> Iterator[Callable[[Sequence[str]], list[dict[str, Any]]]]:
    """A judge's answers to jobs, by several processes that are ready; equal jobs are done once."""
    script = ROOT / "benchmarks" / "peers.py"
    command = [*(jail(python, script) if name.startswith("EvalPlus") else []), str(python), str(script), name]
    idle: SimpleQueue[Peer] = SimpleQueue()
    peers = [Peer(command) for _ in range(JOBS)]

    def judge(job: str) -> dict[str, Any]:
        peer = idle.get()
        try:
            return peer.judge(job)
        finally:
            idle.put(peer)

    try:
        for peer in peers:
            peer.judge(json.dumps({"right": "\\frac{1}{2}", "reply": stated("0.5"), "prompt": "", "entry_point": "f"}))
            idle.put(peer)
        yield lambda jobs: each_once(jobs, judge, JOBS)
    finally:
        for peer in peers:
            peer.close()


def jail(python: Path, script: Path) -> list[str]:
    """Bubblewrap around a judge that executes programs: no network, and no files but those that it is made of."""
    paths = [sys.base_prefix, *readable().paths, str(python.parents[1]), str(script)]
    binds = [argument for path in paths for argument in ("--ro-bind", path, path)]
    own = ["--unshare-all", "--die-with-parent", "--clearenv", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    return ["bwrap", *own, *binds, "--"]


def theirs(table: Table, judge: Callable[[Sequence[str]], list[dict[str, Any]]]) -> list[bool | None]:
    """The verdicts of one of the peers; what it makes of a reply without judging it, our sandbox executes."""
    answers = judge([json.dumps(job_of(row)) for row in table.rows])
    rows = [row for row, answer in zip(table.rows, answers, strict=True) if "source" in answer]
    sources = [answer["source"] for answer in answers if "source" in answer]
    verdicts = iter(shared().judge([*map(program_of, rows, sources)], JOBS)) if rows else iter(())
    return [next(verdicts).passed if "source" in answer else answer.get("passed", False) for answer in answers]


def job_of(row: Row) -> dict[str, Any]:
    if isinstance(row.problem, MathProblem):
        return {"right": row.problem.answer, "reply": row.reply}
    assert isinstance(row.problem, CodeProblem)
    job = {"prompt": row.problem.prompt, "entry_point": row.problem.entry_point, "reply": row.reply}
    return job if row.checked is None else {**job, "checked": json.loads(row.checked)}


def program_of(row: Row, source: str) -> Program:
    assert isinstance(row.problem, CodeProblem)
    return Program(source, prompt_with_stub(row.problem), row.problem.test, row.problem.entry_point)


# --- Tables ---


def judged(table: Table, name: str, judge: Callable[[Table], list[bool | None]]) -> dict[str, Any]:
    started_s = cpu_seconds()
    verdicts = judge(table)
    seconds = cpu_seconds() - started_s
    pairs = [*zip(table.rows, verdicts, strict=True)]
    passes = [row.shown for row, passed in pairs if passed and not row.right]
    failures = [row.shown for row, passed in pairs if passed is False and row.right]
    most = None if name == OURS else MOST_SHOWN
    figures = {"wrong_passes": len(passes), "wrong_failures": len(failures), "not_judged": verdicts.count(None)}
    print(f"{table.name}: {name}: {figures}, {seconds:.1f} s", flush=True)
    return {**figures, "seconds": round(seconds, 1), "passes": passes[:most], "failures": failures[:most]}


def side_by_side(tables: Sequence[Table], python: Path) -> dict[str, Any]:
    """What each judge said of each of its tables; a peer's processes live for all tables that are its own."""
    for table in tables:
        ours(replace(table, rows=table.rows[:JOBS]))  # starts what the scorers keep
    judgements: dict[str, dict[str, Any]] = {table.name: {OURS: judged(table, OURS, ours)} for table in tables}
    for name in dict.fromkeys(peer for table in tables for peer in table.peers):
        with running(name, python) as judge:
            for table in tables:
                if name in table.peers:
                    judgements[table.name][name] = judged(table, name, functools.partial(theirs, judge=judge))
    return {
        table.name: {
            "kind": table.kind,
            "right": sum(row.right for row in table.rows),
            "wrong": sum(not row.right for row in table.rows),
            "judges": judgements[table.name],
        }
        for table in tables
    }


def versions(python: Path) -> dict[str, str]:
    code = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    printed = subprocess.run([python, "-c", code, *PEERS], stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(zip(PEERS, printed.split(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golds", type=int, help="right answers of each benchmark to change; all without it")
    parser.add_argument("--beside", type=int, default=150, help="of them those whose changes the others judge, too")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("S0_DATA_DIR") or ROOT.parent / "shared" / "data")
    )
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-judges" / "bin" / "python")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = made(chosen, Path(folder))
    if chosen.out:
        write_record(chosen.out, record)


def made(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    tables = [*spellings(folder)]
    if chosen.data.exists():
        tables += [*mutations(golds_in(chosen.data), chosen.golds, chosen.beside), *worked(chosen.data)]
        tables += canonical(chosen.data)
    else:
        print(f"left out: mutations, worked solutions and canonical programs, since there is no {chosen.data}")
    return {
        "benchmark": "judges",
        "environment": environment(),
        "peers": versions(chosen.peers),
        "tables": side_by_side(tables, chosen.peers),
    }


if __name__ == "__main__":
    main()
