"""Keeping of a program what one function needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def keep_needed(source: str, entry_point: str) -> str:
    """`source` without the top-level statements that bind nothing `entry_point` needs, directly or through another.

    Statements stay as they are written, in order; where two share a line both stay. `source` must parse.
    """
    statements = ast.parse(source).body
    needed = {entry_point}
    kept: set[int] = set()
    while True:
        more = {
            position
            for position, statement in enumerate(statements)
            if position not in kept and _stays(statement, needed)
        }
        if not more:
            break
        kept |= more
        for position in more:
            needed |= _names_read(statements[position])
    lines = source.split("\n")
    spans = [_lines(statements[position]) for position in sorted(kept)]
    wanted = sorted({number for span in spans for number in span})
    return "\n".join(lines[number] for number in wanted) + "\n"


def _stays(statement: ast.stmt, needed: set[str]) -> bool:
    if isinstance(statement, (ast.Expr, ast.Assert)) or _is_main_guard(statement):
        return False
    if isinstance(statement, ast.ImportFrom) and (statement.module == "__future__" or statement.names[0].name == "*"):
        return True
    return any(name in needed for name in _names_bound(statement))


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(statement.test)
    )


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    """Names the statement gives a value at module level, `table[0] = 1` and `table.x = 1` included for `table`."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for part in ast.walk(statement):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield part.name
        elif isinstance(part, ast.alias):
            yield part.asname or part.name.split(".")[0]
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, (ast.Subscript, ast.Attribute)) and isinstance(part.ctx, ast.Store):
            yield from (name.id for name in ast.walk(part.value) if isinstance(name, ast.Name))


def _names_read(statement: ast.stmt) -> set[str]:
    """Every name that occurs, quoted annotations aside: too many is harmless."""
    return {part.id for part in ast.walk(statement) if isinstance(part, ast.Name)}


def _lines(statement: ast.stmt) -> range:
    first = statement.lineno
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and statement.decorator_list:
        first = min(first, statement.decorator_list[0].lineno)
    return range(first - 1, statement.end_lineno or first)
