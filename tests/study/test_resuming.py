"""A demo that is killed goes on, does nothing twice that is on disk, and ends with the same record.

The real kills are in `tests.test_kills`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s0 import S0Trainer
from s0.bench import Variant
from s0.bench.answers import AnswerJournal
from s0.errors import ConfigError, S0Error
from s0.models import LoadSettings
from s0.study import experiment
from s0.study.experiment import Experiment, run_experiment, unfinished
from s0.tasks.sandbox import Limits, Sandbox
from s0.train import BaselineTrainer
from s0_cli.outputs import claimed
from tests.breadth import mostly_slow
from tests.kills import names_in
from tests.study.runs import SETTINGS, VARIANTS, demo


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as cells:
        yield cells


@pytest.fixture(scope="module")
def whole(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, demo(folder, sandbox)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that are trained."""
    names: list[str] = []
    for kind in (S0Trainer, BaselineTrainer):

        def train(self: Any, *args: Any, _train: Any = kind.train, **rest: Any) -> Any:
            names.append(type(self).__name__)
            return _train(self, *args, **rest)

        monkeypatch.setattr(kind, "train", train)
    return names


def dies(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, *, call: int = 1, after: bool = False) -> None:
    """The process ends before a call of a function, or after it."""
    calls, function = [], getattr(place, name)

    def dying(*args: Any, **rest: Any) -> Any:
        calls.append(args)
        if len(calls) == call and not after:
            raise Killed
        result = function(*args, **rest)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(place, name, dying)


MOMENTS = {
    "nothing was done": (lambda patch: dies(patch, experiment, "collect"), ["S0Trainer", "BaselineTrainer"]),
    "s0 is trained": (lambda patch: dies(patch, S0Trainer, "save"), ["S0Trainer", "BaselineTrainer"]),
    "s0 is saved": (lambda patch: dies(patch, S0Trainer, "_forget_checkpoint"), ["BaselineTrainer"]),
    "s0 has answered": (lambda patch: dies(patch, AnswerJournal, "add", call=2, after=True), ["BaselineTrainer"]),
    "lora is trained": (lambda patch: dies(patch, BaselineTrainer, "save"), ["BaselineTrainer"]),
    "lora is saved": (lambda patch: dies(patch, BaselineTrainer, "save", after=True), []),
    "all but the record": (lambda patch: dies(patch, experiment, "write_record"), []),
}


@pytest.mark.parametrize("moment", mostly_slow(MOMENTS, ["s0 is saved"]))
def test_a_demo_that_is_killed_here_goes_on(
    whole: tuple[Path, str], sandbox: Sandbox, tmp_path: Path, trained: list[str], moment: str
) -> None:
    folder = tmp_path / "run"
    kill, still_to_train = MOMENTS[moment]
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(Killed):
            demo(folder, sandbox)
    assert not (folder / "record.json").exists()
    half_written = [folder / ".record.json.7-8.s0-scratch", folder / ".lora.old7-8.s0-scratch"]
    half_written += [part / ".adapter_config.json.7-8.s0-scratch" for part in (folder / "s0",) if part.is_dir()]
    for scratch in half_written:
        scratch.write_text("half")
    trained.clear()
    with claimed(folder, [], lambda: None):
        assert demo(folder, sandbox) == whole[1]
    assert trained == still_to_train
    assert names_in(folder) == names_in(whole[0])


def test_a_unit_that_nobody_has_claimed_the_folder_for_removes_nothing_that_another_writes(
    whole: tuple[Path, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "record.json").unlink()
    half_written = folder / ".record.json.7-8.s0-scratch"
    half_written.write_text("half")
    assert demo(folder, sandbox) == whole[1]
    assert half_written.read_text() == "half"


@pytest.mark.parametrize("what", mostly_slow(["settings", "data", "damaged"], ["settings"]))
def test_what_was_trained_otherwise_is_trained_again(
    whole: tuple[Path, str], sandbox: Sandbox, tmp_path: Path, trained: list[str], what: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "record.json").unlink()
    path = folder / "s0" / "adapter_config.json"
    config = json.loads(path.read_text())
    if what == "damaged":
        (folder / "s0" / "adapter_model.safetensors").write_bytes(b"")
    elif what == "data":
        config["training"]["tokens_sha256"] = "0" * 64
    else:
        config["training"]["settings"]["lr"] = 0.5
    path.write_text(json.dumps(config))
    assert demo(folder, sandbox) == whole[1]
    assert trained == ["S0Trainer"]


@pytest.mark.parametrize("change", mostly_slow(["loading", "seed", "variants"], ["seed"]))
def test_a_folder_goes_on_only_with_the_settings_it_began_with(
    change: str, whole: tuple[Path, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "experiment"
    shutil.copytree(whole[0], folder)
    (folder / "record.json").unlink()
    before = names_in(folder)
    began = Experiment(SETTINGS.model, {"base": Variant(), **VARIANTS}, data=SETTINGS.data, samples=4, select_samples=2)
    others: dict[str, Any] = {"loading": LoadSettings("bfloat16"), "seed": 1, "variants": {"base": Variant()}}
    with pytest.raises(ConfigError, match=f"got others for {change} in its settings.json.*--overwrite"):
        run_experiment(replace(began, **{change: others[change]}), folder, sandbox=sandbox)
    assert names_in(folder) == before


def test_the_newest_unfinished_folder_with_these_settings_is_found(
    whole: tuple[Path, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = json.loads((whole[0] / "settings.json").read_text())
    assert settings["variants"]["s0"]["settings"]["variant"] == "state"  # the key that it has always had
    for age, name in enumerate(["newest", "middle", "oldest", "finished", "other", "broken", "empty"]):
        (tmp_path / name).mkdir()
        if name != "empty":
            other = {**settings, "seed": 1} if name == "other" else settings
            (tmp_path / name / "settings.json").write_text("{" if name == "broken" else json.dumps(other))
            os.utime(tmp_path / name / "settings.json", (1e9 - age, 1e9 - age))
    (tmp_path / "finished" / "record.json").write_text("{}")
    wanted = Experiment(
        SETTINGS.model, {"base": Variant(), **VARIANTS}, data=SETTINGS.data, samples=4, select_samples=2
    )
    names = [path.name for path in unfinished(wanted, tmp_path, sandbox)]
    assert names == ["newest", "middle", "oldest"]
    assert unfinished(wanted, tmp_path / "absent", sandbox) == []
    assert unfinished(replace(wanted, samples=5), tmp_path, sandbox) == []
    assert unfinished(replace(wanted, variants={"base": Variant()}), tmp_path, sandbox) == []
    with Sandbox(limits=Limits(timeout_s=5.0)) as slower:
        assert unfinished(wanted, tmp_path, slower) == []
    with pytest.raises(S0Error):
        unfinished(replace(wanted, task="nothing"), tmp_path, sandbox)
