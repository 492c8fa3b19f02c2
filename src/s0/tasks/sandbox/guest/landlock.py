"""Landlock: a process gives up the file system, but for what it names, without being root.

Source: Linux `Documentation/userspace-api/landlock.rst` and `include/uapi/linux/landlock.h`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from s0.tasks.sandbox.guest.limits import libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Rights by the interface version that brought them: all of them are taken away."""
_NET_BIND_AND_CONNECT = 3  # from version 4
_SCOPE_SOCKETS_AND_SIGNALS = 3  # from version 6: no signal to anything outside one's own domain


def version() -> int:
    """The kernel's Landlock interface version, 0 where it has none."""
    number: int = libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(number, 0)


def ruleset(read_paths: list[str]) -> int:
    """A ruleset's file descriptor: reading beneath `read_paths` and nothing else. Used by `restrict`, once per program.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    interface = version()
    files = sum(rights for since, rights in _FILE_RIGHTS.items() if interface >= since)
    network = _NET_BIND_AND_CONNECT if interface >= 4 else 0
    scope = _SCOPE_SOCKETS_AND_SIGNALS if interface >= 6 else 0
    attributes = struct.pack("<QQQ", files, network, scope)
    size = 24 if interface >= 6 else 16 if interface >= 4 else 8
    descriptor = _call(_CREATE_RULESET, attributes, size, 0)
    for path in read_paths:
        _allow_reading(descriptor, path)
    return descriptor


def restrict(descriptor: int) -> None:
    """Put this process into a domain of its own, nested in its parent's; for good.

    Raises:
        OSError: the kernel refuses.
    """
    _call(_RESTRICT_SELF, descriptor, 0)


def _allow_reading(descriptor: int, path: str) -> None:
    rights = _READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(_ADD_RULE, descriptor, _RULE_PATH_BENEATH, struct.pack("<Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: int | bytes) -> int:
    result: int = libc().syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock call {number}: {os.strerror(error)}")
    return result
