"""SIGKILL at random moments, for real: a training that is killed again and again ends as if it had not been.

A fresh process imports everything once and then forks the processes that are killed, so that none of them starts slow.
It computes nothing itself: threads that a library has started do not survive a fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s0.core.states import state_layers
from s0.train import FitSettings, Grid, S0Config, Splits, fit
from s0.train import checkpoint as module
from s0.train.checkpoint import Checkpoint
from s0.train.search import Search
from tests.train.helpers import PAIRS, in_batches, trainable, tuned

N_STEPS, N_KILLS = 16, 10
CALLS_PER_STEP = 3  # two micro-batches to learn from and one to select on


class Fit:
    """One state, with patience that does not end: losses of every kind, and a best step to keep."""

    def __init__(self) -> None:
        self.model = tuned()

    def train(self, checkpoint: Checkpoint | None) -> Any:
        splits = Splits(in_batches(PAIRS[:3], budget=80), in_batches(PAIRS[3:]))
        settings = FitSettings(n_steps=N_STEPS, lr=0.3, patience=N_STEPS)
        return fit(self.model, splits, trainable(self.model), settings, checkpoint=checkpoint)

    def tensors(self) -> list[torch.Tensor]:
        return list(trainable(self.model))


class Searched:
    """Three learning rates in turn, one of which explodes, and the choice among what they give."""

    def __init__(self) -> None:
        self.model = tuned()

    def train(self, checkpoint: Checkpoint | None) -> Any:
        splits = Splits(in_batches(PAIRS[:3], budget=80), in_batches(PAIRS[3:]))
        config, grid = S0Config(batch_tokens=4096), Grid((0.1, 1e30, 0.3), (1, 4, 12))
        search = Search(self.model, state_layers(self.model), splits, config, grid)
        self.result = search.choose(checkpoint)
        return replace(self.result, tensors=[])

    def tensors(self) -> list[torch.Tensor]:
        return self.result.tensors


KINDS: dict[str, Callable[[], Any]] = {"fit": Fit, "search": Searched}


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()


class Child:
    """A forked process that trains; it sends a byte at every forward pass and writes down what comes out."""

    def __init__(self, subject: Any, path: Path | None, outcome: Path, every: int = 1) -> None:
        self.calls, sent = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.calls)
                subject.model.get_base_model().register_forward_hook(lambda *_: os.write(sent, b".") and None)
                checkpoint = Checkpoint(path, every) if path else None
                result = subject.train(checkpoint)
                outcome.write_text(repr((result, [digest(tensor) for tensor in subject.tensors()])))
                if checkpoint:
                    checkpoint.remove()
                code = 0
            except KeyboardInterrupt:
                code = 130
            except SystemExit as error:
                code = int(str(error.code))
            finally:
                os._exit(code)
        os.close(sent)

    def wait_for(self, n_calls: int) -> None:
        """Until so many forward passes are over, or the process is."""
        while n_calls and (data := os.read(self.calls, n_calls)):
            n_calls -= len(data)

    def end(self, number: int = 0) -> int:
        """Send a signal, unless 0, and wait for the end: the exit status, or minus the signal."""
        os.kill(self.pid, number)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.calls)
        return os.waitstatus_to_exitcode(status)


def n_done(path: Path) -> int:
    """Steps in a checkpoint; none where a process was killed before it had written any."""
    if not path.exists():
        return 0
    progress, _ = Checkpoint(path)._opened(path.read_bytes())[0]["progress"], None
    return sum(len(learner["norms"]) for learner in progress["learners"])


def killed_again_and_again(subject: Any, folder: Path) -> dict[str, Any]:
    chance = random.Random(7)
    expected = folder / "expected"
    assert Child(subject, None, expected).end() == 0
    steps, results, path, outcome = [], [], folder / "run", folder / "outcome"
    while len(steps) < N_KILLS:
        child = Child(subject, path, outcome)
        child.wait_for(chance.randint(1, 2 * CALLS_PER_STEP))
        time.sleep(chance.uniform(0, 0.01))  # to anywhere between two passes
        if child.end(signal.SIGKILL) < 0:
            steps.append(n_done(path))
        else:
            results.append(outcome.read_text() == expected.read_text())
    assert Child(subject, path, outcome).end() == 0
    results.append(outcome.read_text() == expected.read_text())
    return {"equal": results, "steps": steps, "left": sorted(one.name for one in folder.iterdir())}


def asked_to_end(subject: Any, folder: Path, number: int) -> dict[str, Any]:
    expected, outcome, path = folder / "expected", folder / "outcome", folder / "run"
    assert Child(subject, None, expected).end() == 0
    child = Child(subject, path, outcome, every=1000)
    child.wait_for(2 * CALLS_PER_STEP)
    code, steps = child.end(number), n_done(path)
    assert Child(subject, path, outcome, every=1000).end() == 0
    return {"code": code, "steps": steps, "equal": outcome.read_text() == expected.read_text()}


def killed_while_writing(folder: Path) -> dict[str, Any]:
    """Killed before the file is on disk, before it has its name, after that, and anywhere in a loop of writes."""
    chance, path, found = random.Random(3), folder / "run", []
    big = {"a": torch.zeros(1 << 18)}
    for moment in ("file", "name", "folder", *["anywhere"] * 20):
        Checkpoint(path).write({}, {"n": -1}, big)
        begun, sent = os.pipe()
        pid = os.fork()
        if pid == 0:
            if moment != "anywhere":
                kill_at(moment)
            os.write(sent, b".")
            for n in range(1_000_000):
                Checkpoint(path).write({}, {"n": n}, big)
            os._exit(1)
        os.read(begun, 1)
        if moment == "anywhere":
            time.sleep(chance.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(begun)
        os.close(sent)
        scratch = sum(one.name.startswith(".run.") for one in folder.iterdir())
        progress, tensors = Checkpoint(path).read({}) or ({}, {})
        swept = [one.name for one in folder.iterdir()] == ["run"]
        found.append([moment, progress["n"], scratch, swept, torch.equal(tensors["a"], big["a"])])
    return {"found": found}


def kill_at(moment: str) -> None:
    """From now on, this process dies at a moment of a write."""

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "name":
        Path.replace = die  # type: ignore[method-assign,assignment]
        return
    fsync, calls = os.fsync, []

    def count(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == {"file": 1, "folder": 2}[moment]:
            die()
        fsync(descriptor)

    os.fsync = count  # type: ignore[assignment]


def serve(folder: str) -> None:
    """All of it, in the process that forks."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a shell's background
    report: dict[str, Any] = {}
    for name, make in KINDS.items():
        (place := Path(folder, name)).mkdir()
        report[name] = killed_again_and_again(make(), place)
    for number in (signal.SIGINT, signal.SIGTERM):
        (place := Path(folder, signal.Signals(number).name)).mkdir()
        report[place.name] = asked_to_end(Fit(), place, number)
    (place := Path(folder, "writing")).mkdir()
    report["writing"] = killed_while_writing(place)
    Path(folder, "report.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kill")
    code = f"from tests.train.test_kill import serve; serve({str(folder)!r})"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_as_if_it_had_not_been(report: Any, kind: str) -> None:
    seen = report[kind]
    assert seen["equal"] and all(seen["equal"])
    assert len(seen["steps"]) == N_KILLS and len(set(seen["steps"])) >= 4  # they hit many steps
    assert seen["left"] == ["expected", "outcome"]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.slow
def test_a_training_asked_to_end_goes_on_from_its_last_step(report: Any, name: str, code: int) -> None:
    seen = report[name]
    assert seen["code"] == code and seen["equal"]
    assert 1 <= seen["steps"] < N_STEPS  # written although its turn had not come


@pytest.mark.slow
def test_a_kill_while_the_checkpoint_is_written_leaves_a_whole_one(report: Any) -> None:
    found = {moment: rest for moment, *rest in report["writing"]["found"][:3]}
    assert found == {"file": [-1, 1, True, True], "name": [-1, 1, True, True], "folder": [0, 0, True, True]}
    anywhere = report["writing"]["found"][3:]
    assert len(anywhere) == 20 and all(swept and equal for _, _, _, swept, equal in anywhere)
    assert module.FORMAT_VERSION == 1
