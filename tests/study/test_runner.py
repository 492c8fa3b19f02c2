"""A study runs, goes on where it was killed, records what fails, and shares what is alike."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s0 import S0Trainer
from s0.bench.answers import AnswerJournal
from s0.errors import ConfigError, DatasetError
from s0.files import locked
from s0.study import calibration, work
from s0.study.executors import Processes, Slurm
from s0.study.grids import chosen, winner
from s0.study.plan import plan
from s0.study.runner import DONE, FAILED, LEFT, estimated, opened, run, standing
from s0.study.spec import VariantSpec, Winner
from s0.study.store import CollectionRecord, Failure, Store, VariantRecord
from s0.tasks.sandbox import Sandbox
from tests.breadth import mostly_slow
from tests.study.small import GRID, STUDY, Here, timeless, written


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study that nobody killed: its file, and its records."""
    folder = tmp_path_factory.mktemp("whole")
    file = written(folder)
    study, store = opened(file, folder)
    after = run(standing(study, store), store, Here())
    assert after.keys(LEFT, FAILED) == []
    assert not list((folder / "work").iterdir())
    return file, timeless(folder)


def test_every_unit_leaves_one_record_that_tells_all_of_it(whole: tuple[Path, dict[str, Any]]) -> None:
    file, records = whole
    study, store = opened(file, file.parent)
    units = standing(study, store).plan.units
    assert records.keys() == units.keys()
    kinds = [record["kind"] for record in records.values()]
    assert sorted(kinds) == ["collection", "collection", "variant", "variant", "variant"]
    for key in units:
        record = store.read(key)
        assert record is not None and record.unit == units[key]
        if isinstance(record, CollectionRecord):
            assert len(record.examples()) == record.n > 0
        if isinstance(record, VariantRecord):
            (answered,) = record.answered.values()
            n_passed = answered.verdicts["standard"].count("1")
            assert len(answered.problems) == len(answered.verdicts["paper"]) == 4
            assert answered.summary.pass_at_1.standard.count == n_passed


