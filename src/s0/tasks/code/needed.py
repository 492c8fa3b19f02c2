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
    if _is_main_guard(statement):
        return False
    if isinstance(statement, ast.ImportFrom) and (statement.module == "__future__" or statement.names[0].name == "*"):
        return True
    return any(name in needed for name in names_bound(statement))


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(statement.test)
    )


def names_bound(statement: ast.stmt) -> Iterator[str]:
    """Names the statement binds or fills at module level: `table = []`, `table[0] = 1`, `table.append(1)`."""
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
            yield from _root(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            yield from _root(part.value.func)


def _root(target: ast.expr) -> Iterator[str]:
    """`table` of `table[0].x`; nothing where it is a plain name, so a called function does not count as filled."""
    inner = target
    while isinstance(inner, (ast.Subscript, ast.Attribute)):
        inner = inner.value
    if inner is not target and isinstance(inner, ast.Name):
        yield inner.id


def _names_read(statement: ast.stmt) -> set[str]:
    """Every name that occurs, quoted annotations aside: too many is harmless."""
    return {part.id for part in ast.walk(statement) if isinstance(part, ast.Name)}


def _lines(statement: ast.stmt) -> range:
    first = statement.lineno
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and statement.decorator_list:
        first = min(first, statement.decorator_list[0].lineno)
    return range(first - 1, statement.end_lineno or first)
