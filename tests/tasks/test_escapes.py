"""What a program may not do to the machine, tried on every backend, and with the defences removed."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import s0
from s0.tasks.sandbox import UNSAFE, Limits, Program, Sandbox, launch
from s0.tasks.sandbox.cell import Cell, ServerLost
from s0.tasks.sandbox.guest import landlock
from s0.tasks.sandbox.guest.namespaces import TMP
from tests.tasks.programs import HONEST, descendants, verdict_of

DATA = Path(s0.__file__).parent / "tasks/data/pocket_code.jsonl"
FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 0)

# Each is the body of `attempt(folder, port, pid)`, which raises where the attempt is refused.
# `folder` belongs to the test, `port` listens on this machine, `pid` is the test's own process.
ESCAPES = {
    "read a file": "open(folder + '/secret').read()",
    "list a folder": "os.listdir(folder)",
    "list the home folder": "os.listdir(os.path.dirname(folder))",
    "write a file": "open(folder + '/written', 'w')",
    "overwrite a file": "open(folder + '/secret', 'w')",
    "append through a raw call": "assert libc.open((folder + '/secret').encode(), 0o2001) >= 0",
    "delete a file": "os.unlink(folder + '/victim')",
    "rename a file": "os.rename(folder + '/secret', folder + '/moved')",
    "make a folder": "os.mkdir(folder + '/made'); os.rmdir(folder + '/made')",
    "make a link": "os.symlink('secret', folder + '/link'); os.unlink(folder + '/link')",
    "change a mode": "os.chmod(folder + '/secret', 0o666)",
    "change a time": "os.utime(folder + '/secret')",
    "truncate a file": "os.truncate(folder + '/victim', 0)",
    "truncate while opening to read": "os.close(os.open(folder + '/victim', os.O_RDONLY | os.O_TRUNC))",
    "make a second name for a file": "os.link(folder + '/victim', folder + '/link'); os.unlink(folder + '/link')",
    "make a named pipe": "os.mkfifo(folder + '/pipe'); os.unlink(folder + '/pipe')",
    "make a device": "os.mknod(folder + '/memory', 0o20600, os.makedev(1, 1))",
    "change a file of Python's": "open(os.__file__, 'a')",
    "change the mode of a file of Python's": "os.chmod(os.__file__, 0o666)",
    "change the times of a file of Python's": "os.utime(os.__file__)",
    "read what is installed beside Python": (
        "import glob; beside = glob.glob(os.path.dirname(os.__file__) + '/*-packages/*.*'); "
        f"open((beside or [{pytest.__file__!r}])[0]).read()"  # some Pythons have theirs elsewhere
    ),
    "read this library's solutions": f"open({str(DATA)!r}).read()",
    "read a device": "open('/dev/kmsg')",
    "read another process": "open(f'/proc/{pid}/status').read()",
    "write to another process": "open(f'/proc/{pid}/comm', 'w').write('x')",
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
    "make a pipe": "os.pipe()",
    "make an anonymous file": "os.memfd_create('x')",
    "share memory": "found = libc.shmget(0, 4096, 0o1600); assert found >= 0; libc.shmctl(found, 0, None)",  # IPC_RMID
    "meet on a file of Python's": (
        "libc.mmap.restype = ctypes.c_void_p; "
        "address = libc.mmap(None, 4096, 1, 1, os.open(os.__file__, os.O_RDONLY), 0); "
        f"assert libc.syscall({FUTEX}, ctypes.c_void_p(address), 1, 1, None, None, 0) >= 0"  # FUTEX_WAKE
    ),
    "read another's processor time": "time.clock_gettime((~os.getppid() << 3) | 2)",
    "make namespaces": "assert libc.unshare(0x10000000) == 0",
    "move to another session": "os.setsid()",
    "have input and output signal a process": "fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
    "raise its memory limit": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "become root": "os.setuid(0); assert open('/etc/shadow')",
    "take 3 GiB": "bytearray(3 << 30)",
    "map 3 GiB": "mmap.mmap(-1, 3 << 30)",
    "fill the disk": "open('large', 'wb').write(bytes(17 << 20))",
    "fill the disk from many files": "[open(str(number), 'wb').write(bytes(1 << 20)) for number in range(17)]",
    "fill the disk with names": "[os.close(os.open(str(number), os.O_CREAT)) for number in range(1000)]",
    "announce a large file": "os.truncate(os.open('sparse', os.O_CREAT | os.O_WRONLY), 1 << 40)",
    "open without end": "list(iter(lambda: os.dup(1), None))",
    "mount": "assert libc.mount(b'none', b'/', b'tmpfs', 0, None) == 0",
    "unmount its tmp": "assert libc.umount2(b'/var/tmp', 2) == 0",
    "change its root": "os.chroot('/var')",
    "join other namespaces": "assert libc.setns(1, 0) == 0",
    "rename the machine": "assert libc.sethostname(b'x', 1) == 0",
    "ring the kernel": "assert libc.syscall(425, 1, ctypes.create_string_buffer(200)) >= 0",  # io_uring_setup
    "hold another process": "assert libc.syscall(434, os.getppid(), 0) >= 0",  # pidfd_open
    "read another's memory": "assert libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0) == 0",
    "slow its parent down": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "use the environment": "assert os.environ",
}
IMPORTS = "import ctypes, fcntl, mmap, os, resource, socket, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"
HELD_EVEN_WITHOUT_A_SANDBOX = {
    "take 3 GiB", "map 3 GiB", "use the environment", "raise its memory limit", "run a program", "open without end",
}  # fmt: skip
NEEDS_ROOT_OR_LUCK = {
    "make namespaces", "trace", "become root", "signal everything", "move to another session", "make a device",
    "read a device", "mount", "unmount its tmp", "change its root", "join other namespaces", "rename the machine",
    "ring the kernel", "hold another process", "read another's memory",
}  # fmt: skip
HARMS = {
    "change a file of Python's", "change the mode of a file of Python's", "change the times of a file of Python's",
    "slow its parent down", "fill the disk",
    "fill the disk from many files", "fill the disk with names", "announce a large file",
}  # fmt: skip


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
    "name", [name for name in ESCAPES if name not in HELD_EVEN_WITHOUT_A_SANDBOX | NEEDS_ROOT_OR_LUCK | HARMS]
)
def test_the_same_attempt_succeeds_without_a_sandbox(
    no_sandbox: Sandbox, target: tuple[str, int, int], name: str
) -> None:
    restore = {name: Path(target[0], name).read_text() for name in ("secret", "victim")}
    segments = _shared_memory()
    try:
        assert no_sandbox.judge([attempting(ESCAPES[name], target)])[0].reason == "passed"
    finally:
        Path(target[0], "written").unlink(missing_ok=True)
        Path(target[0], "moved").unlink(missing_ok=True)
        for file, text in restore.items():
            Path(target[0], file).write_text(text)
    assert _shared_memory() <= segments, "left on the machine"


def _shared_memory() -> set[str]:
    """The numbers of all segments of System V."""
    table = Path("/proc/sysvipc/shm")
    return {line.split()[1] for line in table.read_text().splitlines()[1:]} if table.exists() else set()


STARTING = {
    "fork": "os.fork()",
    "thread": "threading.Thread(target=time.sleep, args=(60,)).start()",
    "subprocess": "subprocess.Popen(['/bin/sleep', '60'], start_new_session=True)",
    "raw fork": "assert libc.fork() >= 0",
    "vfork": "assert libc.vfork() >= 0",
    "fork bomb": "[os.fork() for _ in iter(int, 1)]",
    "sleeping grandchild": "os.fork() or (os.setsid(), os.fork() or time.sleep(60), os._exit(0))",
    "pool of processes": "__import__('multiprocessing').Pool(4)",
    "spawn": "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})",
}


@pytest.mark.parametrize("name", STARTING)
def test_a_program_is_one_thread_of_one_process(sandbox: Sandbox, target: tuple[str, int, int], name: str) -> None:
    body = f"import os, subprocess, threading, time; {STARTING[name]}"
    verdict = verdict_of(sandbox, attempting(body, target))
    assert verdict.reason.startswith("exception: "), verdict


LEAVING = {
    "in modules": (
        "import builtins, sys, math; builtins.left = sys.left = math.left = 1",
        "import builtins, sys, math; assert not any(hasattr(x, 'left') for x in (builtins, sys, math))",
    ),
    "in the environment": ("os.environ['LEFT'] = '1'", "assert 'LEFT' not in os.environ"),
    "in its limits": ("resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))", "[os.dup(1) for _ in range(15)]"),
    "in its handlers": (
        "import signal; signal.signal(15, signal.SIG_IGN)",
        "import signal; assert signal.getsignal(15) == signal.SIG_DFL",
    ),
    "in its folder": ("os.chdir('/usr/lib')", "assert os.getcwd() in ('/', '/var/tmp')"),
    "in descriptors": ("[os.dup(1) for _ in range(9)]", "assert os.dup(1) < 9"),
    "in the times of its output": (
        "import contextlib\n    with contextlib.suppress(OSError): os.utime(1, (1, 1))",
        "assert os.fstat(1).st_mtime > 1",
    ),
    "in the mode of its output": (
        "import contextlib\n    with contextlib.suppress(OSError): os.fchmod(1, 0o123)",
        "assert os.fstat(1).st_mode & 0o777 != 0o123",
    ),
    "in the flags of its output": (
        "fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)",
        "assert not fcntl.fcntl(1, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK)",
    ),
    "in its output": ("print('word' * 10000, flush=True)", "assert os.fstat(1).st_size == os.fstat(0).st_size == 0"),
    "in the machine's name": ("libc.sethostname(b'word', 4)", "import platform; assert platform.node() != 'word'"),
}


@pytest.mark.parametrize("name", LEAVING)
def test_state_between_programs_does_not_exist(sandbox: Sandbox, target: tuple[str, int, int], name: str) -> None:
    for body in LEAVING[name]:
        assert sandbox.judge([attempting(body, target)], jobs=1)[0].reason == "passed"


CHANGING = """
    import contextlib
    for descriptor in range(32):
        for change in (
            lambda: os.fchmod(descriptor, 0o666), lambda: os.utime(descriptor), lambda: os.utime(descriptor, (1, 1)),
            lambda: os.fchown(descriptor, os.getuid(), os.getgid()), lambda: os.ftruncate(descriptor, 0),
            lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: os.setxattr(descriptor, 'user.a', b'b'),
        ):
            with contextlib.suppress(OSError):
                change()
