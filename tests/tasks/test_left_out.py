"""What a test cannot pass to the function: found by reading, and only where it is sure."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from s0.errors import DatasetError
from s0.tasks import load
from s0.tasks.code.crossing import cannot_cross

PROMPT = """\
class Point:
    def __init__(self, x):
        self.x = x

def helper(x):
    return x

def f(x, y=0):
    \"\"\"What is asked for; its own `node` is not the test's.\"\"\"
"""
STUB = PROMPT + "    node = None\n"
NODE = "class Node:\n    def __init__(self, value=0):\n        self.value = value\n"
SURE = {
    "candidate(lambda x: x)": "a lambda",
    "candidate(1, key=lambda x: x)": "a lambda",
    "candidate([1, (2, {'a': lambda: 3})])": "a lambda",
    "candidate(*[1, lambda: 3])": "a lambda",
    "assert sorted(candidate(lambda x: x)) == []": "a lambda",
    "square = lambda x: x * x\ncandidate(square)": "a lambda",
    "square: object = lambda x: x * x\ncandidate([square])": "a lambda",
    "callbacks = [lambda: 1]\ncandidate(callbacks)": "a lambda",
    "def square(x):\n    return x * x\ncandidate(square)": "the function square",
    "async def wait():\n    pass\ncandidate(wait)": "the function wait",
    "candidate(helper)": "the function helper",
    "candidate(f)": "the function f",
    "f(helper)": "the function helper",
    "candidate(Node)": "the class Node",
    "class Wrong(ValueError):\n    pass\ncandidate(Wrong)": "the class Wrong",
    "candidate(Node(1))": "an instance of Node",
    "candidate(Point(1))": "an instance of Point",
    "node = Node(1)\nnode.left = Node(2)\nassert candidate(node) == 2": "an instance of Node",
    "candidate([Node(i) for i in range(3)])": "an instance of Node",
    "candidate({i: Node(i) for i in range(3)})": "an instance of Node",
    "candidate(x for x in [1, 2])": "a generator expression",
    "numbers = (x for x in [1, 2])\ncandidate(numbers)": "a generator expression",
    "candidate(map(int, ['1']))": "an iterator",
    "candidate(iter([1]))": "an iterator",
    "candidate(open('rows.txt'))": "an open file",
}
NOT_SURE = [
    "assert sorted(candidate(3), key=lambda x: -x) == []",
    "assert list(map(lambda x: x + 1, candidate([1]))) == [2]",
    "assert candidate([x for x in range(3)]) == 3",
    "candidate(*(x for x in [1, 2]))",
    "candidate(*map(int, ['1']))",
    "candidate(list(map(int, ['1'])))",
    "candidate(sum(x for x in [1]))",
    "candidate((lambda x: x)(3))",
    "candidate(Node(1).value)",
    "candidate(helper(3))",
    "candidate(int)",
    "candidate(len)",
    "from collections import namedtuple\nPair = namedtuple('Pair', 'a b')\ncandidate(Pair(1, 2))",
    "from typing import NamedTuple\nclass Pair(NamedTuple):\n    a: int\ncandidate(Pair(1))",
    "class Numbers(list):\n    pass\ncandidate(Numbers())",
    "node = Node(1)\nnode = node.value\ncandidate(node)",
    "for node in [1, 2]:\n    candidate(node)",
    "def map(function, items):\n    return [function(item) for item in items]\ncandidate(map(abs, [1]))",
    "def other(function):\n    return function\nother(lambda: 1)",
    "x = [x]\ncandidate(x)",
    "candidate = sorted\ncandidate([2, 1], key=lambda x: x)",
    "candidate",
]


def checking(lines: str) -> str:
    indented = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"{NODE}\ndef check(candidate):\n{indented}"


@pytest.mark.parametrize("lines", SURE)
def test_what_cannot_be_copied_is_found_where_it_is_passed(lines: str) -> None:
    test = checking(lines)
    what = cannot_cross(ast.parse(test), STUB, "f")
    assert what is not None and what.startswith(f"{SURE[lines]} (line ") and what.endswith(" of the test)")


@pytest.mark.parametrize("lines", NOT_SURE)
def test_what_stays_with_the_test_or_may_be_data_is_let_be(lines: str) -> None:
    assert cannot_cross(ast.parse(checking(lines)), STUB, "f") is None


def row(test: str) -> dict[str, str]:
    return {
        "task_id": "made/1",
        "prompt": PROMPT,
        "entry_point": "f",
        "canonical_solution": "    return 1\n",
        "test": test,
    }


def test_a_row_of_ones_own_is_refused_and_a_published_one_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(checking("assert candidate(Node(1)) == 1"))) + "\n")
    task = load("humaneval", path)
    assert task.problems == []
    assert task.left_out == (
        "made/1: its test passes an instance of Node (line 6 of the test); "
        "only data can cross to the function's process",
    )
    with pytest.raises(
        DatasetError,
        match=r"line 1: expected a test that passes data to 'f', which runs in a process of its own; "
        r"got an instance of Node \(line 6 of the test\); correct the test",
    ):
        load("own", path)


def test_the_rows_left_out_do_not_move_the_splits_of_others(tmp_path: Path) -> None:
    rows = [
        {
            **row("def check(candidate):\n    assert candidate(1) == 1\n"),
            "task_id": str(n),
            "prompt": f"# {n}\n{PROMPT}",
        }
        for n in range(41)
    ]
    rows[0]["test"] = checking("candidate(lambda: 1)")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    task = load("humaneval", path)
    assert [len(task.split(name)) for name in ("train", "select", "final")] == [15, 4, 21]
    assert len(task.left_out) == 1


def test_mbpp_leaves_out_what_cannot_cross(tmp_path: Path) -> None:
    published = {
        "text": "Apply.",
        "code": "def apply(function, x):\n    return function(x)\n",
        "test_setup_code": "",
    }
    rows = [
        {**published, "task_id": 11, "test_list": ["assert apply(lambda x: x + 1, 1) == 2"]},
        {**published, "task_id": 12, "text": "Apply it.", "test_list": ["assert apply(abs, -1) == 1"]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    task = load("mbpp", path)
    assert [problem.id for problem in task.problems] == ["12"]
    assert task.left_out == (
        "11: its test passes a lambda (line 1 of the test); only data can cross to the function's process",
    )
