"""What a test sees of the candidate's answers, arguments and exceptions is what it would see in one process."""

from __future__ import annotations

from typing import Any

import pytest

from s0.tasks.sandbox import Program, Sandbox, Verdict

SETUP = """\
import datetime, enum, re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

Pair = namedtuple("Pair", "a b")

class Colour(enum.IntEnum):
    RED = 1

class Plain(enum.Enum):
    RED = 1

class Text(str):
    def __eq__(self, other):
        return str(self) == str(other).lower()
    __hash__ = str.__hash__

class Numbers(list):
    pass

@dataclass
class Point:
    x: int

def count():
    yield 0
    yield 1
"""

DIFFERENT = [
    ("count()", "[0, 1]"), ("count()", "(0, 1)"), ("range(2)", "[0, 1]"), ("range(2)", "(0, 1)"),
    ("range(0, 4, 2)", "range(0, 4, 1)"), ("map(abs, [1])", "[1]"), ("filter(None, [1])", "[1]"),
    ("zip([1], [2])", "[(1, 2)]"), ("enumerate('a')", "[(0, 'a')]"), ("reversed([1, 2])", "[2, 1]"),
    ("iter([1])", "[1]"), ("re.match('a', 'a')", "True"), ("re.match('a', 'a')", "'a'"), ("(1, 2)", "[1, 2]"),
    ("[1]", "{1}"), ("{1}", "[1]"), ("'1'", "1"), ("b'a'", "'a'"), ("bytearray(b'a')", "'a'"), ("1", "'1'"),
    ("1", "None"), ("0", "None"), ("''", "None"), ("False", "None"), ("[]", "()"), ("[]", "False"),
    ("'ab'", "['a', 'b']"),
    ("deque([1])", "[1]"), ("deque([1])", "(1,)"), ("Counter('aab')", "[('a', 2), ('b', 1)]"),
    ("Counter('aab')", "{'a': 2}"), ("OrderedDict(a=1, b=2)", "OrderedDict(b=2, a=1)"),
    ("OrderedDict(a=1)", "[('a', 1)]"), ("{'a': 1}.keys()", "['a']"), ("{'a': 1}.values()", "[1]"),
    ("{'a': 1}.values()", "{'a': 1}.values()"), ("{'a': 1}.items()", "[('a', 1)]"),
    ("OrderedDict(a=1).keys()", "['a']"), ("Pair(1, 2)", "(1, 3)"), ("Pair(1, 2)", "[1, 2]"),
    ("Decimal('0.1')", "0.1"), ("Decimal('2.5')", "'2.5'"), ("Fraction(1, 3)", "1 / 3"), ("Fraction(1, 10)", "0.1"),
    ("Decimal('NaN')", "Decimal('NaN')"), ("float('nan')", "float('nan')"), ("1j", "1"), ("Plain.RED", "1"),
    ("Plain.RED", "'RED'"), ("Colour.RED", "'RED'"), ("Text('A')", "'a'.upper() + ' '"), ("Point(1)", "1"),
    ("Point(1)", "(1,)"), ("Point(1)", "None"), ("count", "None"), ("count", "'count'"), ("len", "'len'"),
    ("int", "float"), ("int", "'int'"), ("ValueError", "'ValueError'"), ("ValueError('a')", "'a'"),
    ("datetime.date(2020, 1, 2)", "'2020-01-02'"), ("datetime.date(2020, 1, 2)", "datetime.datetime(2020, 1, 2)"),
    ("datetime.timedelta(1)", "86400"), ("slice(1, 2)", "(1, 2)"), ("...", "None"), ("NotImplemented", "None"),
    ("re", "'re'"), ("lambda: 1", "1"), ("object()", "object()"), ("2.0000000000000004", "2"), ("[1, 2.5]", "[1, 2]"),
    ("[[1, 2], [3]]", "[[1], [2, 3]]"), ("['ab', 'c']", "['a', 'bc']"), ("[True, False]", "[True, True]"),
    ("{1: [2]}", "{1: (2,)}"), ("'\\u00e9'", "'e\\u0301'"), ("10 ** 30", "1e30"), ("memoryview(b'a')", "'a'"),
]  # fmt: skip
EQUAL = [
    ("list(count())", "[0, 1]"), ("range(0, 3, 2)", "range(0, 4, 2)"), ("True", "1"), ("1.0", "1"), ("[True]", "[1]"),
    ("1 + 0j", "1"), ("Pair(1, 2)", "(1, 2)"), ("(1, 2)", "Pair(1, 2)"), ("Pair(1, [2])", "(1, [2])"),
    ("Colour.RED", "1"), ("[Colour.RED]", "[1]"), ("{Colour.RED: 2}", "{1: 2}"), ("Text('a')", "'a'"),
    ("Numbers([1])", "[1]"), ("Counter('aab')", "{'a': 2, 'b': 1}"), ("OrderedDict(a=1, b=2)", "{'b': 2, 'a': 1}"),
    ("OrderedDict(a=1, b=2)", "OrderedDict(a=1, b=2)"), ("defaultdict(int, a=1)", "{'a': 1}"),
    ("defaultdict(lambda: 3, a=1)", "{'a': 1}"), ("deque([1, 2], 5)", "deque([1, 2])"), ("{'a': 1}.keys()", "{'a'}"),
    ("{'a': 1}.items()", "{('a', 1)}"), ("OrderedDict(a=1).keys()", "{'a'}"), ("frozenset([1])", "{1}"),
    ("bytearray(b'a')", "b'a'"), ("Decimal('2.50')", "2.5"), ("Decimal(2)", "2"), ("Fraction(1, 2)", "0.5"),
    ("Fraction(4, 2)", "2"), ("-0.0", "0.0"), ("10 ** 30", "10 ** 30"), ("float('inf')", "float('inf')"),
    ("int", "int"), ("type(None)", "type(None)"), ("Decimal", "Decimal"), ("ValueError", "ValueError"), ("len", "len"),
    ("...", "..."), ("NotImplemented", "NotImplemented"), ("slice(1, None)", "slice(1, None)"),
    ("datetime.date(2020, 1, 2)", "datetime.date(2020, 1, 2)"),
    ("datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)",
     "datetime.datetime(2020, 1, 2, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))"),
    ("datetime.time(1, 2)", "datetime.time(1, 2)"), ("datetime.timedelta(1)", "datetime.timedelta(hours=24)"),
    ("'\\udc80'", "'\\udc80'"), ("[[1, 2], [], [3]]", "[[1, 2], [], [3]]"),
    ("[(1, 'a'), (2, 'b')]", "[(1, 'a'), (2, 'b')]"),
    ("[None] * 3", "[None] * 3"), ("{(1, 2): {3}}", "{(1, 2): {3}}"), ("['', 'a', '\\u00e9']", "['', 'a', '\\u00e9']"),
    ("[2 ** 63, 1]", "[2 ** 63, 1]"), ("[0.1, float('-inf')]", "[0.1, float('-inf')]"),
]  # fmt: skip


