"""States on disk: what a state file holds, and everything that is checked before one is believed.

A state is a PEFT adapter folder. `adapter_model.safetensors` holds one float32 tensor per tuned layer, the raw state;
`adapter_config.json` holds the scale that makes it effective, and:

    format_version   1; 2 with gains
    family           the name of the recurrence, e.g. "gated_delta_net"
    state_shapes     {layer name: [H, K, V]}, or [H] for a layer of torch.nn (see `s0.rnn`)
    fingerprint      of the model the state was tuned on (see `s0.adapter.fingerprint`), or "unknown"
    training         how it was trained: resolved settings, data hash, versions
    variant          its kind: "state"; or "offset", which every step reads (see `s0.core.offset`)
    checksum         sha256 over the scale, the layers, the variant, and the tensors' names, shapes and values
    gains            true where a raw gain of each of the model's norms lies beside the states (see `s0.core.gains`)
    gain_shapes      {norm name: [D]}, then

The layout of the published package (`states.safetensors` or `states.pt`, `config.json`, `meta.json`) is read too.
Files are hostile until checked: no pickle, sizes bounded, every value finite, names and shapes as announced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from s0.adapter import checks
from s0.adapter.fingerprint import UNKNOWN, check_base
from s0.adapter.gains import check_gains
from s0.adapter.kinds import advice_on
from s0.adapter.names_on_disk import NAMES_ON_DISK
from s0.adapter.tensor_keys import file_keys, states_and_gains
from s0.core.families import find_mixers, layer_index, recurrence_of, unwrapped
from s0.core.recurrences import RECURRENCES
from s0.core.sharding import refuse_shards
from s0.errors import StateMismatchError
from s0.files import write_files

_FORMAT_VERSION, _FORMAT_VERSION_WITH_GAINS = 1, 2
KINDS = ("state", "offset")
CONFIG_FILE = "adapter_config.json"
STATE_FILE = "adapter_model.safetensors"
TRAINING_FILE = "training.json"
"""Beside a LoRA or another baseline: how it was trained. A state has that in its config."""
HUB_SETTINGS = ("revision", "cache_dir", "token")
PUBLISHED_STATE_FILE = "states.safetensors"
_PUBLISHED_TENSORS = (PUBLISHED_STATE_FILE, "states.pt")


def format_version(gains: bool) -> int:
    """Of a folder with gains, or without: earlier versions of this package read these and refuse those."""
    return _FORMAT_VERSION_WITH_GAINS if gains else _FORMAT_VERSION


@dataclass(frozen=True)
class StoredState:
    """A state read from disk and checked against itself, not yet against a model.

    Attributes:
        tensors: raw float32 states by layer name, or by layer index as text in the published layout.
        alpha: scale of the effective state; None where the published layout leaves it open, for the
            recurrence's published value.
        normalize: whether each layer's state is divided by its norm first.
        layers: the selected layer indices, or None for all recurrent layers of the model.
        recurrence: its name.
        fingerprint: of the base model, or "unknown".
        base_model: the name the base model was loaded by, or None.
        training: how the state was trained.
        layout: "peft" or "published".
        kind: "state", or "offset".
        gains: raw float32 gains by the names of their norms' layers; none where the state has none.
    """

    tensors: Mapping[str, Tensor]
    alpha: float | None
    normalize: bool
    layers: tuple[int, ...] | None
    recurrence: str
    fingerprint: str = UNKNOWN
    base_model: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "peft"
    kind: str = "state"
    gains: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def all_tensors(self) -> dict[str, Tensor]:
        """The raw states, then the raw gains, by the names of their layers."""
        return {**self.tensors, **self.gains}

    @property
    def checksum(self) -> str:
        """Of what enters the model."""
        config = {"alpha": self.alpha, "normalize": self.normalize, NAMES_ON_DISK["kind"]: self.kind}
        return checksum(self.all_tensors, {**config, "gains": bool(self.gains)})

    def require_kind(self, kind: str, where: str = "") -> None:
        """Refuse a state of another kind.

        Raises:
            StateMismatchError: it is one; says `where`.
        """
        if self.kind != kind:
            raise StateMismatchError(
                f"expected the kind {kind!r}{where}, got {self.kind!r}: sequences start from a state, and "
                "every step reads an offset, so one cannot stand for the other"
            )

    def __repr__(self) -> str:
        scale = f"alpha={self.alpha}, normalize={self.normalize}"
        return f"StoredState({self.kind}, {self.recurrence}, {len(self.tensors)} layers, {scale}, {self.base_model!r})"


# --- Reading ---


def read(path: str | Path, subfolder: str | None = None, *, kind: str | None = "state", **hub: Any) -> StoredState:
    """Read and check a state folder, local or on the Hugging Face Hub.

    Args:
        path: a local folder, or a repository on the Hub.
        subfolder: where in it the state lies.
        kind: the one that is expected; None takes any.
        hub: `revision`, `cache_dir` and `token` of the Hub.

    Raises:
        StateMismatchError: it is not a state, is damaged, or is of an unknown version or another kind; says which
            file and why.
    """
    folder = locate(path, subfolder, **hub)
    if (folder / CONFIG_FILE).is_file():
        stored = _read_peft(folder)
    elif (folder / "meta.json").is_file():
        stored = _read_published(folder)
    else:
        contents = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else "no such folder"
        raise StateMismatchError(
            f"expected a state folder with {CONFIG_FILE} (or meta.json of the published layout), got {folder} with "
            f"{contents}; check the path"
        )
    if kind is not None:
        stored.require_kind(kind, f" in {folder}")
    return stored


def is_state(folder: Path) -> bool:
    """Whether a local folder is one of an adapter or a published state, and not of a model."""
    is_published = (folder / "meta.json").is_file() and any((folder / name).is_file() for name in _PUBLISHED_TENSORS)
    return is_published or (folder / CONFIG_FILE).is_file()  # a model's folder may hold a meta.json of its own


def is_config_alone(folder: Path) -> bool:
    """Whether a local folder holds the config of an adapter that has no state yet, as PEFT configs save themselves."""
    if not (folder / CONFIG_FILE).is_file() or (folder / STATE_FILE).exists():
        return False
    config = checks.read_json(folder / CONFIG_FILE)
    return config.get("peft_type") == "S0" and config.get("checksum") is None


def locate(path: str | Path, subfolder: str | None = None, **hub: Any) -> Path:
    """The local folder of a state; a name that is no local folder is fetched from the Hugging Face Hub."""
    if path == "":  # which `Path` takes for the current folder
        raise StateMismatchError(
            "expected a state folder, got an empty name; name the folder, or . for the current one"
        )
    if Path(path).is_dir():
        return Path(path, subfolder or "")
    if Path(path).is_file():
        raise StateMismatchError(f"expected a state folder, got the file {path}; pass the folder that holds it")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [CONFIG_FILE, STATE_FILE, TRAINING_FILE, *_PUBLISHED_TENSORS, "config.json", "meta.json"]
    try:
        patterns = [Path(subfolder or "", name).as_posix() for name in wanted]
        return Path(snapshot_download(str(path), allow_patterns=patterns, **hub), subfolder or "")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StateMismatchError(
            f"expected a state folder or a Hugging Face repository, got {path!r}: no such folder, and the Hub says "
            f"{type(error).__name__}; check the path, or the network"
        ) from error


def _read_peft(folder: Path) -> StoredState:
    config = checks.read_json(folder / CONFIG_FILE)
    if config.get("peft_type") != "S0":
        raise StateMismatchError(
            f"expected {folder / CONFIG_FILE} to hold an S0 state, got peft_type {config.get('peft_type')!r}; "
            f"{advice_on(config.get('peft_type'))}"
        )
    version, has_gains = config.get("format_version"), checks.field({"gains": False, **config}, "gains", bool, folder)
    if version != format_version(has_gains):
        raise StateMismatchError(
            f"expected format_version {format_version(has_gains)} in {folder / CONFIG_FILE}, got {version!r}; "
            "use the s0-tuning version that wrote it"
        )
    tensors, gains = states_and_gains(checks.read_tensors(folder / STATE_FILE))
    checks.check_tensors(tensors, checks.field(config, "state_shapes", dict, folder), str(folder))
    norms = checks.field({"gain_shapes": None, **config}, "gain_shapes", dict if has_gains else NoneType, folder)
    if has_gains or gains:
        checks.check_tensors(gains, norms or {}, f"{folder}, of gains,")
    # PEFT shortens long lists to endings of names.
    targets = checks.field(config, "target_modules", (list, NoneType), folder)
    if targets is not None and not all(any(f".{name}".endswith(f".{end}") for name in tensors) for end in targets):
        raise StateMismatchError(f"expected target_modules in {folder} to name the layers, got {targets!r:.80}")
    layers = config.get("layers")
    if layers is not None and not checks.are_distinct_indices(layers):
        raise StateMismatchError(
            f"expected layers in {folder / CONFIG_FILE} to be distinct layer indices, got {layers!r:.80}"
        )
    alpha, normalize = checks.finite(config, "alpha", folder), checks.field(config, "normalize", bool, folder)
    checks.check_account(checks.field(config, "training", (dict, NoneType), folder) or {}, str(folder))
    key = NAMES_ON_DISK["kind"]
    kind = config.get(key, "state")
    if kind not in KINDS:
        raise StateMismatchError(
            f"expected {key} in {folder / CONFIG_FILE} to be one of {', '.join(KINDS)}, got {kind!r:.80}; "
            "use the s0-tuning version that wrote it"
        )
    actual = checksum({**tensors, **gains}, config)
    if config.get("checksum") != actual:
        raise StateMismatchError(
            f"expected the state and scale in {folder} to have checksum {config.get('checksum')!r}, got "
            f"{actual!r}; a file is damaged, edited or of another state: copy the folder again, and "
            "set another alpha after loading"
        )
    return StoredState(
        tensors=tensors,
        alpha=alpha,
        normalize=normalize,
        layers=None if layers is None else tuple(layers),
        recurrence=checks.field(config, NAMES_ON_DISK["recurrence"], str, folder),
        fingerprint=checks.field(config, "fingerprint", str, folder),
        base_model=checks.field(config, "base_model_name_or_path", (str, NoneType), folder),
        training=checks.field(config, "training", (dict, NoneType), folder) or {},
        kind=kind,
        gains=gains,
    )


def _read_published(folder: Path) -> StoredState:
    meta, config = checks.read_json(folder / "meta.json"), checks.read_json(folder / "config.json")
    tensors = _published_tensors(folder)
    layers = checks.field(meta, "recurrent_layers", list, folder)
    shape = checks.field(meta, "state_shape", list, folder)
    checks.check_tensors(tensors, {str(layer): shape for layer in layers}, str(folder))
    arch = checks.field(meta, "arch", str, folder)
    if arch not in {recurrence.name for recurrence in RECURRENCES}:
        raise StateMismatchError(f"expected a known arch in {folder / 'meta.json'}, got {arch!r}")
    alpha = config.get("alpha")
    return StoredState(
        tensors=tensors,
        alpha=None if alpha is None else checks.finite(config, "alpha", folder),
        normalize=checks.field({"normalize": False, **config}, "normalize", bool, folder),
        layers=None,
        recurrence=arch,
        training={"settings": config},
        layout="published",
    )


def _published_tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / PUBLISHED_STATE_FILE).is_file():
        return checks.read_tensors(folder / PUBLISHED_STATE_FILE)
    path = folder / "states.pt"
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: refuses pickled code
    except Exception as error:
        raise StateMismatchError(
            f"expected {path} to hold plain tensors, got {type(error).__name__}: {str(error).partition('.')[0]:.120}; "
            "the file is missing, damaged or unsafe"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise StateMismatchError(f"expected {path} to hold one tensor per layer, got {type(loaded).__name__}")
    tensors = {str(key): tensor for key, tensor in loaded.items()}
    if len(tensors) != len(loaded):
        raise StateMismatchError(f"expected {path} to hold one tensor per layer, got the keys {list(loaded)}")
    return tensors


# --- Against a model ---


def match(stored: StoredState, model: nn.Module, *, allow_other_base: bool = False) -> dict[str, Tensor]:
    """The stored tensors under this model's layer names, after checking that they belong to it.

    Args:
        stored: a state read from disk.
        model: the model, with or without adapters on it.
        allow_other_base: accept a state tuned on other weights of the same shape.

    Raises:
        StateMismatchError: missing or extra layers, wrong shapes, another recurrence, another base model.
    """
    mixers = find_mixers(model)
    check_recurrence(stored.recurrence, stored.base_model, model)
    model_class = type(unwrapped(model)).__name__
    if stored.layers is not None:
        mixers = {name: mixer for name, mixer in mixers.items() if layer_index(mixer) in stored.layers}
        if len(mixers) != len(stored.layers):
            raise StateMismatchError(
                f"expected a state for recurrent layers of {model_class}, got one for the layers "
                f"{list(stored.layers)}, of which it has {list(map(layer_index, mixers.values()))}"
            )
    names = {str(layer_index(mixer)) if stored.layout == "published" else name: name for name, mixer in mixers.items()}
    if set(names) != set(stored.tensors):
        missing, extra = sorted(set(names) - set(stored.tensors)), sorted(set(stored.tensors) - set(names))
        raise StateMismatchError(
            f"expected a state for the layers {sorted(names)} of {model_class}, got one with missing layers {missing} "
            f"and extra layers {extra}; it was tuned on another model or saved incompletely"
        )
    for key, name in names.items():
        expected = recurrence_of(mixers[name]).state_shape(mixers[name])
        if tuple(stored.tensors[key].shape) != expected:
            raise StateMismatchError(
                f"expected layer {key} to have shape {expected}, got {tuple(stored.tensors[key].shape)}; "
                "the state was tuned on another model"
            )
    check_gains({name: list(gain.shape) for name, gain in stored.gains.items()}, model)
    if not allow_other_base:
        check_base(stored.fingerprint, model)
    return {name: stored.tensors[key] for key, name in names.items()}


def check_recurrence(recurrence: str | None, base: str | None, model: nn.Module) -> None:
    """Refuse a model whose layers are not of the recurrence that a state was tuned for.

    Args:
        recurrence: the state's.
        base: the name of the model it was tuned on, or None.
        model: the model, with or without adapters on it.

    Raises:
        StateMismatchError: naming both recurrences and both models.
    """
    expected = sorted({recurrence_of(mixer).name for mixer in find_mixers(model).values()})
    if [recurrence] != expected:
        own = unwrapped(model)
        raise StateMismatchError(
            f"expected a state for the {' and '.join(expected)} layers of {type(own).__name__} "
            f"({_shown(vars(own).get('name_or_path'))}), got one for {recurrence} layers: it was tuned on another "
            f"model ({_shown(base)}); load it on that one, or train a state for this one"
        )


def _shown(name: str | None) -> str:
    return repr(name) if name else "name not recorded"


# --- Writing ---


def checksum(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """sha256 over what `config` says of the state, then the sorted names, shapes and little-endian float32 values.

    Args:
        tensors: raw states, and gains, by layer name.
        config: the adapter's by its keys in a file.

    Raises:
        ConfigError: a tensor of which this process holds a part only.
    """
    refuse_shards(tensors.values())
    described = [config.get(name) for name in ("alpha", "normalize", "layers")]
    kind = config.get(NAMES_ON_DISK["kind"], "state")
    if kind != "state":  # states written before there were others keep their checksum
        described.append(kind)
    if config.get("gains"):
        described.append("gains")
    digest = hashlib.sha256(json.dumps(described).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{list(tensor.shape)}:".encode())
        digest.update(tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def checksum_of_file(folder: str | Path, config: Mapping[str, Any]) -> str:
    """`checksum` of the tensors in a state folder that PEFT wrote, with the config it is about to write."""
    states, gains = states_and_gains(checks.read_tensors(Path(folder, STATE_FILE)))
    return checksum({**states, **gains}, config)


def write(
    path: str | Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], texts: Mapping[str, str] | None = None
) -> None:
    """Write a state folder, all of it or nothing (see `s0.files.write_files`).

    Args:
        path: the folder; made if need be. Other files in it are left alone.
        tensors: raw states, and gains, by layer name.
        config: the adapter's config as PEFT serialises it; the checksum is added here.
        texts: further files by name, a card for one.
    """
    keys = file_keys(tensors, config.get("gain_shapes") or {})
    keyed = {keys[name]: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = {**config, "checksum": checksum(tensors, config)}
    write_contents(Path(path), {**(texts or {}), STATE_FILE: keyed, CONFIG_FILE: described})


def write_contents(folder: Path, contents: Mapping[str, str | Mapping[str, Any]]) -> None:
    """Write tensors (`.safetensors`), texts and JSON into a folder, all or nothing (see `s0.files.write_files`)."""

    def encoded(name: str, content: str | Mapping[str, Any]) -> bytes:
        if isinstance(content, str):
            return content.encode()
        if name.endswith(".safetensors"):
            return save(dict(content), metadata={"format": "pt"})
        return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()

    write_files(folder, {name: encoded(name, content) for name, content in contents.items()})
