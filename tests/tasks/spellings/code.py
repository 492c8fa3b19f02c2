"""Replies that say a right or a wrong program: (name, problem, reply).

`PROBLEMS` are rows as `s0.tasks.load("own", ...)` reads them; `square_all` has a docstring alone for a prompt where the
task is loaded as MBPP's are, so its replies are whole functions.
"""

from __future__ import annotations

import textwrap

PROBLEMS = {
    "nth": {
        "prompt": 'import math\n\n\ndef nth(n: int) -> int:\n    """ The square.\n    >>> nth(3)\n    9\n    """\n',
        "entry_point": "nth",
        "test": "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate(0) == 0\n",
    },
    "tally": {
        "prompt": '"""Sums."""\nfrom __future__ import annotations\n\n\ndef tally(xs):\n    """Sum of squares."""\n',
        "entry_point": "tally",
        "test": "def check(candidate):\n    assert candidate([1, 2]) == 5\n    assert candidate([]) == 0\n",
    },
}
NTH = "def nth(n):\n    return n * n\n"
WRONG = "def nth(n):\n    return n + n\n"
TALLY = "def tally(xs):\n    return sum(x * x for x in xs)\n"
STUB = "def nth(n):\n    pass\n"


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}```\n"


ACCEPTED = [
    ("usage block first", "tally", "Given\n" + fenced("tally([1, 2])\n") + "the code is\n" + fenced(TALLY)),
    ("input data first", "tally", fenced('{"xs": [1, 2]}\n', "json") + fenced(TALLY)),
    ("return in a block first", "tally", fenced("return 0\n") + fenced(TALLY)),
    ("stub first", "nth", fenced(STUB) + "Completed:\n" + fenced(NTH)),
    ("stub last", "nth", fenced(NTH) + "The signature was:\n" + fenced(STUB)),
    ("signature with a docstring last", "nth", fenced(NTH) + fenced('def nth(n):\n    """n squared"""\n')),
    ("wrong draft first", "nth", fenced(WRONG) + "No, it is:\n" + fenced(NTH)),
    ("cut off draft last", "nth", fenced(NTH) + "Or:\n```python\ndef nth(n):\n    return (n"),
    ("helper in a block before", "nth", fenced("import operator\ndef sq(x):\n    return operator.mul(x, x)\n") + "and\n"
     + fenced("def nth(n):\n    return sq(n)\n")),
    ("helper in a block after", "nth", fenced("def nth(n):\n    return sq(n)\n") + "with\n"
     + fenced("def sq(x):\n    return x * x\n")),
    ("table filled in a block before", "nth", fenced("T = []\nfor k in range(9):\n    T.append(k * k)\n")
     + fenced("def nth(n):\n    return T[n]\n")),
    ("star import in a block before", "nth", fenced("from math import *\n")
     + fenced("def nth(n):\n    return int(pow(n, 2))\n")),
    ("template wrote the opening tag of thinking", "nth", "n + n? no\n" + fenced(WRONG) + "</think>\n" + fenced(NTH)),
    ("from __future__", "nth", "from __future__ import annotations\n\n" + NTH),
    ("from __future__, fenced, in a prompt that has one", "tally",
     fenced("from __future__ import division\nfrom typing import List\n\n" + TALLY)),
    ("byte order mark", "nth", "\ufeff" + NTH),
    ("recursion limit", "nth", fenced("import sys\nsys.setrecursionlimit(9000)\ndef deep(k):\n"
     "    return 0 if k == 0 else deep(k - 1)\ndef nth(n):\n    deep(3000)\n    return n * n\n")),
    ("table filled by a function", "nth",
     "T = []\ndef fill():\n    for k in range(9):\n        T.append(k * k)\nfill()\ndef nth(n):\n    return T[n]\n"),
    ("table filled through a global", "nth",
     "T = None\ndef fill():\n    global T\n    T = [k * k for k in range(9)]\nfill()\ndef nth(n):\n    return T[n]\n"),
    ("table filled by a function that prints", "nth",
     "T = []\ndef fill():\n    print('filling')\n    T.extend(k * k for k in range(9))\nfill()\n"
     "def nth(n):\n    return T[n]\n"),
    ("registering decorator", "nth", "R = {}\ndef put(f):\n    R['f'] = f\n    return f\n@put\ndef sq(x):\n"
     "    return x * x\ndef nth(n):\n    return R['f'](n)\n"),
    ("single dispatch", "nth", "from functools import singledispatch\n@singledispatch\ndef v(x):\n    return 0\n"
     "@v.register(int)\ndef _(x):\n    return x * x\ndef nth(n):\n    return v(n)\n"),
    ("memo of the function's own values, read by it", "nth",
     "def nth(n):\n    return memo[n] if n in memo else n * n\nmemo = {}\nmemo = {i: nth(i) for i in range(3)}\n"),
    ("lambda", "nth", fenced("nth = lambda n: n * n\n")),
    ("annotated lambda", "nth", fenced("from typing import Callable\nnth: Callable[[int], int] = lambda n: n * n\n")),
    ("tuple of lambdas", "nth", fenced("nth, half = (lambda n: n * n), (lambda n: n / 2)\n")),
    ("bound method", "nth", fenced("class S:\n    def run(self, n):\n        return n * n\n\nnth = S().run\n")),
    ("renamed import", "tally", fenced("from math import fsum as tally\n_sum = tally\n"
     "def tally(xs):\n    return _sum(x * x for x in xs)\n")),
    ("under try", "nth",
     fenced("try:\n    import nowhere\nexcept ImportError:\n    def nth(n):\n        return n * n\n")),
    ("under if and else", "nth", fenced("import sys\nif sys.version_info < (3,):\n    nth = None\nelse:\n"
     + textwrap.indent(NTH, "    "))),
    ("under with", "nth", fenced("import contextlib\nwith contextlib.suppress(Exception):\n"
     + textwrap.indent(NTH, "    "))),
    ("wrapped after its definition", "nth", fenced("import functools\n" + NTH + "nth = functools.lru_cache(nth)\n")),
    ("overloads before", "nth", "from typing import overload\n@overload\ndef nth(n: int) -> int: ...\n@overload\n"
     "def nth(n: float) -> float: ...\n" + NTH),
    ("fence in the docstring of a body", "nth",
     '    """\n    ```python\n    nth(1)\n    ```\n    """\n    return n * n\n'),
    ("fence in the docstring of a fenced function", "nth",
     fenced('def nth(n):\n    """\n    ```python\n    nth(1)\n    ```\n    """\n    return n * n\n') + "Done."),
    ("closing fence behind the last line", "nth", "```python\n" + NTH.rstrip() + "```"),
    ("closing fence behind a plain body", "nth", "    return n * n```\nDone."),
    ("opening fence behind prose", "nth", "The code: ```python\n" + NTH + "```\n"),
    ("code on the opening fence", "nth", "```" + NTH + "```\n"),
    ("tildes", "nth", "Here:\n~~~python\n" + NTH + "~~~\nDone."),
    ("four backticks around three", "nth", "````markdown\n" + fenced(NTH) + "````\n"),
    ("fence with attributes", "nth", '```python title="nth.py" {.numbered}\n' + NTH + "```\n"),
    ("fence that never closes", "nth", "Sure.\n```python\n" + NTH),
    ("prose that begins like an import", "nth", "from the docstring we square it.\n\n" + NTH),
    ("indented behind prose", "nth", "Here it is:\n\n" + textwrap.indent(NTH, "    ") + "\nDone\n"),
    ("numbered list", "nth", "1. Write\n\n" + textwrap.indent(fenced(NTH), "   ") + "2. Run it\n"),
    ("false start", "nth", "import math\nSorry, let me try again\n" + NTH),
    ("helper, prose, function", "nth",
     "def sq(x):\n    return x * x\n\nNow the main function:\n\ndef nth(n):\n    return sq(n)\n"),
    ("constant after prose", "nth", "A constant first:\n\nPOWER = 2\n\ndef nth(n):\n    return n ** POWER\n\nDone"),
    ("prose that parses", "nth", NTH + "\nComplexity: O(1) = constant\n\nm = length\n"),
    ("language left of a fence", "nth", "python\n" + NTH),
    ("demonstration of every kind", "nth", fenced(NTH + "xs = open('no file').read()\nprint(nth(xs))\n"
     "for x in [1, 'a']:\n    print(nth(x))\nwith open('no file') as f:\n    nth(f)\nresult = nth(None)\n"
     "if result:\n    raise ValueError(result)\nn = int(input())\nassert nth(2) == 5\nnth = nth('a')\n")),
    ("main function called unguarded", "nth",
     fenced(NTH + "def main():\n    n = int(input())\n    print(nth(n))\n\nmain()\n")),
    ("tests run unguarded", "nth", fenced("import unittest\n" + NTH + "class T(unittest.TestCase):\n"
     "    def test(self):\n        self.assertEqual(nth(2), 5)\n\nunittest.main()\n")),
    ("imports for a demonstration", "nth", fenced("import nowhere\n" + NTH + "nowhere.plot(nth(3))\n")),
    ("reversed main guard", "nth", fenced(NTH + "if '__main__' == __name__:\n    raise SystemExit(nth(1))\n")),
    ("exits at the end", "nth", fenced("import sys\n" + NTH + "print(nth(3))\nsys.exit(0)\n")),
    ("doctest run at the end", "nth", fenced(NTH + "import doctest\ndoctest.testmod()\n")),
    ("two bodies in blocks, a usage first", "nth", fenced("nth(3)\n") + fenced("return n * n\n")),
    ("body that calls a helper of a block before", "nth", fenced("def sq(x):\n    return x * x\n")
     + fenced("    return sq(n)\n")),
    ("form feed and odd separators", "nth", "\x0cdef nth(n):\n    s = '\x0b\x1c\u2028'\n\x0c\n    return n * n\n"),
]  # fmt: skip

