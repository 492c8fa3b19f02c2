"""The defaults of the command line, which loads no library to tell them, are those of the library's settings."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from s0 import S0Trainer
from s0.bench import CollectSettings, ImproveSettings, Questions, Samples
from s0.serve.runner import RunnerLimits
from s0.serve.server import ServerSettings
from s0.serve.service import RequestLimits
from s0.study import DemoSettings
from s0_cli.commands import asking, serving, tuning


def defaults(function: Any) -> dict[str, Any]:
    """What is taken where an option or argument is not given."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


@pytest.mark.parametrize(
    ("command", "settings", "apart"),
    [
        (tuning.collect, CollectSettings, set()),
        (asking.evaluate, Questions, {"samples"}),  # there their settings, here their number
        (asking.evaluate, Samples, set()),
        (tuning.demo, DemoSettings, set()),
        (tuning.train, S0Trainer.train, set()),
        (tuning.improve, ImproveSettings, set()),
        (serving.serve, ServerSettings, set()),
        (serving.serve, RunnerLimits, set()),
        (serving.serve, RequestLimits, set()),
    ],
)
def test_a_command_has_the_defaults_of_its_settings(command: Any, settings: Any, apart: set[str]) -> None:
    options, own = defaults(command), defaults(settings)
    shared = (options.keys() & own.keys()) - apart
    assert shared
    assert {name: options[name] for name in shared} == {name: own[name] for name in shared}
