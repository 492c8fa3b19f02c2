"""Judge the completions of a record again, with the rules of today: what would they change?

    python benchmarks/rejudge.py RECORD.json ... [--data PATH]

Records of `s0 eval`, `s0 demo` and the units of `s0 study` keep their completions. Every one is judged by
both scorings, and each verdict that is not the recorded one is told, with those of the examples that were learned from.
Completions of a row that is left out by now are told as such. Nothing is changed: a record whose verdicts differ has to
be made again. Exits with 1 where any do. --data as in `s0 eval`, for a record that was made from a file, or before a
task had more problems: the first 432 rows of the pocket tasks are what they were.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s0 import tasks
from s0.errors import DatasetError, S0Error
from s0.record import decompressed
from s0.tasks import SCORINGS
from s0.tasks.sandbox import Limits, Sandbox


@dataclass(frozen=True)
class Judged:
    """Completions of one variant as a record has them.

    Attributes:
        whose: where in the record they are.
        problems: ids, one per completion.
        completions: the texts.
        passed: by scoring, one per completion.
    """

    whose: str
    problems: Sequence[str]
    completions: Sequence[str]
    passed: Mapping[str, Sequence[bool]]


def judged_in(record: Mapping[str, Any]) -> Iterator[Judged]:
    """Every set of completions in a record."""
    problems = list(record["problems"])
    for split, examples in record.get("examples", {}).items():
        if "completions" in examples:
            texts = decompressed(examples["completions"])
            yield Judged(f"{split} examples", examples["problems"], texts, {"standard": [True] * len(texts)})
    for number, row in enumerate(record.get("rows", ())):
        yield _kept(f"row {number}", problems, row)
    for part in ("variants", "greedy", "drawn"):
        for name, entry in record.get(part, {}).items():
            if "completions" in entry:
                yield _kept(f"{part} {name}", problems, entry)
    for place, answers in (("greedy", record.get("answers")), ("drawn", (record.get("sampled") or {}).get("answers"))):
        for name, rows in (answers or {}).items():
            passed = {scoring: [row["passed"][scoring] for row in rows] for scoring in SCORINGS}
            texts = [row["completion"] for row in rows]
            yield Judged(f"{place} {name}", [row["problem"] for row in rows], texts, passed)


def _kept(whose: str, problems: Sequence[str], entry: Mapping[str, Any]) -> Judged:
    """What `units.kept` has written: as many completions of every problem as of every other, problem by problem."""
    texts = decompressed(entry["completions"])
    each = len(texts) // len(problems)
    passed = {scoring: [verdict == "1" for verdict in entry["verdicts"][scoring]] for scoring in SCORINGS}
    return Judged(whose, [problem for problem in problems for _ in range(each)], texts, passed)


def records_in(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record by itself; a study's unit as a record for each task that it asked, or collected examples of."""
    limits = record.get("unit", {}).get("limits", {})
    if record.get("kind") == "collection":
        asked = record["unit"]["asked"]
        task = {"name": asked["task"], "version": asked["version"], "data_sha256": asked["data_sha256"]}
        examples = {asked["split"]: {"problems": record["problems"], "completions": record["completions"]}}
        return [{"task": task, "problems": record["problems"], "examples": examples, "sandbox": limits}]
    if record.get("kind") == "variant":
        name = record["run"]["method"]
        return [
            {
                "task": answered["task"],
                "problems": answered["problems"],
                "greedy": {name: answered},
                "drawn": {name: answered["drawn"]} if "drawn" in answered else {},
                "sandbox": limits,
            }
            for answered in record["answered"].values()
        ]
    return [dict(record)]


def sandbox_of(record: Mapping[str, Any]) -> AbstractContextManager[Sandbox | None]:
    """One with the limit of time that the record was judged with; None where that is the usual one."""
    timeout_s = (record.get("sandbox") or {}).get("timeout_s", Limits().timeout_s)
    return nullcontext() if timeout_s == Limits().timeout_s else Sandbox(limits=Limits(timeout_s=timeout_s))


def differences(record: Mapping[str, Any], data: Path | None) -> Iterator[str]:
    """A line for every verdict that is another one now."""
    task = tasks.load(record["task"]["name"], data)
    if task.data_sha256 != record["task"]["data_sha256"]:
        raise DatasetError("expected the problems that the record is of, got others; pass them by --data")
    with sandbox_of(record) as sandbox:
        for judged in judged_in(record):
            for scoring in judged.passed:
                yield from _differences(task, judged, scoring, sandbox)


def _differences(task: tasks.Task, judged: Judged, scoring: str, sandbox: Sandbox | None) -> Iterator[str]:
    by_id = {problem.id: problem for problem in task.problems}
    replies = [*zip(judged.problems, judged.completions, strict=True)]
    asked = [(by_id[problem], text) for problem, text in replies if problem in by_id]
    verdicts = iter(task.judged_in(sandbox).verdicts(asked, scoring))
    for (problem, text), passed in zip(replies, judged.passed[scoring], strict=True):
        verdict = next(verdicts) if problem in by_id else None
        if verdict is None or verdict.passed != passed:
            was = "passed" if passed else "failed"
            now = "left out" if verdict is None else repr(verdict.reason)
            yield f"{judged.whose}, {scoring}, {problem}: {was}, now {now}: {text!r:.200}"


def record_in(path: Path) -> dict[str, Any]:
    """What the file holds.

    Raises:
        DatasetError: it is no record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"expected {path} to be a record in JSON, got {error}; name a record.json") from None
    is_unit = isinstance(record, dict) and record.get("kind") in ("collection", "variant") and "unit" in record
    if not isinstance(record, dict) or not (is_unit or {"task", "problems"} <= record.keys()):
        raise DatasetError(f"expected {path} to be a record of answers, got other JSON; name a record.json")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    n_differing = 0
    for path, record in [(file, part) for file in chosen.records for part in records_in(record_in(file))]:
        n = sum(len(judged.completions) for judged in judged_in(record))
        if n == 0:
            raise DatasetError(f"expected a record that keeps its completions, got {path} without any; make it again")
        lines = list(differences(record, chosen.data))
        n_differing += len(lines)
        version = tasks.TASKS[record["task"]["name"]].version
        print(f"{path}: {n} completions, version {record['task']['version']} then, {version} now: {len(lines)} differ")
        for line in lines:
            print(f"  {line}")
    sys.exit(bool(n_differing))


if __name__ == "__main__":
    try:
        main()
    except (S0Error, OSError) as error:
        sys.exit(f"error: {error}")