REFUSED = [
    ("wrong function after a right one", "nth", fenced(NTH) + "Better:\n" + fenced(WRONG)),
    ("wrong function after a right one in one block", "nth", fenced(NTH + WRONG)),
    ("wrong function after a right one, unfenced", "nth", NTH + "\nOr rather:\n\n" + WRONG),
    ("stub alone", "nth", fenced(STUB)),
    ("prompt alone", "nth", fenced(PROBLEMS["nth"]["prompt"])),
    ("prompt and ellipsis", "nth", PROBLEMS["nth"]["prompt"] + "    ...\n"),
    ("not implemented", "nth", fenced("def nth(n):\n    raise NotImplementedError\n")),
    ("usage alone", "nth", fenced("print(nth(3))\n")),
    ("asserts alone", "nth", "assert nth(3) == 9\nassert nth(0) == 0\n"),
    ("right code in a docstring", "nth", fenced(f'def nth(n):\n    """\n{textwrap.indent(NTH, "    ")}    """\n')),
    ("right code in a string", "nth", fenced(f'CODE = """\n{NTH}"""\n')),
    ("right code in comments", "nth", fenced(textwrap.indent(NTH, "# "))),
    ("right function nested in another", "nth",
     fenced("def outer():\n" + textwrap.indent(NTH, "    ") + "    return nth\n")),
    ("right method of a class", "nth", fenced("class Solution:\n    @staticmethod\n" + textwrap.indent(NTH, "    "))),
    ("right function under a main guard", "nth",
     fenced("if __name__ == '__main__':\n" + textwrap.indent(NTH, "    "))),
    ("another name", "nth", fenced(NTH.replace("nth", "square"))),
    ("another case", "nth", fenced(NTH.replace("nth", "Nth"))),
    ("prose behind return", "nth", "return the square of n"),
    ("prose", "nth", "The square of n is n * n."),
    ("code in thinking only", "nth", f"<think>\n{fenced(NTH)}</think>\nIt is the square."),
    ("right in thinking, wrong outside", "nth", f"<think>\n{fenced(NTH)}</think>\n{fenced(WRONG)}"),
    ("thinking that never closes", "nth", f"<think>\n{fenced(NTH)}"),
    ("thinking whose opening tag the template wrote", "nth", f"{fenced(NTH)}</think>\n{fenced(WRONG)}"),
    ("after the end token", "nth", f"{fenced(WRONG)}<|im_end|>\n{fenced(NTH)}"),
    ("raises at the top level", "nth", fenced("raise ValueError\n" + NTH)),
    ("divides by zero at the top level", "nth", fenced("x = 1 / 0\n" + NTH)),
    ("missing module that the function needs", "nth",
     fenced("import nowhere\ndef nth(n):\n    return nowhere.sq(n)\n")),
    ("missing module that nothing reads", "nth", fenced("import nowhere\n" + NTH)),
    ("kept call that raises", "nth", fenced("import math\nmath.sqrt(-1)\n" + NTH)),
    ("missing helper", "nth", fenced("def nth(n):\n    return sq(n)\n")),
    ("rebound to a number", "nth", fenced(NTH + "nth = 9\n")),
    ("deleted", "nth", fenced(NTH + "del nth\n")),
    ("broken in the middle", "nth", fenced("def nth(n):\n    n = = 2\n    return n * n\n")),
    ("cut off before the return", "nth", "```python\ndef nth(n):\n    m = n * n\n"),
    ("returned from the top level", "nth", fenced("m = 3\nreturn m * m\n")),
    ("prints in place of returning", "nth", fenced("def nth(n):\n    print(n * n)\n")),
    ("asynchronous", "nth", fenced("async " + NTH)),
    ("generator", "nth", fenced("def nth(n):\n    yield n * n\n")),
    ("body of another problem", "tally", "    return n * n\n"),
    ("right code in answer tags around nothing else, wrong outside last", "nth", f"{NTH}\n<answer>{WRONG}</answer>"),
]  # fmt: skip