def asking(answer: str, body: str, setup: str = SETUP) -> Program:
    """A candidate whose `f()` is `answer`, and a check of indented lines."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return Program(f"{setup}\ndef f(*args):\n    return {answer}\n", "", f"{setup}\ndef check(f):\n{lines}", "f")


@pytest.mark.parametrize("table", [DIFFERENT, EQUAL], ids=["different", "equal"])
def test_an_answer_compares_as_in_one_process(any_sandbox: Sandbox, table: list[tuple[str, str]]) -> None:
    names: dict[str, Any] = {"__name__": "builtins"}
    exec(SETUP, names)
    expected = [bool(eval(f"({answer}) == ({other})", names)) for answer, other in table]
    assert set(expected) == {table is EQUAL}
    judged = any_sandbox.judge([asking(answer, f"assert f() == ({other})") for answer, other in table])
    wrong = [
        (pair, verdict) for pair, right, verdict in zip(table, expected, judged, strict=True)
        if verdict.reason != ("passed" if right else "wrong answer")
    ]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("Pair(1, 2)", "assert f().a == 1 and f()._fields == ('a', 'b') and f()._replace(a=3) == (3, 2)"),
        ("Counter('aab')", "assert f().most_common(1) == [('a', 2)] and f()['c'] == 0"),
        ("defaultdict(list, a=[1])", "x = f()\nx['b'].append(2)\nassert x == {'a': [1], 'b': [2]}"),
        ("deque([1, 2], 2)", "x = f()\nx.append(3)\nassert x == deque([2, 3]) and x.maxlen == 2"),
        ("count()", "x = f()\nassert next(x) == 0 and list(x) == [1] and next(x, 5) == 5"),
        ("(x * x for x in iter(int, 1))", "import itertools\nassert list(itertools.islice(f(), 100)) == [0] * 100"),
        ("re.match('b', 'a')", "assert not f() and f() is None"),
        ("re.match('a', 'a')", "assert f() and f() is not None and bool(f()) is True and isinstance(f(), re.Match)"),
        ("Point", "x = f()\nassert x is f() and x in [x] and x != 1 and {x: 1}[f()] == 1"),
        ("len", "assert f()([1, 2]) == 2"),
        ("(lambda x: [x, x, {1: x}])([1])", "x = f()\nx[0].append(2)\nassert x == [[1, 2], [1, 2], {1: [1, 2]}]"),
        ("(lambda x: x.append(x) or x)([1])", "assert f()[1][1][0] == 1"),
        ("list(range(10 ** 6))", "assert f() == list(range(10 ** 6))"),
        ("type('Sly', (), {'__len__': lambda self: 0})()", "assert not f()"),
        ("zip([1, 2], 'ab')", "assert dict(f()) == {1: 'a', 2: 'b'}"),
        ("map(Pair, [1], [2])", "assert [p.b for p in f()] == [2]"),
        ("iter([])", "assert list(f()) == [] and not list(f())"),
        ("count()", "assert f().__next__() == 0 and not hasattr(f(), 'keys')"),
        ("(1, count())", "one, rest = f()\nassert one == 1 and list(rest) == [0, 1]"),
    ],
)  # fmt: skip
def test_an_answer_can_be_used_as_in_one_process(any_sandbox: Sandbox, answer: str, body: str) -> None:
    names: dict[str, Any] = {"__name__": "builtins"}
    program = asking(answer, body)
    exec(program.source, names)
    exec(program.test, names)
    names["check"](names["f"])
    assert any_sandbox.judge([program]) == [Verdict(True, "passed")]


STAYS = [
    ("re.match('a', 'a')", "f().group()", ".group of a re.Match"),
    ("re.match('a', 'a')", "f()[0]", "getitem of a re.Match"),
    ("re.match('a', 'a')", "str(f())", "str of a re.Match"),
    ("re.match('a', 'a')", "'%s' % f()", "str of a re.Match"),
    ("re.match('a', 'a')", "f'{f()}'", "format of a re.Match"),
    ("re.match('a', 'a')", "hasattr(f(), 'span')", ".span of a re.Match"),
    ("count", "f()()", "call of a function"),
    ("Point(1)", "f().x == 1", ".x of a Point"),
    ("Point(1)", "setattr(f(), 'x', 1)", "setattr of a Point"),
    ("Point(1)", "__import__('copy').copy(f())", ".__reduce_ex__ of a Point"),
    ("type('Sized', (), {'__len__': lambda self: 1})()", "len(f())", "len of a Sized"),
    ("type('Ordered', (), {'__lt__': lambda self, other: True})()", "f() < 1", "lt of a Ordered"),
    ("type('Adding', (), {'__radd__': lambda self, other: 1})()", "1 + f()", "radd of a Adding"),
    ("type('Listing', (), {'__iter__': lambda self: iter([1])})()", "list(f())", "iter of a Listing"),
    ("type('Doubtful', (), {'__bool__': lambda self: 1 / 0})()", "not f()", "bool of a Doubtful"),
    ("count()", "f().send(1)", ".send of a generator"),
    ("count()", "f().close()", ".close of a generator"),
    ("type('passed\\n', (), {'__call__': print})()", "f()()", "call of a object"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "use", "says"), STAYS)
def test_what_stays_with_the_program_is_not_judged_by_more_than_its_truth(
    any_sandbox: Sandbox, answer: str, use: str, says: str
) -> None:
    body = f"try:\n    {use}\nexcept BaseException:\n    pass"
    expected = f"not judged: the test uses {says}, which stays in the program's process"
    assert any_sandbox.judge([asking(answer, body)]) == [Verdict(False, expected)]


@pytest.mark.parametrize(
    ("answer", "use"),
    [
        ("count()", "len(f())"), ("count()", "f()[0]"), ("Point(1)", "len(f())"), ("Point(1)", "f() < 1"),
        ("Point(1)", "f()()"), ("Point(1)", "list(f())"), ("Point(1)", "{f(): 1}"), ("re.match('a', 'a')", "f() + 1"),
        ("re.match('a', 'a')", "1 if callable(f()) else 1 / 0"),
    ],
)  # fmt: skip
def test_a_use_that_fails_in_one_process_fails_here_too(any_sandbox: Sandbox, answer: str, use: str) -> None:
    body = f"try:\n    {use}\nexcept (TypeError, ZeroDivisionError):\n    return\nassert False"
    assert any_sandbox.judge([asking(answer, body)]) == [Verdict(True, "passed")]


IN_PLACE = [
    ("args[0].sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]"),
    ("args[0].clear() or args[0].extend('ab')", "x = [1]\ny = x\nf(x)\nassert y is x and x == ['a', 'b']"),
    ("args[0].update(b=2)", "x = {'a': 1}\nf(x)\nassert x == {'a': 1, 'b': 2}"),
    ("args[0].pop('a')", "x = {'a': 1}\nf(x)\nassert x == {}"),
    ("args[0].add(3)", "x = {1}\nf(x)\nassert x == {1, 3}"),
    ("args[0].reverse()", "x = bytearray(b'ab')\nf(x)\nassert x == b'ba'"),
    ("args[0].rotate()", "x = deque([1, 2, 3])\nf(x)\nassert x == deque([3, 1, 2])"),
    ("args[0].update('a')", "x = Counter('a')\nf(x)\nassert x == {'a': 2} and type(x) is Counter"),
    ("args[0].move_to_end('a')", "x = OrderedDict(a=1, b=2)\nf(x)\nassert list(x) == ['b', 'a']"),
    ("args[0]['k'].append(1)", "x = defaultdict(list)\nf(x)\nassert x == {'k': [1]} and x['new'] == []"),
    ("args[0][1].append(5)", "x = [[1], [2]]\ninner = x[1]\nf(x)\nassert inner is x[1] and inner == [2, 5]"),
    ("args[0]", "x = [1]\nassert f(x) is x"),
    ("[args[0], args[0]]", "x = [1]\nassert f(x)[0] is f(x)[1] is x"),
    ("args[0] is args[1]", "x = [1]\nassert f(x, x) and not f(x, [1])"),
    ("args[0].append(args[1])", "x, y = [], [1]\nf(x, y)\nassert x[0] is y"),
    ("args[0].append(args[0])", "x = []\nf(x)\nassert x[0] is x"),
    ("args[0].append(4) or 1 / 0", "x = []\ntry:\n    f(x)\nexcept ZeroDivisionError:\n    pass\nassert x == [4]"),
    ("[row.append(0) for row in args[0]]", "x = [[1]] * 2\nf(x)\nassert x == [[1, 0, 0]] * 2 and x[0] is x[1]"),
    ("args[0].__setitem__(0, 9) or count()", "x = [1]\nassert list(f(x)) == [0, 1] and x == [9]"),
    ("(args[0].append(i) or args[0] for i in (1, 2))", "x = []\nassert [list(y) for y in f(x)] == [[1], [1, 2]]"),
    ("(args[0].append(i) or args[0] for i in (1, 2))", "x = []\ny = list(f(x))\nassert y == [[1, 2]] * 2 == [x, x]"),
    ("(args[0].append(i) for i in (1, 2))", "x = []\nassert list(f(x)) == [None, None] and x == [1, 2]"),
    ("(a := []) and 0 or (a.append(i) or a for i in range(99))", "assert f and [len(y) for y in f()][-1] == 99"),
    ("args[0].extend(range(10 ** 5))", "x = []\nf(x)\nassert x == list(range(10 ** 5))"),
    ("args[0].append(1)", "class Mine(list):\n    pass\nx = Mine()\nf(x)\nassert x == [1] and type(x) is Mine"),
]  # fmt: skip


@pytest.mark.parametrize(("work", "body"), IN_PLACE)
def test_what_is_done_to_arguments_is_seen_and_identity_is_kept(any_sandbox: Sandbox, work: str, body: str) -> None:
    names: dict[str, Any] = {"__name__": "builtins"}
    program = asking(work, body)
    exec(program.source, names)
    exec(program.test, names)
    names["check"](names["f"])
    assert any_sandbox.judge([program]) == [Verdict(True, "passed")]


def test_arguments_of_every_kind_arrive_as_they_are(any_sandbox: Sandbox) -> None:
    made_by_the_program = ("Text", "Colour", "Numbers", "Pair", "lambda")
    arguments = [answer for answer, _ in EQUAL if not any(name in answer for name in made_by_the_program)]
    source = f"{SETUP}\ndef f(value, text):\n    right = eval(text)\n"
    source += "    return type(value) is type(right) and value == right\n"
    lines = "".join(f"    assert f({argument}, {argument!r}), {argument!r}\n" for argument in arguments)
    program = Program(source, "", f"{SETUP}\ndef check(f):\n{lines}", "f")
    assert any_sandbox.judge([program]) == [Verdict(True, "passed")]


def test_an_object_goes_back_to_the_program_as_itself(any_sandbox: Sandbox) -> None:
    source = "made = []\ndef f(*args):\n    if args:\n        return args[0] is made[-1]\n"
    source += "    made.append(object())\n    return made[-1]\n"
    program = Program(source, "", "def check(f):\n    assert f(f()) is True and f([f()]) is False\n", "f")
    assert any_sandbox.judge([program]) == [Verdict(True, "passed")]


RAISED = [
    ("ValueError('division by zero')", "except ValueError as e: assert str(e) == 'division by zero'"),
    ("ValueError('a', 2)", "except ValueError as e: assert e.args == ('a', 2) and type(e) is ValueError"),
    ("KeyError('k')", "except LookupError as e: assert str(e) == \"'k'\" and e.args == ('k',)"),
    ("Bad('zero')", "except ValueError as e: assert 'zero' in str(e) and type(e).__name__ == 'Bad'"),
    ("Coded(7)", "except Exception as e: assert e.code == 7 and str(e) == 'code 7'"),
    ("Both()", "except KeyError as e: assert isinstance(e, ValueError)"),
    ("OSError(2, 'gone')", "except FileNotFoundError as e: assert e.errno == 2 and str(e) == '[Errno 2] gone'"),
    ("UnicodeDecodeError('utf-8', b'a', 0, 1, 'bad')", "except UnicodeError as e: assert e.reason == 'bad'"),
    ("ValueError(object())", "except ValueError as e: assert 'object object' in str(e)"),
    ("StopIteration(1)", "except RuntimeError: pass"),
    ("StopAsyncIteration()", "except RuntimeError: pass"),
    ("AssertionError('mine')", "except AssertionError as e: assert str(e) == 'mine'"),
    ("ZeroDivisionError", "except ArithmeticError as e: assert not str(e)"),
]
ERRORS = """\
class Bad(ValueError):
    pass

