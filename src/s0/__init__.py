"""Tune the initial recurrent state of hybrid language models.

Importing this package registers "S0" as a PEFT method.
"""

from importlib.metadata import version as _installed

if tuple(int(part) for part in _installed("transformers").split(".")[:2]) < (5, 23):
    raise ImportError(
        "s0-tuning needs transformers >= 5.23, whose caches hold recurrent states; "
        f"found {_installed('transformers')}: pip install -U transformers"
    )

from s0 import errors
from s0.core import rnn
from s0.core.adapter import S0AdapterConfig
from s0.examples import Example
from s0.models import load_model
from s0.train import S0Config, S0Trainer

__all__ = ["Example", "S0AdapterConfig", "S0Config", "S0Trainer", "errors", "load_model", "rnn"]
