"""An interrupted training ends as if it had not been, and a file that cannot be trusted is left alone."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from s0.core.states import state_layers
from s0.errors import CheckpointError, ConfigError, DatasetError, EngineError, S0Error, StateMismatchError
from s0.train import FitResult, FitSettings, Grid, S0Config, Splits, fit
from s0.train import checkpoint as module
from s0.train.checkpoint import Checkpoint
from s0.train.search import Search, SearchResult
from tests.breadth import mostly_slow
from tests.train.helpers import PAIRS, assert_states_equal, in_batches, snapshot, trainable, tuned
from tests.train.test_fit import poisoned, raising, values

SETTINGS = FitSettings(n_steps=4, lr=0.1)
N_BATCHES = 2
HANDLERS = (signal.SIGINT, signal.SIGTERM)


def train(
    model: nn.Module,
    path: Path | None,
    settings: FitSettings = SETTINGS,
    every: int = 1,
    data: Any = (PAIRS[0], PAIRS[4]),
    origin: Any = MappingProxyType({"seed": 1}),
) -> FitResult:
    """Two micro-batches a step; with patience, a selection batch after it; at the end, the two once more and again."""
    select = in_batches([PAIRS[2]]) if settings.patience else ()
    asked = Checkpoint(path, every, origin) if path else None
    splits = Splits(in_batches(data, budget=1), select)
    assert len(splits.train) == N_BATCHES
    return fit(model, splits, trainable(model), settings, checkpoint=asked)


@cache
def uninterrupted(settings: FitSettings = SETTINGS) -> tuple[FitResult, list[Tensor]]:
    """What any training should come to."""
    model = tuned()
    return train(model, None, settings), values(model)


@contextmanager
def at_call(model: nn.Module, call: int, act: Callable[[], None]) -> Iterator[list[None]]:
    """`act` runs in the model's `call`-th forward pass from now; yields a list with an element per pass."""
    calls: list[None] = []

    def hook(*_: Any) -> None:
        calls.append(None)
        if len(calls) == call:
            act()

    handle = model.get_base_model().register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- Going on ---


@pytest.mark.parametrize("call", [1, 4, 5, 9, 12])
def test_a_crash_at_any_moment_changes_nothing(tmp_path: Path, call: int) -> None:
    expected, states = uninterrupted()
    crashed, resumed = tuned(), tuned()
    with raising(crashed, RuntimeError("crash"), call), pytest.raises(RuntimeError, match="crash"):
        train(crashed, tmp_path / "run")
    with at_call(resumed, 0, print) as calls:
        assert train(resumed, tmp_path / "run") == expected
    assert same(values(resumed), states)
    assert len(calls) == {1: 12, 4: 10, 5: 8, 9: 4, 12: 4}[call]


def test_a_training_that_memory_is_too_small_for_goes_on_with_checkpointing(tmp_path: Path) -> None:
    expected, states = uninterrupted()
    cramped, roomy, settings = tuned(), tuned(), replace(SETTINGS, gradient_checkpointing=True)
    too_small = torch.OutOfMemoryError("CUDA out of memory.")
    with raising(cramped, too_small, 7), pytest.raises(EngineError, match="goes on from its checkpoint"):
        train(cramped, tmp_path / "run", every=10)
    with at_call(roomy, 0, print) as calls:
        result = train(roomy, tmp_path / "run", settings, every=10)
    assert result.losses == pytest.approx(expected.losses, abs=1e-5)
    assert_states_equal(values(roomy), states)
    assert len(calls) == 12 - 6  # all three steps before it were kept


def test_a_finished_training_can_be_had_again_until_its_file_is_removed(tmp_path: Path) -> None:
    expected, states = uninterrupted()
    train(tuned(), tmp_path / "run", every=100)
    again = tuned()
    with at_call(again, 0, print) as calls:
        assert train(again, tmp_path / "run", every=100) == expected
    assert same(values(again), states) and len(calls) == 4  # the losses at the end, nothing else
    Checkpoint(tmp_path / "run").remove()
    assert files(tmp_path) == []


