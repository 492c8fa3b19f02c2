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

Functions and classes none of which has the entry point's name are neither, unless something beside them returns,
yields or reads a parameter, as a body does. They are passed over, and so is what follows unless it is surely code for
the function; where nothing else is found the form is "other_name".

Of what follows or surrounds the function only statements stay that bind a name it needs, directly or through
another: helpers, imports, constants. Prints, asserts, calls and main guards go.
"""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from dataclasses import dataclass
from typing import TypeAlias

from s0.tasks.code.needed import keep_needed, names_bound
from s0.tasks.problem import CodeProblem

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.MULTILINE)
_CODE_BEGINS = re.compile(r"^[ \t]*(?:import |from \w|def |class |async def |@)", re.MULTILINE)
_BLANK_LINES_BEFORE = re.compile(r"\A(?:[ \t]*\n)+")
_INDENT = "    "
_EXACT_ATTEMPTS = 24
"""Tries to find the very longest prefix that parses. Text that needs more, a thousand decorators say, is no answer:
it is then cut by a quarter at a time, so that no completion costs more than a moment."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


@dataclass(frozen=True)
class Extraction:
    """`program` is None exactly where `format` is "other_name", "unparsable" or "empty"."""

    program: str | None
    format: str


def extract(problem: CodeProblem, completion: str) -> Extraction:
    """Apply the rule above."""
    text = _THINKING.sub("", completion).replace("\r\n", "\n")
    if not text.strip():
        return Extraction(None, "empty")
    before, blocks = _split_at_fences(text)
    plain = _read(problem, before)
    if plain is not None and (plain.answers or not blocks):
        return Extraction(plain.program, plain.format)
    passed_over = plain is _OTHER_NAME
    for fenced in (_read(problem, block) for block in blocks):
        if fenced is _OTHER_NAME:
            passed_over = True
        elif fenced is not None and (fenced.answers or not passed_over):
            return Extraction(fenced.program, "fenced")
    if passed_over:
        return Extraction(None, _OTHER_NAME.format)
    begin = _CODE_BEGINS.search(text)
    last = _read(problem, text[begin.start() :]) if begin else plain
    return Extraction(last.program, last.format) if last else Extraction(None, "unparsable")


def prompt_with_stub(problem: CodeProblem) -> str:
    """The prompt as a program of its own: the function to be completed does nothing."""
    prompt = problem.prompt.rstrip() + "\n"
    return prompt if parses(prompt) else prompt + f"{_INDENT}pass\n"


def parses(source: str) -> bool:
    """Whether Python can read `source`."""
    return _parse(source)[0] is not None


@dataclass(frozen=True)
class _Found:
    program: str | None
    format: str
    answers: bool
    """Whether it is surely code: the function itself, or a body that returns or yields."""


_OTHER_NAME = _Found(None, "other_name", False)


def _split_at_fences(text: str) -> tuple[str, list[str]]:
    """The text before the first fence, and the blocks; an opened block that never closes reaches to the end."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text, []
    ends = [fence.start() for fence in fences[1:]] + [len(text)]
    blocks = [text[fence.end() : end] for fence, end in zip(fences[::2], ends[::2], strict=False)]
    return text[: fences[0].start()], [block.strip("\n") for block in blocks]


def _read(problem: CodeProblem, text: str) -> _Found | None:
    text = _BLANK_LINES_BEFORE.sub("", text).rstrip()
    return _as_function(problem, text) or _as_body(problem, text)


def _as_function(problem: CodeProblem, text: str) -> _Found | None:
    tree, source = _longest_prefix(_moved(text, ""))
    if _stub(problem) is None and _are_others(problem, tree.body):
        return _OTHER_NAME
    if _entry_function(tree, problem.entry_point) is None:
        return None
    if _answers(tree.body):
        return None  # a body, with a helper of the function's own name in it
    whole = prompt_with_stub(problem) + "\n" + source
    return _Found(keep_needed(whole, problem.entry_point), "function", True)


def _as_body(problem: CodeProblem, text: str) -> _Found | None:
    """The reading that keeps most lines; of equals the first."""
    stub = _stub(problem)
    if stub is None:
        return None  # the prompt says in words what to write: there is no signature that a body could follow
    indent = _body_indent(problem, stub)
    readings = [_moved(text, indent), indent + text.lstrip(" \t")]
    prompt = problem.prompt.rstrip() + "\n"
    kept = [_longest_prefix(reading, prompt) for reading in readings]
    tree, source = max(kept, key=lambda pair: pair[1].count("\n"))
    function = _entry_function(tree, problem.entry_point)
    added = function.body[_docstring_length(stub) :] if function else []
    if _are_others(problem, added) and not (_answers(added) or _reads_parameter(added, stub)):
        return _OTHER_NAME
    if all(isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Constant)) for node in added):
        return None  # nothing, a comment, or a word of prose that happens to parse
    form = "body" if text[:1] in (" ", "\t") else "body_unindented"
    return _Found(keep_needed(prompt + source, problem.entry_point), form, _answers(added))


def _are_others(problem: CodeProblem, statements: list[ast.stmt]) -> bool:
    """Whether they define functions or classes and nowhere bind the entry point's name, be it under `if` or `try`."""
    return any(isinstance(statement, _DEFINITIONS) for statement in statements) and not any(
        problem.entry_point in names_bound(statement) for statement in statements
    )


def _reads_parameter(statements: list[ast.stmt], stub: _Function) -> bool:
    """Whether the statements beside definitions read a parameter that they have not bound themselves."""
    unbound = {part.arg for part in ast.walk(stub.args) if isinstance(part, ast.arg)}
    for statement in statements:
        if isinstance(statement, _DEFINITIONS):
            continue
        names = [part for part in ast.walk(statement) if isinstance(part, ast.Name)]
        if any(name.id in unbound and isinstance(name.ctx, ast.Load) for name in names):
            return True
        unbound -= {name.id for name in names}
    return False


def _stub(problem: CodeProblem) -> _Function | None:
    """The function of the prompt, None where that says in words what to write."""
    return _entry_function(ast.parse(prompt_with_stub(problem)), problem.entry_point)


def _entry_function(tree: ast.Module, name: str) -> _Function | None:
    """The first function of that name at the top level."""
    return next((node for node in tree.body if isinstance(node, _FUNCTIONS) and node.name == name), None)


def _body_indent(problem: CodeProblem, stub: _Function) -> str:
    line = prompt_with_stub(problem).splitlines()[stub.body[0].lineno - 1]
    return line[: len(line) - len(line.lstrip())]


def _docstring_length(function: _Function) -> int:
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
    for attempt in itertools.count():
        source = "\n".join(lines) + "\n"
        tree, error_line = _parse(before + source)
        if tree is not None:
            return tree, source
        if not lines:
            break  # `before` alone does not parse: a prompt without a docstring
        # no prefix that holds the line of the error can parse
        dropped = 1 if attempt < _EXACT_ATTEMPTS else len(lines) // 4 + 1
        lines = lines[: max(min(error_line - offset - 1, len(lines) - dropped), 0)]
    return ast.Module([], []), ""


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


def _answers(statements: list[ast.stmt]) -> bool:
    """Whether the statements return or yield themselves, not within a function defined there."""
    open_nodes: list[ast.AST] = list(statements)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            open_nodes += ast.iter_child_nodes(node)
    return False
