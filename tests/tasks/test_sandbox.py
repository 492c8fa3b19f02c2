"""Verdicts, faults of the sandbox itself, and what becomes of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import s0
from s0.errors import SandboxError
from s0.tasks.sandbox import Limits, Program, Sandbox, Verdict, backends, shared
from s0.tasks.sandbox.cell import Cell, ServerLost
from tests.tasks.programs import HONEST, WRONG, adding, descendants, verdict_of

PROCESSES = {"bubblewrap": 8, "namespaces": 6, "landlock": 4}
"""Two fork servers, bubblewrap's two processes or the one that waits around each, a checker and a candidate."""
SLOW = adding("def add(a, b):\n    while True:\n        pass\n")
GREEDY = adding("def add(a, b):\n    return len(bytearray(900 << 20)) and a + b\n")


def test_verdicts_come_in_order_and_equal_programs_run_once(sandbox: Sandbox) -> None:
    programs = [adding(f"def add(a, b):\n    return a + b + {wrong}\n") for wrong in [0, 1, 0, 2, 0]] * 20
    judged = []
    original = Cell.judge

    def counting(cell: Cell, program: Program) -> Verdict:
        judged.append(program)
        return original(cell, program)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cell, "judge", counting)
        verdicts = sandbox.judge(programs, jobs=3)
    assert [verdict.passed for verdict in verdicts] == [True, False, True, False, True] * 20
    assert sorted(map(hash, judged)) == sorted(map(hash, set(programs)))


def test_time_is_limited_from_outside(sandbox: Sandbox) -> None:
    started = time.monotonic()
    assert verdict_of(sandbox, SLOW) == Verdict(False, "timeout")
    assert time.monotonic() - started > 0.19


def test_a_timeout_cannot_be_caught(sandbox: Sandbox) -> None:
    stubborn = "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
    stubborn += "    except (OSError, ValueError):\n        pass\ndef add(a, b):\n    while True:\n        try:\n"
    stubborn += "            while True:\n                pass\n        except BaseException:\n            pass\n"
    assert verdict_of(sandbox, adding(stubborn)).reason == "timeout"


@pytest.mark.slow
def test_the_default_memory_is_enough_and_a_bound_is_kept() -> None:
    with Sandbox(limits=Limits(20)) as default, Sandbox(limits=Limits(20, 256 << 20)) as small:
        assert default.judge([GREEDY]) == [Verdict(True, "passed")]
        assert small.judge([GREEDY, HONEST]) == [Verdict(False, "memory"), Verdict(True, "passed")]


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("def check(candidate)\n    pass\n", "SyntaxError: expected ':' (<test>, line 1)"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("expected = missing\n", "NameError: name 'missing' is not defined"),
        ("raise SystemExit\n", "SystemExit:"),
        ("def chek(candidate):\n    pass\n", "KeyError: 'check'"),
        (
            "def check(candidate):\n    try:\n        candidate(lambda: 1, 2)\n    except:\n        pass\n",
            "it passes an argument that cannot be sent: function is not plain data",
        ),
    ],
)
def test_a_test_that_cannot_run_judges_nothing_and_ends_no_run(any_sandbox: Sandbox, test: str, reason: str) -> None:
    unusable, honest = any_sandbox.judge([adding("def add(a, b):\n    return 1\n", test), HONEST])
    assert unusable == Verdict(False, f"not judged: the test cannot run: {reason}") and not unusable.judged
    assert honest == Verdict(True, "passed")


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("def check(add):\n    assert ad(1, 2) == 3\n", "test: NameError"),
        ("def check(add):\n    assert add(1, 2) == 3\n    assert add(1, 2) == three\n", "test: NameError"),
        ("def check(add):\n    import no_such_module\n", "test: ModuleNotFoundError"),
        ("def check(add):\n    from math import no_such_name\n", "test: ImportError"),
        ("def check(add):\n    assert helper(3) == 3\n", "test: NameError"),
        ("def check(add):\n    for last in range(add(1, -1)):\n        pass\n    assert last\n", "wrong answer"),
        ("def check(add):\n    eval(f'x{add(1, 2)}')\n", "wrong answer"),  # a name that the candidate has given
    ],
)
def test_a_name_that_the_test_itself_lacks_is_said_so_and_ends_no_run(
    any_sandbox: Sandbox, test: str, reason: str
) -> None:
    prompt = "def helper(x):\n    return missing(x)\n\ndef add(a, b):\n    pass\n"
    program = Program(HONEST.source, prompt, test, "add")
    assert any_sandbox.judge([program, HONEST]) == [Verdict(False, reason), Verdict(True, "passed")]


KEPT_AND_RAISED_AGAIN = """\
def check(candidate):
    errors = []
    for _ in range(2):
        try:
            candidate(1, 2)
        except Exception as error:
            errors.append(error)
    raise errors[0]
"""


