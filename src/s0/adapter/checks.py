"""What is checked of a file before anything in it is believed: no pickle, a modest size, shapes, finite values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from s0.errors import ConfigError, StateMismatchError
from s0.record import Training

_MAX_JSON_BYTES = 4 << 20
_LARGEST = torch.finfo(torch.float32).max


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        StateMismatchError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise StateMismatchError(f"expected the state in {path}, found no such file; pickled weights are never loaded")
    try:
        return dict(sorted(load(path.read_bytes()).items()))  # by its bytes: a path need not be UTF-8
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise StateMismatchError(
            f"expected {path} to be a safetensors file, got {type(error).__name__}: {error}; copy the file again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of modest size.

    Raises:
        StateMismatchError: there is none, it is too large, or no JSON object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, at most {_MAX_JSON_BYTES} allowed")
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise StateMismatchError(f"expected {path} to be a JSON file, got {type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise StateMismatchError(f"expected {path} to hold a JSON object, got {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is no JSON")


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, Any], where: str) -> None:
    """Refuse tensors that are not what `shapes` (layer name -> [H, K, V]) announces, or not finite.

    Raises:
        StateMismatchError: missing or extra layers, wrong dtype or shape, NaN or inf; names `where`.
    """
    if not tensors or set(tensors) != set(shapes):
        raise StateMismatchError(
            f"expected in {where} a tensor for each of the layers {sorted(shapes)}, got {sorted(tensors)}; "
            "it is incomplete or not what its description says"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or list(tensor.shape) != shapes[name]:
            raise StateMismatchError(
                f"expected layer {name} in {where} to be float32 {shapes[name]}, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
    require_finite(tensors, where)


def require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors with NaN or inf in them.

    Raises:
        StateMismatchError: names `where`.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise StateMismatchError(
                f"expected finite values in layer {name} of {where}, got NaN or inf; train it again"
            )


def check_account(training: Mapping[str, Any], where: str) -> None:
    """Refuse an account of a training whose figures are none: no checksum covers it, and much is computed from it.

    Raises:
        StateMismatchError: naming the figure.
    """
    figures = ("initial_loss", "training_loss", "final_loss", "select_initial_loss", "select_final_loss", "alpha")
    as_written = {name: training.get(name) is None or is_finite_number(training[name]) for name in figures}
    as_written["scale"] = training.get("scale") is None or _is_scale(training["scale"])
    prompts = training.get("prompts") or []
    settings = training.get("settings")
    rank = settings.get("state_rank") if isinstance(settings, dict) else None
    as_written["settings"] = rank is None or (type(rank) is int and rank > 0)
    as_written["prompts"] = isinstance(prompts, list) and all(isinstance(digest, str) for digest in prompts)
    known = training.keys() & {*Training.__struct_fields__}
    as_written |= {name: as_written.get(name, True) and _fits(name, training[name]) for name in sorted(known)}
    for name, is_as_written in as_written.items():
        if not is_as_written:
            raise StateMismatchError(
                f"expected the account of the training in {where} to be as it was written, got {name} = "
                f"{training.get(name)!r:.60}; the file was edited: copy it again"
            )


def _fits(name: str, value: object) -> bool:
    """Whether a record could hold this of the account."""
    try:
        msgspec.convert({name: value}, Training)
    except msgspec.ValidationError:
        return False
    return True


def _is_list_of_numbers(values: object) -> bool:
    return isinstance(values, list) and all(value is None or isinstance(value, (int, float)) for value in values)


def _is_scale(scale: object) -> bool:
    if not isinstance(scale, dict) or not {"alpha", "helps", "by", "alphas", "values"} <= scale.keys():
        return False
    alphas, values = scale["alphas"], scale["values"]
    has_curve = _is_list_of_numbers(alphas) and _is_list_of_numbers(values) and len(alphas) == len(values)
    says_how = isinstance(scale["by"], str) and isinstance(scale["helps"], bool)
    return says_how and has_curve and scale["alpha"] in alphas and any(alpha for alpha in alphas)


def field(config: Mapping[str, Any], name: str, kind: type | tuple[type, ...], folder: Path) -> Any:
    """The value of `name` in a config.

    Raises:
        StateMismatchError: it is of another type; names the folder.
    """
    value = config.get(name)
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(each.__name__ for each in kinds)
        raise StateMismatchError(f"expected {name} in {folder} to be of type {expected}, got {value!r:.80}")
    return value


def finite(config: Mapping[str, Any], name: str, folder: Path) -> float:
    """The number `name` in a config, one that float32 can hold.

    Raises:
        StateMismatchError: it is none; names the folder.
    """
    value: Any = config.get(name)
    if not is_finite_number(value):
        raise StateMismatchError(f"expected {name} in {folder} to be a finite float32 number, got {value!r:.80}")
    return float(value)


def check_scale(alpha: object, normalize: object) -> None:
    """Check that the two can scale a state.

    Raises:
        ConfigError: naming the one that cannot.
    """
    if not is_finite_number(alpha):
        raise ConfigError(f"expected `alpha` to be a finite float32 number, got {alpha!r}")
    if not isinstance(normalize, bool):
        raise ConfigError(f"expected `normalize` to be True or False, got {normalize!r}")


def is_finite_number(value: object) -> bool:
    """Whether `value` is a number that float32 can hold, as a scale has to be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def are_distinct_indices(layers: object) -> TypeGuard[Collection[int]]:
    """Whether `layers` is a list of layer indices, at least one and none twice."""
    indices = list(layers) if isinstance(layers, (list, tuple)) else []
    return bool(indices) and all(type(i) is int and i >= 0 for i in indices) and len(set(indices)) == len(indices)
