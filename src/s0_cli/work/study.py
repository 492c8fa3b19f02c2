"""`s0 study`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from s0.errors import ConfigError
from s0.files import write_files
from s0.study.estimate import Estimate
from s0.study.executors import Executor, Processes, Slurm
from s0.study.memory import memory_of
from s0.study.method_comparison import method_comparison
from s0.study.page import page, write_page
from s0.study.plan import AnyUnit, CollectionUnit
from s0.study.report_files import METHOD_COMPARISON
from s0.study.runner import FAILED, LEFT, Standing, estimated, opened, standing
from s0.study.runner import run as run_study
from s0.study.store import Failure, Record, Store
from s0.study.tables import facts, tables
from s0.tasks.sandbox import Sandbox
from s0_cli.exits import interruptible, same_command
from s0_cli.groups import ExecutorOptions, JudgingOptions, OutOptions, StudyOptions
from s0_cli.memory import needed
from s0_cli.outputs import STUDY_REPORT, claimed, require_free_folder
from s0_cli.work.problems import sandbox
from s0_cli.work.stages import say, stage


def run(studies: Sequence[StudyOptions], how: ExecutorOptions, judging: JudgingOptions) -> dict[str, Any]:
    """`s0 study run`."""
    if how.slurm and len(studies) > 1:
        raise ConfigError("expected a single study with --slurm, whose parameters stand in its file; run one by one")
    folder = studies[0].records
    files = [opened(each.file, each.records)[0] for each in studies]  # all are refused before any is begun
    if not how.slurm:  # whose jobs have devices of their own
        for file in files:
            file.loading.require_device()
    kept = f"what was done so far is kept in {folder}; go on with: {same_command()}"
    with ExitStack() as stack:
        stack.enter_context(interruptible(lambda: kept))
        cells = stack.enter_context(sandbox(judging))
        here = None if how.slurm else stack.enter_context(Processes(how.jobs, judging.unsafe))
        executor: Executor = here or Slurm(files[0].slurm, unsafe=judging.unsafe)
        results = [_run(each, how, executor, cells) for each in studies]
    return {"kind": "study", "studies": results, "records": str(folder)}


def _run(options: StudyOptions, how: ExecutorOptions, executor: Executor, cells: Sandbox) -> dict[str, Any]:
    study, store = opened(options.file, options.records, options.quick)
    before = standing(study, store)
    todo = before.keys(LEFT, FAILED) if how.retry_failed else before.keys(LEFT)
    is_tried = not how.slurm and not study.is_quick  # what takes seconds is not worth a try
    expected = estimated(_only(before, todo), store, cells if is_tried else None)
    say(f"{study.name}: {_counts(before)}{_expectation(expected.left(todo, executor.at_once), todo, expected)}")
    for memory in _memory(before, todo):
        say(needed(memory))
    weights = _weights(expected, todo)
    n_done = 0
    with stage(study.name, len(todo) or None) as advance:

        def tell(key: str, record: Record | None) -> None:
            nonlocal n_done
            n_done += 1
            if isinstance(record, Failure):
                say(f"failed: {described(before.plan.units[key])}: {record.error:.200}")
            advance(weights[key], f"{n_done}/{len(todo)} units")

        after = run_study(before, store, executor, retry_failed=how.retry_failed, on_done=tell)
    return {"study": study.name, "quick": study.is_quick, **_outcome(after, store)}


def _weights(expected: Estimate, todo: Sequence[str]) -> dict[str, float]:
    """How much of all that is to be done each unit is; their mean is 1."""
    seconds = {key: expected.seconds[key] for key in todo if key in expected.seconds}
    mean = sum(seconds.values()) / len(seconds) if seconds else 1.0
    return {key: seconds.get(key, mean) / mean for key in todo}


def _only(before: Standing, keys: Sequence[str]) -> Standing:
    """The same of some units alone."""
    return replace(before, plan=replace(before.plan, units={key: before.plan.units[key] for key in keys}))


def _counts(standing: Standing) -> str:
    counts = Counter(standing.of(key) for key in standing.plan.units)
    return f"{len(standing.plan.units)} units, " + ", ".join(f"{n} {how}" for how, n in sorted(counts.items()))


def _memory(before: Standing, todo: Sequence[str]) -> list[dict[str, Any]]:
    """What the models of units need of memory; not told of a study in small, whose units take seconds."""
    if before.study.is_quick:
        return []
    return [asdict(each) for each in memory_of(before.plan.units[key] for key in todo)]


def _expectation(seconds: float, todo: Sequence[str], expected: Estimate) -> str:
    if not todo:
        return ""
    if not expected.seconds:
        return f"; how long it takes is not known yet{': ' * bool(expected.trouble)}{expected.trouble or ''}"
    bases = {
        "by records of their like": expected.by_records,
        "by a short calibration": expected.by_calibration,
        "as the mean of the others": expected.unknown,
    }
    basis = ", ".join(f"{n} {how}" for how, n in bases.items() if n)
    return f"; about {timedelta(seconds=round(seconds))} to go ({basis})"


def _outcome(after: Standing, store: Store) -> dict[str, Any]:
    failures = [
        {"unit": described(after.plan.units[key]), "error": failure.error, "record": str(store.path(key))}
        for key, failure in after.failures.items()
    ]
    n_left = len(after.keys(LEFT))
    return {
        "units": len(after.plan.units),
        "done": len(after.plan.units) - n_left - len(failures),
        "failed": failures,
        "left": n_left,
    }


def described(unit: AnyUnit) -> str:
    """A unit in a few words."""
    if isinstance(unit, CollectionUnit):
        seed = unit.settings.get("seed", 0)
        return f"examples of {unit.asked.task} ({unit.asked.split}) from {unit.model}, seed {seed}"
    settings = ", ".join(f"{name} {value}" for name, value in unit.settings.items())
    method = f"{unit.shots} shots" if unit.shots else unit.method
    words = [method + (f" ({settings})" if settings else "")]
    words += ["on wrong content"] if unit.content == "wrong" else []
    words += [f"on {unit.model}"]
    if unit.train:
        seed = unit.train.collection.settings.get("seed", 0)
        n = "all" if unit.train.n is None else f"{unit.train.n} (draw {unit.train.draw})"
        words += [f"from {n} examples of {unit.train.collection.asked.task}, seed {seed}"]
    return " ".join([*words, "asked", ", ".join(asked.task for asked in unit.asked)])


def list_units(options: StudyOptions, jobs: int) -> dict[str, Any]:
    """`s0 study list`."""
    study, store = opened(options.file, options.records, options.quick)
    before = standing(study, store)
    todo = before.keys(LEFT, FAILED)
    with sandbox(JudgingOptions()) as cells:
        expected = estimated(before, store, None if study.is_quick else cells)
    return {
        "kind": "study list",
        "study": study.name,
        "quick": study.is_quick,
        **_outcome(before, store),
        "seconds_left": round(expected.left(todo, jobs), 1),
        "estimated": _expectation(expected.left(todo, jobs), todo, expected).removeprefix("; "),
        "memory": _memory(before, todo),
        "listed": [
            {
                "unit": described(unit),
                "standing": before.of(key),
                "seconds": None if key not in expected.seconds else round(expected.seconds[key], 1),
                "record": str(store.path(key)),
            }
            for key, unit in before.plan.units.items()
        ],
    }


def report(options: StudyOptions, out: OutOptions | None, with_comparison: bool) -> dict[str, Any]:
    """`s0 study report`, on the terminal where no folder is named."""
    if with_comparison and out is None:
        raise ConfigError("expected --out beside --method-comparison, whose files lie in that folder; add it")
    study, store = opened(options.file, options.records, options.quick)
    done = standing(study, store)
    made = tables(done)
    result = {**facts(done, made), "page": page(done, made), "out": None}
    if out is not None:
        inputs = [options.file, store.folder]
        with claimed(out.path, inputs, lambda: require_free_folder(out.path, STUDY_REPORT, out.overwrite)):
            result["out"] = str(write_page(done, made, out.path))
            if with_comparison:
                write_files(out.path / METHOD_COMPARISON, method_comparison(done))
    return result
