"""Many jobs at a time, the processes that do them, and their pools: what every kind of worker relies on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import s0
from s0.errors import SandboxError
from s0.tasks import workers
from s0.tasks.sandbox import Verdict
from s0.tasks.sql import judge as sql
from s0.tasks.workers import Pool, Worker, each_once
from tests.tasks.databases import made_database, sql_problem
from tests.tasks.programs import descendants

MODULE = """\
import importlib.util, json, os, signal, sys, time
from s0.tasks.made.sibling import NUMBER

class Limits:
    def __init__(self, **limits):
        self.limits = limits

def main(limits):
    print("noise", flush=True)
    os.write(0, b'{"ready": true}\\n')
    for line in os.fdopen(os.dup(0), "rb"):
        job = json.loads(line)
        if "signal" in job:
            os.kill(os.getpid(), job["signal"])
        if "exit" in job:
            print("said last", file=sys.stderr)
            os._exit(job["exit"])
        if "sleep" in job:
            time.sleep(job["sleep"])
        if "noise" in job:
            os.write(2, b"x" * job["noise"])
        told = {"limits": limits.limits, "number": NUMBER, "cwd": os.getcwd(), "session": os.getsid(0)}
        told["package"] = importlib.util.find_spec("s0.errors") is not None
        os.write(0, json.dumps(told).encode() + b"\\n")
"""


@dataclass(frozen=True)
class Limits:
    wall_s: float = 20.0
    other: int = 3


class Made(Worker):
    does, remedy = "is made up", "make it up again"

    def __init__(self, folder: Path, limits: Limits, start_limit_s: float = 20.0, cwd: str | None = None) -> None:
        module = ModuleType("s0.tasks.made.worker")
        module.__file__ = str(folder / "worker.py")
        super().__init__(module, limits, flags=("-I", "-S"), cwd=cwd, start_limit_s=start_limit_s)

    def ask(self, **job: Any) -> dict[str, Any] | None:
        self._say(job)
        return self._hear()


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Made]:
    (tmp_path / "worker.py").write_text(MODULE)
    (tmp_path / "sibling.py").write_text("NUMBER = 7\n")

    def start(limits: Limits = Limits(), **others: Any) -> Made:
        worker = Made(tmp_path, limits, **others)
        request.addfinalizer(worker.close)
        return worker

    return start


def test_outcomes_are_in_order_and_equal_jobs_done_once() -> None:
    done: list[int] = []

    def do(job: int) -> int:
        done.append(job)
        time.sleep(0.02 * (3 - job))
        return 10 * job

    assert each_once([2, 1, 2, 3, 1], do, 3) == [20, 10, 20, 30, 10]
    assert sorted(done) == [1, 2, 3]
    assert each_once([], do, None) == []


@pytest.mark.parametrize(("at_a_time", "most"), [(1, 1), (3, 3), (None, workers._cores())])
def test_so_many_at_a_time_and_no_more(at_a_time: int | None, most: int) -> None:
    together = threading.Barrier(most)  # broken after its time limit, unless so many are done at a time
    going, seen = set[int](), list[int]()

    def do(job: int) -> None:
        going.add(job)
        seen.append(len(going))
        together.wait(20.0)
        time.sleep(0.01)
        going.discard(job)

    each_once(range(3 * most), do, at_a_time)
    assert max(seen) == most


def test_an_error_ends_the_rest_and_waits_for_what_runs() -> None:
    begun, ended = list[int](), list[int]()

    def do(job: int) -> None:
        begun.append(job)
        if job == 0:
            while len(begun) < 2:
                time.sleep(0.001)
            raise ValueError("job 0")
        time.sleep(0.05)
        ended.append(job)

    with pytest.raises(ValueError, match="job 0"):
        each_once(range(100), do, 2)
    assert sorted(begun) == [0, *sorted(ended)]
    assert len(begun) < 50


def test_a_worker_gets_its_limits_and_siblings_and_nothing_else(
    made: Callable[..., Made], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    worker = made(cwd=str(there))
    told = worker.ask()
    session = worker.process.pid  # one of its own: Ctrl-C at the terminal does not reach it
    limits = {"wall_s": 20.0, "other": 3}
    assert told == {"limits": limits, "number": 7, "cwd": str(there), "session": session, "package": False}
    assert capfd.readouterr().out == ""
    stays = made().ask()
    assert stays is not None and stays["cwd"] == str(Path.cwd())


@pytest.mark.parametrize(
    ("job", "cause"), [({"signal": 9}, "killed"), ({"signal": 24}, "timeout"), ({"exit": 0}, None), ({"exit": 3}, None)]
)
def test_the_cause_of_an_end(made: Callable[..., Made], job: dict[str, int], cause: str | None) -> None:
    """24 is SIGXCPU, sent where the processor time is spent."""
    worker = made()
    assert worker.ask(**job) is None
    assert worker.cause_of_end() == cause
    assert worker.ask() is None
    if "exit" in job:
        assert "expected a process that is made up; got, from " in str(error := worker._broken_error())
        assert str(error).endswith(": said last; make it up again")


def test_silence_counts_as_a_timeout(made: Callable[..., Made]) -> None:
    worker = made(Limits(wall_s=0.1))
    assert worker.ask(sleep=3) is None
    assert worker.process.poll() is None and worker.cause_of_end() == "timeout"
    worker.close()
    assert worker.process.poll() == -9
    worker.close()


def test_what_is_not_ready_in_time_is_no_worker(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_BOOTSTRAP", "import time; time.sleep(30)")
    with pytest.raises(SandboxError, match=r"that is made up; got, .*: status -9; make it up again"):
        made(start_limit_s=0.1)


def test_half_a_line_is_no_message(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    half = json.dumps({"ready": True})
    monkeypatch.setattr(workers, "_BOOTSTRAP", f"import os; os.write(0, b'{half}'); os._exit(5)")
    with pytest.raises(SandboxError, match="status"):
        made()


# --- Pools ---


class MadePool(Pool[Made]):
    def pid(self, **job: Any) -> int | None:
        """Of the process that did the job; None where it did not."""
        with self._member() as worker:
            message = worker.ask(**job)
            if message is None:
                worker.close()
            return None if message is None else message["session"]


@pytest.fixture
def pool(made: Callable[..., Made]) -> Iterator[MadePool]:
    with MadePool(made) as opened:
        yield opened


def in_a_copy(do: Callable[[], bool]) -> bool:
    """Whether `do` is so in a forked copy of this process, within a time limit."""
    copy = os.fork()
    if copy == 0:
        signal.alarm(60)
        os._exit(0 if do() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0


def test_a_member_is_kept_and_a_closed_pool_makes_new_ones(pool: MadePool) -> None:
    first = pool.pid()
    assert pool.pid() == first
    pool.close()
    assert pool._idle == [] and first not in descendants(os.getpid())
    assert pool.pid() not in (None, first)


def test_threads_never_share_a_member(pool: MadePool) -> None:
    together = threading.Barrier(3)

    def work(_: int) -> int:
        with pool._member() as worker:
            together.wait(60.0)
            return worker.process.pid

    with ThreadPoolExecutor(3) as threads:
        first, again = set(threads.map(work, range(3))), set(threads.map(work, range(3)))
    assert len(first) == 3 and again == first == {worker.process.pid for worker in pool._idle}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_member_that_raised_or_broke_is_closed_and_not_put_back(pool: MadePool, error: type[BaseException]) -> None:
    first = pool.pid()
    with pytest.raises(error), pool._member() as raised:
        raise error
    assert pool._idle == [] and raised.spent and raised.process.pid == first
    second = pool.pid()
    assert pool.pid(exit=3) is None and pool._idle == []
    third = pool.pid()
    assert len({first, second, third, None}) == 4


def test_a_forked_copy_makes_its_own_members_and_leaves_the_originals_alone(pool: MadePool) -> None:
    first = pool.pid()
    (original,) = pool._idle

    def copy_works() -> bool:
        let_go = original.spent and pool._idle == []
        own = pool.pid()
        pool.close()
        return let_go and own not in (None, first)

    with pool._lock:  # as where another thread takes a member just then
        assert in_a_copy(copy_works)
    assert pool.pid() == first and pool._idle == [original]


def test_pools_are_closed_at_exit_and_a_copy_closes_its_own_only() -> None:
    script = f"""
