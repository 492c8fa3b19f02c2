"""How each backend starts the fork server: the command line, and the guest's sources sent in after it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from s0.errors import ConfigError, SandboxError
from s0.tasks.sandbox import seatbelt
from s0.tasks.sandbox.guest.namespaces import LIBRARY, TMP
from s0.tasks.sandbox.readable_paths import Granted, granted

LINUX_BACKENDS = ("bubblewrap", "namespaces", "landlock")
_SYSTEMS = {**dict.fromkeys(LINUX_BACKENDS, "linux"), "sandbox-exec": "darwin"}
GUEST_PACKAGE = "s0.tasks.sandbox.guest"
_GUEST_MODULES = (
    *("scope", "arrays", "kinds", "wire_format", "writer", "reader", "codec", "frames"),
    *("kept_objects", "raised", "standin", "limits", "landlock", "seccomp", "namespaces"),
    *("imports", "candidate", "checker", "zygote"),
)
"""The guest's modules, each after those that it imports."""
_NOBODY = 65534
_OWN_IDS = 1 << 30
"""The first user id of programs: so high, no machine has accounts."""
_START_LIMIT_S = 30.0
_LONGEST_TIMEOUT_S = 24 * 3600.0

_BOOTSTRAP = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import json, os, types
size = int(os.read(0, 8), 16)
text = b""
while len(text) < size:
    text += os.read(0, size - len(text))
start = json.loads(text)
for name in start["packages"]:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, source in start["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)
    exec(compile(source, "<" + name + ">", "exec"), module.__dict__)
module.main(module.Rules(**start["rules"]))
"""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        timeout_s: seconds of processor time that the program may use in its whole test, all its threads together;
            then it is killed. Its test may use ten times as much, and by the clock all may take ten times as long:
            that ends what sleeps. Copying data between the two counts for neither (`cell`). Where a system cannot
            tell the processor time of another process (macOS), the clock decides.
        memory_bytes: address space of the program, and of its checker.
        tmp_bytes: files in its tmp, all together, where the backend has one.

    Raises:
        ConfigError: `timeout_s` is no number above 0, or more than a day.

    Fixed: one thread of one process, 32 open files, no core dumps; what it prints is thrown away; one answer, or the
    arguments of one call, take 64 MiB and 4 million values at most (`guest/codec`).
    """

    timeout_s: float = 4.0
    memory_bytes: int = 1 << 30
    tmp_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= _LONGEST_TIMEOUT_S:  # nor NaN
            raise ConfigError(
                f"expected `timeout_s` above 0 and at most {_LONGEST_TIMEOUT_S:g}, a day, got {self.timeout_s!r}"
            )


def start(role: str, backend: str, limits: Limits) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a fork server, as a user of its own where this process may choose and that works; wait until it is ready.

    Args:
        role: what the server forks, `guest.zygote.CANDIDATE` or `CHECKER`.
        backend: what surrounds it.
        limits: of each child.

    Returns:
        its process (or that of its wrapper) and the control connection; closing the connection ends the server.

    Raises:
        SandboxError: it did not start; the message says why.
    """
    *own, last = _users(backend)
    for user in own:
        try:
            return _start_as(user, role, backend, limits)
        except SandboxError:  # ids this container does not have, an interpreter in /root, namespaces for root only
            continue
    return _start_as(last, role, backend, limits)


_starts = itertools.count()


def _users(backend: str) -> list[int | None]:
    """Users a fork server may run as, the most private one first; None is our own.

    One that nobody else has cannot signal or trace, and a limit on its processes counts only them.
    """
    if os.geteuid() != 0 or backend == "none":
        return [None]
    return [_OWN_IDS + 64 * os.getpid() + next(_starts) % 64, _NOBODY, None]


def _start_as(
    user: int | None, role: str, backend: str, limits: Limits
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    command = [*_wrapper(backend), *_interpreter(), _BOOTSTRAP]
    with theirs:
        try:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,  # of which nothing is read: what programs print they get a pipe for
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0"},  # the order of a set of strings must not change a verdict from run to run
                cwd="/",
                start_new_session=True,  # an interrupt typed at the terminal is for us
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        except OSError as error:
            ours.close()
            raise SandboxError(f"{command[0]} does not start: {error}") from None
    try:
        _send_guest(ours, role, backend, limits)
        ready = ours.recv(1) == b"R"
    except OSError:
        ready = False
    if not ready:
        ours.close()
        raise SandboxError(_last_words(process))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    ours.settimeout(_START_LIMIT_S)
    return process, ours


def _send_guest(control: socket.socket, role: str, backend: str, limits: Limits) -> None:
    packages = [GUEST_PACKAGE.rsplit(".", dots)[0] for dots in range(GUEST_PACKAGE.count("."), -1, -1)]
    modules = [(f"{GUEST_PACKAGE}.{name}", _source(name)) for name in _GUEST_MODULES]
    rules = {
        "role": role,
        "backend": backend,
        "read_paths": readable().paths,
        "folders": readable().folders,
        "packages": readable().packages,
        "memory_bytes": limits.memory_bytes,
        "tmp_bytes": limits.tmp_bytes,
    }
    text = json.dumps({"packages": packages, "modules": modules, "rules": rules}).encode()
    control.settimeout(_START_LIMIT_S)
    control.sendall(f"{len(text):08x}".encode() + text)


def _source(name: str) -> str:
    return resources.files(GUEST_PACKAGE).joinpath(f"{name}.py").read_text("utf-8")


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    said = process.communicate()[1].decode("utf-8", "replace").strip()
    return said.splitlines()[-1][:300] if said else f"the fork server ended with status {process.returncode}"


def _interpreter() -> tuple[str, ...]:
    """The command line of Python, to which a program is appended.

    Without site packages, user folders, bytecode writing or anything imported from the working directory: as `-I`, but
    for the one environment variable above, which `-I` would ignore; the environment is otherwise empty.
    """
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    return (_executable(), "-s", "-S", "-B", "-X", "utf8", *safe_path, "-c")


def _executable() -> str:
    """The real interpreter behind a virtual environment's link."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _framework_executable() -> list[str]:
    """What the interpreter of a macOS framework build runs in its own place."""
    path = Path(sys.base_prefix, "Resources/Python.app/Contents/MacOS/Python")
    return [str(path)] if path.exists() else []


def readable() -> Granted:
    """What a program may read on this machine.

    Raises:
        SandboxError: the interpreter does not run.
    """
    return granted(_interpreter())


def _wrapper(backend: str) -> list[str]:
    system = _SYSTEMS.get(backend, sys.platform)
    if sys.platform != system:
        raise SandboxError(f"it needs {system}")
    if backend == "sandbox-exec":
        return seatbelt.command(readable(), [_executable(), *_framework_executable()])
    return _bubblewrap() if backend == "bubblewrap" else []


def _bubblewrap() -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError("bwrap is not installed")
    folders = readable().folders
    paths = [*folders, *readable().elsewhere]
    binds = [argument for path in paths for argument in ("--ro-bind", path, path)]
    # bwrap takes quadratic time for many: the guest keeps of the library what is granted, from a second view of it
    for number, folder in enumerate(folders):
        binds += ["--ro-bind", folder, f"{LIBRARY}/{number}"]
    link = [] if any(Path("/tmp") in Path(path).parents for path in paths) else ["--symlink", TMP, "/tmp"]
    return [
        *(bwrap, "--unshare-all", "--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)),
        *("--new-session", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--hostname", "s0", *binds),
        *("--dir", TMP, *link, "--remount-ro", "/", "--chdir", "/", "--"),
    ]