"""


@pytest.mark.parametrize("privileged", [False, True])
def test_no_descriptor_is_a_file_of_the_machine(
    sandbox: Sandbox, target: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch, privileged: bool
) -> None:
    if privileged:  # the worst case: an interpreter that only root can read, so that programs are root to the machine
        monkeypatch.setattr(launch, "_users", lambda backend: [None])
    for backend in (sandbox.backend, UNSAFE):
        with Sandbox(backend, Limits(timeout_s=1)) as opened:
            before = Path(os.devnull).stat()
            assert verdict_of(opened, attempting(CHANGING, target)).reason == "passed"
            after = Path(os.devnull).stat()
        assert (after.st_mode, after.st_ctime_ns, after.st_mtime_ns) == (
            before.st_mode, before.st_ctime_ns, before.st_mtime_ns,
        )  # fmt: skip


@pytest.mark.parametrize("status", [0, 1, 113, 127, 255])
def test_no_exit_status_buys_a_second_run(
    sandbox: Sandbox, target: tuple[str, int, int], runs: list[Program], status: int
) -> None:
    leaving = attempting(f"os._exit({status})", target)
    assert verdict_of(sandbox, leaving).reason == "exit"
    assert runs.count(leaving) == 1


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_no_descriptor_of_a_fork_server_is_in_reach(
    target: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch, runs: list[Program], version: int
) -> None:
    if landlock.version() < version:
        pytest.skip(f"this kernel has no Landlock of version {version}")
    original = launch._source
    older = ("return max(number, 0)", f"return min(max(number, 0), {version})")
    monkeypatch.setattr(launch, "_source", lambda name: original(name).replace(*older))
    reading = (
        "taken = []\n    for n in range(64):\n        for who in (os.getppid(), 'self'):\n            try:\n"
        "                file = os.open(f'/proc/{who}/fd/{n}', os.O_RDONLY | os.O_NONBLOCK)\n"
        "                taken.append(os.read(file, 100))\n            except OSError: pass\n"
        "    os._exit(1 if any(taken) else 0)"
    )
    with Sandbox("landlock", Limits(timeout_s=1)) as old:
        program = attempting(reading, target)
        assert verdict_of(old, program).reason == "exit"
    assert runs.count(program) == 1


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    """The programs that were run, each time that they were."""
    original = Cell.judge
    found: list[Program] = []
    monkeypatch.setattr(Cell, "judge", lambda cell, program: found.append(program) or original(cell, program))
    return found


@pytest.mark.parametrize("role", ["candidate", "checker"])
def test_a_process_that_keeps_its_rights_runs_nothing(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    original = launch._source
    failing = (
        "_lock_down(rules, domain, cpu_s)",
        f"if rules.role == {role!r}:\n            raise OSError\n        pass",
    )
    monkeypatch.setattr(
        launch, "_source", lambda name: original(name).replace(*failing) if name == "zygote" else original(name)
    )
    cell = Cell("landlock", Limits())
    try:
        with pytest.raises(ServerLost):
            cell.judge(HONEST)
    finally:
        cell.close()


def test_a_tmp_is_private_empty_and_gone_afterwards(sandbox: Sandbox, target: tuple[str, int, int]) -> None:
    if sandbox.backend not in ("bubblewrap", "namespaces"):
        pytest.skip("without namespaces there is no tmp")
    is_taken = any(Path("/tmp") in Path(path).parents for path in launch.readable().paths)  # by Python, or by numpy
    tmp = TMP if is_taken else "/tmp"
    write = (
        f"import shutil, sqlite3, tempfile; open('left', 'w').write('x'); os.mkdir('{tmp}/folder'); "
        "shutil.copy2('left', 'folder/copy'); tempfile.NamedTemporaryFile().write(b'x'); "
        f"tempfile.TemporaryDirectory().cleanup(); sqlite3.connect('{tmp}/s.db').execute('create table a (b)'); "
        f"assert tempfile.gettempdir() == {tmp!r}"
    )
    for body in (write, f"assert os.listdir({tmp!r}) == os.listdir() == []"):
        assert verdict_of(sandbox, attempting(body, target)).reason == "passed"
    assert not any(Path(folder, name).exists() for folder in ("/tmp", tmp) for name in ("left", "folder"))


def test_a_tmp_holds_what_its_limit_says(sandbox: Sandbox, target: tuple[str, int, int]) -> None:
    if sandbox.backend not in ("bubblewrap", "namespaces"):
        pytest.skip("without namespaces there is no tmp")
    programs = [attempting(f"open('file', 'wb').write(bytes({mib} << 20))", target) for mib in (1, 3)]
    with Sandbox(sandbox.backend, Limits(tmp_bytes=2 << 20)) as small:
        assert [verdict.reason for verdict in small.judge(programs)] == ["passed", "exception: OSError"]


def test_a_program_in_the_middle_of_a_nap_is_ended(sandbox: Sandbox) -> None:
    program = Program("import time\ndef nap():\n    time.sleep(600)\n", "", "def check(nap):\n    nap()\n", "nap")
    sandbox.judge([HONEST], jobs=1)
    idle = len(descendants(os.getpid()))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(sandbox.judge, [program], 1)
        while not running.done() and len(descendants(os.getpid())) != idle + 2:  # the checker and the candidate
            time.sleep(0.01)
        assert not running.done()
        assert running.result()[0].reason == "timeout"
    assert len(descendants(os.getpid())) == idle
