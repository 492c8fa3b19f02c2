"""The states that a server has: by which names, from which folders, and which of them are on the model now.

    name in the API  ->  folder  ->  versions on the model, each under a name of its own that no request sees

A state is read when it is added, with every check of the library's. Beyond `max_states` the least recently used ones
leave the model; their folders stay known, and they come back when asked for. A folder whose files have changed is a new
version from the next request on; requests that run end on the version that they began with, which then leaves.

A name that nobody has added may be one of a folder that states may be loaded from: it is added when it is asked for.

Everything but `names` and `require` is called from one thread, the one that runs the model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from s0.adapter import checks
from s0.adapter.attach import detach
from s0.adapter.kinds import advice_on
from s0.adapter.load import put, read
from s0.adapter.state_files import CONFIG_FILE, StoredState
from s0.core.families import find_mixers, recurrence_of
from s0.core.norms import norms_of
from s0.core.states import BASE
from s0.errors import ConfigError, StateMismatchError, UnknownStateError
from s0.serve.folders import FILES, NAME, TENSOR_FILES, Stamp, StateFolders, stamp_of

_HEADER_BYTES = 1 << 20
"""More than the names of all layers take in a safetensors file."""

Signature = tuple[Stamp, ...]
"""By which a changed state is known: the stamp of each of `FILES`."""


@dataclass(eq=False)
class Version:
    """What a request starts from.

    Attributes:
        name: of the state in the API.
        adapter: the name on the model's state layers; "__base__" for the untouched model.
        digest: of what enters the model; "base" for the untouched model.
        is_pinned: it stays on the model, however long nobody has asked for it.
        n_requests: that run on it.
    """

    name: str
    adapter: str
    digest: str
    is_pinned: bool
    signature: Signature = ()
    n_requests: int = 0
    is_newest: bool = True


@dataclass
class _Entry:
    folder: Path
    is_pinned: bool
    digest: str
    is_confined: bool  # to the folders that requests may find states in
    newest: Version | None = None  # None while none is on the model


@dataclass(frozen=True)
class Listed:
    """A state that requests can ask for, and where it is.

    Attributes:
        is_on_model: now; else it comes there when it is asked for.
        is_loaded: it was read and checked; else a request would find it in a folder.
    """

    name: str
    folder: Path
    is_pinned: bool
    is_on_model: bool
    is_loaded: bool


class Registry:
    """Named states of one model."""

    def __init__(self, model: nn.Module, base_name: str, *, folders: Sequence[Path] = (), max_states: int = 64) -> None:
        """Begin with the untouched model alone.

        Args:
            model: a transformers model; states are put on it, switched off.
            base_name: what requests call the untouched model.
            folders: in which requests may find states: by their names there, or by `add_from_request`.
            max_states: that are on the model at the same time.

        Raises:
            ConfigError: max_states is below 1, or a folder is none.
        """
        if max_states < 1:
            raise ConfigError(f"expected `max_states` >= 1, got {max_states}")
        self.base_name = base_name
        self.max_states = max_states
        self._model: Any = model
        self._folders = StateFolders(folders)
        shapes = [recurrence_of(mixer).state_shape(mixer) for mixer in find_mixers(model).values()]
        n_gains = sum(norm.get_parameter("weight").numel() for norm in norms_of(model).values())
        self._most_bytes = 4 * (sum(map(math.prod, shapes)) + n_gains) + _HEADER_BYTES
        self._entries: dict[str, _Entry] = {}
        self._on_model: dict[str, Version] = {}  # by adapter, the least recently used one first
        self._numbers = count()
        self._base = Version(base_name, BASE, "base", is_pinned=True)

    # --- What there is ---

    @property
    def names(self) -> list[str]:
        """The states' names, without the base model's: those that were added, then those that a request would find.

        Of these no tensors are read, so that one may turn out to be of another model. Safe from any thread.
        """
        return [state.name for state in self.listed()]

    def listed(self) -> list[Listed]:
        """Each of these, with where it is; safe from any thread."""
        added = self._entries.copy()
        taken = {self.base_name, *added}
        return [
            *(
                Listed(name, entry.folder, entry.is_pinned, entry.newest is not None, is_loaded=True)
                for name, entry in added.items()
            ),
            *(
                Listed(name, folder, is_pinned=False, is_on_model=False, is_loaded=False)
                for name, folder in self._folders.all_named().items()
                if name not in taken and self._seems_a_state(folder)
            ),
        ]

    @property
    def n_on_model(self) -> int:
        """States on the model, old versions that requests still run on included."""
        return len(self._on_model)

    def require(self, name: str) -> None:
        """Refuse a name that stands for nothing; safe from any thread.

        Raises:
            UnknownStateError: neither the base model nor a state is called so.
        """
        if name != self.base_name and name not in self._entries:
            self._folder_named(name)

    def add(self, name: str, folder: Path, *, is_pinned: bool = False) -> None:
        """Make the state in a folder known under a name, once everything about it was checked.

        Args:
            name: for requests.
            folder: of this package's layout or the published one, in safetensors.
            is_pinned: it never leaves the model to make room for others.

        Raises:
            ConfigError: a name that is taken or cannot be one; a state that is there under another name; no room for
                so many pinned ones.
            StateMismatchError: no state of this model, or a damaged one; names the state.
        """
        self._add(name, folder, is_pinned=is_pinned, is_confined=False)

    def _add(self, name: str, folder: Path, *, is_pinned: bool, is_confined: bool) -> None:
        self._require_free(name)
        entry, stored, signature = self._checked(name, folder, is_pinned, is_confined)
        for other, there in self._entries.items():
            if there.folder == entry.folder or there.digest == entry.digest:
                raise ConfigError(
                    f"expected a state for {name!r} that is not there yet, got the one that is served as {other!r}; "
                    "ask for that"
                )
        self._require_place(name, is_pinned)
        self._entries[name] = entry
        if is_pinned or len(self._on_model) < self.max_states:
            self._make_room()
            self._put(name, entry, stored, signature)

    def _checked(
        self, name: str, folder: Path, is_pinned: bool, is_confined: bool
    ) -> tuple[_Entry, StoredState, Signature]:
        """The entry of a state whose files were read and checked, with what was read."""
        folder = Path(os.path.realpath(folder))
        signature = _signature(folder)
        stored = self._read(name, folder)
        return _Entry(folder, is_pinned, _digest(stored), is_confined), stored, signature

    def add_from_request(self, name: str, path: str) -> None:
        """The same for a path from outside: absolute, or relative to one of the allowed folders.

        Raises:
            ConfigError: as `add`; or the path, or a file there, is not in one of these folders, links followed.
            StateMismatchError: as `add`.
        """
        self._require_free(name)
        folder = self._folders.at(path)
        if folder is None:
            raise ConfigError(
                f"expected `lora_path` of {name!r} to be a folder within those that states may be loaded from, got "
                f"{path!r:.200}; " + ("copy it there" if self._folders else "start the server with --states-dir")
            )
        self._add(name, folder, is_pinned=False, is_confined=True)

    def remove(self, name: str) -> None:
        """Forget a state; requests that run on it end on it, and the next one of its name may find it in a folder.

        Raises:
            UnknownStateError: none was added under that name.
            ConfigError: it is the base model, or pinned.
        """
        if name == self.base_name:
            raise ConfigError(f"expected a state's name, got {name!r}, the base model, which stays")
        if name not in self._entries:
            raise UnknownStateError(f"expected the name of a state that was loaded, got {name!r}")
        if self._entries[name].is_pinned:
            raise ConfigError(f"expected a state that was loaded by a request, got {name!r}, which is pinned")
        entry = self._entries.pop(name)
        if entry.newest is not None:
            self._retire(entry.newest)

    # --- What requests start from ---

    def acquire(self, name: str) -> Version | None:
        """The newest version of a state, on the model until as many `release`s; None while there is no room for it.

        Raises:
            UnknownStateError: there is none of that name.
            StateMismatchError: its files are gone, or damaged by now.
            ConfigError, StateMismatchError: as `add`, of one that lies in a folder and was not asked for before.
        """
        if name == self.base_name:
            return self._base
        version = self._newest(name) if name in self._entries else self._newly_added(name)
        if version is not None:
            version.n_requests += 1
            self._on_model[version.adapter] = self._on_model.pop(version.adapter)
        return version

    def _newest(self, name: str) -> Version | None:
        entry = self._entries[name]
        version, signature = entry.newest, _signature(entry.folder)
        if version is None or version.signature != signature:
            is_idle = version is not None and version.n_requests == 0
            if not (is_idle or self._has_room()):
                return None
            version = self._renewed(name, entry, signature)
        return version

    def _newly_added(self, name: str) -> Version | None:
        """The first version of a state that was found by its name in a folder, whatever else has the same content."""
        folder = self._folder_named(name)
        self._require_place(name, is_pinned=False)
        if not self._has_room():
            return None
        entry, stored, signature = self._checked(name, folder, is_pinned=False, is_confined=True)
        self._entries[name] = entry
        self._make_room()
        return self._put(name, entry, stored, signature)

    def release(self, version: Version) -> None:
        """A request that has acquired a version has ended."""
        if version is self._base:
            return
        version.n_requests -= 1
        if not version.is_newest:
            self._retire(version)

    def _folder_named(self, name: str) -> Path:
        folder = self._folders.named(name)
        if folder is None:
            raise UnknownStateError(
                f"expected `model` to be the base model {self.base_name!r} or one of its states, got {name!r}; "
                "GET /v1/models lists them"
            )
        return folder

    def _renewed(self, name: str, entry: _Entry, signature: Signature) -> Version:
        """The version that its folder holds now, put on the model unless it is there."""
        if entry.is_confined and self._folders.at(str(entry.folder)) != entry.folder:
            raise StateMismatchError(
                f"the state {name!r}: expected {entry.folder} to be a folder within those that states may be loaded "
                "from, links followed, got none by now; unload it, or put it back"
            )
        stored = self._read(name, entry.folder)
        digest, old = _digest(stored), entry.newest
        if old is not None and old.digest == digest:
            old.signature = signature  # written again, or a file beside it
            return old
        if old is not None:
            entry.newest = None
            self._retire(old)
        self._make_room()
        entry.digest = digest
        return self._put(name, entry, stored, signature)

    # --- The model ---

    def _require_place(self, name: str, is_pinned: bool) -> None:
        """Refuse a state that no end of a request would make room for."""
        pins = [is_pinned, *(entry.is_pinned for entry in self._entries.values())]
        if sum(pins) + (not all(pins)) > self.max_states:  # what is not pinned needs a place to come to
            raise ConfigError(
                f"expected room for {name!r} on the model, got `max_states={self.max_states}` and {sum(pins)} pinned "
                "states; raise it, or pin fewer"
            )

    def _has_room(self) -> bool:
        return len(self._on_model) < self.max_states or any(map(_can_leave, self._on_model.values()))

    def _make_room(self) -> None:
        """Take the least recently used states off the model until there is room for one more, as far as they can."""
        for version in [version for version in self._on_model.values() if _can_leave(version)]:
            if len(self._on_model) < self.max_states:
                break
            self._entries[version.name].newest = None
            self._retire(version)

    def _retire(self, version: Version) -> None:
        version.is_newest = False
        if version.n_requests == 0:
            del self._on_model[version.adapter]
            base = detach(self._model, version.adapter)
            if not self._on_model:
                self._model = base  # as it was before the first state

    def _put(self, name: str, entry: _Entry, stored: StoredState, signature: Signature) -> Version:
        version = Version(name, f"served_{next(self._numbers)}", entry.digest, entry.is_pinned, signature)
        self._model = put(stored, self._model, version.adapter)
        self._on_model[version.adapter] = version
        entry.newest = version
        return version

    # --- What is refused ---

    def _require_free(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"expected a state's name of at most 128 letters, digits and . _ : / @ + -, got {name!r:.140}"
            )
        if name == self.base_name:
            raise ConfigError(f"expected a name for a state, got {name!r}, which is the base model's; choose another")
        if name in self._entries:
            raise ConfigError(f"expected a new name, got {name!r}, under which a state is served; unload it first")

    def _read(self, name: str, folder: Path) -> StoredState:
        try:
            self._require_plain_files(folder)
            return read(folder, self._model)
        except StateMismatchError as error:
            raise StateMismatchError(f"the state {name!r}: {error}") from error

    def _seems_a_state(self, folder: Path) -> bool:
        """Whether a folder's files, unread, are a state's."""
        try:
            self._require_plain_files(folder)
        except StateMismatchError:
            return False
        return True

    def _require_plain_files(self, folder: Path) -> None:
        """Refuse what is no folder of plain files in sizes that a state of this model can have."""
        if not folder.is_dir():
            raise StateMismatchError(f"expected a local folder, got {folder}; download or copy the state first")
        for file in FILES:
            path = folder / file
            if path.exists() and not path.is_file():
                raise StateMismatchError(f"expected {path} to be a plain file; make it one")
        kind = checks.read_json(folder / CONFIG_FILE).get("peft_type") if (folder / CONFIG_FILE).exists() else "S0"
        if kind != "S0":
            raise StateMismatchError(
                f"expected an S0 state in {folder}, got an adapter of {kind!r:.40}; {advice_on(kind)}"
            )
        for file in TENSOR_FILES:
            path = folder / file
            if path.exists() and path.stat().st_size > self._most_bytes:
                raise StateMismatchError(
                    f"expected {path} to have at most {self._most_bytes} bytes, as a state of this model has, got "
                    f"{path.stat().st_size}"
                )
        if not any((folder / file).exists() for file in TENSOR_FILES):
            raise StateMismatchError(
                f"expected one of {' and '.join(TENSOR_FILES)} in {folder}, got neither; pickled states are not served"
            )


def _can_leave(version: Version) -> bool:
    return version.n_requests == 0 and not version.is_pinned


def _signature(folder: Path) -> Signature:
    return tuple(stamp_of(folder / file) for file in FILES)


def _digest(stored: StoredState) -> str:
    return stored.checksum[:16]
