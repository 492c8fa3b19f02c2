"""The statements of a program's top level: what each binds, fills and reads."""

from __future__ import annotations

import ast
import symtable
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from s0.tasks.code.bindings import DEFINITIONS


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement of the top level, or several that share a line.

    Attributes:
        source: its lines.
        binds: names it gives a value at the top level.
        fills: global names whose values it changes, within its functions too.
        reads: global names that occur in it, within its functions too.
    """

    source: str
    nodes: tuple[ast.stmt, ...]
    binds: frozenset[str]
    fills: frozenset[str]
    reads: frozenset[str]

    @property
    def defines(self) -> bool:
        """Whether all it does is to define functions and classes; a decorator may do more."""
        return all(isinstance(node, DEFINITIONS) and not node.decorator_list for node in self.nodes)

    @property
    def imports_all(self) -> bool:
        """Whether it may bind any name: `from math import *`."""
        return any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in self.nodes)

    @property
    def is_future(self) -> bool:
        """Whether it must stand first in a program."""
        return any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in self.nodes)

    @property
    def is_docstring(self) -> bool:
        """Whether it is one where it stands first in a program."""
        return isinstance(self.nodes[0], ast.Expr) and isinstance(self.nodes[0].value, ast.Constant)


def statements(tree: ast.Module, source: str) -> list[Statement]:
    """The statements of the top level of `source`, whose tree is `tree`."""
    lines = source.split("\n")
    groups: list[list[ast.stmt]] = []
    last = 0
    for node in tree.body:
        if _first_line(node) <= last:
            groups[-1].append(node)
        else:
            groups.append([node])
        last = node.end_lineno or node.lineno
    return [_statement(lines, group) for group in groups]


def _first_line(node: ast.stmt) -> int:
    """A decorator stands before the line that a definition counts as its own."""
    decorators = node.decorator_list if isinstance(node, DEFINITIONS) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _statement(lines: list[str], nodes: list[ast.stmt]) -> Statement:
    source = "\n".join(lines[_first_line(nodes[0]) - 1 : nodes[-1].end_lineno])
    binds: set[str] = set()
    declared: set[str] = set()
    reads: set[str] = set()
    for depth, table in _tables(source):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if depth == 0 and (symbol.is_assigned() or symbol.is_imported()):
                binds.add(name)
            if symbol.is_declared_global() and symbol.is_assigned():
                declared.add(name)
            if symbol.is_referenced() and symbol.is_global():
                reads.add(name)
    fills = {name for node in nodes for part in ast.walk(node) for name in _roots_changed(part)}
    return Statement(source, tuple(nodes), frozenset(binds), frozenset(fills & reads | declared), frozenset(reads))


def _tables(source: str) -> Iterator[tuple[int, symtable.SymbolTable]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            waiting = [(0, symtable.symtable(source, "<program>", "exec"))]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return  # it parses and will not compile: its verdict, wherever it stays
    while waiting:
        depth, table = waiting.pop()
        yield depth, table
        waiting += [(depth + 1, child) for child in table.get_children()]


def _roots_changed(part: ast.AST) -> Iterator[str]:
    """`table` of `table[0].x = 1`, of `table.append(1)` as a statement, and of `@table.register`."""
    changed: list[ast.AST] = []
    if isinstance(part, (ast.Subscript, ast.Attribute)) and not isinstance(part.ctx, ast.Load):
        changed.append(part)
    elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
        changed.append(part.value.func)
    elif isinstance(part, DEFINITIONS):
        changed += [step.func if isinstance(step, ast.Call) else step for step in part.decorator_list]
    for target in changed:
        inner = target
        while isinstance(inner, (ast.Subscript, ast.Attribute)):
            inner = inner.value
        if inner is not target and isinstance(inner, ast.Name):
            yield inner.id