@pytest.mark.parametrize("call", mostly_slow([3, 6, 8, 9, 10, 13], [6, 9]), ids=lambda call: f"call {call} of 13")
def test_patience_goes_on_where_it_was(tmp_path: Path, call: int) -> None:
    settings = FitSettings(n_steps=6, lr=5.0, patience=1)
    expected, states = uninterrupted(settings)
    assert (len(expected.losses), expected.best_step) == (3, 2)
    crashed, resumed = tuned(), tuned()
    with raising(crashed, RuntimeError("crash"), call), pytest.raises(RuntimeError, match="crash"):
        train(crashed, tmp_path / "run", settings)
    with at_call(resumed, 0, print) as calls:
        assert train(resumed, tmp_path / "run", settings) == expected
    assert same(values(resumed), states)
    assert len(calls) == {3: 11, 6: 8, 8: 8, 9: 5, 10: 4, 13: 4}[call]


@pytest.mark.parametrize("call", mostly_slow([2, 4, 8, 10, 12, 18], [4, 12]))
def test_a_search_goes_on_in_the_learning_rate_where_it_was(tmp_path: Path, call: int) -> None:
    def searched(model: nn.Module, asked: Checkpoint | None) -> SearchResult:
        splits = Splits(in_batches(budget=200), in_batches(PAIRS[3:]))
        config, grid = S0Config(batch_tokens=4096), Grid((0.1, 1e30, 0.3), (1, 3))
        return Search(model, state_layers(model), splits, config, grid).choose(asked)

    whole, crashed, resumed = tuned(), tuned(), tuned()
    with at_call(whole, 0, print) as calls:
        expected = searched(whole, None)
    asked = Checkpoint(tmp_path / "run", 1)
    with raising(crashed, RuntimeError("crash"), call), pytest.raises(RuntimeError, match="crash"):
        searched(crashed, asked)
    with at_call(resumed, 0, print) as again:
        result = searched(resumed, asked)
    assert [row.loss is None for row in expected.candidates] == [False, False, False, True, False, False]
    assert repr(replace(result, tensors=[])) == repr(replace(expected, tensors=[]))
    assert same(result.tensors, expected.tensors) and result.best.n_steps == 3
    # Two micro-batches a step: six calls for the first rate, four for the one that explodes, six for the last.
    assert len(calls) - len(again) == {2: 0, 4: 2, 8: 6, 10: 8, 12: 10, 18: 16}[call]
    assert files(tmp_path) == ["run"]


def test_a_resumed_training_that_fails_keeps_the_same_last_good_values(tmp_path: Path) -> None:
    whole, crashed, resumed = tuned(), tuned(), tuned()
    with poisoned(whole, 0, at_call=5), pytest.raises(DatasetError):
        train(whole, None)
    with raising(crashed, RuntimeError("crash"), 5), pytest.raises(RuntimeError):
        train(crashed, tmp_path / "run")
    with poisoned(resumed, 0, at_call=1), pytest.raises(DatasetError, match="step 2"):
        train(resumed, tmp_path / "run")
    assert same(values(resumed), values(whole))
    assert files(tmp_path) == []  # the training is over, and what to change makes it another


def test_it_is_written_before_the_first_step_and_at_every_so_many(tmp_path: Path, monkeypatch: Any) -> None:
    written: list[int] = []
    write = Checkpoint.write

    def note(self: Checkpoint, terms: Any, progress: Any, tensors: Any) -> None:
        written.append(len(progress["learners"][0]["losses"]))
        write(self, terms, progress, tensors)

    monkeypatch.setattr(Checkpoint, "write", note)
    train(tuned(), tmp_path / "new" / "run", replace(SETTINGS, n_steps=5), every=2)
    assert written == [0, 2, 4, 5]