@pytest.mark.parametrize("name", ["NameError", "ImportError", "ModuleNotFoundError"])
def test_a_candidate_cannot_blame_the_test(any_sandbox: Sandbox, name: str) -> None:
    builtin = f"def add(a, b):\n    raise {name}('name x is not defined')\n"
    forged = f"def add(a, b):\n    raise type({name!r}, (Exception,), {{}})\n"
    exact = f"exception: {name}"
    assert [one.reason for one in any_sandbox.judge([adding(builtin), adding(forged)])] == [exact, exact]
    again = [adding(source, KEPT_AND_RAISED_AGAIN) for source in (builtin, forged)]
    assert [one.reason for one in any_sandbox.judge(again)] == ["wrong answer"] * 2


def test_helpers_of_the_prompt_run_on_both_sides(any_sandbox: Sandbox) -> None:
    helper = "def twice(x):\n    return 2 * x\n"
    test = "def check(candidate):\n    assert candidate(3) == twice(3)\n"
    mine = Program(helper + "def f(x):\n    return twice(x)\n", helper, test, "f")
    # a program that redefines the helper changes its own copy only
    forged = Program("def twice(x):\n    return 0\ndef f(x):\n    return twice(x)\n", helper, test, "f")
    assert [verdict.reason for verdict in any_sandbox.judge([mine, forged])] == ["passed", "wrong answer"]


AT_MODULE_LEVEL = "def check(candidate):\n    assert candidate(1, 2) == 3\n\ncheck(add)\n"


@pytest.mark.parametrize(
    ("source", "test", "reason"),
    [
        ("def add(a, b):\n    return a + b\n", AT_MODULE_LEVEL, "passed"),
        ("def add(a, b):\n    return a * b\n", AT_MODULE_LEVEL, "wrong answer"),
        ("def add(a, b):\n    raise ValueError\n", AT_MODULE_LEVEL, "exception: ValueError"),
        ("def add(a, b)\n", AT_MODULE_LEVEL, "unparsable"),
        ("add = other\n", AT_MODULE_LEVEL, "exception: NameError"),
        ("def add(a, b):\n    return a + b\n", "add(1, 2)\nmissing\n", "test: NameError"),
        ("def add(a, b):\n    return {}['check']\n", AT_MODULE_LEVEL, "exception: KeyError"),
        (HONEST.source, "assert add(1, 2) == 3\n", "not judged: the test cannot run: KeyError: 'check'"),
    ],
)  # fmt: skip
def test_a_test_may_call_the_candidate_while_it_is_read(
    any_sandbox: Sandbox, source: str, test: str, reason: str
) -> None:
    assert any_sandbox.judge([adding(source, test)]) == [Verdict(reason == "passed", reason)]


def test_a_test_may_define_a_dataclass(any_sandbox: Sandbox) -> None:
    test = "from dataclasses import dataclass\n@dataclass\nclass Case:\n    a: int\n"
    test += "def check(add):\n    assert add(Case(1).a, 2) == 3\n"
    assert any_sandbox.judge([adding(HONEST.source, test)]) == [Verdict(True, "passed")]


def test_a_signal_without_a_name_is_told_by_its_number(no_sandbox: Sandbox) -> None:
    source = "import os\ndef add(a, b):\n    os.kill(os.getpid(), 40)\n"
    assert verdict_of(no_sandbox, adding(source)) == Verdict(False, "killed: signal 40")


def test_an_exit_cannot_be_caught_by_the_test(any_sandbox: Sandbox) -> None:
    test = "def check(candidate):\n    try:\n        candidate(1, 2)\n    except:\n        pass\n"
    sources = ["def add(a, b):\n    raise SystemExit\n", "import os\ndef add(a, b):\n    os._exit(0)\n"]
    verdicts = any_sandbox.judge([adding(source, test) for source in sources])
    assert [verdict.reason for verdict in verdicts] == ["exception: SystemExit", "exit"]


READING = {
    "all of it": "import sys\ndata = sys.stdin.read().split()\n",
    "its lines": "import sys\nfor line in sys.stdin:\n    pass\n",
    "its bytes": "import sys\nassert sys.stdin.buffer.read() == b''\n",
    "a question": "try:\n    n = int(input())\nexcept EOFError:\n    n = 0\n",
    "files or it": "import fileinput\nlines = list(fileinput.input())\n",
    "the descriptor": "import os\nassert os.read(0, 9) == b''\n",
}


@pytest.mark.parametrize("name", READING)
def test_input_is_at_its_end_and_output_goes_nowhere(sandbox: Sandbox, name: str) -> None:
    source = f"import sys\n{READING[name]}def add(a, b):\n    print('x' * 100_000, flush=True)\n"
    source += "    print('x' * 100_000, file=sys.stderr)\n    assert not sys.stdout.seekable()\n    return a + b\n"
    assert verdict_of(sandbox, adding(source)) == Verdict(True, "passed")


