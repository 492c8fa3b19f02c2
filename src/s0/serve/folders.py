"""The folders from which requests may have states loaded: what lies within them, links followed, and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from s0.adapter.state_files import CONFIG_FILE, PUBLISHED_STATE_FILE, STATE_FILE
from s0.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
"""What a state may be called by requests."""
TENSOR_FILES = (STATE_FILE, PUBLISHED_STATE_FILE)
FILES = (CONFIG_FILE, *TENSOR_FILES, "config.json", "meta.json")
"""All that is ever read of a state."""

Stamp = tuple[int, int, int] | None
"""By which a changed file is known: inode, size and time; None where there is none."""


def stamp_of(file: Path) -> Stamp:
    """The stamp that a file has now."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class StateFolders:
    """Some folders; where two of them hold the same name, the first one's counts."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Take folders that are there.

        Raises:
            ConfigError: one is none.
        """
        for root in roots:
            if not root.is_dir():
                raise ConfigError(f"expected `states_dir` to be a folder, got {root}; make it first")
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._roots)

    def at(self, path: str) -> Path | None:
        """The folder at a path from outside, absolute or relative to one of these; None unless all of it lies within.

        A link that leads out of its folder, from the path or from a file there, is as good as nothing.
        """
        if not path or "\0" in path:
            return None
        return next((folder for root in self._roots if (folder := _within(root, path)) is not None), None)

    def named(self, name: str) -> Path | None:
        """The folder of this name directly in one of these, where it has a file that tensors may lie in."""
        if "/" in name or not NAME.fullmatch(name):
            return None
        folder = self.at(name)
        return folder if folder is not None and any((folder / file).exists() for file in TENSOR_FILES) else None

    def all_named(self) -> dict[str, Path]:
        """All of these, in the order of their names; no file is opened."""
        names = sorted({name for root in self._roots for name in _names_in(root)})
        return {name: folder for name in names if (folder := self.named(name)) is not None}


def _within(root: Path, path: str) -> Path | None:
    try:
        folder = Path(os.path.realpath(root / path))
    except ValueError:  # no text that a file's name can be
        return None
    if root not in folder.parents or not _is_folder(folder):
        return None
    is_all_inside = all(root in Path(os.path.realpath(folder / file)).parents for file in FILES)
    return folder if is_all_inside else None


def _names_in(root: Path) -> list[str]:
    try:
        return [entry.name for entry in root.iterdir()]
    except OSError:  # it is gone by now, as a disk can be
        return []


def _is_folder(path: Path) -> bool:
    """Whether it is one, and can be looked into."""
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:  # a name too long for any file system
        return False
