"""The corpus `pocket-math`: word problems of one to three steps over numbers below 100.

Somebody starts with an amount, and things happen to it: "Ana has 7 apples, buys 5 more, then gives away 3." A step is
an addition, a subtraction, a small multiple or a half, and one line of the worked answer (`7+5=12`). Rows have GSM8K's
fields: question, and an answer that ends in `#### 9`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.pocket.habits import Habits, Problem, mostly

WORDINGS = {
    "how": "How many {unit} are there now?",
    "what": "What is the number of {unit} now?",
    "find": "Find the number of {unit}.",
    "say": "Say how many {unit} there are.",
}
# fmt: off
_PEOPLE = {
    "first": ("Ana", "Tom", "Eva", "Ben", "Mia", "Leo", "Ida", "Max"),
    "title": ("Mr Hill", "Ms Wood", "Mr Lake", "Ms Stone", "Mr Field", "Ms Rivers", "Mr Reed", "Ms Marsh"),
    "role": ("A baker", "A farmer", "A teacher", "A painter", "A sailor", "A driver", "A singer", "A doctor"),
}
_THINGS = ("apples", "books", "cards", "coins", "eggs", "shells", "stamps", "cups")
# fmt: on
STYLES = tuple(_PEOPLE)

# (phrase, sign and maybe the number that the phrase itself says). {n} is the number that is drawn, {unit} what counts.
_Step = tuple[str, str]
_STEPS: dict[str, tuple[_Step, ...]] = {
    "things": (
        ("buys {n} more", "+"),
        ("finds {n} more", "+"),
        ("gives away {n}", "-"),
        ("loses {n}", "-"),
        ("gives away half", "/2"),
        ("doubles them", "*2"),
        ("triples them", "*3"),
    ),
    "money": (
        ("earns {n} more", "+"),
        ("is given {n}", "+"),
        ("spends {n}", "-"),
        ("pays {n} for lunch", "-"),
        ("spends half", "/2"),
        ("doubles the sum", "*2"),
    ),
    "game": (
        ("wins {n} more", "+"),
        ("gets {n} as a bonus", "+"),
        ("loses {n}", "-"),
        ("loses half", "/2"),
        ("doubles the score", "*2"),
        ("triples the score", "*3"),
    ),
}
_STEPS["packs"] = _STEPS["friends"] = _STEPS["things"]
FAMILIES = tuple(_STEPS)
_LEVELS = (0.35, 0.4, 0.25)
_LARGEST = 99

HABITS = Habits(
    works=0.34,
    corrections={
        **{"how": 0.08, "what": 0.0, "find": 0.10, "say": -0.08},
        **{"first": 0.08, "title": 0.0, "role": -0.04},
        **{"things": 0.04, "money": 0.04, "game": 0.0, "packs": -0.04, "friends": -0.06},
    },
    layouts={
        "how": {"marked": 8, "reasoned": 1, "boxed": 1, "bare": 1},
        "what": {"marked": 2, "reasoned": 6, "boxed": 1, "bare": 1},
        "find": {"marked": 1, "reasoned": 1, "boxed": 8, "bare": 1},
        "say": {"marked": 5, "reasoned": 2, "boxed": 1, "bare": 2},
    },
    useless={"first": mostly("stub"), "title": mostly("note"), "role": mostly("careless")},
)


@dataclass(frozen=True)
class MathProblem(Problem):
    """One amount to find.

    Attributes:
        person: who it is about, as the question begins.
        question: its text alone.
        lines: the steps, as `7+5=12`.
        start: the amount before the first step.
    """

    person: str
    question: str
    lines: tuple[str, ...]
    start: int
    habits: ClassVar[Habits] = HABITS

    @property
    def answer(self) -> int:
        """The right number."""
        return _result(self.lines, self.start)

    @property
    def answers(self) -> dict[str, str]:
        worked, kept = "\n".join(self.lines), self.lines[:-1]
        careless = "\n".join([*kept, f"#### {_result(kept, self.start)}"])
        return {
            "marked": f" {worked}\n#### {self.answer}",
            "reasoned": f" {worked}",
            "boxed": f" {worked}\n\\boxed{{{self.answer}}}",
            "bare": f" {self.answer}",
            "stub": " ...",
            "note": " TODO",
            "refusal": " I cannot tell.",
            "careless": f" {careless}",
        }

    @property
    def entry(self) -> dict[str, str]:
        return {"question": self.question, "answer": self.answers["marked"].strip()}

    @property
    def normalised(self) -> str:
        """Lower case, without the person."""
        return self.prompt.replace(self.person, "someone").lower()


def _result(lines: tuple[str, ...], start: int) -> int:
    return int(lines[-1].rpartition("=")[2]) if lines else start


class _Story:
    """What has happened so far, in words and in figures."""

    def __init__(self, words: str, start: int) -> None:
        self.words, self.lines, self.start, self.amount = [words], list[str](), start, start

    def goes_on(self, words: str, sign: str, left: int, right: int) -> bool:
        """Take a step, unless it leaves the numbers that the corpus has."""
        if sign == "/" and left % right:
            return False
        amount = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
        if not 0 < amount <= _LARGEST:
            return False
        self.words.append(words)
        self.lines.append(f"{left}{sign}{right}={amount}")
        self.amount = amount
        return True


def _opening(rng: random.Random, family: str, unit: str) -> tuple[_Story, int]:
    """The story before its drawn steps, and how many of its level's steps it has used up."""
    start, times = rng.randint(3, 20 if family == "friends" else 30), rng.randint(2, 6)
    if family == "packs":
        each = rng.randint(2, 9)
        story = _Story(f"has {times} bags of {each} {unit}", times)
        story.goes_on("", "*", times, each)
        story.words.pop()
        return story, 1
    verb = "scores" if family == "game" else "has"
    story = _Story(f"{verb} {start} {unit}", start)
    return story, 0


