"""Processor time decides, whatever else the machine does."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from s0.errors import ConfigError
from s0.tasks import load
from s0.tasks.code.scoring import CodeScorer
from s0.tasks.problem import CodeProblem
from s0.tasks.sandbox import Limits, Program, Sandbox, Verdict
from tests.tasks.programs import HONEST, adding

BURN = """\
import time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

"""
LIMIT_S = 0.4


@pytest.mark.parametrize("timeout_s", [math.inf, math.nan, 0.0, -1.0, 1e10])
def test_a_limit_that_no_clock_keeps_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="expected `timeout_s` above 0 and at most 86400, a day"):
        Limits(timeout_s)


@pytest.fixture(scope="module")
def quick() -> Iterator[Sandbox]:
    with Sandbox(limits=Limits(timeout_s=LIMIT_S)) as opened:
        yield opened


@pytest.fixture
def busy_machine() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def burning(seconds: float) -> Program:
    return adding(f"{BURN}def add(a, b):\n    burn({seconds / 2})\n    return a + b\n")


def sleeping(seconds: float) -> Program:
    return adding(f"import time\ndef add(a, b):\n    time.sleep({seconds / 2})\n    return a + b\n")


def test_sleep_within_the_clocks_limit_passes_and_past_it_does_not(quick: Sandbox) -> None:
    asleep = replace(sleeping(1000), timeout_s=0.1)
    assert quick.judge([sleeping(3 * LIMIT_S), asleep]) == [Verdict(True, "passed"), Verdict(False, "timeout")]


@pytest.mark.parametrize("share", [0.3, 0.6, 3])
def test_the_sum_over_all_calls_counts(quick: Sandbox, share: float) -> None:
    assert quick.judge([burning(share * LIMIT_S)])[0].reason == ("passed" if share < 1 else "timeout")


def test_time_counts_where_the_program_is_loaded_and_while_it_iterates(quick: Sandbox) -> None:
    loading = f"{BURN}burn({3 * LIMIT_S})\ndef add(a, b):\n    return a + b\n"
    yielding = f"{BURN}def add(a, b):\n    for number in range(3):\n        burn({LIMIT_S})\n        yield number\n"
    summing = "def check(add):\n    assert sum(add(1, 2)) == 3\n"
    judged = quick.judge([adding(loading), adding(yielding, summing)])
    assert judged == [Verdict(False, "timeout")] * 2


@pytest.mark.slow
def test_a_program_cannot_buy_time(quick: Sandbox) -> None:
    sources = {
        "ignore the signal": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass\n",
        "claim to have copied much": (
            "import sys\nframes = sys.modules['s0.tasks.sandbox.guest.frames']\n"
            "codec = sys.modules['s0.tasks.sandbox.guest.codec']\n"
            "for n in range(3, 5):\n    try:\n        frames.send(n, codec.encode(('copied', 10 ** 12)))\n"
            "    except Exception:\n        pass\n"
            "def add(a, b):\n    while True: pass\n"
        ),
        "answer without end": "def add(a, b):\n    while True:\n        yield 'x' * 100_000\n",
    }
    test = "def check(add):\n    assert sum(map(len, add(1, 2))) == 3\n"
    for reason in (verdict.reason for verdict in quick.judge([adding(text, test) for text in sources.values()])):
        assert reason in ("timeout", "killed", "too large")  # what comes soon enough may pass a limit of size first


def test_copying_does_not_count(quick: Sandbox) -> None:
    source = "def add(a, b):\n    return [{'n': n} for n in range(a)]\n"
    test = "def check(add):\n    for _ in range(20):\n        assert len(add(4000, 0)) == 4000\n"
    program = adding(source, test)
    assert quick.judge([program]) == [Verdict(True, "passed")]


@pytest.mark.slow
def test_a_slow_test_does_not_fail_a_right_answer(quick: Sandbox) -> None:
    test = f"{BURN}def check(add):\n    burn({3 * LIMIT_S})\n    assert add(1, 2) == 3\n"
    assert quick.judge([adding(HONEST.source, test)]) == [Verdict(True, "passed")]
    endless = adding(HONEST.source, "def check(add):\n    add(1, 2)\n    while True:\n        pass\n")
    assert quick.judge([replace(endless, timeout_s=0.1)]) == [Verdict(False, "timeout")]


def test_a_program_may_have_a_limit_of_its_own(quick: Sandbox) -> None:
    slow = burning(2 * LIMIT_S)
    patient = replace(slow, timeout_s=10)
    assert quick.judge([slow, patient]) == [Verdict(False, "timeout"), Verdict(True, "passed")]
    seconds = quick.cpu_seconds(patient)
    assert seconds is not None and 2 * LIMIT_S <= seconds < 10
    assert quick.cpu_seconds(slow) is None


def problem(solution: str) -> CodeProblem:
    prompt = "def add(a, b):\n    '''Add.'''\n"
    return CodeProblem("p/1", prompt, "final", "add", adding("").test, solution)


@pytest.mark.slow
def test_the_limit_grows_with_the_canonical_solutions_own_time(quick: Sandbox) -> None:
    def answer(seconds: float) -> str:
        return f"{BURN}def add(a, b):\n    burn({seconds / 2})\n    return a + b\n"

    slow, unsolved = problem(answer(0.7 * LIMIT_S)), problem("")
    scorer = CodeScorer(ask="")
    asked = [(one, answer(share * LIMIT_S)) for one in (slow, unsolved) for share in (0.5, 1.5, 30)]
    reasons = [verdict.reason for verdict in scorer.verdicts(asked, "standard", None, quick)]
    assert reasons == ["passed", "passed", "timeout", "passed", "timeout", "timeout"]


@pytest.mark.slow
def test_verdicts_do_not_depend_on_how_many_run_or_on_what_else_does(busy_machine: None) -> None:
    problems = load("pocket-code").problems
    right = [Program(p.prompt + p.canonical_solution, p.prompt, p.test, p.entry_point) for p in problems]
    wrong = [Program(f"def {p.entry_point}(*args):\n    return None\n", "", p.test, p.entry_point) for p in problems]
    timed = [burning(share * LIMIT_S) for share in (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)]
    endless = [adding(f"def add(a, b):\n    while {number}:\n        pass\n") for number in (1, 2, 3)]
    programs = [*right[:45], *wrong[:45], *timed, *endless]
    assert len(programs) == 100
    expected = ["passed"] * 45 + ["wrong answer"] * 45 + ["passed"] * 7 + ["timeout"] * 3
    for jobs in (1, 2, 8):
        with Sandbox(limits=Limits(timeout_s=LIMIT_S)) as opened:
            reasons = [verdict.reason for verdict in opened.judge(programs, jobs)]
        assert reasons == expected
