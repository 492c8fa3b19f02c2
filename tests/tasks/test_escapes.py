"""What a program may not do to the machine, tried on every backend, and with the defences removed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s0.tasks.sandbox import Program, Sandbox
from tests.tasks.programs import HONEST, descendants, verdict_of

# Each is the body of `attempt(folder, port, pid)`, which raises where the attempt is refused.
# `folder` belongs to the test, `port` listens on this machine, `pid` is the test's own process.
ESCAPES = {
    "read a file": "open(folder + '/secret').read()",
    "list a folder": "os.listdir(folder)",
    "list the home folder": "os.listdir(os.path.dirname(folder))",
    "write a file": "open(folder + '/written', 'w')",
    "overwrite a file": "open(folder + '/secret', 'w')",
    "append through a raw call": "assert libc.open((folder + '/secret').encode(), 0o2001) >= 0",
    "write to /tmp": "open('/tmp/s0-escape', 'w'); os.unlink('/tmp/s0-escape')",
    "delete a file": "os.unlink(folder + '/victim')",
    "rename a file": "os.rename(folder + '/secret', folder + '/moved')",
    "make a folder": "os.mkdir(folder + '/made'); os.rmdir(folder + '/made')",
    "make a link": "os.symlink('secret', folder + '/link'); os.unlink(folder + '/link')",
    "change a mode": "os.chmod(folder + '/secret', 0o666)",
    "change a time": "os.utime(folder + '/secret')",
    "truncate a file": "os.truncate(folder + '/victim', 0)",
    "read another process": "open(f'/proc/{pid}/status').read()",
    "read its own descriptors": "os.listdir('/proc/self/fd')",
    "connect": "socket.create_connection(('127.0.0.1', port), 1)",
    "send a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "use a local socket": "socket.socket(socket.AF_UNIX).connect(folder + '/socket')",
    "use an abstract socket": "socket.socket(socket.AF_UNIX).bind(b'\\0s0-escape-%d' % os.getpid())",
    "signal the test's process": "os.kill(pid, 0)",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "signal everything": "os.kill(-1, 0)",
    "run a program": "os.execv('/bin/true', ['true'])",
    "trace": "assert libc.ptrace(16, os.getppid(), 0, 0) == 0",  # PTRACE_ATTACH
    "make an anonymous file": "os.memfd_create('x')",
    "share memory": "assert libc.shmget(0, 4096, 0o1600) >= 0",
    "make namespaces": "assert libc.unshare(0x10000000) == 0",
    "move to another session": "os.setsid()",
    "have input and output signal a process": "fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
    "raise its memory limit": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "become root": "os.setuid(0); assert open('/etc/shadow')",
    "take 3 GiB": "bytearray(3 << 30)",
    "use the environment": "assert os.environ",
}
IMPORTS = "import ctypes, fcntl, os, resource, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
HELD_EVEN_WITHOUT_A_SANDBOX = {"take 3 GiB", "use the environment", "raise its memory limit", "run a program"}
NEEDS_ROOT_OR_LUCK = {"make namespaces", "trace", "become root", "signal everything", "move to another session"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, int]]:
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o777)
    for name in ("secret", "victim"):
        (folder / name).write_text("secret")
        (folder / name).chmod(0o666)
    with socket.socket(socket.AF_UNIX) as local, socket.create_server(("127.0.0.1", 0)) as server:
        local.bind(str(folder / "socket"))
        local.listen()
        yield str(folder), server.getsockname()[1], os.getpid()


def attempting(body: str, target: tuple[str, int, int]) -> Program:
    source = f"{IMPORTS}\ndef attempt(folder, port, pid):\n    {body}\n    return 'done'\n"
    return Program(source, "", f"def check(attempt):\n    assert attempt(*{target!r}) == 'done'\n", "attempt")


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_refused(sandbox: Sandbox, target: tuple[str, int, int], name: str) -> None:
    verdict = verdict_of(sandbox, attempting(ESCAPES[name], target))
    assert not verdict.passed
    assert verdict.reason == "memory" if name == "take 3 GiB" else verdict.reason.startswith(("exception: ", "killed"))
    assert Path(target[0], "secret").read_text() == "secret"
    assert not Path(target[0], "written").exists()


@pytest.mark.parametrize(
    "name", [name for name in ESCAPES if name not in HELD_EVEN_WITHOUT_A_SANDBOX | NEEDS_ROOT_OR_LUCK]
)
def test_the_same_attempt_succeeds_without_a_sandbox(
    no_sandbox: Sandbox, target: tuple[str, int, int], name: str
) -> None:
    restore = {name: Path(target[0], name).read_text() for name in ("secret", "victim")}
    try:
        assert no_sandbox.judge([attempting(ESCAPES[name], target)])[0].reason == "passed"
    finally:
        Path(target[0], "written").unlink(missing_ok=True)
        Path(target[0], "moved").unlink(missing_ok=True)
        for file, text in restore.items():
            Path(target[0], file).write_text(text)


STARTING = {
    "fork": "os.fork()",
    "thread": "threading.Thread(target=time.sleep, args=(60,)).start()",
    "subprocess": "subprocess.Popen(['/bin/sleep', '60'], start_new_session=True)",
    "raw fork": "assert libc.fork() >= 0",
    "vfork": "assert libc.vfork() >= 0",
}


@pytest.mark.parametrize("name", STARTING)
def test_a_program_is_one_thread_of_one_process(sandbox: Sandbox, target: tuple[str, int, int], name: str) -> None:
    body = f"import os, subprocess, threading, time; {STARTING[name]}"
    verdict = verdict_of(sandbox, attempting(body, target))
    assert verdict.reason.startswith("exception: "), verdict


def test_state_between_programs_does_not_exist(sandbox: Sandbox, target: tuple[str, int, int]) -> None:
    leave = "import builtins, sys, math; builtins.left = sys.left = math.left = 1; os.environ['LEFT'] = '1'"
    find = "import builtins, sys, math; assert [hasattr(x, 'left') for x in (builtins, sys, math)] == [False] * 3"
    programs = [attempting(leave, target), attempting(f"{find}; assert 'LEFT' not in os.environ", target)]
    assert [sandbox.judge([program], jobs=1)[0].reason for program in programs] == ["passed", "passed"]


def test_a_program_in_the_middle_of_a_nap_is_ended(sandbox: Sandbox) -> None:
    program = Program("import time\ndef nap():\n    time.sleep(600)\n", "", "def check(nap):\n    nap()\n", "nap")
    sandbox.judge([HONEST], jobs=1)
    idle = len(descendants(os.getpid()))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(sandbox.judge, [program], 1)
        time.sleep(0.4)
        assert len(descendants(os.getpid())) == idle + 2  # the checker and the candidate
        assert running.result()[0].reason == "timeout"
    assert len(descendants(os.getpid())) == idle
