"""What files call otherwise than the code does: they keep the names that they began with, so that old ones are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES_ON_DISK = {"recurrence": "family", "kind": "variant"}
"""By the name of a setting in Python: its key in files."""

_LATER: dict[str, Any] = {"gains": False, "gain_shapes": None, "state_rank": None}
"""Settings that came after the first files, by what they are where a file leaves them out."""

_NAMES_IN_PYTHON = {key: name for name, key in NAMES_ON_DISK.items()}


def on_disk(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their keys in files; a name that the table lacks is the key.

    What files did not tell at first is told only where it says something, so that files without it stay as they are.
    """
    worth_telling = {name: value for name, value in settings.items() if name not in _LATER or value != _LATER[name]}
    return {NAMES_ON_DISK.get(name, name): value for name, value in worth_telling.items()}


def from_disk(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `on_disk` made keys of, by the names in Python again."""
    return {_NAMES_IN_PYTHON.get(key, key): value for key, value in settings.items()}
