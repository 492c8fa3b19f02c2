"""How long functions and files are, how much a function asks of its caller, and what names may not be: held to limits.

    python benchmarks/measures.py            prints the measures
    python benchmarks/measures.py --check    fails where a limit is passed or a name says nothing, and says where

A function is measured from its `def` to its last line, with its docstring. Parameters are counted without `self` and
`cls`; `*args` and `**kwargs` count one each.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("src/s0", "src/s0_cli", "benchmarks")
LONGEST_FUNCTION, LONGEST_OF_NINE_IN_TEN = 60, 25  # lines
LONGEST_FILE = 420  # lines
MOST_PARAMETERS = 6

COMMANDS = "src/s0_cli/commands/"
"""Its files hold the commands: a parameter for each option, and one call."""
FOREIGN = {
    "src/s0/adapter/model.py": {"_create_and_replace": "overrides PEFT's"},
    "src/s0/core/recurrences/mamba1.py": {
        **dict.fromkeys(("_read_by_scan", "_read_by_step"), "takes what the kernel takes"),
        "scan_from": "stands in for the kernel",
    },
    "src/s0/core/recurrences/mamba2.py": dict.fromkeys(
        ("_read_by_scan", "_read_by_step"), "takes what the kernel takes"
    ),
    "src/s0/train/generating.py": {"generate": "takes what transformers' generate takes, by its names"},
}
"""Functions whose parameters somebody else has chosen, and who."""
SAYING_NOTHING = frozenset({"one", "found", "told", "held", "given", "going", "sound"})
"""No names: each fits anything, so none says what it stands for (an example, an answer, a record, a layer)."""


@dataclass(frozen=True)
class Function:
    """A function as it is written.

    Attributes:
        file: it stands in, from the root of the repository.
        line: its first.
        n_lines, n_parameters: how much it is.
    """

    file: str
    name: str
    line: int
    n_lines: int
    n_parameters: int

    @property
    def is_free(self) -> bool:
        """Whether it may be long and have many parameters."""
        return self.file.startswith(COMMANDS) or self.name in FOREIGN.get(self.file, {})


def functions_in(file: str, text: str) -> Iterator[Function]:
    """Every function of a file, methods and inner functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
            n_parameters = len([argument for argument in named if argument.arg not in ("self", "cls")]) + len(starred)
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(file, node.name, node.lineno, n_lines, n_parameters)


def names_bound_by(node: ast.AST) -> tuple[str, ...]:
    """The names that a node gives to something: variables, attributes, parameters, functions, classes, imports."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            return (name,)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.alias(name=name, asname=asname):
            return (asname or name,)
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return (name,) if name else ()
    return ()


def empty_names_in(file: str, text: str) -> list[str]:
    """Where a file binds a name that says nothing, a line each; a leading underscore changes nothing."""
    bound = [(node, name) for node in ast.walk(ast.parse(text)) for name in names_bound_by(node)]
    return [
        f"{file}:{getattr(node, 'lineno', 0)} {name}: a name that says nothing"
        for node, name in bound
        if name.lstrip("_") in SAYING_NOTHING
    ]


def passed(functions: list[Function], lengths: dict[str, int]) -> list[str]:
    """What passes a limit, a line each."""
    bound = [function for function in functions if not function.is_free]
    too_long = [function for function in bound if function.n_lines > LONGEST_FUNCTION]
    too_many = [function for function in bound if function.n_parameters > MOST_PARAMETERS]
    lines = [f"{each.file}:{each.line} {each.name}: {each.n_lines} lines" for each in too_long]
    lines += [f"{each.file}:{each.line} {each.name}: {each.n_parameters} parameters" for each in too_many]
    lines += [f"{file}: {length} lines" for file, length in lengths.items() if length > LONGEST_FILE]
    if share(functions, 0.9) > LONGEST_OF_NINE_IN_TEN:
        lines.append(f"nine functions in ten: up to {share(functions, 0.9)} lines")
    return lines


def share(functions: list[Function], part: float) -> int:
    """The length, in lines, that this share of functions does not pass."""
    lengths = sorted(function.n_lines for function in functions)
    return lengths[int(part * (len(lengths) - 1))]


def main() -> None:
    """Measure, print, and check where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a limit is passed")
    arguments = parser.parse_args()
    texts = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for source in SOURCES
        for path in sorted((ROOT / source).rglob("*.py"))
    }
    functions = [function for file, text in texts.items() for function in functions_in(file, text)]
    lengths = {file: text.count("\n") for file, text in texts.items()}
    longest = max((function for function in functions if not function.is_free), key=lambda each: each.n_lines)
    print(
        f"{len(lengths)} files, {sum(lengths.values())} lines, the longest file {max(lengths.values())} "
        f"(at most {LONGEST_FILE})\n{len(functions)} functions: half of them up to {share(functions, 0.5)} lines, nine "
        f"in ten up to {share(functions, 0.9)} (at most {LONGEST_OF_NINE_IN_TEN}), the longest {longest.n_lines} (at "
        f"most {LONGEST_FUNCTION}), parameters at most {MOST_PARAMETERS}"
    )
    problems = passed(functions, lengths)
    problems += [line for file, text in texts.items() for line in empty_names_in(file, text)]
    print("\n".join(problems))
    if arguments.check and problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
