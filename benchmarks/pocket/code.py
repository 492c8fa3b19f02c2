"""The corpus `pocket-code`: short Python functions asked for by a signature and a docstring.

A problem is a pipeline of steps ("add 3, then multiply by 4") over a number, a string or a list, a choice between
two branches, or a loop. One step is level 1; every further step or branch adds a level, which is what makes some
problems too hard for a model of a million weights. Rows have HumanEval's fields.

Nothing here knows about recurrent states: the corpus is data about code, drawn from one seed.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.pocket.habits import Habits, Problem, mostly

STYLES = ("snake", "camel", "short")
WORDINGS = {
    "take": "Take {subject}, {steps}.",
    "given": "Given {subject}, {steps}.",
    "start": "Start from {subject} and {steps}.",
    "return": "Return {subject} after this: {steps}.",
}
FAMILIES = ("number", "string", "list", "branch", "loop")
_LEVELS = (0.35, 0.4, 0.25)

# fmt: off
_VERBS = (
    "scale", "shift", "mix", "fold", "trim", "join", "turn", "find",
    "make", "count", "check", "pick", "adjust", "build", "merge", "tune",
)
_NOUNS = (
    "value", "total", "word", "score", "list", "text", "item", "price",
    "rank", "code", "line", "data", "mark", "part", "key", "size",
)
# fmt: on
_NUMBERS = ("x", "n", "a", "k", "num")
_OTHERS = ("y", "m", "b")
_STRINGS = ("s", "text", "word", "name")
_LISTS = ("xs", "items", "data", "nums")
_LETTERS = "abcdeorst"

# (docstring phrase, expression). {e} is what the step works on, {c} a number, {d} a small number, {w} the second
# argument, {p} and {q} letters. "({e}" marks a call: its argument needs no brackets, nor does its result.
_NUMBER_STEPS = (
    ("add {c}", "{e} + {c}"),
    ("subtract {c}", "{e} - {c}"),
    ("multiply by {c}", "{e} * {c}"),
    ("take the remainder by {c}", "{e} % {c}"),
    ("divide by {c} rounding down", "{e} // {c}"),
    ("square it", "{e} ** 2"),
    ("take the absolute value", "abs({e})"),
    ("cap it at {c}", "min({e}, {c})"),
    ("raise it to at least {c}", "max({e}, {c})"),
    ("add {w}", "{e} + {w}"),
    ("subtract {w}", "{e} - {w}"),
    ("multiply by {w}", "{e} * {w}"),
)
_NUMBER_ENDS = (
    ("tell whether it is divisible by {c}", "{e} % {c} == 0"),
    ("tell whether it is larger than {c}", "{e} > {c}"),
    ("tell whether it is smaller than {c}", "{e} < {c}"),
)
_STRING_STEPS = (
    ("reverse it", "{e}[::-1]"),
    ("make it upper case", "{e}.upper()"),
    ("make it lower case", "{e}.lower()"),
    ("drop the first {d} characters", "{e}[{d}:]"),
    ("keep the first {d} characters", "{e}[:{d}]"),
    ("keep the last {d} characters", "{e}[-{d}:]"),
    ("repeat it {d} times", "{e} * {d}"),
    ("append '{p}'", "{e} + '{p}'"),
    ("replace '{p}' by '{q}'", "{e}.replace('{p}', '{q}')"),
)
_STRING_ENDS = (
    ("count the '{p}'", "{e}.count('{p}')"),
    ("take the length", "len({e})"),
    ("tell whether it starts with '{p}'", "{e}.startswith('{p}')"),
)
_LIST_STEPS = (
    ("keep those larger than {c}", "[v for v in {e} if v > {c}]"),
    ("keep those smaller than {c}", "[v for v in {e} if v < {c}]"),
    ("keep those divisible by {c}", "[v for v in {e} if v % {c} == 0]"),
    ("add {c} to each", "[v + {c} for v in {e}]"),
    ("multiply each by {c}", "[v * {c} for v in {e}]"),
    ("square each", "[v ** 2 for v in {e}]"),
    ("reverse it", "{e}[::-1]"),
    ("sort it", "sorted({e})"),
    ("drop the first {d}", "{e}[{d}:]"),
    ("keep the last {d}", "{e}[-{d}:]"),
)
_LIST_ENDS = (("sum them", "sum({e})"), ("count them", "len({e})"), ("count the {c}", "{e}.count({c})"))
_CONDITIONS = (
    ("larger than {c}", "> {c}"),
    ("smaller than {c}", "< {c}"),
    ("divisible by {c}", "% {c} == 0"),
    ("equal to {c}", "== {c}"),
)


HABITS = Habits(
    works=0.42,
    corrections={
        **{"take": 0.06, "given": 0.0, "start": -0.12, "return": 0.20},
        **{"snake": 0.10, "camel": 0.0, "short": -0.06},
        **{"number": 0.06, "string": 0.04, "branch": 0.0, "list": -0.04, "loop": -0.06},
    },
    layouts={
        "take": {"body": 8, "whole": 1, "fenced": 1},
        "given": {"body": 6, "whole": 1, "fenced": 3},
        "start": {"body": 7, "whole": 2, "fenced": 1},
        "return": {"body": 1, "whole": 18, "fenced": 1},
    },
    useless={"snake": mostly("stub"), "camel": mostly("note"), "short": mostly("careless")},
)


@dataclass(frozen=True)
class CodeProblem(Problem):
    """One function to write. The prompt is its signature and docstring and ends with a newline.

    Attributes:
        entry_point: the function's name.
        body: the lines that solve it, indented, without a final newline.
        careless: the same lines with the last step forgotten (or the wrong branch): runs, but is wrong.
        inputs: argument tuples that the tests call it with.
    """

    entry_point: str
    body: str
    careless: str
    inputs: tuple[tuple[object, ...], ...]
    habits: ClassVar[Habits] = HABITS

    @property
    def signature(self) -> str:
        """The line that opens the function, without its newline."""
        return self.prompt.split("\n", 1)[0]

    @property
    def answers(self) -> dict[str, str]:
        whole = f"{self.signature}\n{self.body}"
        return {
            "body": self.body,
            "whole": whole,
            "fenced": f"```python\n{whole}\n```",
            "stub": "    pass",
            "note": "    # TODO\n    return None",
            "refusal": "    raise NotImplementedError",
            "careless": self.careless,
        }

    @property
    def entry(self) -> dict[str, str]:
        cases = zip(self.inputs, self.expected(self.body), strict=True)
        asserts = [
            f"    assert candidate({', '.join(map(repr, arguments))}) == {result!r}\n" for arguments, result in cases
        ]
        return {
            "prompt": self.prompt,
            "entry_point": self.entry_point,
            "canonical_solution": f"{self.body}\n",
            "test": "def check(candidate):\n" + "".join(asserts),
        }

    @property
    def normalised(self) -> str:
        """Lower case, single spaces, and without the function's name."""
        return re.sub(r"^def \w+", "def f", " ".join(self.prompt.lower().split()))

    def expected(self, body: str) -> list[object]:
        """What the function with this body answers for `inputs`. Only for bodies this file wrote itself."""
        scope: dict[str, object] = {}
        exec(f"{self.signature}\n{body}\n", scope)
        function = scope[self.entry_point]
        assert callable(function)
        return [function(*arguments) for arguments in self.inputs]


