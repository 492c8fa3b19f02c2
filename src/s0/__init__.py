"""Tune the initial recurrent state of hybrid language models.

Importing this package registers "S0" as a PEFT method, and replaces parts of PEFT: `s0.adapter.patches` lists them.
"""

from typing import TYPE_CHECKING, Any

from s0.core import releases  # noqa: F401  (first: it refuses a transformers that the rest cannot use)

# isort: split
from s0 import errors, rnn
from s0.adapter import patches
from s0.adapter.config import S0AdapterConfig
from s0.examples import Example
from s0.models import load_model

if TYPE_CHECKING:
    from s0.train import S0Config, S0Trainer

patches.install()

__all__ = ["Example", "S0AdapterConfig", "S0Config", "S0Trainer", "errors", "load_model", "rnn"]


def __getattr__(name: str) -> Any:
    """What trains, imported when it is asked for: who puts states on models to serve them needs none of it."""
    if name in ("S0Config", "S0Trainer"):
        from s0 import train

        return getattr(train, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