class Coded(Exception):
    def __init__(self, code):
        self.code = code
    def __str__(self):
        return f"code {self.code}"

class Both(KeyError, ValueError):
    pass

def f():
    raise ERROR
"""


@pytest.mark.parametrize(("error", "handler"), RAISED)
def test_an_exception_is_caught_as_in_one_process(any_sandbox: Sandbox, error: str, handler: str) -> None:
    test = f"def check(f):\n    try:\n        f()\n    {handler}\n    else:\n        assert False\n"
    assert any_sandbox.judge([Program(ERRORS.replace("ERROR", error), "", test, "f")]) == [Verdict(True, "passed")]


def test_an_exception_in_the_middle_of_an_iteration_surfaces_there(any_sandbox: Sandbox) -> None:
    source = "def f():\n    for number in range(100):\n        yield number\n    raise ValueError('after 100')\n"
    test = """\
def check(f):
    seen = []
    try:
        for number in f():
            seen.append(number)
    except ValueError as error:
        assert seen == list(range(100)) and str(error) == 'after 100'
        return
    assert False
"""
    unhandled = "def check(f):\n    list(f())\n"
    judged = any_sandbox.judge([Program(source, "", test, "f"), Program(source, "", unhandled, "f")])
    assert [verdict.reason for verdict in judged] == ["passed", "exception: ValueError"]


def test_an_iterator_does_not_run_far_ahead_of_the_test(any_sandbox: Sandbox) -> None:
    source = "def f():\n    yield from range(5)\n    while True:\n        pass\n"
    test = "import itertools\ndef check(f):\n    assert list(itertools.islice(f(), 5)) == [0, 1, 2, 3, 4]\n"
    assert any_sandbox.judge([Program(source, "", test, "f")]) == [Verdict(True, "passed")]


@pytest.mark.parametrize(
    "test",
    [
        "def check(f):\n    for got, want in zip(map(f, [1, 2]), [2, 4]):\n        assert got == want\n",
        "def check(f):\n    assert all(map(f, [2, 4]))\n",
        "def check(f):\n    assert list(iter(lambda: f(1), 3)) is not None\n",
    ],
)
@pytest.mark.parametrize(
    "name", ["StopIteration", "StopAsyncIteration", "GeneratorExit", "type('E', (StopIteration,), {})"]
)
def test_no_exception_of_the_program_ends_a_loop_of_the_test(any_sandbox: Sandbox, test: str, name: str) -> None:
    (verdict,) = any_sandbox.judge([Program(f"def f(x):\n    raise {name}\n", "", test, "f")])
    assert verdict.reason.startswith("exception: ")


TOO_LARGE = [
    ("[None] * 4_000_001", "f()"),
    ("'a' * (65 << 20)", "f()"),
    ("__import__('functools').reduce(lambda x, _: [x], range(101), 1)", "f()"),
    ("__import__('functools').reduce(lambda x, _: (x, x), range(40), 1)", "f()"),
    ("__import__('functools').reduce(lambda x, _: [x], range(99), 1)", "f([[f()]])"),
    ("70_000_000", "f('a' * f())"),
]


@pytest.mark.parametrize(("answer", "use"), TOO_LARGE)
def test_past_a_cap_an_answer_or_what_becomes_of_it_is_the_programs_failure(
    any_sandbox: Sandbox, answer: str, use: str
) -> None:
    assert any_sandbox.judge([asking(answer, use)]) == [Verdict(False, "too large")]


def test_past_a_cap_a_source_fails_and_an_argument_of_the_test_is_not_judged(any_sandbox: Sandbox) -> None:
    long = asking("1" + " " * (9 << 20), "assert f() == 1")
    assert any_sandbox.judge([long]) == [Verdict(False, "too large")]
    (verdict,) = any_sandbox.judge([asking("1", "f([None] * 4_000_001)")])
    assert verdict.reason.startswith("not judged: the test cannot run: it passes an argument of more")


WITH_CLASSES = """\
from dataclasses import dataclass
import enum