# --- Signals ---


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, as in a terminal; a shell starts what runs in its background with that signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "ending", "call", "steps"),
    [
        (signal.SIGINT, KeyboardInterrupt, 1, 0),
        (signal.SIGTERM, SystemExit, 3, 1),
        (signal.SIGINT, KeyboardInterrupt, 4, 2),  # a step's last micro-batch: the step is finished
        (signal.SIGTERM, SystemExit, 8, 4),
        (signal.SIGINT, KeyboardInterrupt, 10, 4),  # evaluation
        (signal.SIGTERM, SystemExit, 12, 4),
    ],
)
def test_a_signal_ends_training_after_the_last_whole_step(
    tmp_path: Path, number: int, ending: type[BaseException], call: int, steps: int
) -> None:
    expected, states = uninterrupted()
    stopped, resumed = tuned(), tuned()
    kept = uninterrupted(replace(SETTINGS, n_steps=steps))[1] if steps else values(stopped)
    before, handlers = snapshot(stopped), [signal.getsignal(one) for one in HANDLERS]
    with at_call(stopped, call, lambda: signal.raise_signal(number)) as calls, pytest.raises(ending) as error:
        train(stopped, tmp_path / "run", every=10)
    assert getattr(error.value, "code", None) == (143 if ending is SystemExit else None)
    assert len(calls) == call
    assert same(values(stopped), kept)
    assert snapshot(stopped) == before and [signal.getsignal(one) for one in HANDLERS] == handlers
    assert files(tmp_path) == ["run"]
    with at_call(resumed, 0, print) as calls:
        assert train(resumed, tmp_path / "run") == expected
    assert len(calls) == (SETTINGS.n_steps - steps + 2) * N_BATCHES
    assert same(values(resumed), states)


