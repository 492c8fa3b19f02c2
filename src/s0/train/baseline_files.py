"""Baselines on disk: PEFT's own files or all weights of a model, and how they were trained beside them.

Full fine-tuning has no adapter, but its folder is read, checked and replaced as an adapter's is: `adapter_config.json`
names it by the kind FULL, which PEFT does not know, and the base model; `adapter_model.safetensors` holds every weight
in float32, of tied ones the first, by its name in the model.

A file is checked against itself (checksum, finite tensors, known settings) and against the model before anything is
taken over; what this package would not compute as PEFT does is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import IA3Config, LNTuningConfig, LoraConfig, PeftConfig, PrefixTuningConfig
from peft.tuners.tuners_utils import check_target_module_exists
from torch import Tensor, nn

from s0.adapter import checks, state_files
from s0.adapter.card import remove_card
from s0.adapter.fingerprint import UNKNOWN, check_base
from s0.adapter.kinds import FULL
from s0.core.norms import find_norms
from s0.errors import ConfigError, StateMismatchError
from s0.train.baselines import LoraTuning, PrefixTuning
from s0.train.full import FullTuning, weights_to_tune
from s0.train.gains import GainsTuning
from s0.train.ia3 import Ia3Tuning
from s0.train.placement import linear_modules
from s0.train.settings import TuningSettings


@dataclass(frozen=True)
class BaselineFiles:
    """What was tuned, as it lies on disk.

    Attributes:
        kind: PEFT's name of the method, or `FULL`; one of `KINDS`.
        config: as PEFT writes it.
        tensors: by their names in the file, floating ones in float32.
        training: how it was trained; empty where PEFT wrote the adapter.
        fingerprint: of the model it was trained on, or "unknown".
        checksum: that the tensors should have; None where PEFT wrote the adapter.
    """

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    training: Mapping[str, Any]
    fingerprint: str
    checksum: str | None

    def require_whole(self, folder: Path) -> None:
        """Check the tensors against their checksum.

        Raises:
            StateMismatchError: a file in `folder`, where they were read, is damaged or of another adapter.
        """
        checks.require_finite(self.tensors, str(folder))
        checksum = state_files.checksum(self.tensors, {})
        is_by_peft = self.checksum is None and self.kind != FULL
        if self.checksum != checksum and not is_by_peft:
            raise StateMismatchError(
                f"expected the tensors in {folder} to have checksum {self.checksum!r:.70}, got {checksum!r}; a file is "
                "damaged or of another adapter: copy the folder again"
            )


@dataclass(frozen=True)
class StoredBaseline:
    """What was tuned, read from disk, checked against itself and the model."""

    settings: TuningSettings
    tensors: Mapping[str, Tensor]
    training: dict[str, Any]


def baseline_kind(folder: Path) -> str | None:
    """The kind of the baseline in a folder, as `BaselineFiles.kind`; None where none lies there, or a state."""
    if not (folder / state_files.CONFIG_FILE).is_file():
        return None
    kind = checks.read_json(folder / state_files.CONFIG_FILE).get("peft_type")
    return None if kind == "S0" else str(kind)


def holds_baseline(folder: Path) -> bool:
    """Whether the adapter of a baseline lies in a folder, as far as its config can be read."""
    try:
        return baseline_kind(folder) is not None
    except StateMismatchError:
        return False


def read_files(folder: Path) -> BaselineFiles:
    """Read a baseline without its model.

    Returns:
        what lies in the folder, its tensors not yet checked.

    Raises:
        StateMismatchError: damaged, or of another method.
    """
    config = checks.read_json(folder / state_files.CONFIG_FILE)
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise StateMismatchError(
            f"expected {folder / state_files.CONFIG_FILE} to hold one of the peft_types {sorted(KINDS)}, got "
            f"{kind!r:.40}"
        )
    stored = checks.read_tensors(folder / state_files.STATE_FILE)
    tensors = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in stored.items()}
    training = (
        checks.read_json(folder / state_files.TRAINING_FILE) if (folder / state_files.TRAINING_FILE).is_file() else {}
    )
    checks.check_account(training, str(folder))
    checksum, fingerprint = training.pop("checksum", None), str(training.pop("fingerprint", UNKNOWN))
    return BaselineFiles(kind, config, tensors, training, fingerprint, checksum)


def read_baseline(folder: Path, model: nn.Module, allow_other_base: bool) -> StoredBaseline:
    """Read a baseline for `model`.

    Args:
        folder: where it lies.
        model: the base model, with or without something on it.
        allow_other_base: accept what was trained on other weights of the same shape.

    Returns:
        the adapter, checked against itself and the model.

    Raises:
        StateMismatchError: damaged, of another method, not plain, or trained on another model.
    """
    files = read_files(folder)
    try:
        settings, shapes = KINDS[files.kind](files.config, model)
    except (ConfigError, TypeError, ValueError, re.error) as error:
        raise StateMismatchError(
            f"expected {folder / state_files.CONFIG_FILE} to describe a plain {files.kind} for "
            f"{type(model).__name__}, but: {error}"
        ) from error
    checks.check_tensors(files.tensors, shapes, str(folder))
    files.require_whole(folder)
    if not allow_other_base:
        check_base(files.fingerprint, model)
    return StoredBaseline(settings, files.tensors, dict(files.training))


def write_baseline(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], training: Mapping[str, Any]
) -> None:
    """Write a baseline, all of it or nothing; what lay there before is replaced.

    Args:
        folder: made if need be.
        config: as `BaselineFiles` has it.
        tensors: by their names in the file, on the CPU.
        training: how it was trained, and the fingerprint of the base model.

    Raises:
        ConfigError: a tensor of which this process holds a part only.
    """
    # In this order: of a folder that was being overwritten when the machine went down, the checksum is wrong.
    files = {
        state_files.STATE_FILE: tensors,
        state_files.CONFIG_FILE: config,
        state_files.TRAINING_FILE: {**training, "checksum": state_files.checksum(tensors, {})},
    }
    state_files.write_contents(folder, files)
    remove_card(folder)  # of a state that lay there before


def _lora_of(config: Mapping[str, Any], model: nn.Module) -> tuple[LoraTuning, dict[str, list[int]]]:
    """The settings of an adapter, and the shapes that its tensors have to have on `model`."""
    require_plain(LoraConfig, config)
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", "orthogonal"):
        raise ValueError(
            f"it began with a change of the base weights (init_lora_weights {config['init_lora_weights']!r})"
        )
    rank: Any = config.get("r")
    alpha: Any = config.get("lora_alpha")
    if alpha is None:
        raise ValueError("it has no lora_alpha")
    names = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    layers = _targeted(LoraConfig(**{name: config.get(name) for name in names}), linear_modules(model))
    shapes: dict[str, list[int]] = {}
    for name, layer in layers.items():
        shapes[f"base_model.model.{name}.lora_A.weight"] = [rank, layer.in_features]
        shapes[f"base_model.model.{name}.lora_B.weight"] = [layer.out_features, rank]
    return LoraTuning(rank=rank, alpha=alpha, targets=tuple(layers)), shapes


def _prefix_of(config: Mapping[str, Any], model: nn.Module) -> tuple[PrefixTuning, dict[str, list[int]]]:
    """The same for a prefix."""
    require_plain(PrefixTuningConfig, config)
    virtual_tokens: Any = config.get("num_virtual_tokens")
    settings = PrefixTuning(virtual_tokens=virtual_tokens, projection=bool(config.get("prefix_projection")))
    fitting = settings.adapter(model)
    for name in ("num_layers", "num_attention_heads", "token_dim"):
        if config.get(name) != getattr(fitting, name):
            raise ValueError(f"{name} is {config.get(name)!r:.40}, and {getattr(fitting, name)} for this model")
    return settings, {"prompt_embeddings": [settings.virtual_tokens, fitting.num_layers * 2 * fitting.token_dim]}


def _gains_of(config: Mapping[str, Any], model: nn.Module) -> tuple[GainsTuning, dict[str, list[int]]]:
    """The same for gains."""
    require_plain(LNTuningConfig, config)
    norms = find_norms(model)
    names = ("target_modules", "exclude_modules")
    left_out = sorted(norms.keys() - _targeted(LNTuningConfig(**{name: config.get(name) for name in names}), norms))
    if left_out:
        raise ValueError(f"it leaves out {len(left_out)} of the model's {len(norms)} norms, such as {left_out[0]}")
    shapes = {name: list(norm.get_parameter("weight").shape) for name, norm in norms.items()}
    return GainsTuning(), {f"base_model.model.{name}.ln_tuning_layers.weight": shape for name, shape in shapes.items()}


def _ia3_of(config: Mapping[str, Any], model: nn.Module) -> tuple[Ia3Tuning, dict[str, list[int]]]:
    """The same for IA3."""
    require_plain(IA3Config, config)
    names = ("target_modules", "exclude_modules", "feedforward_modules")
    which = IA3Config(**{name: config.get(name) for name in names})
    layers = _targeted(which, linear_modules(model))
    inputs = {name for name in layers if _is_feedforward(which, name)}
    shapes = {
        f"base_model.model.{name}.ia3_l": [1, layer.in_features] if name in inputs else [layer.out_features, 1]
        for name, layer in layers.items()
    }
    return Ia3Tuning(targets=tuple(layers.keys() - inputs), feedforward=tuple(inputs)), shapes


def _full_of(config: Mapping[str, Any], model: nn.Module) -> tuple[FullTuning, dict[str, list[int]]]:
    """The same for all weights."""
    unknown = sorted(config.keys() - {"peft_type", "base_model_name_or_path"})
    if unknown:
        raise ValueError(f"it has {', '.join(unknown):.80}, which this package does not write")
    return FullTuning(), {name: list(weight.shape) for name, weight in weights_to_tune(model).items()}


def _is_feedforward(which: IA3Config, name: str) -> bool:
    """Whether the factors of a layer are for its inputs, as PEFT tells it."""
    if isinstance(which.feedforward_modules, str):
        return re.fullmatch(which.feedforward_modules, name) is not None
    return name.endswith(tuple(which.feedforward_modules or ()))


def _targeted(which: PeftConfig, modules: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some modules that a config of PEFT's targets."""
    return {name: module for name, module in modules.items() if check_target_module_exists(which, name)}


KINDS: dict[str, Callable[[Mapping[str, Any], nn.Module], tuple[TuningSettings, dict[str, list[int]]]]] = {
    "LORA": _lora_of,
    "PREFIX_TUNING": _prefix_of,
    "LN_TUNING": _gains_of,
    "IA3": _ia3_of,
    FULL: _full_of,
}
"""How a folder is read, by `BaselineFiles.kind`: the settings, and the shapes that the tensors have to have."""

_FREE = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("r", "lora_alpha", "lora_dropout", "init_lora_weights", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"),
    *("encoder_hidden_size", "prefix_projection", "init_weights"),
    "feedforward_modules",
}
"""What a PEFT config may say about an adapter that is plain; what matters of it is read."""


def require_plain(kind: type[PeftConfig], config: Mapping[str, Any]) -> None:
    """Check that a config says nothing of its adapter that a fresh one of its kind would not, but for what is read.

    Raises:
        ValueError: it does; says what.
    """
    plain = kind().to_dict()
    for name, value in config.items():
        differs = bool(value) and value != plain.get(name)
        if differs and name not in _FREE:
            raise ValueError(f"{name} is {value!r:.40}, which this package does not follow; load it with peft")
