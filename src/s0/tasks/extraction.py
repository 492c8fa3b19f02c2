"""Finding the program in a completion, with Python's own parser.

The rule, in order; the first step that yields code for the function decides:

1. Thinking (`<think>...</think>`) is removed. Nothing but white space left: "empty".
2. The text before the first ``` fence is read as code; it counts only if it defines the function, or returns or
   yields: prose such as "Sure" parses as well.
3. Each fenced block in turn ("fenced").
4. The text from its first line that begins an import, a definition or a decorator (prose without a fence).

Read as code, a text is the whole function if a definition of the entry point stands at its top level, else the
function's body. A body is tried as it stands, with all lines moved to the prompt's indent, and with the first line
alone moved there (a reply whose leading white space was cut off); the reading that parses furthest wins. In every
reading the longest prefix of lines that parses is kept, so text after the code drops out.

Of what follows or surrounds the function only statements stay that bind a name it needs, directly or through
another: helpers, imports, constants. Prints, asserts, calls and main guards go.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from s0.tasks.needed import keep_needed
from s0.tasks.problem import Problem

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)
_CODE_BEGINS = re.compile(r"^[ \t]*(?:import |from \w|def |class |async def |@)", re.MULTILINE)
_BLANK_LINES_BEFORE = re.compile(r"\A(?:[ \t]*\n)+")
_INDENT = "    "


@dataclass(frozen=True)
class Extraction:
    """`program` is None exactly where `format` is "unparsable" or "empty"."""

    program: str | None
    format: str


def extract(problem: Problem, completion: str) -> Extraction:
    """Apply the rule above."""
    text = _THINKING.sub("", completion).replace("\r\n", "\n")
    if not text.strip():
        return Extraction(None, "empty")
    before, blocks = _split_at_fences(text)
    found = _read(problem, before)
    if found is not None and (not blocks or found.answers):
        return Extraction(found.program, found.format)
    for block in blocks:
        found = _read(problem, block)
        if found is not None:
            return Extraction(found.program, "fenced")
    begin = _CODE_BEGINS.search(text)
    found = _read(problem, text[begin.start() :]) if begin else None
    return Extraction(found.program, found.format) if found else Extraction(None, "unparsable")


def prompt_with_stub(problem: Problem) -> str:
    """The prompt as a program of its own: the function to be completed does nothing."""
    prompt = problem.prompt.rstrip() + "\n"
    return prompt if parses(prompt) else prompt + f"{_INDENT}pass\n"


def parses(source: str) -> bool:
    """Whether Python can read `source`."""
    return _parse(source)[0] is not None


@dataclass(frozen=True)
class _Found:
    program: str
    format: str
    answers: bool
    """Whether it is surely code: the function itself, or a body that returns or yields."""


def _split_at_fences(text: str) -> tuple[str, list[str]]:
    """The text before the first fence, and the blocks; an opened block that never closes reaches to the end."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text, []
    ends = [fence.start() for fence in fences[1:]] + [len(text)]
    blocks = [text[fence.end() : end] for fence, end in zip(fences[::2], ends[::2], strict=False)]
    return text[: fences[0].start()], [block.strip("\n") for block in blocks]


def _read(problem: Problem, text: str) -> _Found | None:
    text = _BLANK_LINES_BEFORE.sub("", text).rstrip()
    return _as_function(problem, text) or _as_body(problem, text)


def _as_function(problem: Problem, text: str) -> _Found | None:
    tree, source = _longest_prefix(_moved(text, ""))
    if not any(_defines(node, problem.entry_point) for node in tree.body):
        return None
    if any(isinstance(node, (ast.Return, ast.Expr)) and _answers(node) for node in tree.body):
        return None  # a body that begins with a helper of the function's own name
    whole = prompt_with_stub(problem) + "\n" + source
    return _Found(keep_needed(whole, problem.entry_point), "function", True)


def _as_body(problem: Problem, text: str) -> _Found | None:
    """The reading that keeps most lines; of equals the first."""
    indent = _body_indent(problem)
    indented = text[:1] in (" ", "\t")
    readings = [_moved(text, indent)] if indented else [_moved(text, indent), indent + text]
    prompt = problem.prompt.rstrip() + "\n"
    kept = [_longest_prefix(reading, prompt) for reading in readings]
    tree, source = max(kept, key=lambda pair: pair[1].count("\n"))
    functions = [node for node in tree.body if _defines(node, problem.entry_point)]
    before = ast.parse(prompt_with_stub(problem)).body
    stub = next(node for node in reversed(before) if _defines(node, problem.entry_point))
    assert isinstance(stub, (ast.FunctionDef, ast.AsyncFunctionDef))
    if not functions:
        return None
    function = functions[0]
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    added = function.body[_docstring_length(stub) :]
    if all(isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Constant)) for node in added):
        return None  # nothing, a comment, or a word of prose that happens to parse
    program = keep_needed(prompt + source, problem.entry_point)
    return _Found(program, "body" if indented else "body_unindented", any(_answers(node) for node in added))


def _body_indent(problem: Problem) -> str:
    tree = ast.parse(prompt_with_stub(problem))
    function = next(node for node in reversed(tree.body) if _defines(node, problem.entry_point))
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    line = prompt_with_stub(problem).splitlines()[function.body[0].lineno - 1]
    return line[: len(line) - len(line.lstrip())] or _INDENT


def _docstring_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(function, clean=False) is None else 1


def _moved(text: str, indent: str) -> str:
    """`text` with the indent of its first line replaced by `indent`, in every line that has it."""
    first = text.split("\n", 1)[0]
    own = first[: len(first) - len(first.lstrip())]
    lines = text.split("\n")
    return "\n".join(indent + line[len(own) :] if line.startswith(own) and line.strip() else line for line in lines)


def _longest_prefix(text: str, before: str = "") -> tuple[ast.Module, str]:
    """The longest prefix of lines of `text` that parses after `before`, with the tree of both."""
    lines = text.split("\n")
    offset = before.count("\n")
    while True:
        source = "\n".join(lines) + "\n"
        tree, error_line = _parse(before + source)
        if tree is not None:
            return tree, source
        if not lines:
            return ast.Module([], []), ""  # `before` alone does not parse: a prompt without a docstring
        # no prefix that holds the line of the error can parse
        lines = lines[: max(min(error_line - offset - 1, len(lines) - 1), 0)]


def _parse(source: str) -> tuple[ast.Module | None, int]:
    """The tree, or None and the first line that cannot be read (a line past the end where Python does not say)."""
    beyond = source.count("\n") + 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence is the completion's affair
            return ast.parse(source, "<program>"), beyond
    except SyntaxError as error:
        # inside an f-string Python 3.10 and 3.11 count lines from the string's own beginning
        return None, error.lineno or beyond if error.filename == "<program>" else beyond
    except (ValueError, MemoryError, RecursionError):  # null bytes, surrogates, nesting too deep
        return None, beyond


def _defines(node: ast.AST, name: str) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name


def _answers(node: ast.AST) -> bool:
    return any(isinstance(part, (ast.Return, ast.Yield, ast.YieldFrom)) for part in ast.walk(node))