def test_a_second_signal_acts_at_once_but_not_one_that_a_launcher_repeats(tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[str] = []

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        seen.append("still here")

    patient, hasty = tuned(), tuned()
    with at_call(patient, 3, twice), pytest.raises(KeyboardInterrupt):
        train(patient, tmp_path / "run")
    assert seen == ["still here"]
    monkeypatch.setattr(module, "_ONE_REQUEST_S", -1.0)
    with at_call(hasty, 3, twice), pytest.raises(KeyboardInterrupt):
        train(hasty, tmp_path / "other")
    assert seen == ["still here"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_while_the_checkpoint_is_written_is_not_lost(tmp_path: Path, monkeypatch: Any) -> None:
    write = module.write_bytes

    def interrupted(path: Any, data: bytes) -> None:
        signal.raise_signal(signal.SIGTERM)
        write(path, data)

    monkeypatch.setattr(module, "write_bytes", interrupted)
    model = tuned()
    with at_call(model, 0, print) as calls, pytest.raises(SystemExit):
        train(model, tmp_path / "run")
    assert calls == [] and files(tmp_path) == ["run"]


def test_a_signal_at_the_very_end_is_not_lost(tmp_path: Path) -> None:
    model = tuned()
    with at_call(model, 12, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        train(model, tmp_path / "run")


def test_without_a_checkpoint_a_signal_acts_as_ever() -> None:
    seen: list[str] = []

    def press() -> None:
        signal.raise_signal(signal.SIGINT)
        seen.append("still here")

    model = tuned()
    with at_call(model, 3, press), pytest.raises(KeyboardInterrupt):
        train(model, None)
    assert seen == []


def test_other_threads_and_ignored_signals_are_left_alone(tmp_path: Path) -> None:
    seen: list[Any] = []

    def note(model: nn.Module, path: Path) -> None:
        with at_call(model, 1, lambda: seen.append([signal.getsignal(one) for one in HANDLERS])):
            train(model, path)

    before = [signal.getsignal(one) for one in HANDLERS]
    thread = threading.Thread(target=note, args=(tuned(), tmp_path / "thread"))
    thread.start()
    thread.join()
    assert seen == [before]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        note(tuned(), tmp_path / "ignored")
        assert seen[1][0] is signal.SIG_IGN and seen[1][1] is not before[1]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])


# --- Files that cannot be trusted ---


def interrupted(path: Path, **changes: Any) -> bytes:
    """A checkpoint of two steps; returns the file."""
    model = tuned()
    with raising(model, RuntimeError("crash"), 5), pytest.raises(RuntimeError):
        train(model, path, **changes)
    return path.read_bytes()


def test_no_changed_byte_and_no_missing_end_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    asked = Checkpoint(path, origin={"seed": 1})
    asked.write({"lr": 0.1}, {"step": 3}, {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.int16)})
    good = path.read_bytes()
    progress, tensors = asked.read({"lr": 0.1}) or ({}, {})
    assert progress == {"step": 3}
    assert torch.equal(tensors["a"], torch.arange(3.0)) and torch.equal(tensors["b"], torch.ones(2, dtype=torch.int16))
    damaged = [good[:n] for n in range(0, len(good), 7)]
    damaged += [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    damaged += [good + b"\0", b"\0" * len(good), good[::-1]]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(StateMismatchError, match=r"run to be a checkpoint.*remove it"):
            asked.read({"lr": 0.1})
        assert path.read_bytes() == data


def seal(path: Path, told: Any, tensors: dict[str, Tensor]) -> None:
    """A file whose checksum is right, whatever it says."""
    metadata = {"s0_checkpoint": told if isinstance(told, str) else json.dumps(told), "sha256": "0" * 64}
    data = save(tensors, metadata)
    digest = module.hashlib.sha256(data).hexdigest()
    path.write_bytes(data.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest.encode(), 1))


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    interrupted(path)
    opened = Checkpoint(path, origin={"seed": 1})._opened(path.read_bytes())
    told, tensors = {"format_version": 1, **opened[0]}, opened[1]
    foreign: dict[str, Callable[[], object]] = {
        "cut off": lambda: path.write_bytes(b""),
        "no checkpoint at all": lambda: path.write_text("losses: 1, 2, 3"),
        "cut off, or": lambda: save_file({"a": torch.ones(2)}, path),
        "or no checkpoint": lambda: save_file({"a": torch.ones(2)}, path, {"format": "pt"}),
        "no checkpoint": lambda: seal(path, "[" * 100_000, tensors),
        "another version": lambda: seal(path, {**told, "format_version": 2}, tensors),
        "of another version": lambda: seal(path, ["format_version"], tensors),
        "too little": lambda: seal(path, {"format_version": 1, "identity": told["identity"]}, tensors),
        "incomplete": lambda: seal(path, {**told, "progress": {"learners": [{}]}}, tensors),
        "learners": lambda: seal(path, {**told, "progress": {}}, tensors),
        "not those of this learner": lambda: seal(path, told, dict(list(tensors.items())[1:])),
        "are not those of": lambda: seal(path, told, {name: one[None] for name, one in tensors.items()}),
        "are not those": lambda: seal(path, told, {name: one.double() for name, one in tensors.items()}),
    }
    for match, put in foreign.items():
        put()
        data, model = path.read_bytes(), tuned()
        before, start = snapshot(model), values(model)
        with pytest.raises(StateMismatchError, match=match), at_call(model, 0, print) as calls:
            train(model, path)
        assert path.read_bytes() == data and files(tmp_path) == ["run"]
        assert snapshot(model) == before and same(values(model), start) and calls == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"settings": replace(SETTINGS, lr=0.2)}, "`lr` was 0.1, is 0.2"),
        ({"settings": replace(SETTINGS, n_steps=5)}, "`n_steps` was 4, is 5"),
        ({"settings": replace(SETTINGS, scale_in_training=True)}, "`scale_in_training` was False, is True"),
        ({"data": [PAIRS[0], PAIRS[3]]}, "`examples` was"),
        ({"settings": replace(SETTINGS, patience=3)}, "`selection examples` was"),
        ({"origin": {"seed": 2}}, "`seed` was 1, is 2"),
        ({"origin": {}}, "`seed` was 1, is None"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_what_differs(
    tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    data = interrupted(tmp_path / "run")
    model = tuned()
    start = values(model)
    with pytest.raises(ConfigError, match=name):
        train(model, tmp_path / "run", **change)
    assert (tmp_path / "run").read_bytes() == data and same(values(model), start)


def test_a_checkpoint_of_another_model_or_scale_is_refused(tmp_path: Path) -> None:
    data = interrupted(tmp_path / "run")
    other = tuned()
    with torch.no_grad():
        other.get_base_model().model.layers[0].mlp.up_proj.weight[0, 0] += 0.5
    rounded = tuned().to(torch.bfloat16)
    wrong = {
        "`model` was": other,
        r"`tensors\[0\]` was": tuned("falcon_h1"),
        "`dtype` was None, is 'bfloat16'": rounded,
    }
    for name, model in wrong.items():
        with pytest.raises(ConfigError, match=name):
            train(model, tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == data
    (tmp_path / "run").unlink()
    deployed = replace(SETTINGS, scale_in_training=True)
    interrupted(tmp_path / "run", settings=deployed)
    with pytest.raises(ConfigError, match=r"`scales\[0\]\[0\]` was 1.0, is 0.5"):
        train(tuned(alpha=0.5), tmp_path / "run", deployed)


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"every": 1.0}, {"origin": {"a": {1}}}, {"origin": {"a": float("nan")}}]
)
def test_a_checkpoint_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Checkpoint(Path("run"), **wrong)


