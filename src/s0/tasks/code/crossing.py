"""What a test surely passes to the function under test and cannot: found by reading the test, before any is run.

The function runs in another process, and what a test passes to it arrives there as a copy (`s0.tasks.sandbox`). Of
these no copy can be made:

    a lambda; a function or class that the test or the prompt defines; an instance of such a class;
    a generator expression, or what `iter`, `map`, `filter`, `zip`, `enumerate` or `reversed` gives; an open file

An argument counts where it is one of them as it stands, or a name that the test binds to one and to nothing else, or
part of a list, tuple, set, dict or comprehension that is itself an argument. Calls count of the entry point and of the
parameter of `check`, where the test binds that name to nothing else. All else, such as a key function for `sorted`,
stays with the test; and what only running it would show is left to that.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from s0.tasks.code.bindings import FUNCTIONS, Bindings, walk

_GIVEN_BY_BUILTINS = {
    **dict.fromkeys(("iter", "map", "filter", "zip", "enumerate", "reversed"), "an iterator"),
    "open": "an open file",
}


def cannot_cross(test: ast.Module, prompt: str, entry_point: str) -> str | None:
    """What the test passes that cannot be copied and where, in words; None where nothing is sure to be such.

    Args:
        test: as parsed.
        prompt: source that runs beside it.
        entry_point: the function's name.
    """
    nodes = [*walk(test)]
    bindings = Bindings(nodes)
    under_test = {
        name
        for name in (entry_point, *_parameters_of_check(test))
        if all(isinstance(binder, ast.arg) for binder in bindings.of(name))
    }
    bindings.add(ast.parse(prompt).body)
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in under_test:
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                what = _uncopied(argument, bindings, frozenset())
                if what is not None:
                    return f"{what} (line {node.lineno} of the test)"
    return None


def _parameters_of_check(test: ast.Module) -> Iterator[str]:
    for statement in test.body:
        if isinstance(statement, FUNCTIONS) and statement.name == "check":
            yield from (parameter.arg for parameter in (*statement.args.posonlyargs, *statement.args.args)[:1])


def _uncopied(argument: ast.AST, bindings: Bindings, passed: frozenset[str]) -> str | None:
    """The first part of an argument that cannot be copied, in words.

    Args:
        argument: the expression.
        bindings: of the test and the prompt.
        passed: the names that led to it, so that one bound to itself is looked up once.
    """
    if isinstance(argument, ast.Lambda):
        return "a lambda"
    if isinstance(argument, ast.GeneratorExp):
        return "a generator expression"
    if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name):
        return _result_of(argument.func.id, bindings)
    if isinstance(argument, ast.Name):
        name, binder = argument.id, bindings.only(argument.id)
        if isinstance(binder, ast.ClassDef):
            return f"the class {name}"
        if isinstance(binder, FUNCTIONS):
            return f"the function {name}"
        return None if binder is None or name in passed else _uncopied(binder, bindings, passed | {name})
    return next((what for part in _parts(argument) if (what := _uncopied(part, bindings, passed))), None)


def _result_of(function: str, bindings: Bindings) -> str | None:
    """What a call of that name gives. A class that inherits may have instances that are data, as a NamedTuple has."""
    binder = bindings.only(function)
    if isinstance(binder, ast.ClassDef) and not binder.bases:
        return f"an instance of {function}"
    return None if bindings.of(function) else _GIVEN_BY_BUILTINS.get(function)


def _parts(argument: ast.AST) -> list[ast.expr]:
    """The items of a list, a tuple, a set, a dict or a comprehension, which are passed along with it."""
    if isinstance(argument, (ast.List, ast.Tuple, ast.Set)):
        return argument.elts
    if isinstance(argument, ast.Dict):
        return [part for part in (*argument.keys, *argument.values) if part is not None]
    if isinstance(argument, (ast.ListComp, ast.SetComp)):
        return [argument.elt]
    if isinstance(argument, ast.DictComp):
        return [argument.key, argument.value]
    if isinstance(argument, ast.Starred):
        return _parts(argument.value)
    return []
