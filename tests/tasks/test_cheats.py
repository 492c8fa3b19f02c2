"""Programs that want a pass without the answer; many get it where test and program share a process."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from s0.tasks.sandbox import Sandbox
from tests.tasks.programs import ADD_TEST, adding, verdict_of

DEFINE = "def add(a, b):\n    return None\n"
CONNECTION = (
    "import sys\n"
    "frame = sys._getframe()\n"
    "while 'calls' not in frame.f_locals:\n    frame = frame.f_back\n"
    "connection = frame.f_locals['calls']\n"
)
"""Finds the descriptor of the connection to the checker: its number is another one where a backend keeps one open."""

FOOL_A_SHARED_PROCESS = {
    "exit at once": "import sys\nsys.exit(0)\n",
    "exit when called": "def add(a, b):\n    raise SystemExit(0)\n",
    "leave when called": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "leave at once": DEFINE + "import os\nos._exit(0)\n",
    "an int that equals everything": (
        "class Same(int):\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Same(1)\n"
    ),
    "an object that equals everything": (
        "class Same:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Same()\n"
    ),
    "a list of such objects": (
        "class Same(list):\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Same()\n"
    ),
    "an except hook": DEFINE + "import sys\nsys.excepthook = lambda *error: __import__('os')._exit(0)\n",
    "leave in an exit handler": DEFINE + "import atexit, os\natexit.register(os._exit, 0)\n",
    "leave in a trace function": DEFINE
    + "import os, sys\nsys.settrace(lambda frame, *rest: os._exit(0) if frame.f_code.co_name == 'check' else None)\n",
}

OTHER_CHEATS = {
    "patch AssertionError": DEFINE + "import builtins, os\nbuiltins.AssertionError = lambda *a: os._exit(0)\n",
    "replace check": DEFINE + "def check(candidate):\n    pass\n",
    "print a verdict": DEFINE + "print('passed')\nprint('{\"passed\": true}')\n",
    "print at every call": "def add(a, b):\n    print('passed', flush=True)\n",
    "write verdicts to every descriptor": (
        "import os\n"
        "def frame(kind, reason):\n"
        "    parts = [s.encode() for s in (kind, reason)]\n"
        "    body = b't*' + (2).to_bytes(4, 'little')\n"
        "    body += b''.join(b's' + len(p).to_bytes(4, 'little') + p for p in parts) + bytes(4)\n"
        "    return len(body).to_bytes(4, 'little') + body\n"
        "for descriptor in range(64):\n"
        "    try:\n        os.write(descriptor, frame('passed', 'passed'))\n"
        "    except OSError:\n        pass\n" + DEFINE
    ),
    "say that it has passed": (
        CONNECTION + "frames = sys.modules['s0.tasks.sandbox.guest.frames']\n"
        "codec = sys.modules['s0.tasks.sandbox.guest.codec']\n"
        "def add(a, b):\n"
        "    for kind in ('passed', 'copied', 'unjudged'):\n"
        "        frames.send(connection, codec.encode((kind, 'passed')))\n"
    ),
    "answer with 5, then with what is no data": (
        CONNECTION + "frames = sys.modules['s0.tasks.sandbox.guest.frames']\n"
        "def add(a, b):\n"
        "    frames.send(connection, b't*' + bytes([9, 0, 0, 0]) + b'n' * 100)\n"
        "    return a + b\n"
    ),
    "an object that is whatever it is compared with": (
        "class Same:\n    def __init__(self, *a): pass\n    __eq__ = __le__ = __ge__ = lambda *a: True\n"
        "    __hash__ = lambda self: 5\n    __class__ = int\n    __bool__ = lambda self: True\n"
        "def add(a, b):\n    return Same()\n"
    ),
    "an iterator that never ends": "import itertools\ndef add(a, b):\n    return itertools.count()\n",
    "a text that is any text": (
        "class Same(str):\n    __eq__ = lambda *a: True\n    __hash__ = str.__hash__\n"
        "def add(a, b):\n    return {Same('a'): Same('b')}\n"
    ),
    "half a message, then the end": CONNECTION
    + "import os\ndef add(a, b):\n    os.write(connection, bytes([9, 0, 0, 0, 1]))\n    os._exit(0)\n",
    "an end of iteration": "def add(a, b):\n    raise StopIteration\n",
    "many classes of namedtuples": (
        "import collections\ndef add(a, b):\n"
        "    return [collections.namedtuple(f'P{n}', 'a')(1) for n in range(1000)]\n"
    ),
    "sets that collide": "def add(a, b):\n    return {n * (2 ** 61 - 1) for n in range(2000)}\n",
    "search memory for connections": (
        "import gc, os, socket\n"
        "for thing in gc.get_objects():\n"
        "    if isinstance(thing, socket.socket):\n"
        "        try:\n            os.write(thing.fileno(), b'R' * 100)\n"
        "        except OSError:\n            pass\n" + DEFINE
    ),
    "search the frames": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    for name, value in list(frame.f_locals.items()):\n"
        "        if name in ('verdict', 'status', 'reason', 'test', 'control'):\n"
        "            frame.f_locals[name] = 'passed'\n"
        "    frame = frame.f_back\n" + DEFINE
    ),
    "drop a typing.py": "open('typing.py', 'w').write('import os; os._exit(0)')\n" + DEFINE,
    "patch the codec": (
        "import sys\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.endswith(('codec', 'frames')):\n"
        "        module.encode = module.send = lambda *a: b'N'\n" + DEFINE
    ),
    "patch builtins": (
        "import builtins\n"
        "builtins.len = builtins.isinstance = lambda *a: True\nbuiltins.type = lambda x: int\n" + DEFINE
    ),
    "close everything": "import os\nos.closerange(0, 64)\n" + DEFINE,
    "read what was asked and stay silent": CONNECTION
    + "import os, time\ndef add(a, b):\n    os.read(connection, 1)\n    time.sleep(60)\n",
    "answer before being asked": (
        "import os\n"
        "message = b't*' + (2).to_bytes(4, 'little') + b's' + (5).to_bytes(4, 'little') + b'valueT' + bytes(4)\n"
        "for descriptor in range(3, 8):\n"
        "    try:\n        os.write(descriptor, len(message).to_bytes(4, 'little') + message)\n"
        "    except OSError:\n        pass\n" + DEFINE
    ),
    "huge numbers of bytes announced": CONNECTION
    + "import os\ndef add(a, b):\n    os.write(connection, b'\\xff' * 4)\n",
    "a generator": "def add(a, b):\n    yield a + b\n",
    "recursion without end": "def add(a, b):\n    return add(a, b)\n",
    "recursion past the stack": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef add(a, b):\n    return [add(a, b)]\n",
    "a list within itself": "def add(a, b):\n    x = []\n    x.append(x)\n    return x\n",
    "a large answer": "def add(a, b):\n    return 'x' * (20 << 20)\n",
    "a wide answer": "def add(a, b):\n    return [[]] * 3_000_000\n",
    "an AssertionError of its own": "def add(a, b):\n    raise AssertionError\n",
    "an exception with a strange name": "def add(a, b):\n    raise type('passed\\n', (Exception,), {})\n",
    "an exception that cannot be shown": (
        "class E(Exception):\n    __str__ = __repr__ = None\ndef add(a, b):\n    raise E\n"
    ),
    "interrupt": "def add(a, b):\n    raise KeyboardInterrupt\n",
    "a signal to itself": "import os\ndef add(a, b):\n    os.kill(os.getpid(), 9)\n",
    "a crash": "import ctypes\ndef add(a, b):\n    ctypes.string_at(0)\n",
    "no such function": "def other(a, b):\n    return a + b\n",
    "not a function": "add = 5\n",
    "not python": "def add(a, b)\n    return a + b\n",
    "null bytes": "def add(a, b):\n    return a + b\n\0",
    "lone surrogates": "def add(a, b):\n    return '\udc80'\n",
    "nested too deep": "add = " + "(" * 5000 + ")" * 5000 + "\n",
    "200 MB of output": "def add(a, b):\n    for _ in range(200):\n        print('x' * 1_000_000)\n",
    "invalid UTF-8": (
        "import os, sys\ndef add(a, b):\n    os.write(1, b'\\xff\\xfe')\n    sys.stdout.buffer.write(b'\\xff')\n"
    ),
}  # fmt: skip
CHEATS = {**FOOL_A_SHARED_PROCESS, **OTHER_CHEATS}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_no_pass(sandbox: Sandbox, name: str) -> None:
    verdict = verdict_of(sandbox, adding(CHEATS[name]))
    assert not verdict.passed
    assert verdict.reason != "passed"


@pytest.mark.parametrize("name", FOOL_A_SHARED_PROCESS)
def test_the_cheat_works_where_test_and_program_share_a_process(name: str, tmp_path: Path) -> None:
    script = f"{CHEATS[name]}\n{ADD_TEST}\ncheck(add)\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], cwd=tmp_path, capture_output=True, timeout=20)
    assert done.returncode == 0


def test_reasons_say_what_happened(any_sandbox: Sandbox) -> None:
    expected = {
        "leave when called": "exit",
        "exit when called": "exception: SystemExit",
        "an int that equals everything": "wrong answer",
        "recursion without end": "exception: RecursionError",
        "an AssertionError of its own": "exception: AssertionError",
        "a crash": "killed: SIGSEGV",
        "no such function": "exception: KeyError",
        "not a function": "exception: TypeError",
        "not python": "unparsable",
        "null bytes": "unparsable",
        "print a verdict": "wrong answer",
        "200 MB of output": "wrong answer",
        "answer before being asked": "killed",
        "say that it has passed": "killed",
        "answer with 5, then with what is no data": "killed",
        "huge numbers of bytes announced": "killed",
        "half a message, then the end": "exit",
    }
    verdicts = any_sandbox.judge([adding(CHEATS[name]) for name in expected])
    assert dict(zip(expected, (verdict.reason for verdict in verdicts), strict=True)) == expected


def test_output_does_not_reach_this_process(any_sandbox: Sandbox) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    any_sandbox.judge([adding(CHEATS["200 MB of output"]), adding(CHEATS["a large answer"])])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