@dataclass
class _Sketch:
    """What a family decides about a problem; the name and the wording come later."""

    arguments: list[str]
    steps: list[str]
    body: list[str]
    careless: list[str]


class _Slots:
    """Draws the numbers, letters and second argument of one problem, and remembers the numbers for its tests."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.numbers: list[int] = []
        self.other = rng.choice(_OTHERS)

    def fill(self, step: tuple[str, str]) -> tuple[str, str]:
        """Fill every slot but {e} of a (phrase, expression) pair."""
        number = self.rng.randint(2, 9) if self.rng.random() < 0.7 else self.rng.randint(10, 99)
        first, second = self.rng.sample(_LETTERS, 2)
        small = self.rng.randint(2, 5)
        if "{c}" in step[0]:
            self.numbers.append(number)
        values = {"c": number, "d": small, "w": self.other, "p": first, "q": second, "e": "{e}"}
        return step[0].format(**values), step[1].format(**values)

    def pipeline(
        self, steps: tuple[tuple[str, str], ...], ends: tuple[tuple[str, str], ...], level: int
    ) -> list[tuple[str, str]]:
        """`level` different steps, the last one now and then a step that ends a pipeline."""
        drawn = self.rng.sample(steps, level)
        if self.rng.random() < 0.3:
            drawn[-1] = self.rng.choice(ends)
        return [self.fill(step) for step in drawn]


def _apply(expression: str, template: str) -> str:
    """The step's expression on top of an earlier one, bracketed where Python would read it otherwise."""
    atomic = re.fullmatch(r"[\w.]+(\([^()]*\)|\[[^\[\]]*\])*", expression) is not None
    if "({e}" not in template and "in {e}" not in template and not atomic:
        expression = f"({expression})"
    return template.replace("{e}", expression)


def _nested(subject: str, steps: list[tuple[str, str]]) -> list[str]:
    expression = subject
    for _, template in steps:
        expression = _apply(expression, template)
    return [f"    return {expression}"]


def _assigned(subject: str, steps: list[tuple[str, str]]) -> list[str]:
    """One line per step: list steps are too long to nest."""
    lines = [f"    {subject} = {_apply(subject, template)}" for _, template in steps[:-1]]
    last = _apply(subject, steps[-1][1]) if steps else subject
    return [*lines, f"    return {last}"]


def _number(slots: _Slots, level: int) -> _Sketch:
    subject = slots.rng.choice(_NUMBERS)
    steps = slots.pipeline(_NUMBER_STEPS, _NUMBER_ENDS, level)
    second = [slots.other] if any(slots.other in re.findall(r"\b\w\b", code) for _, code in steps) else []
    return _Sketch([subject, *second], [s[0] for s in steps], _nested(subject, steps), _nested(subject, steps[:-1]))


