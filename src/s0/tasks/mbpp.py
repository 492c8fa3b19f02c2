"""MBPP: short Python functions asked for in a sentence, with three asserts. Austin et al. 2021; MBPP+: Liu et al. 2023.

Rows in any of these formats, one JSON object per line or all in one JSON array:

    full         task_id, text, code, test_list, test_setup_code
    sanitized    task_id, prompt, code, test_list, test_imports
    MBPP+        the sanitized keys and test, as on the Hugging Face hub (evalplus/mbppplus)

EvalPlus's own file of MBPP+ (base_input, plus_input) is refused: it writes tuples and sets as lists, and which are
which stands in that project's code. HumanEval+ has no such arguments and is read from either format.

Raw prompt: a docstring with the sentence and the asserts; the model writes the whole function. Published splits by
task_id: 601 to 974 (and 1 to 10) to train, 511 to 600 to select, 11 to 510 final; other ids are cut as HumanEval is,
and a key `split` decides before either. The 378 problems of MBPP+ are split by the same ids, so scores here compare
with published ones on all 378 only roughly.

The asserts see the modules that their own lines import, and those that the reference code imports. Rows are left out,
and `Task.left_out` names them, whose tests use further names of the reference code, its classes say, or pass to the
function what cannot cross to another process (`s0.tasks.code.crossing`); and 255 of MBPP+, one right answer to which
has 1.7 million tuples of 77 items, far more than can be sent (`s0.tasks.sandbox.guest.codec`).

Three tests of MBPP+ (737, 787, 794) work out whether an answer is right and then assert nothing, so that every answer
passes: here they assert it.
"""

from __future__ import annotations

import ast
import builtins
import textwrap
from pathlib import Path
from typing import Any

from s0.errors import DatasetError
from s0.tasks.base import Task
from s0.tasks.code import KEPT, NAMED, CodeScorer
from s0.tasks.code.bindings import Bindings, walk
from s0.tasks.code.crossing import cannot_cross
from s0.tasks.code.parsing import parse, parses
from s0.tasks.code.rows import left_out_for
from s0.tasks.code.tables import without_numpy
from s0.tasks.humaneval import STOP
from s0.tasks.problem import CodeProblem
from s0.tasks.sources import (
    Hub,
    Table,
    field,
    mapping,
    read,
    read_file,
    read_hub,
    refuse_duplicates,
    sha256_of,
    splits_of,
)

PARTS = {"prompt": 10, "test": 500, "validation": 90, "train": 374}
HUBS = [Hub("google-research-datasets/mbpp", part, n_rows, "full") for part, n_rows in PARTS.items()]
PLUS = Hub("evalplus/mbppplus", "test", 378)
CHANGES = (
    "whole functions, with or without fence and prose; the asserts run beside a proxy of the function",
    NAMED,
    KEPT,
)
SCORER = CodeScorer(
    "Write this Python function. Answer with the whole function in one ```python block.\n\n```python\n{prompt}```"
)

_DECIDED = "        exact_match = exp == (out is not None)\n"


def load_mbpp(data: Path | None) -> Task:
    """MBPP from a file in one of the formats above, or (the full one) from the hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    tables = [read_hub(hub) for hub in HUBS] if data is None else [read_file(data)]
    return _task("mbpp", tables)


def load_mbpp_plus(data: Path | None) -> Task:
    """MBPP+ from a file, or from the hub where `data` is None.

    Raises:
        DatasetError: see `s0.tasks.load`.
    """
    return _task("mbpp+", [read(data, PLUS)])


def _task(name: str, tables: list[Table]) -> Task:
    rows = [(place, mapping(place, row)) for table in tables for place, row in table.rows]
    problems, places, left_out = [], [], []
    for (place, row), split in zip(rows, _splits(rows), strict=True):
        problem, reason = _problem(place, row, split, plus=name == "mbpp+")
        if reason is not None:
            left_out.append(reason)
            continue
        problems.append(problem)
        places.append(place)
    refuse_duplicates(problems, places, "task_id", "prompt")
    return Task(
        name=name,
        version=str(len(CHANGES)),
        problems=[*problems],
        data_sha256=sha256_of(*tables),
        stop=[*STOP, '\n"""'],
        max_new_tokens=512,
        scorer=SCORER,
        changes=CHANGES,
        left_out=tuple(left_out),
    )


