"""Reading syntax trees: walking them, and what the names of some source are bound to, whatever the scope."""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_CAPTURES = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree as `ast.walk` yields them, without constants: published tests have hundreds of thousands."""
    nodes = deque([tree])
    while nodes:
        node = nodes.popleft()
        yield node
        children = node.elts if isinstance(node, (ast.List, ast.Tuple)) else ast.iter_child_nodes(node)
        nodes.extend(child for child in children if not isinstance(child, ast.Constant))


def walk_own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """These nodes and all within them, but not what stands within a function defined there."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def dotted(node: ast.AST | None) -> str:
    """`sys.exit` as "sys.exit"; empty where it is no such thing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def raised(node: ast.Raise) -> str:
    """What is raised, as `dotted`: an exception, or the class that is called for one."""
    return dotted(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)


class Bindings:
    """What binds each name: the value assigned, a definition, or else the node of the syntax.

    Args:
        nodes: of one or more trees, those that hold others before these, as `walk` yields them.
    """

    def __init__(self, nodes: Iterable[ast.AST]) -> None:
        self._binders: defaultdict[str, list[ast.AST]] = defaultdict(list)
        self.add(nodes)

    def add(self, nodes: Iterable[ast.AST]) -> None:
        """Take these in as well."""
        values: dict[ast.AST, ast.expr] = {}
        for node in nodes:
            if isinstance(node, ast.Name):
                if not isinstance(node.ctx, ast.Load):
                    self._binders[node.id].append(values.get(node, node))
            elif isinstance(node, ast.Assign):
                values.update(dict.fromkeys(node.targets, node.value))
            elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
                if node.value is not None:
                    values[node.target] = node.value
            elif isinstance(node, ast.arg):
                self._binders[node.arg].append(node)
            elif isinstance(node, ast.alias):
                self._binders[(node.asname or node.name).partition(".")[0]].append(node)
            elif isinstance(node, (*DEFINITIONS, *_CAPTURES)) and node.name is not None:
                self._binders[node.name].append(node)

    def names(self) -> set[str]:
        """All that are bound; "*" stands for those of an import of everything."""
        return {name for name, binders in self._binders.items() if binders}

    def of(self, name: str) -> list[ast.AST]:
        """What binds `name`, in the order of the nodes."""
        return self._binders[name]

    def only(self, name: str) -> ast.AST | None:
        """What binds `name`, where that is a single thing."""
        binders = self._binders[name]
        return binders[0] if len(binders) == 1 else None
