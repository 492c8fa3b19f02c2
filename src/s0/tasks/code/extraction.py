"""Finding the program in a completion, with Python's own parser.

The rule, in order:

1. What a reply comes to (`s0.tasks.replies.conclusion`). Nothing but white space left: "empty".
2. It is cut into pieces: fenced blocks, and the text around them. A fence inside a triple-quoted string is text; where
   that finds no whole function, it is a fence like others.
3. Of each piece all that Python can read is code: the longest prefix of lines that parses, moved to the left margin;
   then, behind what cannot be read, the same from the next line on that begins a statement.
4. The piece that defines the entry point decides. Defined is a name at the top level, be it under `if`, `try`, `with`
   or a loop: by `def`, `class`, an import, or an assignment of what can be called. If several pieces or statements do,
   the last complete one decides: neither cut off (in a block that never closes, or before lines that cannot be read)
   nor a stub (`pass`, `...`, a docstring); then the last that is cut off, then the last stub. "fenced" where it is
   a fenced block, else "function".
5. Code that returns or yields at the top level is a body, whatever it defines. Where no piece defines the entry point,
   a body is looked for: in the text before the first fence, where it returns, yields or is all there is; in each block;
   in the text from its first line that begins a statement. The first that returns or yields decides, else the first.
   A body is tried as it stands, with all lines moved to the prompt's indent, and with the first line alone moved
   there (a reply whose leading white space was cut off); the reading that parses furthest wins. The form is
   "fenced", "body" or, where the first line was not indented, "body_unindented".
6. Functions and classes none of which has the entry point's name are no body, unless something beside them returns,
   yields, raises or reads a parameter. They are passed over, and what follows decides only if it returns or yields;
   where nothing else is found the form is "other_name", and without any code "unparsable".
7. The program is the prompt and what decides, without its demonstration (`s0.tasks.code.demonstration`): main guards,
   asserts, print, input and display calls, statements that mention the entry point, assignments and imports read by
   those alone. All else at the top level stays, and if it raises or exceeds the limit, that is the program's verdict.
8. Names that it lacks are taken, with all that binds or fills them, from the piece nearest before, else after.
9. `from __future__` imports stand first, behind the prompt's docstring.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from s0.tasks.code.bindings import DEFINITIONS, FUNCTIONS, raised, walk_own
from s0.tasks.code.demonstration import binds_callable, ends_process, helpers, without_demonstration
from s0.tasks.code.fences import Piece, pieces
from s0.tasks.code.parsing import Budget, from_first_statement, longest_prefix, moved, parses, readable
from s0.tasks.code.statements import Statement, statements
from s0.tasks.problem import CodeProblem
from s0.tasks.replies import conclusion

_BLANK_LINES_BEFORE = re.compile(r"\A(?:[ \t]*\n)+")
_INDENT = "    "
_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


@dataclass(frozen=True)
class Extraction:
    """`program` is None exactly where `format` is "other_name", "unparsable" or "empty"."""

    program: str | None
    format: str


def extract(problem: CodeProblem, completion: str) -> Extraction:
    """Apply the rule above."""
    reply = conclusion(completion)
    if not reply.strip():
        return Extraction(None, "empty")
    budget = Budget()
    codes = _codes(problem, pieces(reply, in_strings=False), budget)
    definition = _deciding(codes)
    all_fences = pieces(reply, in_strings=True)
    if (definition is None or not definition.complete) and all_fences != [code.piece for code in codes]:
        with_all_fences = _codes(problem, all_fences, budget)
        other = _deciding(with_all_fences)
        if other is not None and (definition is None or other.complete):
            codes, definition = with_all_fences, other
    if definition is not None:
        return _function(problem, codes, definition)
    return _body(problem, codes, budget)


def prompt_with_stub(problem: CodeProblem) -> str:
    """The prompt as a program of its own: the function to be completed does nothing."""
    prompt = _prompt(problem)
    return prompt if parses(prompt) else prompt + f"{_INDENT}pass\n"


@dataclass(frozen=True)
class _Definition:
    """A statement that defines the entry point: number `position` of piece number `piece`."""

    piece: int
    position: int
    cut: bool
    stub: bool

    @property
    def complete(self) -> bool:
        return not self.cut and not self.stub


@dataclass(frozen=True)
class _Code:
    """What Python can read of a piece, and those of its statements that define the entry point."""

    piece: Piece
    statements: list[Statement]
    definitions: list[_Definition]


def _codes(problem: CodeProblem, parts: Sequence[Piece], budget: Budget) -> list[_Code]:
    return [_code(problem, number, piece, budget) for number, piece in enumerate(parts)]


def _code(problem: CodeProblem, number: int, piece: Piece, budget: Budget) -> _Code:
    code: list[Statement] = []
    definitions = []
    returns = False
    for stretch in readable(piece.text, budget):
        more = statements(stretch.tree, stretch.source)
        returns |= _answers(stretch.tree.body)
        for position, statement in enumerate(more):
            if binds_callable(statement.nodes, problem.entry_point):
                cut = not piece.closed or (stretch.cut and position == len(more) - 1)
                definitions.append(_Definition(number, len(code) + position, cut, _is_stub(statement)))
        code += more
    return _Code(piece, code, [] if returns else definitions)


def _is_stub(statement: Statement) -> bool:
    (node, *others) = statement.nodes
    if others or not isinstance(node, DEFINITIONS):
        return False
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and raised(part) in ("NotImplementedError", "NotImplemented"))
        for part in node.body
    )


def _deciding(codes: Sequence[_Code]) -> _Definition | None:
    definitions = [definition for code in codes for definition in code.definitions]
    complete = [definition for definition in definitions if definition.complete]
    more_than_stubs = [definition for definition in definitions if not definition.stub]
    return next((candidates[-1] for candidates in (complete, more_than_stubs, definitions) if candidates), None)


def _function(problem: CodeProblem, codes: Sequence[_Code], definition: _Definition) -> Extraction:
    code = codes[definition.piece]
    later = {other.position for other in code.definitions if other.position > definition.position}
    own = [statement for position, statement in enumerate(code.statements) if position not in later]
    stub = prompt_with_stub(problem)
    before = statements(ast.parse(stub), stub)
    program = _program(problem, before, own, codes, definition.piece)
    return Extraction(program, "fenced" if code.piece.fenced else "function")


def _program(
    problem: CodeProblem, before: list[Statement], own: list[Statement], codes: Sequence[_Code], deciding: int
) -> str:
    kept = without_demonstration(before, own, problem.entry_point, prose=not codes[deciding].piece.fenced)
    others = [code.statements for code in (*reversed(codes[:deciding]), *codes[deciding + 1 :])]
    added = helpers([*before, *kept], others)
    return _ordered([*before, *added, *kept])


def _ordered(program: Sequence[Statement]) -> str:
    """The program's text; what must stand first does."""
    docstring = [statement for statement in program[:1] if statement.is_docstring]
    futures = [statement for statement in program if statement.is_future]
    rest = [statement for statement in program[len(docstring) :] if not statement.is_future]
    return "".join(f"{statement.source}\n" for statement in (*docstring, *futures, *rest))


