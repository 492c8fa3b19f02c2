"""Resource limits and rights that every judged program gives up before its first line runs."""

from __future__ import annotations

import ctypes
import functools
import resource
import sys

_OPEN_FILES = 32
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_CAP_AMBIENT_CLEAR_ALL = 4
_LAST_CAPABILITY = 63
_CAPABILITY_VERSION_3 = 0x20080522
SYS_ADMIN = 1 << 21
"""The capability to mount."""


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library; cached, since opening it costs more than most calls to it."""
    return ctypes.CDLL(None, use_errno=True)


def set_resource_limits(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Bound this process for good: hard limits, which an unprivileged process cannot raise again.

    macOS refuses to bound the address space, so memory is not limited there.
    """
    bounds = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_NPROC": 1,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    if sys.platform == "darwin":
        del bounds["RLIMIT_AS"]
    for name, bound in bounds.items():
        number = getattr(resource, name, None)  # not every system has every limit
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(number, (value, value))
    _limit_processor_time(cpu_s)


def _limit_processor_time(cpu_s: int) -> None:
    """A second between the soft and the hard limit: only the soft one ends a process with a signal that says why."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    last_s = cpu_s + 1 if hard == resource.RLIM_INFINITY else min(cpu_s + 1, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(cpu_s, last_s), last_s))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    libc().prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def drop_privileges() -> None:
    """Give up the way to any new right; `no_new_privs` is what seccomp and Landlock ask for."""
    if libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs refused")
    for capability in range(_LAST_CAPABILITY + 1):
        libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for numbers this kernel does not know
    libc().prctl(_PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def keep_capabilities(mask: int) -> None:
    """Give up every capability that is not in `mask`."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask)  # effective, permitted; nothing inheritable, nothing above number 31
    if libc().capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset refused")
