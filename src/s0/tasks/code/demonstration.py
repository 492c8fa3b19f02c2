"""Telling a program from the demonstration around it, statement by statement of the top level.

A statement is *needed* where it binds or fills a name that the entry point reads, directly or through another needed
statement. Of the others these are demonstration:

1. expressions of names and literals alone, which do nothing, and annotations that bind nothing;
2. main guards, asserts, and what ends the process: needed or not;
3. what mentions the entry point (a call, a loop of calls, a test of it, be it a function) or asks for input;
4. what prints or displays, or starts a test runner;
5. assignments and imports that only demonstration reads;
6. what reads a name that only demonstration binds.

All else stays as it is written. A statement fills `table` in `table[0] = 1`, `table.x = 1`, `table.append(1)` and
`@table.register`; a call fills what the function does, where the entry point does not call that function itself.
Statements that share a line are one.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from s0.tasks.code.bindings import DEFINITIONS, dotted, raised, walk_own
from s0.tasks.code.statements import Statement

_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_IMPORTS = (ast.Import, ast.ImportFrom)
_LITERALS = (ast.Name, ast.Constant, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.expr_context)
_ASKS = {"input"}
_SHOWS = {"print", "pprint", "display", "help", "breakpoint"}
_SHOWING_CALLS = {"pprint.pprint", "unittest.main", "doctest.testmod", "doctest.run_docstring_examples", "pytest.main"}
_ENDS = {"exit", "quit", "sys.exit", "os._exit", "SystemExit"}
_BUILTINS = frozenset(dir(builtins))


def without_demonstration(
    before: Sequence[Statement], own: Sequence[Statement], entry_point: str, *, prose: bool
) -> list[Statement]:
    """Those of `own` that are no demonstration, by the rule above.

    Args:
        before: the statements before, which stay; they can need others.
        own: what a reply says.
        entry_point: the name whose value is asked for.
        prose: whether `own` stood among prose, lines of which can parse (`n = length`): assignments and expressions
            that are not needed and read a name which nothing binds are dropped as well.
    """
    needed = _needed([*before, *own], entry_point)
    kept = [
        statement
        for statement in own
        if not _does_nothing(statement)
        and not _closes(statement)
        and (statement in needed or not _demonstrates(statement, entry_point))
    ]
    if prose:
        bound = _BUILTINS | _bound([*before, *own])
        kept = [part for part in kept if part in needed or not _is_simple(part) or part.reads <= bound]
    return _without_remains(before, own, kept, needed)


def helpers(program: Iterable[Statement], others: Sequence[Sequence[Statement]]) -> list[Statement]:
    """Statements of `others` that `program` needs since they bind or fill a name that nothing in it binds.

    Args:
        program: the statements that will run.
        others: by preference; the first that binds a name gives it.

    Returns:
        Statements in the order of `others` reversed, so that the preferred ones stand last.
    """
    program = list(program)
    bound = {*_BUILTINS, *_bound(program)}
    sources = _sources(others)
    lacking = [name for statement in program for name in statement.reads if name not in bound]
    chosen: set[Statement] = set()
    while lacking:
        name = lacking.pop()
        if name in bound:
            continue
        bound.add(name)
        for statement in sources.pop(name if name in sources else "*", ()):
            if statement not in chosen:
                chosen.add(statement)
                lacking += statement.reads
    return [statement for part in reversed(others) for statement in part if statement in chosen]


def _sources(parts: Sequence[Sequence[Statement]]) -> dict[str, list[Statement]]:
    """By name: the statements that bind or fill it in the first part that binds it; "*" stands for names none binds."""
    sources = {"*": [statement for part in parts for statement in part if statement.imports_all]}
    for part in parts:
        giving = _by_name((statement, statement.binds | statement.fills) for statement in part)
        for name in _bound(part):
            sources.setdefault(name, giving[name])
    return sources


def binds_callable(nodes: Iterable[ast.AST], name: str) -> bool:
    """Whether statements bind `name` at the top level to what can be called, be it under `if`, `try` or a loop.

    A main guard does not, nor an assignment of a number, say, or of what a call of `name` gives.
    """
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, DEFINITIONS):
            binds = node.name == name
        elif isinstance(node, _IMPORTS):
            binds = any((alias.asname or alias.name.split(".")[0]) == name for alias in node.names)
        else:
            binds = isinstance(node, (ast.Assign, ast.AnnAssign)) and _assigns_callable(node, name)
            if not isinstance(node, ast.expr) and not _is_main_guard(node):
                waiting += ast.iter_child_nodes(node)
        if binds:
            return True
    return False


def _assigns_callable(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    pairs: list[tuple[ast.expr, ast.expr | None]] = [(target, node.value) for target in targets]
    while pairs:
        target, value = pairs.pop()
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs += zip(target.elts, value.elts, strict=False)
        elif isinstance(target, ast.Name) and target.id == name:
            return _can_be_callable(value) and name not in _called([node])
        elif isinstance(target, ast.Tuple) and any(
            isinstance(part, ast.Name) and part.id == name for part in target.elts
        ):
            return isinstance(value, ast.Call) and name not in _called([node])
    return False


def _can_be_callable(value: ast.expr | None) -> bool:
    return isinstance(value, (ast.Lambda, ast.Name, ast.Attribute, ast.Call, ast.IfExp, ast.Subscript, ast.BoolOp))


def _without_remains(
    before: Sequence[Statement], own: Sequence[Statement], kept: Sequence[Statement], needed: set[Statement]
) -> list[Statement]:
    """`kept` without what only dropped statements read, and without what reads names that only those bind."""
    uses = _Uses([*before, *own], [statement for statement in kept if statement not in needed])
    waiting = [*{*own} - {*kept}]
    dropped = {*waiting}
    while waiting:
        remains = uses.remains_of(waiting.pop()) - dropped
        dropped |= remains
        waiting += remains
    return [statement for statement in kept if statement not in dropped]


class _Uses:
    """Who binds and who reads a name, while statements are dropped one by one.

    A name is lost, shown and read no more once each: all steps together are in proportion to the program's size.

    Args:
        program: all statements, before any is dropped.
        open_to_drop: those that go where they are remains.
    """

    def __init__(self, program: Sequence[Statement], open_to_drop: Sequence[Statement]) -> None:
        self._n_binding = Counter(name for statement in program for name in statement.binds)
        self._n_reading = Counter(name for statement in program for name in statement.reads - statement.binds)
        self._reading = _by_name((statement, statement.reads) for statement in open_to_drop)
        self._binding = _by_name((statement, statement.binds) for statement in open_to_drop if _only_binds(statement))
        self._n_read = {
            statement: sum(self._n_reading[name] > 0 for name in statement.binds) for statement in open_to_drop
        }
        self._shown: set[str] = set()  # names that dropped statements read
        self._exposed: set[Statement] = set()  # assignments and imports that bind such names

    def remains_of(self, statement: Statement) -> set[Statement]:
        """What no longer has a use, or what it uses, once this statement is dropped as well."""
        others_read = statement.reads - statement.binds
        self._n_binding.subtract(statement.binds)
        self._n_reading.subtract(others_read)
        lost = [name for name in statement.binds if self._n_binding[name] == 0]
        unread = [binder for name in others_read if self._n_reading[name] == 0 for binder in self._binding[name]]
        exposed = [binder for name in statement.reads - self._shown for binder in self._binding[name]]
        for binder in unread:
            self._n_read[binder] -= 1
        self._shown |= statement.reads
        self._exposed.update(exposed)
        useless = (binder for binder in (*unread, *exposed) if binder in self._exposed and self._n_read[binder] == 0)
        return {*useless, *(reader for name in lost for reader in self._reading[name])}


def _needed(program: Sequence[Statement], entry_point: str) -> set[Statement]:
    imported = {name for statement in program if isinstance(statement.nodes[0], _IMPORTS) for name in statement.binds}
    by_name: defaultdict[str, list[Statement]] = defaultdict(list)
    for statement in program:
        fills = frozenset() if statement.defines else statement.fills - imported
        for name in statement.binds | fills:
            if name != entry_point or name in fills or binds_callable(statement.nodes, name):
                by_name[name].append(statement)
    needed: set[Statement] = set()
    names: set[str] = set()
    _add_needed([entry_point], by_name, needed, names)
    _add_filling(program, imported, by_name, needed, names)
    return needed


def _add_filling(
    program: Sequence[Statement],
    imported: set[str],
    by_name: Mapping[str, list[Statement]],
    needed: set[Statement],
    names: set[str],
) -> None:
    """Add the statements that mention a function by which a needed name is filled, in itself or in what it mentions."""
    definitions = [statement for statement in program if isinstance(statement.nodes[0], DEFINITIONS)]
    callables = {name: definition for definition in definitions for name in definition.binds}
    mentioning: defaultdict[str, list[str]] = defaultdict(list)
    filling: defaultdict[str, list[str]] = defaultdict(list)
    for function, definition in callables.items():
        if definition not in needed:
            for name in definition.reads:
                mentioning[name].append(function)
            for name in definition.fills - imported:
                filling[name].append(function)
    acting = _by_name(
        (statement, statement.reads) for statement in program if not statement.defines and not _prints(statement)
    )
    waiting = [function for name in names for function in filling[name]]
    seen: set[str] = set()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        waiting += mentioning[function]
        for statement in acting[function]:
            if statement not in needed:
                needed.add(statement)
                more = _add_needed(statement.reads, by_name, needed, names)
                waiting += [filler for name in more for filler in filling[name]]


def _add_needed(
    more: Iterable[str], by_name: Mapping[str, list[Statement]], needed: set[Statement], names: set[str]
) -> list[str]:
    """Add the statements that bind or fill the names, and those that these need; the names that were added."""
    waiting = list(more)
    added = []
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        added.append(name)
        for statement in by_name.get(name, ()):
            if statement not in needed:
                needed.add(statement)
                waiting += statement.reads
    return added


def _by_name(named: Iterable[tuple[Statement, Iterable[str]]]) -> defaultdict[str, list[Statement]]:
    """The statements of every name that stands beside them."""
    statements_of: defaultdict[str, list[Statement]] = defaultdict(list)
    for statement, names in named:
        for name in names:
            statements_of[name].append(statement)
    return statements_of


def _does_nothing(statement: Statement) -> bool:
    return all(
        (isinstance(node, ast.AnnAssign) and node.value is None)
        or (isinstance(node, ast.Expr) and all(isinstance(part, _LITERALS) for part in ast.walk(node.value)))
        for node in statement.nodes
    )


def _closes(statement: Statement) -> bool:
    """Whether it is a main guard, an assert, or ends the process."""
    return all(isinstance(node, ast.Assert) or _is_main_guard(node) or ends_process(node) for node in statement.nodes)


def ends_process(node: ast.stmt) -> bool:
    """Whether the statement is there to end the program."""
    if isinstance(node, ast.Raise):
        return raised(node) in _ENDS
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and dotted(node.value.func) in _ENDS


def _demonstrates(statement: Statement, entry_point: str) -> bool:
    if statement.reads & {entry_point, *_ASKS} or _reads_stdin(statement):
        return True
    return not all(isinstance(node, DEFINITIONS) for node in statement.nodes) and _prints(statement)


def _prints(statement: Statement) -> bool:
    return bool(statement.reads & (_SHOWS | _ASKS)) or bool(_called(statement.nodes) & _SHOWING_CALLS)


def _reads_stdin(statement: Statement) -> bool:
    return any(
        isinstance(part, ast.Attribute) and dotted(part) == "sys.stdin"
        for node in statement.nodes
        for part in ast.walk(node)
    )


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


def _only_binds(statement: Statement) -> bool:
    return all(isinstance(node, (*_ASSIGNMENTS, *_IMPORTS)) for node in statement.nodes)


def _is_simple(statement: Statement) -> bool:
    return all(isinstance(node, (ast.Expr, *_ASSIGNMENTS)) for node in statement.nodes)


def _called(nodes: Iterable[ast.AST]) -> set[str]:
    """Names called, such as "print" and "unittest.main", not within a function defined there."""
    return {dotted(node.func) for node in walk_own(nodes) if isinstance(node, ast.Call)}


def _bound(program: Iterable[Statement]) -> set[str]:
    return {name for statement in program for name in statement.binds}