@dataclass(frozen=True)
class _Body:
    """The prompt with a body, in two parts: statements that begin within the prompt, and those after them.

    Attributes:
        answers: whether the body returns or yields.
    """

    before: list[Statement]
    own: list[Statement]
    format: str
    answers: bool


def _body(problem: CodeProblem, codes: Sequence[_Code], budget: Budget) -> Extraction:
    """The first body that answers; else the first, unless functions of other names stand in the reply."""
    fenced = any(code.piece.fenced for code in codes)
    stub = _stub(problem)
    bodies = []
    others = False
    for number, text in _texts_of_bodies(codes):
        body = _as_body(problem, stub, text, budget)
        others |= body is None and _are_others(problem, codes[number])
        if body is not None and (body.answers or codes[number].piece.fenced or not fenced):
            bodies.append((number, body))
    answering = [(number, body) for number, body in bodies if body.answers]
    if not answering and others:
        return Extraction(None, "other_name")
    if not bodies:
        return Extraction(None, "unparsable")
    number, body = (answering or bodies)[0]
    program = _program(problem, body.before, body.own, codes, number)
    return Extraction(program, "fenced" if codes[number].piece.fenced else body.format)


def _texts_of_bodies(codes: Sequence[_Code]) -> list[tuple[int, str]]:
    """(number of the piece, text) of all that may be a body, as the rule orders them."""
    as_they_stand = [(n, code.piece.text) for n, code in enumerate(codes) if code.piece.fenced or n == 0]
    behind_prose = [(n, from_first_statement(code.piece.text)) for n, code in enumerate(codes) if not code.piece.fenced]
    return as_they_stand + behind_prose