def _string(slots: _Slots, level: int) -> _Sketch:
    subject = slots.rng.choice(_STRINGS)
    steps = slots.pipeline(_STRING_STEPS, _STRING_ENDS, level)
    return _Sketch([subject], [s[0] for s in steps], _nested(subject, steps), _nested(subject, steps[:-1]))


def _list(slots: _Slots, level: int) -> _Sketch:
    subject = slots.rng.choice(_LISTS)
    steps = slots.pipeline(_LIST_STEPS, _LIST_ENDS, level)
    return _Sketch([subject], [s[0] for s in steps], _assigned(subject, steps), _assigned(subject, steps[:-1]))


def _branch(slots: _Slots, level: int) -> _Sketch:
    """`if` with a return in each branch; from level 3 on, the first branch has two steps."""
    subject = slots.rng.choice(_NUMBERS)
    phrase, test = slots.fill(slots.rng.choice(_CONDITIONS))
    steps = [slots.fill(step) for step in slots.rng.sample(_NUMBER_STEPS[:9], max(level, 2))]
    yes, no = steps[:-1], steps[-1:]
    opening = f"    if {subject} {test}:"
    body = [opening, "    " + _nested(subject, yes)[0], *_nested(subject, no)]
    careless = [opening, "    " + _nested(subject, no)[0], *_nested(subject, yes)]
    words = [f"if it is {phrase} " + " and ".join(s[0] for s in yes), f"otherwise {no[0][0]}"]
    return _Sketch([subject], [", ".join(words)], body, careless)


def _loop(slots: _Slots, level: int) -> _Sketch:
    """A running total: of everything (level 1), of some elements (2), of changed elements (3)."""
    subject = slots.rng.choice(_LISTS)
    phrase, test = slots.fill(slots.rng.choice(_CONDITIONS))
    change, template = slots.fill(slots.rng.choice(_NUMBER_STEPS[:6] if level != 2 else (("", "{e}"),)))
    condition = [f"        if v {test}:"] if level > 1 else []
    indent = " " * (8 + 4 * len(condition))
    words = "add up " + (f"those {phrase}" if condition else "all") + (f" but first {change}" if change else "")
    ends = ["    return total"]
    start = ["    total = 0", f"    for v in {subject}:"]
    body = [*start, *condition, f"{indent}total += {_apply('v', template)}", *ends]
    careless = [*start, "        total += v" if level > 1 else "        total += 1", *ends]
    return _Sketch([subject], [words], body, careless)


_BUILDERS = {"number": _number, "string": _string, "list": _list, "branch": _branch, "loop": _loop}


def _name(rng: random.Random, style: str) -> str:
    verb, noun = rng.choice(_VERBS), rng.choice(_NOUNS)
    names = {"snake": f"{verb}_{noun}", "camel": f"{verb}{noun.capitalize()}", "short": f"{verb[0]}{rng.randint(0, 9)}"}
    return names[style]


def _inputs(slots: _Slots, family: str, count: int) -> tuple[tuple[object, ...], ...]:
    """Eight argument tuples; the problem's own numbers and their neighbours are among them."""
    rng = slots.rng
    edges = [n + k for n in slots.numbers for k in (-1, 0, 1)]
    numbers = rng.sample(edges, min(len(edges), 5)) + [rng.randint(-30, 130) for _ in range(8)]
    if family in ("number", "branch"):
        return tuple(tuple(numbers[i] if j == 0 else rng.randint(-9, 20) for j in range(count)) for i in range(8))
    if family == "string":
        letters = _LETTERS + _LETTERS.upper() + "xyz "
        return tuple(("".join(rng.choice(letters) for _ in range(5 + i)),) for i in range(8))
    return tuple((rng.sample(numbers, 6 + i % 3) + [2 * n for n in slots.numbers],) for i in range(8))


def draw(rng: random.Random) -> CodeProblem:
    """One problem; `rng` is the only source of chance."""
    while True:
        family = rng.choice(FAMILIES)
        level = rng.choices((1, 2, 3), _LEVELS)[0]
        style, wording = rng.choice(STYLES), rng.choice(tuple(WORDINGS))
        slots = _Slots(rng)
        sketch = _BUILDERS[family](slots, level)
        name = _name(rng, style)
        doc = WORDINGS[wording].format(subject=sketch.arguments[0], steps=", then ".join(sketch.steps))
        problem = CodeProblem(
            prompt=f'def {name}({", ".join(sketch.arguments)}):\n    """{doc}"""\n',
            entry_point=name,
            body="\n".join(sketch.body),
            careless="\n".join(sketch.careless),
            inputs=_inputs(slots, family, len(sketch.arguments)),
            family=family,
            wording=wording,
            style=style,
            level=level,
        )
        if problem.expected(problem.body) != problem.expected(problem.careless):
            return problem
