"""`s0 inspect`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from s0.adapter import state_files
from s0.adapter.fingerprint import fingerprint
from s0.adapter.kinds import FULL
from s0.core.families import family_of, find_mixers, layer_index, recurrence_of
from s0.errors import ConfigError
from s0.models import POCKET_MODELS, load_base_model, model_without_weights
from s0.train.baseline_files import baseline_kind, read_files
from s0_cli.groups import ModelOptions
from s0_cli.work.step_memory import step_memory_facts

_SHOWN = {
    "LORA": ("lora", {"rank": "r", "lora_alpha": "lora_alpha", "targets": "target_modules"}),
    "PREFIX_TUNING": ("prefix", {"virtual_tokens": "num_virtual_tokens"}),
    "LN_TUNING": ("gains", {"norms": "target_modules"}),
    "IA3": ("ia3", {"targets": "target_modules", "feedforward": "feedforward_modules"}),
    FULL: ("full", {}),
}
"""By PEFT's name of a method, or ours: our name of it, and its settings by their names in PEFT's config."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The files of which a repository on the hub has one, if it has weights."""


def inspect(model: ModelOptions) -> dict[str, Any]:
    """`s0 inspect`: a state or another adapter where the name is the folder of one, else a model."""
    target = model.name
    folder = Path(target)
    if baseline_kind(folder) is not None:
        _require_nothing_loaded(model)
        return _inspect_baseline(folder)
    if state_files.is_state(folder):
        _require_nothing_loaded(model)
        return _inspect_state(target)
    outline = model_without_weights(target, **model.source.loading.arguments())
    mixers = find_mixers(outline)
    recurrence = recurrence_of(next(iter(mixers.values())))
    shapes = {name: list(recurrence_of(mixer).state_shape(mixer)) for name, mixer in mixers.items()}
    parameters = sum(map(math.prod, shapes.values()))
    memory = step_memory_facts(outline, model.device)
    weights_fit = sum(weight.nbytes for weight in outline.parameters()) < memory["device_bytes"]
    return {
        "kind": "model",
        "name": target,
        "class": type(outline).__name__,
        "family": family_of(outline),
        "recurrence": recurrence.name,
        "axes": recurrence.axes,
        "published_alpha": recurrence.alpha,
        "published_alpha_source": recurrence.alpha_source,
        "fingerprint": _fingerprint(model) if weights_fit else None,
        "parameters": sum(weight.numel() for weight in outline.parameters()),
        "state_parameters": parameters,
        "state_bytes": 4 * parameters,
        "memory": memory,
        "layers": [
            {"index": layer_index(mixer), "name": name, "shape": shapes[name]} for name, mixer in mixers.items()
        ],
    }


def _fingerprint(model: ModelOptions) -> str | None:
    """Of weights that are on this machine; None where they would have to be fetched."""
    loading = model.source.loading
    folder = Path(POCKET_MODELS.get(model.name, model.name))
    if folder.is_dir():
        is_here = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    else:
        is_here = any(
            isinstance(try_to_load_from_cache(model.name, name, revision=loading.revision), str) for name in _WEIGHTS
        )
    return fingerprint(load_base_model(model.name, **loading.arguments())) if is_here else None


def _require_nothing_loaded(adapter: ModelOptions) -> None:
    options = [word for word in adapter.loading_as_typed() if word.startswith("--")]
    if options:
        raise ConfigError(
            f"expected a model with {' and '.join(options)}, got the adapter {adapter.name}, of which only the files "
            f"are read; leave {'it' if len(options) == 1 else 'them'} out"
        )


def _inspect_state(target: str) -> dict[str, Any]:
    stored = state_files.read(target, kind=None)
    sizes = {name: tensor.numel() for name, tensor in stored.tensors.items()}
    n_gains = sum(gain.numel() for gain in stored.gains.values())
    state_rank = (stored.training.get("settings") or {}).get("state_rank")
    return {
        "kind": "state",
        "path": target,
        "layout": stored.layout,
        "recurrence": stored.recurrence,
        "variant": stored.kind,
        "alpha": stored.alpha,
        "normalize": stored.normalize,
        "base_model": stored.base_model,
        "fingerprint": stored.fingerprint,
        "state_parameters": sum(sizes.values()),
        "state_bytes": 4 * sum(sizes.values()),
        **({"gain_parameters": n_gains} if n_gains else {}),
        **({"state_rank": state_rank} if state_rank else {}),
        "training": dict(stored.training),
        "layers": _tensor_facts(stored.all_tensors),
    }


def _inspect_baseline(folder: Path) -> dict[str, Any]:
    files = read_files(folder)
    files.require_whole(folder)
    method, settings = _SHOWN.get(files.kind, (files.kind.lower(), {}))
    n_parameters = sum(tensor.numel() for tensor in files.tensors.values())
    return {
        "kind": "adapter",
        "path": str(folder),
        "method": method,
        **{name: files.config.get(key) for name, key in settings.items()},
        "base_model": files.config.get("base_model_name_or_path"),
        "fingerprint": files.fingerprint,
        "parameters": n_parameters,
        "bytes": 4 * n_parameters,
        "training": dict(files.training),
        "layers": _tensor_facts(files.tensors),
    }


def _tensor_facts(tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": list(tensor.shape), "norm": tensor.norm().item(), "largest": tensor.abs().max().item()}
        for name, tensor in tensors.items()
    ]