def _as_body(problem: CodeProblem, stub: _Stub | None, text: str, budget: Budget) -> _Body | None:
    """The reading that keeps most lines; of equals the first."""
    if stub is None:
        return None
    text = _BLANK_LINES_BEFORE.sub("", text).rstrip()
    indent = stub.indent
    prompt = _prompt(problem)
    readings = [moved(text, indent), indent + text.lstrip(" \t")]
    prefixes = [longest_prefix(reading, prompt, budget) for reading in readings]
    tree, source = max(prefixes, key=lambda pair: pair[1].count("\n"))
    function = _entry_function(tree, problem.entry_point)
    added = function.body[_docstring_length(stub.function) :] if function else []
    answers = _answers(added)
    acts = answers or _raises(added) or _reads_parameter(added, stub.function)
    if _define_others(added, problem.entry_point) and not acts:
        return None
    if all(isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Constant)) for node in added):
        return None  # nothing, a comment, or a word of prose that happens to parse
    program = statements(tree, prompt + source)
    n_given = 1 + max(n for n, statement in enumerate(program) if statement.nodes[0].lineno <= prompt.count("\n"))
    form = "body" if text[:1] in (" ", "\t") else "body_unindented"
    return _Body(program[:n_given], program[n_given:], form, answers)


def _are_others(problem: CodeProblem, code: _Code) -> bool:
    return _define_others([node for statement in code.statements for node in statement.nodes], problem.entry_point)


def _define_others(nodes: list[ast.stmt], name: str) -> bool:
    """Whether they define functions or classes and nowhere bind `name`."""
    return any(isinstance(node, DEFINITIONS) for node in nodes) and not binds_callable(nodes, name)


def _raises(nodes: list[ast.stmt]) -> bool:
    """Whether one of the statements raises an exception; SystemExit ends a script, no body."""
    return any(isinstance(node, ast.Raise) and not ends_process(node) for node in nodes)


def _reads_parameter(nodes: list[ast.stmt], stub: _Function) -> bool:
    """Whether the statements beside definitions read a parameter that they have not bound themselves."""
    unbound = {part.arg for part in ast.walk(stub.args) if isinstance(part, ast.arg)}
    for node in nodes:
        if isinstance(node, DEFINITIONS):
            continue
        names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        if any(name.id in unbound and isinstance(name.ctx, ast.Load) for name in names):
            return True
        unbound -= {name.id for name in names}
    return False


@dataclass(frozen=True)
class _Stub:
    """The function of the prompt, and the white space before the lines of its body."""

    function: _Function
    indent: str


def _stub(problem: CodeProblem) -> _Stub | None:
    """None where the prompt says in words what to write: there is no signature that a body could follow."""
    source = prompt_with_stub(problem)
    function = _entry_function(ast.parse(source), problem.entry_point)
    if function is None:
        return None
    line = source.split("\n")[function.body[0].lineno - 1]
    return _Stub(function, line[: len(line) - len(line.lstrip())])


def _prompt(problem: CodeProblem) -> str:
    """The prompt with line ends as the parser counts them."""
    return problem.prompt.replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n"


def _entry_function(tree: ast.Module, name: str) -> _Function | None:
    """The first function of that name at the top level."""
    return next((node for node in tree.body if isinstance(node, FUNCTIONS) and node.name == name), None)


def _docstring_length(function: _Function) -> int:
    return 0 if ast.get_docstring(function, clean=False) is None else 1


def _answers(nodes: Sequence[ast.AST]) -> bool:
    """Whether the statements return or yield themselves, not within a function defined there."""
    return any(isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)) for node in walk_own(nodes))