def _splits(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    numbers = [str(row.get("task_id", "")).rpartition("/")[2] for _, row in rows]
    published = all(number.isdigit() and 1 <= int(number) <= 974 for number in numbers)
    if any("split" in row for _, row in rows) or not published:
        return splits_of(rows)
    return ["final" if 11 <= int(n) <= 510 else "select" if 511 <= int(n) <= 600 else "train" for n in numbers]


def _problem(place: str, row: dict[str, Any], split: str, plus: bool) -> tuple[CodeProblem, str | None]:
    """The problem, and where it cannot be judged its line of `Task.left_out`."""
    if "base_input" in row:
        raise DatasetError(
            f"{place}: expected MBPP+ as on the Hugging Face hub, with 'test'; got EvalPlus's own file, which writes "
            f"tuples as lists; pass a file of {PLUS.id}"
        )
    sentence = field(place, row, "text" if "text" in row else "prompt", str, "MBPP").strip()
    code = field(place, row, "code", str, "MBPP").replace("\r\n", "\n")
    shown = "\n".join(map(str, field(place, row, "test_list", list, "MBPP")))
    imports = row.get("test_imports") or []
    setup = "\n".join([*map(str, imports), str(row.get("test_setup_code") or "")]).strip() + "\n"
    reference, asserts = _tree(place, "code", code), _tree(place, "test_list", shown)
    tests = ast.Module([*_tree(place, "test_setup_code", setup).body, *asserts.body], [])
    name = _entry_point(place, reference, asserts)
    imported, missing = _names_from(reference, tests, name)
    test = f"{imported}{setup}\ndef check({name}):\n{_indented(asserts)}"
    if plus:
        published = imported + without_numpy(_asserting(field(place, row, "test", str, "MBPP+")))
        test = f"_published = {published!r}\n\ndef check(candidate):\n    exec(_published, {{{name!r}: candidate}})\n"
    identifier = str(row.get("task_id"))
    problem = CodeProblem(identifier, _docstring(f"{sentence}\n{shown}"), split, name, test, code.strip() + "\n")
    if missing:
        return problem, f"{identifier}: its tests use {', '.join(missing)}, which the program itself must define"
    if plus and identifier == "255" and "combinations_with_replacement" in test:
        return problem, f"{identifier}: a right answer to one of its inputs holds 128 million values, too many to cross"
    passed = cannot_cross(tests, "", name)
    return problem, None if passed is None else left_out_for(identifier, passed)


def _asserting(test: str) -> str:
    """A published test with the assert that three of them lack at the end of their `assertion`."""
    return test.replace(_DECIDED, f"{_DECIDED}    assert exact_match\n") if "assert " not in test else test


def _tree(place: str, key: str, source: str) -> ast.Module:
    tree, _ = parse(source)
    if tree is None or not (tree.body or key == "test_setup_code"):
        raise DatasetError(f"{place}: expected {key!r} that Python can read; got {source!r:.60}; correct the row")
    return tree


def _entry_point(place: str, code: ast.Module, asserts: ast.Module) -> str:
    """The function of the reference code that the asserts call."""
    defined = {node.name for node in code.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(asserts):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined:
            return node.func.id
    raise DatasetError(
        f"{place}: expected a 'test_list' that calls a function of 'code'; got {ast.unparse(asserts)!r:.80}; correct it"
    )


def _indented(asserts: ast.Module) -> str:
    """The asserts as a function's body; no text within them is indented: unparsed, none spreads over lines."""
    return "".join(textwrap.indent(ast.unparse(node), "    ") + "\n" for node in asserts.body)


def _names_from(code: ast.Module, test: ast.Module, entry_point: str) -> tuple[str, list[str]]:
    """The reference's imports of names that a test reads and does not bind; and the names that it lacks even so."""
    nodes = [*walk(test)]
    known = {entry_point, *dir(builtins), *Bindings(nodes).names()}
    lacking = {node.id for node in nodes if isinstance(node, ast.Name)} - known
    if not lacking:
        return "", []
    imports = [node for node in code.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    needed = [node for node in imports if {"*", *lacking} & Bindings(walk(node)).names()]
    imported = Bindings(part for node in needed for part in walk(node)).names()
    if "*" in imported:  # it may bind what the code does not
        lacking &= Bindings(walk(code)).names()
    return "".join(ast.unparse(node) + "\n" for node in needed), sorted(lacking - imported)


def _docstring(text: str) -> str:
    for quotes in ('"""', "'''"):
        for prefix in ("", "r"):
            prompt = f"{prefix}{quotes}\n{text}\n{quotes}\n"
            if quotes not in text and ("\\" not in text or prefix) and parses(prompt):
                return prompt
    return "".join(f"# {line}\n" for line in text.splitlines())
