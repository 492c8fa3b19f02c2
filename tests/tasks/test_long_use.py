"""One pool for thousands of programs, every tenth of them hostile: nothing grows, and no verdict changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s0.tasks.sandbox import Limits, Program, Sandbox, backends
from tests.tasks.programs import adding, descendants
from tests.tasks.test_cheats import CHEATS

N_PROGRAMS = int(os.environ.get("S0_JUDGED_PROGRAMS", "2000"))
"""For the strongest backend; ten thousand take some minutes and were tried when this was written."""
N_OF_OTHERS, N_ROUNDS = 500, 10
SLEEPING = {"patch the codec", "read what was asked and stay silent", "drop a typing.py"}
"""They take ten times the limit each, and are tried elsewhere."""
HOSTILE = [source for name, source in CHEATS.items() if name not in SLEEPING]


def _programs(start: int, count: int) -> list[Program]:
    """Right, wrong by one, and hostile ones, no two of them equal: equal programs are judged once."""
    return [
        adding(
            f"{HOSTILE[n // 10 % len(HOSTILE)]}\n# {n}\n"
            if n % 10 == 9
            else f"def add(a, b):\n    return a + b + {n % 3} * 0 ** {n % 2}  # {n}\n"
        )
        for n in range(start, start + count)
    ]


def _use_of(pids: set[int]) -> tuple[int, int]:
    """Resident memory in MiB, and open descriptors, of these processes together."""
    memory = descriptors = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        memory += int(status.partition("VmRSS:")[2].split()[0])
        descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return memory >> 10, descriptors


@pytest.mark.slow
def test_thousands_of_programs_leave_a_pool_as_it_was(sandbox: Sandbox) -> None:
    n_programs = N_PROGRAMS if sandbox.backend == backends.strongest() else N_OF_OTHERS
    each = n_programs // N_ROUNDS
    with Sandbox(sandbox.backend, Limits(timeout_s=1.0)) as pool:
        pool.judge(_programs(0, 200))
        servers = descendants(os.getpid())
        before = _use_of({os.getpid(), *servers})
        reasons: list[str] = []
        for number in range(N_ROUNDS):
            programs = _programs(number * each, each)
            reasons += [verdict.reason for verdict in pool.judge(programs)]
            assert descendants(os.getpid()) == servers, "a server was lost, or something was left behind"
        after = _use_of({os.getpid(), *servers})
    assert after[1] == before[1], "descriptors"
    assert after[0] < before[0] + 30, "memory"
    with Sandbox(sandbox.backend, Limits(timeout_s=1.0)) as fresh:
        some = range(0, n_programs, 97)
        alone = [fresh.judge(_programs(n, 1), jobs=1)[0].reason for n in some]
    assert [reasons[n] for n in some] == alone
    right = [reason for n, reason in enumerate(reasons) if n % 10 != 9]
    expected = ["passed" if n % 3 * 0 ** (n % 2) == 0 else "wrong answer" for n in range(n_programs) if n % 10 != 9]
    assert right == expected
    assert "passed" not in reasons[9::10]
