"""A view of the machine of one's own: user, mount, pid, network, ipc and host-name namespaces.

The root directory becomes an empty, read-only tmpfs with nothing in it but the paths the interpreter needs, bound
read-only at their own places, and a tmp; there is no /proc, no /dev and no home. Works unprivileged where the kernel
lets users make user namespaces. Source: Linux `unshare(2)`, `pivot_root(2)`, `mount_setattr(2)`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from s0.tasks.sandbox.guest.limits import libc

_NEW_USER, _NEW_MOUNT, _NEW_PID, _NEW_NET = 0x10000000, 0x00020000, 0x20000000, 0x40000000
_NEW_IPC, _NEW_UTS = 0x08000000, 0x04000000
_MS_PRIVATE, _MS_RECURSIVE, _MS_BIND, _MS_REMOUNT, _MNT_DETACH = 1 << 18, 1 << 14, 1 << 12, 1 << 5, 2
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_READ_ONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_MOUNT_SETATTR = 442
_UNPRIVILEGED_ID = 65534
_FILES_IN_TMP = 1000
_HOST_NAME = b"s0"

TMP_PARENT = "/var"
TMP = "/var/tmp"
"""A program's temporary folder, to which /tmp is a link. Landlock grants it by its parent, which
outlives what is mounted on it."""
LIBRARY = "/library"
"""Where bubblewrap shows the folders of the library a second time, by number."""


def enter(read_paths: Sequence[str]) -> None:
    """Go into namespaces of one's own; returns in a child that is process 1 there. The caller only waits for it.

    The user and group inside are 65534 ("nobody"), mapped to the caller's own: a lone mapping needs no privilege.

    Raises:
        OSError: the kernel or the container does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    _check(libc().unshare(_NEW_USER | _NEW_MOUNT | _NEW_PID | _NEW_NET | _NEW_IPC | _NEW_UTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_UNPRIVILEGED_ID} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_UNPRIVILEGED_ID} {group} 1")
    _check(libc().sethostname(_HOST_NAME, len(_HOST_NAME)), "sethostname")
    _build_root(read_paths)
    child = os.fork()
    if child:
        _wait_and_exit(child)


def keep_only(read_paths: Sequence[str], folders: Sequence[str]) -> None:
    """Leave in the library's `folders`, which bubblewrap shows whole, the entries that are granted.

    Raises:
        OSError: the kernel does not allow it.
    """
    for number, folder in enumerate(folders):
        _mount(b"tmpfs", folder, b"tmpfs", _NOSUID | _NODEV, b"size=1m,mode=755")
        for path in read_paths:
            if path.startswith(f"{folder}/"):
                source = f"{LIBRARY}/{number}{path.removeprefix(folder)}"
                _bind(source, path, is_directory=Path(source).is_dir())  # read-only, as its source is
        _mount(None, folder, None, _MS_REMOUNT | _MS_BIND | _READ_ONLY | _NOSUID | _NODEV, None)
    _mount(b"tmpfs", LIBRARY, b"tmpfs", _READ_ONLY | _NOSUID | _NODEV, b"size=1m,mode=755")


def mount_fresh_tmp(size_bytes: int) -> None:
    """Put an empty file system in memory on `TMP`; the one before it is gone, with all that was in it.

    Raises:
        OSError: the kernel does not allow it.
    """
    libc().umount2(TMP.encode(), _MNT_DETACH)  # the first time there is none
    options = f"size={size_bytes},nr_inodes={_FILES_IN_TMP},mode=777".encode()
    _mount(b"tmpfs", TMP, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def _wait_and_exit(child: int) -> None:
    os.closerange(0, 3)  # the child's end of the control connection must be the only one
    status = os.waitpid(child, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _build_root(read_paths: Sequence[str]) -> None:
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in read_paths}
    _mount(None, "/", None, _MS_PRIVATE | _MS_RECURSIVE)
    root = "/tmp"  # any directory does: what is mounted on it is seen in this namespace alone
    _mount(b"tmpfs", root, b"tmpfs", 0, b"size=1m,mode=755")
    for path, source in sources.items():
        # through the descriptor, since the new mount may hide the source
        _bind(f"/proc/self/fd/{source}", root + path, is_directory=Path(f"/proc/self/fd/{source}").is_dir())
        os.close(source)
    Path(root + TMP).mkdir(parents=True, exist_ok=True)
    if not Path(root, "tmp").exists():  # else the interpreter lies there
        Path(root, "tmp").symlink_to(TMP)
    _make_read_only(root)
    os.chdir(root)
    _check(libc().pivot_root(b".", b"."), "pivot_root")
    _check(libc().umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def _bind(source: str, target: str, *, is_directory: bool) -> None:
    if is_directory:
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    _mount(source.encode(), target, None, _MS_BIND | _MS_RECURSIVE)


def _make_read_only(root: str) -> None:
    attributes = struct.pack("<QQQQ", _READ_ONLY | _NOSUID | _NODEV, 0, 0, 0)
    arguments = (_AT_FDCWD, os.fsencode(root), _AT_RECURSIVE, attributes, len(attributes))
    _check(libc().syscall(_MOUNT_SETATTR, *arguments), "mount_setattr")


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    _check(libc().mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), data), f"mount on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
