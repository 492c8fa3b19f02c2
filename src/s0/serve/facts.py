"""What people want to know of a state before they ask it: its size and scale, how it was trained, what it has gained.

All of it stands in the state's folder, and is no more than what that claims: nothing of it is read when a state is put
on the model. The gain is that of a `record.json`, in the folder or beside it, as `s0 eval` and `s0 demo` write them,
where one tells of just this state: of the same training, at the same scale, on the same model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from s0.adapter import checks
from s0.adapter.card import training_facts
from s0.adapter.names_on_disk import NAMES_ON_DISK
from s0.adapter.state_files import CONFIG_FILE, PUBLISHED_STATE_FILE, STATE_FILE
from s0.cautions import cautions
from s0.core.low_rank import n_numbers
from s0.errors import DatasetError, StateMismatchError
from s0.record import Record, Training, read_record
from s0.report.wording import p_words, percent, points, reservation, shortened
from s0.serve.folders import FILES, Stamp, stamp_of

_RECORD_FILE = "record.json"
_MOST_RECORD_BYTES = 32 << 20
_LONGEST = 300  # characters of anything that a file says
_MOST_AXES = 8  # of a state's shape

Facts = dict[str, Any]
_Stamps = tuple[Stamp, ...]


class FactsOfStates:
    """Facts by folder, read again where a file has changed; from one thread at a time."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[_Stamps, Facts]] = {}

    def of(self, folders: list[Path]) -> list[Facts]:
        """The facts of states, by their folders; the others are forgotten."""
        read = {}
        for folder in folders:
            stamps = tuple(map(stamp_of, _files(folder)))
            known, facts = self._read.get(folder, ((), {}))
            read[folder] = (stamps, facts if known == stamps else facts_of(folder))
        self._read = read
        return [read[folder][1] for folder in folders]


def facts_of(folder: Path) -> Facts:
    """What a state's folder says of it, in words: everything in it is text of at most a few hundred characters.

    Returns:
        `size_bytes` and `parameters`, how many numbers were tuned; `layers`; `kind`; `alpha` and `normalize`, its
        scale; `base_model`; `training` and `cautions`; `record`, or None where there is none of it. None stands for
        what is not recorded. Of a state that cannot be read, `trouble` alone.
    """
    try:
        return _facts(folder)
    except (StateMismatchError, OSError) as error:
        return {"trouble": shortened(str(error), _LONGEST)}


def _facts(folder: Path) -> Facts:
    is_published = not (folder / CONFIG_FILE).is_file()
    config = checks.read_json(folder / ("config.json" if is_published else CONFIG_FILE))
    shapes = _published_shapes(folder) if is_published else _shapes(config, folder)
    gains = _shapes({"state_shapes": config.get("gain_shapes") or {}}, folder)
    training = {"settings": config} if is_published else config.get("training") or {}
    checks.check_account(checks.field({"training": training}, "training", dict, folder), str(folder))
    rank = (training.get("settings") or {}).get("state_rank")
    file = folder / (PUBLISHED_STATE_FILE if is_published else STATE_FILE)
    return {
        "size_bytes": file.stat().st_size if file.is_file() else None,
        "parameters": sum(n_numbers(shape, rank) for shape in [*shapes, *gains]),
        "layers": len(shapes),
        "kind": _text(config.get(NAMES_ON_DISK["kind"], "state")),
        "alpha": None if config.get("alpha") is None else checks.finite(config, "alpha", folder),
        "normalize": config.get("normalize") is True,
        "base_model": _text(config.get("base_model_name_or_path")),
        "training": {name: _text(value) for name, value in training_facts(training).items() if value is not None}
        if training
        else {},
        "cautions": [shortened(caution, _LONGEST) for caution in cautions(training)],
        "record": None if is_published else _claim(folder, config, training),
    }


def _shapes(config: Mapping[str, Any], folder: Path) -> list[list[int]]:
    shapes = [*checks.field(config, "state_shapes", dict, folder).values()]
    for shape in shapes:
        is_shape = isinstance(shape, list) and 0 < len(shape) <= _MOST_AXES
        if not (is_shape and all(type(size) is int and 0 < size < 1 << 32 for size in shape)):
            raise StateMismatchError(f"expected shapes of layers in {folder / CONFIG_FILE}, got {shape!r:.80}")
    return shapes


def _published_shapes(folder: Path) -> list[list[int]]:
    meta = checks.read_json(folder / "meta.json")
    layers = checks.field(meta, "recurrent_layers", list, folder)
    return _shapes({"state_shapes": {str(layer): meta.get("state_shape") for layer in layers}}, folder)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return shortened(f"{value:.4g}" if isinstance(value, float) else str(value), _LONGEST)


# --- What a record claims ---


def _claim(folder: Path, config: Mapping[str, Any], training: Mapping[str, Any]) -> Facts | None:
    """What the first record that tells of this state says it has gained."""
    account = msgspec.convert(training, Training)
    if account == Training():
        return None  # nothing to know it by
    for path in _records(folder):
        record = _record(path, stamp_of(path))
        if record is None or record.model.fingerprint != config.get("fingerprint"):
            continue
        for name, run in record.variants.items():
            if run.training == account:
                return _gain(record, name)
    return None


@lru_cache(maxsize=4)
def _record(path: Path, stamp: Stamp) -> Record | None:
    """The record in a file as it is now, which may lie beside many states; None where none can be read."""
    if stamp is None or not path.is_file() or path.stat().st_size > _MOST_RECORD_BYTES:
        return None
    try:
        return read_record(path)
    except (DatasetError, OSError, RecursionError):
        return None


def _gain(record: Record, variant: str) -> Facts | None:
    comparison = next((each for each in record.gains if each.second == variant), None)
    if comparison is None:
        return None
    gain = comparison.standard
    before, after = (record.final[name].pass_at_1.standard for name in (comparison.first, variant))
    return {
        "task": shortened(record.task.name, _LONGEST),
        "effect": comparison.effect,
        "summary": (
            f"{percent(before.value)} → {percent(after.value)} of {gain.n} {record.split} problems, "
            f"{points(gain.difference)} points (95% interval {points(gain.low)} to {points(gain.high)}; "
            f"p {p_words(gain.p_holm)})"
        ),
        "reservation": reservation(comparison),
    }


# --- Files ---


def _records(folder: Path) -> tuple[Path, Path]:
    return folder / _RECORD_FILE, folder.parent / _RECORD_FILE


def _files(folder: Path) -> list[Path]:
    return [*(folder / name for name in FILES), *_records(folder)]
