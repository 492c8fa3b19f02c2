"""The settings of one state as PEFT keeps them: beside a model, and in the folder of a state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.utils import WEIGHTS_NAME, PeftType
from torch import Tensor

from s0.adapter import checks, state_files
from s0.adapter.card import write_card
from s0.adapter.names_on_disk import on_disk
from s0.core.raw_states import RawStates
from s0.errors import ConfigError, StateMismatchError

_LOADS_A_STATE: ContextVar[bool] = ContextVar("loads_a_state", default=False)


@contextmanager
def loading_a_state() -> Iterator[None]:
    """Within this context PEFT reads a config to load its state, so that a config alone will not do."""
    before = _LOADS_A_STATE.set(True)
    try:
        yield
    finally:
        _LOADS_A_STATE.reset(before)


@dataclass
class S0AdapterConfig(PeftConfig):
    """Settings of one state.

    Attributes:
        kind: "state", where sequences start from; or "offset", which every step reads beside its state, at a cost
            per step (see `s0.core.offset`).
        alpha: scale of the effective state, applied in training and inference alike.
        normalize: divide each layer's state by its norm first.
        layers: indices of the layers to tune; None for every recurrent layer.
        gains: learn a factor for each number that the model's RMSNorms give, too (see `s0.core.gains`); of all norms,
            whatever `layers` says, and not scaled by `alpha`.
        init: "zeros", or the folder of a state to start from.
        allow_other_base: accept a state that was tuned on other weights of the same shape.
        target_modules: set by this library to the names of the tuned layers.
        recurrence: the name of the tuned layers'.
        format_version, state_shapes, gain_shapes, fingerprint, checksum, training: see `s0.adapter.state_files`.
    """

    kind: str = "state"
    alpha: float = 1.0
    normalize: bool = False
    layers: list[int] | None = None
    gains: bool = False
    init: str = "zeros"
    allow_other_base: bool = False
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    format_version: int | None = None
    recurrence: str | None = None
    state_shapes: dict[str, list[int]] | None = None
    gain_shapes: dict[str, list[int]] | None = None
    fingerprint: str | None = None
    checksum: str | None = None
    training: dict[str, Any] | None = field(default=None)
    # PEFT makes a config of a file by calling this class with the file's keys (see `s0.adapter.names_on_disk`).
    family: InitVar[str | None] = None
    variant: InitVar[str | None] = None
    # Without annotations, so that they are no fields, which PEFT would write to the file.
    _is_from_file = False  # whether recurrence, state_shapes and fingerprint are claims to check, or to be filled in
    _on_model = (
        "",
        dict[str, RawStates](),
    )  # the adapter's name, and where each layer keeps its state

    def __post_init__(self, family: str | None, variant: str | None) -> None:
        self.recurrence = self.recurrence if family is None else family
        self.kind = self.kind if variant is None else variant
        try:
            super().__post_init__()
        except ValueError as error:  # PEFT's check of task_type
            raise ConfigError(str(error)) from error
        self.peft_type = PeftType("S0")  # a member since `s0.adapter.patches.install`
        if self.kind not in state_files.KINDS:
            raise ConfigError(f"expected kind to be one of {', '.join(state_files.KINDS)}, got {self.kind!r}")
        checks.check_scale(self.alpha, self.normalize)
        if self.layers is not None and not checks.are_distinct_indices(self.layers):
            raise ConfigError(f"expected layers to be distinct layer indices, got {self.layers!r}; None tunes them all")
        if not isinstance(self.init, str) or not self.init:
            raise ConfigError(f"expected init to be 'zeros' or the folder of a state, got {self.init!r}")
        if self.modules_to_save:
            raise ConfigError(
                f"expected no modules_to_save, got {self.modules_to_save!r}: a state file holds only states"
            )
        if not isinstance(self.gains, bool) or (self.gains and self.kind != "state"):
            raise ConfigError(f"expected gains to be True beside a state, or False, got {self.gains!r} ({self.kind})")
        version = state_files.format_version(self.gains)
        if self.format_version not in (None, version):
            raise StateMismatchError(
                f"expected format_version {version}, got {self.format_version!r}; use the s0-tuning version that wrote "
                "the state"
            )
        self.format_version = version
        # Only a file tells a checksum. Trust in another base is the caller's to give, not the file's; and the start
        # of a finished training is history.
        if self.checksum is not None:
            self._is_from_file, self.allow_other_base, self.init = True, False, "zeros"

    def to_dict(self) -> dict[str, Any]:
        """The settings by their keys in a file."""
        return on_disk(super().to_dict())

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write the config of a state that is being saved, with the checksum of its tensors, and a model card.

        Raises:
            ConfigError: PEFT has written the tensors as a pickle, which is never loaded; or this process holds only
                parts of them.
        """
        if (Path(save_directory) / WEIGHTS_NAME).is_file():
            raise ConfigError(
                f"expected no {WEIGHTS_NAME} in {save_directory}: pickles are never loaded; remove it and save with "
                "safe_serialization=True"
            )
        described, states = copy.copy(self), self._states()
        # PEFT writes the tensors before it calls this, transformers afterwards: what lies there is then of an earlier
        # save. PEFT alone passes this argument (peft 0.21, transformers 5.23), which tells the two apart.
        if "auto_mapping_dict" not in kwargs and states and self.checksum is None:
            described.checksum = state_files.checksum(states, self.to_dict())
        elif (Path(save_directory) / state_files.STATE_FILE).is_file():
            described.checksum = state_files.checksum_of_file(save_directory, self.to_dict())
        if described.checksum is not None:
            write_card(save_directory, self.to_dict())
        super(S0AdapterConfig, described).save_pretrained(save_directory, **kwargs)

    def _states(self) -> dict[str, Tensor]:
        """The adapter's raw states and gains by layer name; none before it is on a model, or once it is deleted."""
        name, layers = self._on_model
        return {layer: raw(name) for layer, raw in layers.items() if name in raw}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> S0AdapterConfig:
        """Read a config, after checking the whole state beside it; one that was saved by itself has none.

        Raises:
            StateMismatchError: as `s0.adapter.state_files.read`.
        """
        hub = {name: kwargs[name] for name in state_files.HUB_SETTINGS if kwargs.get(name) is not None}
        folder = state_files.locate(pretrained_model_name_or_path, subfolder, **hub)
        if _LOADS_A_STATE.get() or not state_files.is_config_alone(folder):
            state_files.read(folder, kind=None)
        config: S0AdapterConfig = super().from_pretrained(pretrained_model_name_or_path, subfolder, **kwargs)
        config.checksum = None  # it speaks of the file, which is checked now, not of what training may make of it
        return config
