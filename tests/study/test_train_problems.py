"""How many of the train problems an experiment learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s0.bench import Variant
from s0.errors import ConfigError, DatasetError
from s0.examples import read_examples
from s0.study import DemoSettings, Experiment, demo, examples_file, run_experiment
from s0.tasks import load
from s0.tasks.sandbox import Sandbox
from tests.study.runs import SETTINGS

EXPERIMENT = Experiment("pocket:gdn", {"base": Variant()}, data=SETTINGS.data, samples=4, select_samples=2)


@pytest.mark.slow
def test_examples_come_from_the_first_train_problems(tmp_path: Path) -> None:
    with Sandbox() as sandbox:
        whole = run_experiment(replace(EXPERIMENT, split="train"), tmp_path / "whole", sandbox=sandbox)
        some = run_experiment(replace(EXPERIMENT, split="train", train_problems=3), tmp_path / "some", sandbox=sandbox)
    first = [problem.id for problem in load("pocket-code", EXPERIMENT.data).split("train")[:3]]
    every = read_examples(examples_file(tmp_path / "whole", "train"))
    of_first = [example for example in every if example.provenance["problem"] in first]
    assert 0 < len(of_first) < len(every)
    assert read_examples(examples_file(tmp_path / "some", "train")) == of_first
    assert whole.examples and some.examples
    assert [record.examples["train"].of_problems for record in (whole, some)] == [6, 3]
    assert whole.examples["select"] == some.examples["select"]
    assert some.settings and some.settings["train_problems"] == 3
    assert len(some.problems) == 6  # all of the split is asked


def test_as_many_as_asked_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected `train_problems` of at least 1, or None for all, got 0"):
        replace(EXPERIMENT, train_problems=0)
    with pytest.raises(DatasetError, match="expected at least 7 problems in the train split of pocket-code, got 6"):
        run_experiment(replace(EXPERIMENT, train_problems=7), tmp_path)


def test_a_demo_learns_from_the_first_of_the_problems_that_ship_and_from_all_of_a_users() -> None:
    assert [
        demo._experiment(DemoSettings(task=f"pocket-{kind}")).train_problems for kind in ("code", "math", "sql")
    ] == [96] * 3
    assert demo._experiment(SETTINGS).train_problems is None
    assert demo._experiment(DemoSettings(task="gsm8k")).train_problems is None
