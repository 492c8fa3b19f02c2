"""Writing files so that they are either the old ones or the new ones, never half of them; and locking a place."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TextIO

_MARK, _LOCK = ".s0-scratch", ".s0-lock"
"""How names end that are ours alone, so that no other file is ever taken for one."""
_SCRATCH_NAME = re.compile(rf"\..+\.(old)?\d+-\d+{re.escape(_MARK)}")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; see `write_files`. Halves of characters, which UTF-8 has none of, are written as JSON does."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write one file; see `write_files`."""
    path = Path(path)
    write_files(path.parent, {path.name: data})


def write_files(folder: str | Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, all of them or none.

    All are written under temporary names first and have reached the disk before any takes its own name, so that not
    even a power cut leaves half a file. Several files of a new folder appear with it, at one moment; in a folder that
    is there they appear in the order given.

    Args:
        folder: made if need be. Other files in it are left alone.
        contents: by name, which may lie in a folder within the folder.

    Raises:
        OSError: something cannot be written; the old files are there as before, and nothing else.
    """
    folder = Path(folder)
    made = _make_folders({folder.parent})
    is_new = len(contents) > 1 and not folder.exists()
    try:
        if is_new:
            _write_new_folder(folder, contents)
        else:
            made += _make_folders({Path(folder, name).parent for name in contents})
            _replace_all({Path(folder, name): data for name, data in contents.items()})
    except BaseException:
        _remove_empty(made)
        raise


def _write_new_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    scratch = _scratch(folder)
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed writer with this process's number
    try:
        for name, data in contents.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _blamed_on(folder / name):
                _write_through(target, data)
        with _blamed_on(folder):
            scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _sync_folder(folder.parent)


def _write_through(path: Path, data: bytes) -> None:
    """Write a file as far as the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folders(wanted: set[Path]) -> list[Path]:
    """Make what is missing of these folders; what was made, parents first."""
    missing = sorted({part for folder in wanted for part in (folder, *folder.parents) if not part.exists()})
    try:
        for folder in sorted(wanted):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # not empty, or not made
            folder.rmdir()


def _replace_all(targets: Mapping[Path, bytes]) -> None:
    replaced: list[Path] = []
    try:
        for target, data in targets.items():
            with _blamed_on(target):
                _write_through(_scratch(target), data)
        for target in targets:
            with _blamed_on(target):
                if len(targets) > 1:
                    _keep_old(target)
                _scratch(target).replace(target)
            replaced.append(target)
    except BaseException:
        for target in replaced:
            old = _scratch(target, "old")
            with suppress(OSError):
                old.replace(target) if old.exists() else target.unlink()
        raise
    finally:
        for target in targets:
            for scratch in (_scratch(target), _scratch(target, "old")):
                with suppress(OSError):
                    scratch.unlink(missing_ok=True)
    for parent in {target.parent for target in targets}:
        _sync_folder(parent)


def _keep_old(target: Path) -> None:
    """A second name for the file that is about to be replaced, to put it back by."""
    if target.exists():
        old = _scratch(target, "old")
        old.unlink(missing_ok=True)  # of a killed writer with this process's number
        try:
            os.link(target, old)
        except OSError:  # some file systems know no second names
            shutil.copyfile(target, old)


def _scratch(target: Path, kind: str = "") -> Path:
    return target.with_name(f".{target.name}.{kind}{os.getpid()}-{threading.get_ident()}{_MARK}")


def remove_leftovers(path: str | Path) -> None:
    """Remove what writers that were killed have left; nobody else may be writing there.

    Args:
        path: whose writers. Where it is a folder, also those of what lies in it, and in the folders in it.
    """
    path = Path(path)
    beside, within = path.parent.glob(f".{escape(path.name)}.*{_MARK}"), f".*{_MARK}"
    for scratch in (*beside, *path.glob(within), *path.glob(f"*/{within}")):
        if _SCRATCH_NAME.fullmatch(scratch.name):
            with suppress(OSError):
                shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with suppress(OSError):  # some network file systems cannot; the files themselves are safe by now
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within this context no other process has `path` locked, which need not exist.

    An advisory lock on a file beside it, which the system frees when this process ends, however it ends. Where the file
    system knows no locks, nothing is locked.

    Raises:
        BlockingIOError: another process has it; says which.
        OSError: nothing can be written beside `path`.
    """
    real = Path(os.path.realpath(path))  # one place may have several names
    lock = real.with_name(f".{real.name}{_LOCK}")
    made: list[Path] = []
    try:
        with _blamed_on(path):
            made = _make_folders({lock.parent})
            file = _lock_file(lock, path)
        try:
            with _blamed_on(path):
                file.write(str(os.getpid()))
                file.flush()
            yield
        finally:
            with suppress(OSError):  # the work is done, whatever becomes of the lock
                lock.unlink(missing_ok=True)  # before it is freed: nobody else can have taken it
            with suppress(OSError):
                file.close()
    finally:
        _remove_empty(made)


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Errors name `path`, which the user knows, and not a file that stands for it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _lock_file(lock: Path, path: Path) -> TextIO:
    """The file of a lock, locked and empty."""
    while True:
        file = _opened(lock)
        if os.name != "posix":
            break
        import fcntl  # of POSIX alone

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read() or "another one"
            file.close()
            raise BlockingIOError(
                f"expected no other process to write {path}, got process {holder} doing so; wait for its end, or "
                "choose another place"
            ) from None
        except OSError:  # some network file systems
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                break
        file.close()  # its last holder removed it in the meantime
    file.truncate(0)
    return file


def _opened(lock: Path) -> TextIO:
    """The file of a lock, made if need be. What else may stand under its name is not ours to write."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    foreign = FileExistsError(f"expected {lock} to be a lock of this program, got something else; move it away")
    try:
        descriptor = os.open(lock, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise foreign from error
        raise
    file_facts = os.fstat(descriptor)
    is_plain = stat.S_ISREG(file_facts.st_mode) and file_facts.st_nlink <= 1
    content = os.pread(descriptor, 32, 0) if is_plain else b"foreign"
    if content and not content.isdigit():
        os.close(descriptor)
        raise foreign
    return os.fdopen(descriptor, "r+", encoding="utf-8")