def dies(patch: pytest.MonkeyPatch, place: Any, name: str, *, call: int = 1, error: BaseException) -> None:
    """A function raises at one of its calls, before it does anything."""
    calls, function = [], getattr(place, name)

    def dying(*args: Any, **rest: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise error
        return function(*args, **rest)

    patch.setattr(place, name, dying)


MOMENTS = {
    "nothing was done": (work, "collect", 1),
    "train was collected": (work, "collect", 2),
    "s0 is trained": (S0Trainer, "save", 1),
    "s0 has answered": (AnswerJournal, "add", 2),
    "all but a record": (work, "_account", 2),
}


@pytest.mark.parametrize("moment", mostly_slow(MOMENTS, ["s0 is trained"]))
def test_a_study_that_is_killed_goes_on_and_comes_to_the_same(
    moment: str, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, records = whole
    study, store = opened(file, tmp_path)
    place, name, call = MOMENTS[moment]
    with pytest.MonkeyPatch.context() as patch:
        dies(patch, place, name, call=call, error=Killed())
        with pytest.raises(Killed):
            run(standing(study, store), store, Here())
    before = standing(study, store)
    assert before.keys(LEFT) and not before.failures
    stamps = {key: store.path(key).stat().st_mtime_ns for key in before.keys(DONE)}
    run(before, store, Here())
    assert timeless(tmp_path) == records
    assert {key: store.path(key).stat().st_mtime_ns for key in stamps} == stamps


def test_what_was_interrupted_tells_no_times(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    study, store = opened(whole[0], tmp_path)
    (key, unit) = next(iter(plan(study).units.items()))
    store.work(key).mkdir(parents=True)
    list(Here().run([unit], store.folder))
    record = store.finished(key, CollectionRecord)
    assert record is not None and record.seconds is None


def test_a_failure_is_recorded_and_done_again_only_when_asked(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, records = whole
    study, store = opened(file, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        dies(patch, S0Trainer, "train", error=RuntimeError("out of luck"))
        after = run(standing(study, store), store, Here())
    (key,) = after.keys(FAILED)
    failure = after.failures[key]
    assert failure.error == "RuntimeError: out of luck" and "run_variant" in failure.traceback
    assert json.loads(store.path(key).read_text())["kind"] == "failure"
    assert len(after.keys(DONE)) == 4
    assert run(standing(study, store), store, Here()).keys(FAILED) == [key]
    assert run(standing(study, store), store, Here(), retry_failed=True).failures == {}
    assert timeless(tmp_path) == records


def test_too_few_examples_are_a_failure_that_says_so(tmp_path: Path) -> None:
    text = STUDY.replace("seeds = 1", "seeds = 1\nexamples = [50, { n = 2, select = 50 }]")
    study, store = opened(written(tmp_path, text), tmp_path)
    study = replace(study, variants={name: study.variants[name] for name in ("base", "s0")})
    after = run(standing(study, store), store, Here())
    (failure,) = after.failures.values()  # of those to choose on, at most so many are wanted
    assert "expected at least 50 examples of pocket-code, got" in failure.error


def test_a_record_made_with_other_defaults_counts_as_none(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, records = whole
    study, store = opened(file, tmp_path)
    (key,) = [key for key, record in records.items() if record["unit"].get("method") == "s0"]
    (tmp_path / "records").mkdir()
    stored = json.loads((file.parent / "records" / f"{key}.json").read_text())
    store.path(key).write_text(json.dumps(stored))
    assert standing(study, store).of(key) == DONE
    stored["run"]["settings"]["grad_clip"] = 2.0
    store.path(key).write_text(json.dumps(stored))
    assert standing(study, store).of(key) == LEFT
    store.path(key).write_text("{")
    with pytest.raises(DatasetError, match="remove it"):
        standing(study, store)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a grid that was run."""
    folder = tmp_path_factory.mktemp("grid")
    study, store = opened(written(folder, GRID, "grid"), folder)
    run(standing(study, store), store, Here())
    return folder


def test_a_study_takes_the_winner_of_a_grid(grid: Path, tmp_path: Path) -> None:
    text = STUDY.replace("settings = { n_steps = 2, lr = 1e-2, alpha = 1 }", "settings = { alpha = 2 }")
    text = text.replace('method = "s0"', 'method = "s0"\nwinner = { study = "grid", variant = "s0" }')
    study, store = opened(written(grid, text, "user"), grid)
    study_of_grid, _ = opened(grid / "grid.toml", grid)
    best = winner(study_of_grid, store, "s0", "pocket:gdn", "pocket-code")
    others = {
        cell.variant: record.answered["pocket-code"].summary.pass_at_1.standard.count
        for cell in standing(study_of_grid, store).plan.cells
        if isinstance(record := store.read(cell.key), VariantRecord) and cell.variant.startswith("s0")
    }
    assert others.keys() == {"s0 1", "s0 2"}
    assert best.passed == max(others.values())
    if len({*others.values()}) == 1:
        assert (best.variant, best.n_steps) == ("s0 2", 1)  # the shorter one
    (unit,) = [unit for unit in standing(study, store).plan.variants.values() if unit.method == "s0"]
    assert unit.settings == {**best.settings, "alpha": 2}
    absent = {"s0": replace(study.variants["s0"], winner=Winner(study="grid", variant="offset"))}
    with pytest.raises(ConfigError, match="the variant offset on pocket:gdn and pocket-code, got none"):
        chosen(replace(study, variants={**study.variants, **absent}), store)
    with pytest.raises(ConfigError, match=r"s0 1 of the grid .*grid\.toml to be done.*run it first"):
        standing(study, Store(tmp_path))


def test_an_estimate_comes_from_records_of_like_units_else_from_a_try(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, _ = whole
    study, store = opened(file, file.parent)
    more = replace(study, seeds=(1,))
    by_records = estimated(standing(more, store), store)
    assert (by_records.by_records, by_records.by_calibration, by_records.unknown) == (4, 0, 0)
    assert all(seconds > 0 for seconds in by_records.seconds.values())
    another = {"gains": VariantSpec(method="gains", settings={"n_steps": 2})}
    of_another = estimated(standing(replace(more, variants={**more.variants, **another}), store), store)
    assert of_another.by_records > by_records.by_records and not of_another.unknown  # as S0 here
    nothing, empty = estimated(standing(more, Store(tmp_path)), Store(tmp_path)), standing(more, Store(tmp_path))
    assert nothing.unknown == 5 and not nothing.seconds
    with Sandbox() as cells:
        tried = estimated(empty, Store(tmp_path), cells)
    assert tried.by_calibration == 5 and tried.unknown == 0
    assert tried.left(empty.keys(LEFT), 2) < tried.left(empty.keys(LEFT), 1)
    assert tried.trouble is None


def test_what_cannot_be_tried_here_is_not_estimated_and_the_reason_is_told(tmp_path: Path) -> None:
    study, store = opened(written(tmp_path, 'loading = { device = "cuda:99" }\n' + STUDY), tmp_path)
    with Sandbox() as cells:
        nothing = estimated(standing(study, store), store, cells)
    assert nothing.unknown == 5 and not nothing.seconds
    assert nothing.trouble is not None and "got 'cuda:99'" in nothing.trouble


def test_a_try_that_memory_is_too_small_for_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs_out(*_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    tries = {"collect": lambda *_: 1.0, "learn": runs_out, "answer": lambda *_: 1.0}
    monkeypatch.setattr(calibration, "_TRIES", tries)
    study, store = opened(written(tmp_path), tmp_path)
    with Sandbox() as cells:
        estimate = estimated(standing(study, store), store, cells)
    assert (estimate.by_calibration, estimate.unknown, estimate.trouble) == (3, 2, "CUDA out of memory")


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "slurm"])
def test_others_do_the_units_as_this_process_does(
    executor: str, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, records = whole
    study, store = opened(file, tmp_path)
    if executor == "slurm":
        pytest.importorskip("submitit")
        run(standing(study, store), store, Slurm({"timeout_min": 5}, cluster="local"))
    else:
        with Processes(2) as processes:
            run(standing(study, store), store, processes)
    assert timeless(tmp_path) == records


def test_an_unknown_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    study, store = opened(written(tmp_path), tmp_path)
    with pytest.raises(ImportError, match=r"pip install 's0-tuning\[slurm\]'"):
        run(standing(study, store), store, Slurm())
    with pytest.raises(ConfigError, match="`jobs`"):
        Processes(0)


def test_a_unit_that_another_process_is_at_is_left_to_it(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_WAIT_S", 0.2)
    study, store = opened(whole[0], tmp_path)
    key, unit = next(iter(plan(study).units.items()))
    with locked(store.work(key)), pytest.raises(BlockingIOError):
        list(Here().run([unit], store.folder))
    assert store.read(key) is None and not isinstance(store.read(key), Failure)
