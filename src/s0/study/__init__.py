"""Studies: experiments that collect, train, answer and compare, one (a demo) or many."""

from s0.study.demo import (
    POCKET_TRAIN_PROBLEMS,
    POCKET_VARIANTS,
    PUBLISHED_VARIANTS,
    DemoSettings,
    run_demo,
    unfinished_demos,
)
from s0.study.experiment import SETTINGS_FILE, Experiment, examples_file, run_experiment

__all__ = [
    "POCKET_TRAIN_PROBLEMS",
    "POCKET_VARIANTS",
    "PUBLISHED_VARIANTS",
    "SETTINGS_FILE",
    "DemoSettings",
    "Experiment",
    "examples_file",
    "run_demo",
    "run_experiment",
    "unfinished_demos",
]