class Missing(KeyError):
    def __init__(self, key):
        super().__init__(f"no {key}")

@dataclass
class Point:
    x: int

class Colour(enum.Enum):
    RED = 1

def f(x):
    pass
"""


def judged_with_classes(sandbox: Sandbox, body: str, test: str) -> Verdict:
    source = WITH_CLASSES.replace("def f(x):\n    pass", f"def f(x):\n    {body}")
    check = f"class Done(Exception):\n    pass\n\ndef check(f):\n    {test}\n"
    return sandbox.judge([Program(source, WITH_CLASSES, check, "f")])[0]


@pytest.mark.parametrize(
    ("body", "caught", "passes"),
    [
        ("raise Missing(x)", "Missing", True),
        ("raise type('Sub', (Missing,), {})(x)", "Missing", True),
        ("raise Missing(x)", "KeyError", True),
        ("raise KeyError(x)", "Missing", False),
        ("raise type('Done', (Exception,), {})()", "Done", False),  # the test's own, which no program has
    ],
)
def test_an_exception_of_the_prompt_is_caught_by_its_name(
    any_sandbox: Sandbox, body: str, caught: str, passes: bool
) -> None:
    test = f"try:\n        f(1)\n    except {caught} as error:\n        assert {caught} is Done or 'no 1' in str(error)"
    verdict = judged_with_classes(any_sandbox, body, f"{test}\n    else:\n        assert False")
    assert verdict.passed == passes, verdict


@pytest.mark.parametrize(
    ("body", "right", "reason"),
    [
        ("return Point(x)", "Point(1)", "not judged: the test uses == of a Point, which stays"),
        ("return Colour.RED", "Colour.RED", "not judged: the test uses == of a Colour, which stays"),
        ("return Point(x)", "Colour.RED", "wrong answer"),
        ("return Point(x)", "1", "wrong answer"),
        ("return object()", "object()", "wrong answer"),
    ],
)
def test_an_object_of_the_prompts_classes_is_not_judged_by_its_equals(
    any_sandbox: Sandbox, body: str, right: str, reason: str
) -> None:
    for test in (f"assert f(1) == {right}", f"assert {right} == f(1)"):
        assert judged_with_classes(any_sandbox, body, test).reason.startswith(reason)
