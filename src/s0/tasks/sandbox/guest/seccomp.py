"""seccomp: a list of the kernel calls a judged program may make; every other call fails with "not permitted".

An allow-list, so that a call the kernel gains tomorrow is refused. What is missing is missing on purpose: sockets
(the one connection to the checker is read and written as a file), new processes, threads and programs (a program is
one thread of one process, so ending it ends all of it), signals to others, tracing, shared memory, io_uring, and pipes
(the numbers of their inodes go on counting from one program to the next). What makes or changes files is allowed only
where a program has a private tmp and all else is read-only.

Source: Linux `seccomp(2)`, `include/uapi/linux/filter.h`; numbers from `asm/unistd_64.h` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import sys

from s0.tasks.sandbox.guest.limits import libc

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH value and column of the table below."""

_NO = -1
_ALLOWED = {
    # files that are open, and opening and looking (Landlock decides what may be opened)
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "lseek": (8, 62), "close": (3, 57), "dup": (32, 23), "dup2": (33, _NO), "dup3": (292, 24),
    "stat": (4, _NO), "fstat": (5, 80), "lstat": (6, _NO),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, _NO), "faccessat": (269, 48),
    "faccessat2": (439, 439), "getdents64": (217, 61), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "readlink": (89, _NO), "readlinkat": (267, 78),
    "poll": (7, _NO), "ppoll": (271, 73), "select": (23, _NO), "pselect6": (270, 72),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "madvise": (28, 233),
    # time, chance, facts about itself
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, _NO), "times": (100, 153), "getrusage": (98, 165),
    "getrandom": (318, 278), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "uname": (63, 160), "sysinfo": (99, 179),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getrlimit": (97, 163), "umask": (95, 166),
    # its own signals, timers, locks and end
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "getitimer": (36, 102), "setitimer": (38, 103), "alarm": (37, _NO),
    "set_robust_list": (273, 99), "rseq": (334, 293), "restart_syscall": (219, 128), "exit": (60, 93),
    "exit_group": (231, 94),
}  # fmt: skip
_WRITING = {
    "pwrite64": (18, 68), "truncate": (76, 45), "ftruncate": (77, 46), "fsync": (74, 82), "fdatasync": (75, 83),
    "mkdir": (83, _NO), "mkdirat": (258, 34), "rmdir": (84, _NO), "unlink": (87, _NO), "unlinkat": (263, 35),
    "rename": (82, _NO), "renameat": (264, 38), "renameat2": (316, 276), "chmod": (90, _NO), "fchmod": (91, 52),
    "fchmodat": (268, 53), "utimensat": (280, 88), "listxattr": (194, 11),
}  # fmt: skip
_OPENING = {"open": ((2, _NO), 1), "openat": ((257, 56), 2)}
"""Numbers, position of the flags."""
_OPEN_FLAGS_THAT_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLOCKS = tuple(range(12))
"""CLOCK_REALTIME to CLOCK_TAI. Other numbers are the processor time of other processes."""
_FCNTL, _LOCKS = (0, 1, 2, 3, 4, 1030), (5, 6, 7)
"""F_DUPFD to F_SETFL and F_DUPFD_CLOEXEC; F_GETLK to F_SETLKW."""
_ALLOWED_WITH = {
    # name: numbers, position of the argument that decides, its allowed values. F_SETOWN and FIOSETOWN, for one,
    # would send signals to other processes.
    "clock_gettime": ((228, 113), 0, _CLOCKS), "clock_getres": ((229, 114), 0, _CLOCKS),
    "clock_nanosleep": ((230, 115), 0, _CLOCKS), "fcntl": ((72, 25), 1, _FCNTL),
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x5450, 0x5451)),  # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX
    "prlimit64": ((302, 261), 0, (0,)),  # of the calling process
}  # fmt: skip
_WRITING_WITH = {"fcntl": ((72, 25), 1, _FCNTL + _LOCKS)}
"""Replaces the entry above where programs may write: they lock what they write before, as sqlite3 does."""

_FUTEX, _FUTEX_OPERATION, _FUTEX_PRIVATE_FLAG = (202, 98), 1, 128
"""Waiting within the process alone: without that flag, programs that map the same file meet on it."""

_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_FROM, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _FAIL_WITH_EPERM = 0x7FFF0000, 0x80000000, 0x00050000 | 1
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_PR_SET_SECCOMP, _MODE_FILTER, _PR_GET_SECCOMP = 22, 2, 21


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def supported() -> bool:
    """Whether this kernel filters calls and this file knows the machine's numbers."""
    known = sys.platform == "linux" and platform.machine() in _ARCHITECTURES and sys.maxsize > 2**32
    return known and libc().prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


@functools.cache
def program(writing: bool) -> _Program:
    """The filter; `writing` for a process that has a tmp. Cached, so that a fork server can build it once."""
    code = _filter(platform.machine(), writing)
    return _Program(len(code) // 8, code)


def install(writing: bool) -> None:
    """Filter this process and all it could ever start, for good; needs `no_new_privs`.

    Raises:
        OSError: the kernel refuses.
    """
    if libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program(writing)), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp refused: {os.strerror(error)}")


def _filter(machine: str, writing: bool) -> bytes:
    """The filter as classic BPF: the architecture, then a binary search for the call."""
    architecture, column = _ARCHITECTURES[machine]
    code = _instruction(_LOAD_WORD, _ARCHITECTURE_OFFSET)
    code += _instruction(_JUMP_IF_EQUAL, architecture, skip_if_true=1) + _instruction(_RETURN, _KILL_PROCESS)
    code += _instruction(_LOAD_WORD, _NUMBER_OFFSET)
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _FAIL_WITH_EPERM)
    answers = {numbers[column]: allow for numbers in (_ALLOWED | _WRITING if writing else _ALLOWED).values()}
    for numbers, position in _OPENING.values():
        check = _instruction(_JUMP_IF_ANY_BIT, _OPEN_FLAGS_THAT_WRITE, skip_if_false=1) + refuse + allow
        answers[numbers[column]] = allow if writing else _load_argument(position) + check
    is_private = _instruction(_JUMP_IF_ANY_BIT, _FUTEX_PRIVATE_FLAG, skip_if_false=1) + allow + refuse
    answers[_FUTEX[column]] = _load_argument(_FUTEX_OPERATION) + is_private
    for numbers, position, values in (_ALLOWED_WITH | _WRITING_WITH if writing else _ALLOWED_WITH).values():
        checks = b"".join(_instruction(_JUMP_IF_EQUAL, value, skip_if_false=1) + allow for value in values)
        answers[numbers[column]] = _load_argument(position) + checks + refuse
    answers.pop(_NO, None)
    stretches = [(0, refuse)]
    for number, answer in sorted(answers.items()):
        for start, what in ((number, answer), (number + 1, refuse)):
            if stretches[-1][0] == start:
                stretches.pop()
            if not stretches or stretches[-1][1] != what:
                stretches.append((start, what))
    return code + _search(stretches)


def _search(stretches: list[tuple[int, bytes]]) -> bytes:
    """Code for calls by their number: each stretch reaches from its first number to the next one's."""
    if len(stretches) == 1:
        return stretches[0][1]
    middle = len(stretches) // 2
    below, above = _search(stretches[:middle]), _search(stretches[middle:])
    return _instruction(_JUMP_FROM, stretches[middle][0], skip_if_true=len(below) // 8) + below + above


def _load_argument(position: int) -> bytes:
    return _instruction(_LOAD_WORD, _ARGUMENTS_OFFSET + 8 * position)


def _instruction(code: int, value: int, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, skip_if_true, skip_if_false, value)
