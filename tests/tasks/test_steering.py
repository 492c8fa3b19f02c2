"""Exceptions that steer loops: raised by a program, they end no loop of its test as if it had come to its end."""

from __future__ import annotations

import textwrap

import pytest

from s0.tasks.sandbox import Program, Sandbox
from tests.breadth import mostly_slow

# Each is the body of `check(double)`; in most, an end that comes too early leaves nothing to assert.
SHAPES = {
    "zip": "for got, want in zip(map(double, [1, 2]), [2, 4]):\n    assert got == want",
    "zip, strict": "for got, want in zip(map(double, [1, 2]), [2, 4], strict=True):\n    assert got == want",
    "all over map": "assert all(map(lambda x: double(x) == 2 * x, [1, 2]))",
    "all over an expression": "assert all(double(x) == 2 * x for x in [1, 2])",
    "not any": "assert not any(double(x) != 2 * x for x in [1, 2])",
    "not any over map": "assert not any(map(lambda x: double(x) != 2 * x, [1, 2]))",
    "iter with a sentinel": "for got in iter(lambda: double(1), 2):\n    assert False",
    "for and else": "for x in map(double, [1, 2]):\n    if x % 2: break\nelse:\n    return\nassert False",
    "a loop over map": "for got in map(double, [1, 2]):\n    assert got in (2, 4)",
    "a loop over filter": "for x in filter(lambda x: double(x) != 2 * x, [1, 2]):\n    assert False",
    "a list of map": "assert [x for x in map(double, [1, 2]) if x not in (2, 4)] == []",
    "a set of wrong ones": "assert {x for x in [1, 2] if double(x) != 2 * x} == set()",
    "a dict of wrong ones": "assert {x: 1 for x in [1, 2] if double(x) != 2 * x} == {}",
    "a sum of wrong ones": "assert sum(map(lambda x: double(x) != 2 * x, [1, 2])) == 0",
    "a generator": (
        "def wrong():\n    for x in [1, 2]:\n        if double(x) != 2 * x:\n            yield x\n"
        "assert list(wrong()) == []"
    ),
    "yield from": "def every():\n    yield from map(double, [1, 2])\nfor got in every():\n    assert got in (2, 4)",
    "next with a default": "assert next(map(lambda x: double(x) == 2 * x, [1]), True)",
    "next with a default, over an expression": "assert next((False for x in [1, 2] if double(x) != 2 * x), True)",
    "an iterator of its own": (
        "class Each:\n    def __init__(self): self.left = [1, 2]\n    def __iter__(self): return self\n"
        "    def __next__(self):\n        if not self.left: raise StopIteration\n"
        "        return double(self.left.pop())\n"
        "for got in Each():\n    assert got in (2, 4)"
    ),
    "takewhile": "import itertools\nassert not list(itertools.takewhile(lambda x: double(x) != 2 * x, [1, 2]))",
    "dropwhile": "import itertools\nassert not list(itertools.dropwhile(lambda x: double(x) == 2 * x, [1, 2]))",
    "starmap": "import itertools\nfor got in itertools.starmap(double, [(1,), (2,)]):\n    assert got in (2, 4)",
    "chain": "import itertools\nfor got in itertools.chain(map(double, [1, 2])):\n    assert got in (2, 4)",
    "islice": "import itertools\nfor got in itertools.islice(map(double, [1, 2]), 2):\n    assert got in (2, 4)",
    "groupby": (
        "import itertools\nfor key, _ in itertools.groupby([1, 2], lambda x: double(x) == 2 * x):\n    assert key"
    ),
    "accumulate": (
        "import itertools\nfor got in itertools.accumulate([1, 2], lambda x, y: double(x)):\n    assert got in (1, 2)"
    ),
    "a deque": "import collections\nassert len(collections.deque(map(lambda x: double(x) == 1, [1, 2]), 0)) == 0",
    "unpacking": "*wrong, = (x for x in [1, 2] if double(x) != 2 * x)\nassert not wrong",
    "starred arguments": "def none(*wrong): return not wrong\nassert none(*(x for x in [1, 2] if double(x) != 2 * x))",
    "extend": "wrong = []\nwrong.extend(x for x in [1, 2] if double(x) != 2 * x)\nassert not wrong",
    "join": "assert ''.join(str(x) for x in [1, 2] if double(x) != 2 * x) == ''",
    "max with a default": "assert max((x for x in [1, 2] if double(x) != 2 * x), default=None) is None",
    "suppress": "import contextlib\nwith contextlib.suppress(StopIteration):\n    assert double(1) == 2",
    "try and except": "try:\n    assert double(1) == 2\nexcept (StopIteration, GeneratorExit):\n    pass",
    "try and except KeyboardInterrupt": (
        "try:\n    assert double(1) == 2\nexcept (KeyboardInterrupt, SystemExit):\n    pass"
    ),
    "try and finally": (
        "for _ in [1]:\n    try:\n        got = double(1)\n    finally:\n        pass\n    assert got == 2"
    ),
    "finally that leaves": (
        "def passes():\n    try:\n        return double(1) == 2\n    finally:\n        pass\nassert passes()"
    ),
    "a context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef doubled(x):\n    yield double(x)\n"
        "with doubled(1) as got:\n    assert got == 2"
    ),
    "a generator that is sent to": (
        "def answers():\n    x = yield\n    while True:\n        x = yield double(x)\n"
        "asked = answers()\nnext(asked)\nassert [asked.send(x) for x in [1, 2]] == [2, 4]"
    ),
    "a coroutine": (
        "async def passes():\n    return double(1) == 2\ncoroutine = passes()\ntry:\n    coroutine.send(None)\n"
        "except StopIteration as end:\n    assert end.value"
    ),
    "an asynchronous loop": (
        "import asyncio\nasync def every():\n    for x in [1, 2]:\n        yield double(x)\nasync def main():\n"
        "    async for got in every():\n        assert got in (2, 4)\n"
        "try:\n    main().send(None)\nexcept StopIteration:\n    pass"
    ),
    "unittest": (
        "import unittest\nclass Doubling(unittest.TestCase):\n    def test(self): self.assertEqual(double(1), 2)\n"
        "result = unittest.TestResult()\nDoubling('test').run(result)\nassert result.wasSuccessful()"
    ),
    "unittest, many": (
        "import unittest\nclass Doubling(unittest.TestCase):\n    def test(self):\n        for x in [1, 2]:\n"
        "            with self.subTest(x):\n                self.assertEqual(double(x), 2 * x)\n"
        "result = unittest.TestResult()\nDoubling('test').run(result)\nassert not result.failures and not result.errors"
    ),
}  # fmt: skip
ASKING_ONCE = {shape for shape, body in SHAPES.items() if "2]" not in body} | {"takewhile", "accumulate"}
RAISED = (
    "StopIteration", "StopIteration(2)", "StopAsyncIteration", "GeneratorExit", "KeyboardInterrupt", "SystemExit",
    "SystemExit(0)", "BaseException", "type('E', (StopIteration,), {})", "type('E', (StopIteration, ValueError), {})",
    "type('E', (BaseException,), {})", "type('StopIteration', (BaseException,), {})",
    "__import__('asyncio').CancelledError", "BaseExceptionGroup('all', [StopIteration()])",
)  # fmt: skip


