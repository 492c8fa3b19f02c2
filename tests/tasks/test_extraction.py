"""From a completion to a program: the standard scoring reads what a completion says, the paper's only its letters."""

from __future__ import annotations

import textwrap
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s0.tasks import CodeProblem
from s0.tasks.code.scoring import CodeScorer, program

PROMPT = '''\
from typing import List

LIMIT = 3


def twice(x):
    return 2 * x


def total(xs: List[int]) -> int:
    """ Add up twice every number.
    >>> total([1, 2])
    6
    """
'''
BODY = "    result = 0\n    for x in xs:\n        result += twice(x)\n    return result\n"
FUNCTION = f'def total(xs: List[int]) -> int:\n    """ Add. """\n{BODY}'
USING = FUNCTION.replace("twice(x)", "{}")
PROBLEM = CodeProblem("p/0", PROMPT, "final", "total", "def check(candidate):\n    pass\n", BODY)
SCORER = CodeScorer("{prompt}")
UNINDENTED = textwrap.dedent(BODY)

RIGHT = {
    "as it should be": (BODY, "body"),
    "blank lines first": ("\n  \n\n" + BODY, "body"),
    "indent of two": (textwrap.indent(UNINDENTED, "  "), "body"),
    "indent of eight": (textwrap.indent(UNINDENTED, " " * 8), "body"),
    "tabs": (textwrap.indent(UNINDENTED, "\t").replace("        ", "\t\t").replace("    ", "\t"), "body"),
    "first line one space short": (BODY[1:], "body"),
    "windows line ends": (BODY.replace("\n", "\r\n"), "body"),
    "docstring again": ('    """ Add. """\n' + BODY, "body"),
    "comment first": ("    # add\n" + BODY, "body"),
    "no line end": (BODY.rstrip(), "body"),
    "prose after": (BODY + "\nThis adds (of course) all numbers.\n", "body"),
    "next function after": (BODY + "\n\ndef other(x):\n    return 1 / 0\n", "body"),
    "calls after": (BODY + "\nprint(1 / 0)\nassert False\nraise SystemExit\n", "body"),
    "main guard after": (BODY + "\nif __name__ == '__main__':\n    raise SystemExit\n", "body"),
    "cut off in the next function": (BODY + "\n\ndef other(x):\n    return (1,\n", "body"),
    "closing fence": (BODY + "```\nDone.\n", "body"),
    "helper after": (BODY.replace("twice(x)", "also(x)") + "\n\ndef also(x):\n    return x + x\n", "body"),
    "unindented": (UNINDENTED, "body_unindented"),
    "first indent lost": (BODY.strip(), "body_unindented"),
    "unindented, one line": ("return sum(2 * x for x in xs)", "body_unindented"),
    "unindented, then prose": (UNINDENTED + "\nThat is all, folks.", "body_unindented"),
    "function": (FUNCTION, "function"),
    "function, indented": (textwrap.indent(FUNCTION, "    "), "function"),
    "function with imports": ("import math\nfrom os import path\n\n" + FUNCTION, "function"),
    "function with the whole prompt": (PROMPT + BODY, "function"),
    "function and calls": (FUNCTION + "\nprint(total([1]) / 0)\n", "function"),
    "function before its helper": (USING.format("also(x)") + "\ndef also(x):\n    return x + x\n", "function"),
    "function with a table": (
        "TABLE = {}\nfor i in range(100):\n    TABLE[i] = 2 * i\n" + USING.format("TABLE[x]"), "function"),
    "function with a list filled by calls": (
        "TABLE = []\nfor i in range(100):\n    TABLE.append(2 * i)\n" + USING.format("TABLE[x]"), "function"),
    "function with an import that may fail": (
        "try:\n    from nowhere import also\nexcept ImportError:\n    also = twice\n" + USING.format("also(x)"),
        "function"),
    "function after prose": ("Here is the function:\n\n" + FUNCTION + "\nIt adds.", "function"),
    "thinking first": ("<think>\n```python\ndef total(): pass\n```\n</think>\n" + BODY, "body"),
    "fenced function": ("```python\n" + FUNCTION + "```", "fenced"),
    "fenced, no language": ("```\n" + FUNCTION + "\n```\n", "fenced"),
    "fenced body": ("```python\n" + BODY + "```", "fenced"),
    "fenced unindented body": ("```py\n" + UNINDENTED + "```", "fenced"),
    "prose and fence": ("Sure! Here it is:\n\n```python\n" + FUNCTION + "```\nIt adds.\n", "fenced"),
    "a word and fence": ("Sure\n```python\n" + FUNCTION + "```\n", "fenced"),
    "fence that never closes": ("Sure:\n```python\n" + FUNCTION, "fenced"),
    "second fence": ("Run this:\n```bash\npip install x-y z\n```\nthen\n```python\n" + FUNCTION + "```\n", "fenced"),
    "indented fence": ("  ```python\n" + FUNCTION + "  ```\n", "fenced"),
    "body, then a fenced example": (BODY + "\n```python\ntotal([1])\n```\n", "body"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_found_in_every_form(name: str) -> None:
    completion, form = RIGHT[name]
    source = program(PROBLEM, completion, "standard")
    assert source is not None
    names: dict[str, object] = {"__name__": "__main__"}
    exec(source, names)
    assert names["total"]([1, 2, 3]) == 12  # type: ignore[operator]
    assert SCORER.format_of(PROBLEM, completion) == form


RENAMED = FUNCTION.replace("total", "add_up")
OTHER_NAME = {
    "plain": RENAMED,
    "indented": textwrap.indent(RENAMED, "    "),
    "one line": "def add_up(xs): return 2 * sum(xs)",
    "fenced": f"```python\n{RENAMED}```",
    "behind prose": f"Here is the function:\n\n{RENAMED}\nIt adds.",
    "behind prose and fenced": f"Sure!\n\n```python\n{RENAMED}```\nIt adds.\n",
    "with a helper": "def also(x):\n    return x + x\n\n" + RENAMED.replace("twice", "also"),
    "with imports and a constant": "import math\nfrom os import path\n\nSCALE = 2\n\n" + RENAMED,
    "async": "async " + RENAMED,
    "decorated": "import functools\n\n@functools.cache\n" + RENAMED,
    "a class": f"class Adder:\n{textwrap.indent(FUNCTION, '    ')}",
    "a class and a function": f"class Adder:\n    pass\n\n{RENAMED}",
    "with calls and asserts": RENAMED + "\nprint(add_up([1]))\nassert add_up([1]) == 2\n",
    "with a call on a variable named like a parameter": RENAMED + "\nxs = [1, 2]\nprint(add_up(xs))\n",
    "with a main guard": RENAMED + "\nif __name__ == '__main__':\n    print(add_up([1]))\n",
    "a call fenced after it": f"```python\n{RENAMED}```\nFor example:\n```python\nprint(add_up([1]))\n```\n",
    "cut off": RENAMED + "\ndef also(x):\n    return (1,\n",
}


@pytest.mark.parametrize("name", OTHER_NAME)
@pytest.mark.parametrize("prompt", [PROMPT, '"""Add up twice every number."""\n'])
def test_a_function_under_another_name_is_no_answer(name: str, prompt: str) -> None:
    problem = replace(PROBLEM, prompt=prompt)
    assert program(problem, OTHER_NAME[name], "standard") is None
    assert SCORER.format_of(problem, OTHER_NAME[name]) == "other_name"


def test_the_papers_rule_fails_a_function_under_another_name_by_itself() -> None:
    names: dict[str, object] = {}
    exec(program(PROBLEM, RENAMED, "paper") or "", names)
    assert names["total"]([1, 2, 3]) is None  # type: ignore[operator]
    assert names["add_up"]([1, 2, 3]) == 12  # type: ignore[operator]


def test_a_block_of_the_function_is_found_behind_one_of_other_names() -> None:
    helper = "def also(x):\n    return x + x\n"
    for before in (f"```python\n{helper}```\nand\n", helper):
        for after in (FUNCTION, BODY):
            assert SCORER.format_of(PROBLEM, f"{before}```python\n{after}```\n") == "fenced"


WITH_A_HELPER = {
    "that returns": "def also(x):\n    return x + x\nreturn sum(map(also, xs))\n",
    "that yields": "def also(x):\n    return x + x\nyield from map(also, xs)\n",
    "that raises it": "class Missing(KeyError):\n    pass\nraise Missing(xs)\n",
    "that raises it as it is": "class Missing(KeyError):\n    pass\nraise Missing()\n",
    "that changes what it is given": "def also(x):\n    return x + x\nxs[:] = map(also, xs)\n",
    "that is cut off": "def also(x):\n    return x + x\nresult = list(map(also, xs))\nreturn (",
}


@pytest.mark.parametrize("name", WITH_A_HELPER)
def test_a_body_that_defines_a_helper_is_a_body(name: str) -> None:
    body = textwrap.indent(WITH_A_HELPER[name], "    ")
    assert SCORER.format_of(PROBLEM, body) == "body"
    assert SCORER.format_of(PROBLEM, body.lstrip()) == "body_unindented"  # only the first line has lost its indent
    assert SCORER.format_of(PROBLEM, textwrap.dedent(body)) == "body_unindented"


@pytest.mark.parametrize(
    "binding",
    [
        "total = add_up\n",
        "total = lambda xs: add_up(xs)\n",
        "from somewhere import total\n",
        f"if True:\n{textwrap.indent(FUNCTION, '    ')}",
        f"try:\n{textwrap.indent(FUNCTION, '    ')}except NameError:\n    pass\n",
    ],
)
def test_a_name_bound_otherwise_is_not_another_name(binding: str) -> None:
    assert SCORER.format_of(PROBLEM, f"{RENAMED}\n{binding}") == "function"


WITHOUT_CODE = {
    "": "empty",
    " \n\t\n": "empty",
    "<think>return 1</think>\n": "empty",
    "I am sorry, I cannot do that.": "unparsable",
    "Sure": "unparsable",
    "    # to do\n": "unparsable",
    "...": "unparsable",
    "```python\n```": "unparsable",
    "def total(xs:": "unparsable",
    "def add_up(xs):\n    return sum(xs), then double it": "unparsable",
    "\0": "unparsable",
    "(" * 300: "unparsable",
}


@pytest.mark.parametrize("completion", WITHOUT_CODE)
def test_no_code_is_no_program(completion: str) -> None:
    assert program(PROBLEM, completion, "standard") is None
    assert SCORER.format_of(PROBLEM, completion) == WITHOUT_CODE[completion]


def test_a_cut_off_answer_keeps_what_can_be_read() -> None:
    source = program(PROBLEM, BODY.replace("return result", "return (result"), "standard")
    assert source is not None and source.endswith("        result += twice(x)\n")


def test_an_error_inside_an_f_string_costs_its_line_only() -> None:
    source = program(PROBLEM, BODY + "    print(f'{a b}')\n", "standard")
    assert source is not None and source.endswith(BODY)


@pytest.mark.parametrize("line", ["@a\n", "    elif x: pass\n", "x = (\n", "```\n"])
def test_garbage_without_end_costs_a_moment(line: str) -> None:
    started = time.process_time()
    SCORER.format_of(PROBLEM, "    if x: pass\n" * ("elif" in line) + line * 1000)
    assert time.process_time() - started < 5


def test_helpers_named_like_the_function_belong_to_the_body() -> None:
    body = "    def total(ys):\n        return [2 * y for y in ys]\n    return sum(total(xs))\n"
    assert SCORER.format_of(PROBLEM, body) == "body"
    assert SCORER.format_of(PROBLEM, textwrap.dedent(body)) == "body_unindented"


def test_a_prompt_without_docstring_has_a_body_all_the_same() -> None:
    bare = replace(PROBLEM, prompt="def total(xs):\n")
    for completion in ("    return 1\n", "return 1", "\treturn 1"):
        names: dict[str, object] = {}
        exec(program(bare, completion, "standard") or "", names)
        assert names["total"]([]) == 1  # type: ignore[operator]


def test_a_prompt_without_its_function_is_answered_by_whole_functions_only() -> None:
    asked = replace(PROBLEM, prompt='"""\nAdd up twice every number.\nassert total([1]) == 2\n"""\n')
    whole = "def total(xs):\n    return 2 * sum(xs)\n"
    for completion in (whole, f"```python\n{whole}```", f"Sure:\n\n{whole}\nDone.", f"import re\n\n{whole}"):
        names: dict[str, object] = {}
        exec(program(asked, completion, "standard") or "", names)
        assert names["total"]([1, 2]) == 6  # type: ignore[operator]
    assert program(asked, "    return 2 * sum(xs)\n", "standard") is None
    assert SCORER.format_of(asked, "return 1") == "unparsable"


@given(st.text() | st.text("def total(xs):\n    return'\"`#{}[]\\x0", max_size=80))
def test_any_text_has_a_format(completion: str) -> None:
    form = SCORER.format_of(PROBLEM, completion)
    assert form in SCORER.formats
    source = program(PROBLEM, completion, "standard")
    assert (source is None) == (form in ("other_name", "unparsable", "empty"))
    if source is not None:
        compile(source, "<program>", "exec", flags=0x400)  # ast.PyCF_ONLY_AST: what was kept can be read


PAPER = {
    "    return 1\n": PROMPT + "return 1\n",
    "```python\n    return 1\n```": PROMPT + "return 1\n",
    "```\nreturn 1\n```": PROMPT + "```\nreturn 1\n",
    "Here:\n```python\nreturn 1\n```": PROMPT + "Here:\n```python\nreturn 1\n",
    "<think>hm</think>\n\n" + FUNCTION: PROMPT + FUNCTION,
    "": PROMPT + "\n",
}


@pytest.mark.parametrize("completion", PAPER)
def test_the_papers_rule_is_kept_to_the_letter(completion: str) -> None:
    assert program(PROBLEM, completion, "paper") == PAPER[completion]


def test_the_papers_rule_takes_a_moment_where_thinking_opens_again_and_again() -> None:
    completion = "<think>" * 20_000
    started_s = time.monotonic()
    assert program(PROBLEM, completion, "paper") == PROBLEM.prompt + completion + "\n"
    assert time.monotonic() - started_s < 2
