"""The rule of `s0.tasks.code.demonstration` as it reads: in rounds over all statements, until a round changes nothing.

Slow on long chains of names, and what the index of names that the package uses has to agree with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s0.tasks.code.bindings import DEFINITIONS
from s0.tasks.code.demonstration import (
    _ASSIGNMENTS,
    _BUILTINS,
    _IMPORTS,
    _bound,
    _closes,
    _demonstrates,
    _does_nothing,
    _is_simple,
    _prints,
    binds_callable,
)
from s0.tasks.code.statements import Statement


def without_demonstration(
    given: Sequence[Statement], own: Sequence[Statement], entry_point: str, *, prose: bool
) -> list[Statement]:
    """As the function of that name."""
    needed = _needed([*given, *own], entry_point)
    kept = [
        statement
        for statement in own
        if not _does_nothing(statement)
        and not _closes(statement)
        and (statement in needed or not _demonstrates(statement, entry_point))
    ]
    if prose:
        bound = _BUILTINS | _bound([*given, *own])
        kept = [one for one in kept if one in needed or not _is_simple(one) or one.reads <= bound]
    before = None
    while before != len(kept):
        before = len(kept)
        kept = _without_remains(given, own, kept, needed)
    return kept


def helpers(program: Iterable[Statement], others: Sequence[Sequence[Statement]]) -> list[Statement]:
    """As the function of that name."""
    program = list(program)
    bound = _BUILTINS | _bound(program)
    lacking = sorted({name for statement in program for name in statement.reads} - bound)
    chosen: set[Statement] = set()
    while lacking:
        name = lacking.pop()
        source = next((part for part in others if any(name in one.binds for one in part)), None)
        more = (
            [one for one in source if name in one.binds | one.fills]
            if source is not None
            else [one for part in others for one in part if one.imports_all]
        )
        bound |= {name}
        for statement in more:
            if statement not in chosen:
                chosen.add(statement)
                lacking += sorted(statement.reads - bound)
    return [statement for part in reversed(others) for statement in part if statement in chosen]


def _without_remains(
    given: Sequence[Statement], own: Sequence[Statement], kept: list[Statement], needed: set[Statement]
) -> list[Statement]:
    """`kept` without what only dropped statements read, and without what reads names that only those bind."""
    staying = {*given, *kept}
    dropped = [statement for statement in own if statement not in staying]
    lost = _bound(dropped) - _bound(staying)
    shown = {name for statement in dropped for name in statement.reads}
    readers: dict[str, int] = {}
    for statement in staying:
        for name in statement.reads - statement.binds:
            readers[name] = readers.get(name, 0) + 1
    remaining = []
    for statement in reversed(kept):
        is_remains = statement not in needed and (
            statement.reads & lost
            or (
                all(isinstance(node, (*_ASSIGNMENTS, *_IMPORTS)) for node in statement.nodes)
                and statement.binds & shown
                and not any(readers.get(name) for name in statement.binds)
            )
        )
        if is_remains:
            shown |= statement.reads
            for name in statement.reads - statement.binds:
                readers[name] -= 1
        else:
            remaining.append(statement)
    return remaining[::-1]


def _needed(program: Sequence[Statement], entry_point: str) -> set[Statement]:
    imported = {name for one in program if isinstance(one.nodes[0], _IMPORTS) for name in one.binds}
    by_name: dict[str, list[Statement]] = {}
    for statement in program:
        fills = frozenset() if statement.defines else statement.fills - imported
        for name in statement.binds | fills:
            if name != entry_point or name in fills or binds_callable(statement.nodes, name):
                by_name.setdefault(name, []).append(statement)
    needed: set[Statement] = set()
    names: set[str] = set()
    _add_needed([entry_point], by_name, needed, names)
    callables = {name: one for one in program for name in one.binds if isinstance(one.nodes[0], DEFINITIONS)}
    filling = {name: one for name, one in callables.items() if one not in needed}
    waiting = [one for one in program if not one.defines and not _prints(one)]
    before = -1
    while before != len(needed):
        before = len(needed)
        for statement in waiting:
            if statement not in needed and (_filled_by_calls(statement, filling) - imported) & names:
                needed.add(statement)
                _add_needed(statement.reads, by_name, needed, names)
    return needed


def _add_needed(
    more: Iterable[str], by_name: dict[str, list[Statement]], needed: set[Statement], names: set[str]
) -> None:
    """Add the statements that bind or fill the names, and those that these need."""
    waiting = list(more)
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        for statement in by_name.get(name, ()):
            if statement not in needed:
                needed.add(statement)
                waiting += statement.reads


def _filled_by_calls(statement: Statement, functions: dict[str, Statement]) -> set[str]:
    """Names filled by the functions it mentions, and by those that they mention."""
    filled: set[str] = set()
    waiting, seen = list(statement.reads), set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in seen:
            seen.add(name)
            filled |= functions[name].fills
            waiting += functions[name].reads
    return filled