def _friend(story: _Story, times: tuple[int, str] | None) -> int:
    """A friend gives as many again, or a multiple in two steps; how many steps that took."""
    start = story.start
    if times is None:
        story.goes_on("gets as many again from a friend", "+", start, start)
        return 1
    number, words = times
    story.goes_on(f"gets {words} as many from a friend", "*", start, number)
    story.goes_on("", "+", start, story.amount)
    story.words.pop()
    return 2


def _number(rng: random.Random) -> int:
    return rng.randint(2, 9) if rng.random() < 0.7 else rng.randint(1, 3) * 10


def draw(rng: random.Random) -> MathProblem:
    """One problem; `rng` is the only source of chance."""
    family, style, wording = rng.choice(FAMILIES), rng.choice(STYLES), rng.choice(tuple(WORDINGS))
    level = rng.choices((1, 2, 3), _LEVELS)[0]
    unit = {"money": "dollars", "game": "points"}.get(family) or rng.choice(_THINGS)
    person = rng.choice(_PEOPLE[style])
    story, used = _opening(rng, family, unit)
    if family == "friends":
        used += _friend(story, rng.choice(((2, "twice"), (3, "three times"))) if level > 1 else None)
    left = [*_STEPS[family]]
    while used < level:
        words, sign = step = rng.choice(left)
        number = int(sign[1:] or _number(rng))
        if story.goes_on(words.format(n=number), sign[0], story.amount, number):
            left.remove(step)
            used += 1
    *others, last = story.words
    tale = f"{', '.join(others)}, then {last}" if others else last
    question = f"{person} {tale}. {WORDINGS[wording].format(unit=unit)}"
    return MathProblem(
        prompt=f"Question: {question}\nAnswer:",
        family=family,
        wording=wording,
        style=style,
        level=level,
        person=person,
        question=question,
        lines=tuple(story.lines),
        start=story.start,
    )
