"""Landlock: a process gives up the file system, but for what it names, without being root.

Source: Linux `Documentation/userspace-api/landlock.rst` and `include/uapi/linux/landlock.h`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from s0.tasks.sandbox.guest.limits import libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_FILE, _MOVE, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READING = _READ_FILE | _READ_DIR
_WRITING = _READING | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MOVE | _TRUNCATE
_RIGHTS_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: _MOVE, 3: _TRUNCATE, 5: 1 << 15}
"""Rights by the interface version that brought them: all of them are taken away. Before version 3 nothing here keeps
a file from being truncated: where that is so, `seccomp` refuses to open for writing, and to truncate."""
_NET_BIND_AND_CONNECT = 3  # from version 4
SCOPES = 6
"""The version from which on a domain may keep signals and abstract sockets within itself, and nothing else."""
_SCOPE_SOCKETS_AND_SIGNALS = 3


def version() -> int:
    """The kernel's Landlock interface version, 0 where it has none."""
    if sys.platform != "linux":
        return 0
    number: int = libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(number, 0)


def ruleset(read_paths: Sequence[str], list_paths: Sequence[str], write_paths: Sequence[str]) -> int:
    """The file descriptor of a ruleset; `restrict` uses it, once per program.

    It allows reading beneath `read_paths`, listing folders beneath `list_paths`, making and changing files beneath
    `write_paths`, and nothing else.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    interface = version()
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if interface >= since)
    network = _NET_BIND_AND_CONNECT if interface >= 4 else 0
    scope = _SCOPE_SOCKETS_AND_SIGNALS if interface >= SCOPES else 0
    attributes = struct.pack("<QQQ", files, network, scope)
    size = 24 if interface >= SCOPES else 16 if interface >= 4 else 8
    descriptor = _call(_CREATE_RULESET, attributes, size, 0)
    for paths, rights in ((read_paths, _READING), (list_paths, _READ_DIR), (write_paths, _WRITING & files)):
        for path in paths:
            _allow(descriptor, path, rights)
    return descriptor


def apart() -> int:
    """A ruleset for a process that may not signal or trace its parent; for kernels from version `SCOPES` on.

    Raises:
        OSError: the kernel refuses.
    """
    return _call(_CREATE_RULESET, struct.pack("<QQQ", 0, 0, _SCOPE_SOCKETS_AND_SIGNALS), 24, 0)


def restrict(descriptor: int) -> None:
    """Put this process into a domain of its own, nested in its parent's; for good.

    Raises:
        OSError: the kernel refuses.
    """
    _call(_RESTRICT_SELF, descriptor, 0)


def _allow(descriptor: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = rights if Path(path).is_dir() else rights & _RIGHTS_OF_FILES
        _call(_ADD_RULE, descriptor, _RULE_PATH_BENEATH, struct.pack("<Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: int | bytes) -> int:
    result: int = libc().syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock call {number}: {os.strerror(error)}")
    return result