import os, sys, types
package = sys.modules["s0"] = types.ModuleType("s0")
package.__path__ = [{str(Path(s0.__file__).parent)!r}]
from s0.tasks.workers import Pool

class Member:
    def __init__(self):
        self.spent, self.maker = False, os.getpid()
    def close(self):
        print("closed by its maker" if self.maker == os.getpid() else "closed by a copy", flush=True)
    def abandon(self):
        print("abandoned", flush=True)

def use():
    with pool._member():
        pass

pool = Pool(Member)
use()
copy = os.fork()
if copy == 0:
    use()
else:
    os.waitpid(copy, 0)
    print("original", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["abandoned", "closed by its maker", "original", "closed by its maker"], done


def test_processes_for_queries_are_kept_until_they_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def works() -> bool:
        return sql.judge([(problem, problem.gold)], 1) == [Verdict(True, "passed")]

    def descriptors() -> list[str]:
        return sorted(os.listdir("/dev/fd"))  # noqa: PTH208

    gold = "SELECT name FROM singer"
    problem = sql_problem(made_database(tmp_path / "made.sqlite"), gold)
    sql._shared().close()
    before = descriptors(), descendants(os.getpid())
    assert works()
    (worker,) = sql._shared()._idle
    monkeypatch.chdir(made_database(tmp_path / "elsewhere" / "made.sqlite", []).parent)
    empty = sql_problem(Path("made.sqlite"), gold)
    answers = [(empty, f"{gold} WHERE age < {age}") for age in range(30)]
    assert all(verdict.passed for verdict in sql.judge(answers, 1)), "it looks into another folder than the caller's"
    assert in_a_copy(works) and works()
    assert sql._shared()._idle == [worker]
    worker.process.kill()
    worker.process.wait()
    assert works(), "a process that ended while it waited is replaced"
    sql._shared().close()
    assert (descriptors(), descendants(os.getpid())) == before


def test_a_process_may_say_much_that_nobody_reads(made: Callable[..., Made]) -> None:
    assert made().ask(noise=1 << 20) is not None


def test_an_interpreter_that_is_not_there_is_said_so(
    made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SandboxError, match="expected a process that is made up; got, from /nowhere/python"):
        made()


def test_a_process_that_has_died_while_it_waited_is_spent(made: Callable[..., Made]) -> None:
    worker = made()
    assert not worker.spent
    worker.process.kill()
    worker.process.wait()
    assert worker.spent
