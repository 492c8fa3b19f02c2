"""Writing a file so that it is either the old one or the new one, never half of it."""

from __future__ import annotations

import os
from contextlib import suppress
from glob import escape
from pathlib import Path


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write under a temporary name beside `path`, then rename; folders are made if need be.

    The new file has reached the disk before it takes the old one's name, so that not even a power cut leaves half of
    it. What goes wrong raises OSError and leaves the old file and nothing else.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files of writers of `path` that were killed; nobody else may be writing it."""
    path = Path(path)
    for scratch in path.parent.glob(f".{escape(path.name)}.*"):
        if scratch.suffix[1:].isdigit():
            with suppress(OSError):
                scratch.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot; the file itself is safe by now
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
