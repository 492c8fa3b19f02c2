"""How a prompt of the pocket corpus is answered: the habits a base model picks up from untidy data.

Real code corpora hold many ways to continue a signature: a working body, a stub, a note to self, a fenced block. A
model trained on them is *able* to write the body more often than it is *inclined* to. The odds here depend on what the
prompt shows (name style, wording, family), so the model has to learn when each habit is usual.
"""

from __future__ import annotations

import random

from s0.pocket.corpus import Problem

WORKING = ("body", "whole", "fenced")
USELESS = ("stub", "note", "refusal", "careless")
HABITS = WORKING + USELESS
_FIRST_GUESS = 0.42
_WORDING = {"take": 0.06, "given": 0.0, "start": -0.12, "return": 0.20}
_STYLE = {"snake": 0.10, "camel": 0.0, "short": -0.06}
_FAMILY = {"number": 0.06, "string": 0.04, "branch": 0.0, "list": -0.04, "loop": -0.06}
# Which of the useless answers is usual depends on the name style; the numbers are relative odds.
_USELESS = {
    "snake": {"stub": 6, "note": 1, "refusal": 1, "careless": 1},
    "camel": {"stub": 1, "note": 6, "refusal": 1, "careless": 1},
    "short": {"stub": 1, "note": 1, "refusal": 1, "careless": 6},
}
# How a working answer is laid out depends on the wording.
_LAYOUT = {
    "take": {"body": 8, "whole": 1, "fenced": 1},
    "given": {"body": 6, "whole": 1, "fenced": 3},
    "start": {"body": 7, "whole": 2, "fenced": 1},
    "return": {"body": 1, "whole": 18, "fenced": 1},
}


def odds(problem: Problem) -> dict[str, float]:
    """Probability of every habit for this prompt; they sum to 1."""
    works = _FIRST_GUESS + _WORDING[problem.wording] + _STYLE[problem.name_style] + _FAMILY[problem.family]
    layout, useless = _LAYOUT[problem.wording], _USELESS[problem.name_style]
    shares = {name: works * n / sum(layout.values()) for name, n in layout.items()}
    return shares | {name: (1 - works) * n / sum(useless.values()) for name, n in useless.items()}


def answer(problem: Problem, habit: str) -> str:
    """The completion that a habit writes, without a final newline."""
    whole = f"{problem.signature}\n{problem.body}"
    return {
        "body": problem.body,
        "whole": whole,
        "fenced": f"```python\n{whole}\n```",
        "careless": problem.careless,
        "stub": "    pass",
        "note": "    # TODO\n    return None",
        "refusal": "    raise NotImplementedError",
    }[habit]


def draw_answer(problem: Problem, rng: random.Random) -> str:
    """A completion in a habit drawn by the prompt's odds."""
    chances = odds(problem)
    return answer(problem, rng.choices(tuple(chances), tuple(chances.values()))[0])