# --- Disks ---


def test_a_full_disk_leaves_the_checkpoint_before_and_the_last_step(tmp_path: Path) -> None:
    model, path = tuned(), tmp_path / "run"
    first: list[bytes] = []

    def fill_up() -> None:
        first.append(path.read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(first[0]) + 100, hard))  # the next has Adam's moments too

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with at_call(model, 1, fill_up), pytest.raises(CheckpointError, match=r"run .* make room") as error:
            train(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error.value, S0Error) and isinstance(error.value, OSError)
    assert files(tmp_path) == ["run"] and path.read_bytes() == first[0]
    assert same(values(model), uninterrupted(replace(SETTINGS, n_steps=1))[1])
    assert train(tuned(), path) == uninterrupted()[0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_the_disk_has_not_confirmed_does_not_count(tmp_path: Path, monkeypatch: Any, code: int) -> None:
    data = interrupted(tmp_path / "run")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=os.strerror(code)):
        train(tuned(), tmp_path / "run")
    assert files(tmp_path) == ["run"] and (tmp_path / "run").read_bytes() == data


def test_the_file_is_on_disk_before_it_takes_the_name_and_the_folder_after(tmp_path: Path, monkeypatch: Any) -> None:
    order: list[str] = []
    fsync, move = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def note_move(self: Path, target: Path) -> Path:
        order.append("name")
        return move(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_move)
    Checkpoint(tmp_path / "run").write({}, {}, {"a": torch.ones(1)})
    assert order == ["file", "name", "folder"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "run", Path("/proc/nowhere/run"), tmp_path / "folder"):
        model = tuned()
        start = values(model)
        with pytest.raises(CheckpointError, match=path.name), at_call(model, 0, print) as calls:
            train(model, path)
        assert calls == [] and same(values(model), start)
    assert files(tmp_path) == ["file", "folder"]


def test_what_killed_writers_have_left_is_removed(tmp_path: Path) -> None:
    for name in (".run.4711-1.s0-scratch", ".run.4711", ".running.4711-1.s0-scratch", "run.4711"):
        (tmp_path / name).write_text("half a file")
    train(tuned(), tmp_path / "run")
    assert files(tmp_path) == [".run.4711", ".running.4711-1.s0-scratch", "run", "run.4711"]


def test_a_finished_training_is_not_lost_for_a_file_that_stays(tmp_path: Path, monkeypatch: Any) -> None:
    remove = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "run":
            raise PermissionError(errno.EACCES, "not yours")
        remove(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    train(tuned(), tmp_path / "run")
    with pytest.warns(UserWarning, match="could not be removed"):
        Checkpoint(tmp_path / "run").remove()


def test_a_training_whose_last_checkpoint_finds_no_room_comes_to_its_end(tmp_path: Path, monkeypatch: Any) -> None:
    write, written = module.write_bytes, []

    def fill_up(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(module, "write_bytes", fill_up)
    with pytest.warns(UserWarning, match="without its last checkpoint"):
        assert train(tuned(), tmp_path / "run", every=100) == uninterrupted()[0]
    assert files(tmp_path) == ["run"]
