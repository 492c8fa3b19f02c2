"""Studies: units that collect, train, answer and compare, one (a demo) or many."""

from s0.study.demo import (
    POCKET_TRAIN_PROBLEMS,
    POCKET_VARIANTS,
    PUBLISHED_VARIANTS,
    DemoSettings,
    run_demo,
    unfinished_demos,
)
from s0.study.unit import SETTINGS_FILE, Unit, examples_file, run_unit

__all__ = [
    "POCKET_TRAIN_PROBLEMS",
    "POCKET_VARIANTS",
    "PUBLISHED_VARIANTS",
    "SETTINGS_FILE",
    "DemoSettings",
    "Unit",
    "examples_file",
    "run_demo",
    "run_unit",
    "unfinished_demos",
]
