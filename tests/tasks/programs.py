"""Programs the sandbox tests share."""

from __future__ import annotations

from pathlib import Path

from s0.tasks.sandbox import Program, Sandbox, Verdict

ADD_TEST = """\
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(-1, 1) == 0
"""


def adding(source: str, test: str = ADD_TEST) -> Program:
    """A program that is asked to add two numbers."""
    return Program(source, "def add(a, b):\n    pass\n", test, "add")


HONEST = adding("def add(a, b):\n    return a + b\n")
WRONG = adding("def add(a, b):\n    return a * b\n")


def verdict_of(sandbox: Sandbox, program: Program) -> Verdict:
    """Judge one program, then make sure the next ones are still judged rightly by the same servers."""
    verdict = sandbox.judge([program], jobs=1)[0]
    assert [after.reason for after in sandbox.judge([HONEST, WRONG], jobs=1)] == ["passed", "wrong answer"]
    return verdict


def descendants(root: int) -> set[int]:
    """The processes that process `root` has started, and they, and so on."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    found = {root}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}