def test_chance_and_the_order_of_sets_do_not_change_a_verdict() -> None:
    source = "import random\ndef add(a, b):\n    return [list(set('abcdefgh')), random.random()]\n"
    seen = set()
    for _ in range(3):
        with Sandbox() as fresh:
            for order in ("abcdefgh", "hgfedcba"):
                test = f"def check(add):\n    assert add(1, 2)[0][0] < {order[3]!r} and add(1, 2)[1] < 0.5\n"
                seen.add((order, fresh.judge([adding(source, test)])[0]))
    assert len(seen) == 2


def test_threads_may_share_a_sandbox(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(4) as threads:
        for verdicts in threads.map(lambda _: sandbox.judge([HONEST, WRONG]), range(8)):
            assert [verdict.passed for verdict in verdicts] == [True, False]


def test_a_lost_server_is_replaced_and_the_program_judged_again() -> None:
    with Sandbox() as opened:
        opened.judge([HONEST])
        for server in (opened._idle[0]._candidates, opened._idle[0]._checkers):
            server._process.kill()
            server._process.wait()
            assert opened.judge([HONEST, WRONG]) == [Verdict(True, "passed"), Verdict(False, "wrong answer")]


def test_a_program_that_always_takes_the_sandbox_down_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Cell.judge
    attempts = []

    def losing(cell: Cell, program: Program) -> Verdict:
        if program is SLOW:
            attempts.append(cell)
            raise ServerLost("gone")
        return original(cell, program)

    monkeypatch.setattr(Cell, "judge", losing)
    with Sandbox() as opened:
        assert opened.judge([SLOW, HONEST]) == [Verdict(False, "killed"), Verdict(True, "passed")]
    assert len(attempts) == 2


def test_a_broken_sandbox_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(cell: Cell, program: Program) -> Verdict:
        raise ServerLost("gone")

    with Sandbox() as opened:
        monkeypatch.setattr(Cell, "judge", losing)
        with pytest.raises(SandboxError, match=r"expected .* got, twice: gone"):
            opened.judge([HONEST])


@pytest.mark.slow
def test_a_forked_copy_of_this_process_starts_servers_of_its_own() -> None:
    with Sandbox() as opened:
        opened.judge([HONEST])
        child = os.fork()
        if child == 0:
            works = opened.judge([HONEST, WRONG], jobs=1)[0].passed
            opened.close()
            os._exit(0 if works else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert opened.judge([HONEST, WRONG])[0].passed


def test_nothing_survives_the_death_of_the_process_that_opened_it(sandbox: Sandbox) -> None:
    script = f"""
        import sys, types
        package = sys.modules["s0"] = types.ModuleType("s0")
        package.__path__ = [{str(Path(s0.__file__).parent)!r}]
        from s0.tasks.sandbox import Limits, Program, Sandbox
        opened = Sandbox({sandbox.backend!r}, Limits(60))
        print("ready", flush=True)
        opened.judge([Program("import time\\ndef f():\\n    time.sleep(60)\\n", "", "def check(f):\\n    f()\\n", "f")])
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    deadline_s = time.monotonic() + 20
    while len(left := descendants(process.pid)) < PROCESSES[sandbox.backend]:
        assert time.monotonic() < deadline_s, "the program does not start"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline_s = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in left):
        assert time.monotonic() < deadline_s, "processes are left over"
        time.sleep(0.05)


def test_the_shared_sandbox_is_one() -> None:
    assert shared() is shared()
    assert shared().backend == backends.strongest()


@pytest.mark.parametrize(
    ("grow", "again"),
    [
        ("r = []\n    for _ in range(98): r = [r]\n    x.append(r)", "f([x])"),
        ("x.extend([None] * 3999980)", "f(x + x)"),
    ],
)
@pytest.mark.slow
def test_an_argument_that_a_program_has_enlarged_before_it_raised_is_its_failure(
    any_sandbox: Sandbox, grow: str, again: str
) -> None:
    source = f"def f(x):\n    {grow}\n    raise ValueError\n"
    test = f"def check(f):\n    x = [1]\n    try: f(x)\n    except ValueError: pass\n    assert {again} == 1\n"
    assert any_sandbox.judge([Program(source, "", test, "f")])[0].reason == "too large"


@pytest.mark.parametrize("name", ["int", "list", "Counter"])
def test_a_class_by_the_name_of_one_of_pythons_is_another_one(any_sandbox: Sandbox, name: str) -> None:
    source = f"class {name}: pass\ndef f():\n    return {name}()\n"
    test = "from collections import Counter\ndef check(f):\n    assert f() == 2 or f() == [] or f() == Counter()\n"
    assert any_sandbox.judge([Program(source, "", test, "f")])[0].reason == "wrong answer"


def test_an_iterator_that_goes_on_without_items_is_ended(any_sandbox: Sandbox) -> None:
    source = """
def f():
    from s0.tasks.sandbox.guest import candidate, codec
    def empty(server, number, most):
        candidate._say(server._calls, "items", (codec.encode(()),), False)
    candidate._Server._next = empty
    return iter([1])
"""
    test = "def check(f):\n    assert list(f()) == [1]\n"
    assert any_sandbox.judge([Program(source, "", test, "f")])[0].reason == "killed"