def judged(shape: str, body: str) -> Program:
    test = f"def check(double):\n{textwrap.indent(SHAPES[shape], '    ')}\n"
    return Program(f"def double(x):\n    {body}\n", "", test, "double")


def test_the_tests_judge_rightly(any_sandbox: Sandbox) -> None:
    right = any_sandbox.judge([judged(shape, "return 2 * x") for shape in SHAPES])
    wrong = any_sandbox.judge([judged(shape, "return 2 * x + 1 if x < 9 else 0") for shape in SHAPES])
    assert {shape: verdict.reason for shape, verdict in zip(SHAPES, right, strict=True) if not verdict.passed} == {}
    loose = {"accumulate", "a deque", "iter with a sentinel"}
    assert {shape for shape, verdict in zip(SHAPES, wrong, strict=True) if verdict.passed} <= loose


@pytest.mark.parametrize("raised", mostly_slow(RAISED, RAISED[:5]))
def test_what_a_program_raises_is_no_end_of_its_tests_loops(any_sandbox: Sandbox, raised: str) -> None:
    at_once, later = f"raise {raised}", f"return 2 * x if x < 2 else (_ for _ in ()).throw({raised})"
    asked = [(shape, at_once) for shape in SHAPES] + [(shape, later) for shape in SHAPES if shape not in ASKING_ONCE]
    verdicts = any_sandbox.judge([judged(shape, body) for shape, body in asked])
    assert [one for one, verdict in zip(asked, verdicts, strict=True) if verdict.passed] == []
