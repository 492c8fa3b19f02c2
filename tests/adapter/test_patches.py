"""What importing s0 does to other libraries is what the tables in `s0.adapter.patches` say."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from peft import PeftModel
from peft.utils import PeftType

import s0
from s0.adapter import patches
from tests import forking

SOURCE = Path(s0.__file__).parent

LIBRARIES = ("accelerate", "peft", "torch", "transformers", "trl")

CHANGES = """
import importlib, json, sys, types, warnings

warnings.simplefilter("ignore")
libraries = sys.argv[1:]
for name in libraries:
    importlib.import_module(name)
if "trl" in libraries:
    from trl import SFTTrainer


def contents():
    # Every name in a module or a class of these libraries; of a container also how much is in it.
    named = {}
    for module in [m for name, m in list(sys.modules.items()) if m and name.split(".")[0] in libraries]:
        spaces = {(module.__name__, ""): vars(module)}
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                spaces[module.__name__, value.__qualname__ + "."] = vars(value)
        for (where, prefix), space in spaces.items():
            for name, value in list(space.items()):
                size = len(value) if isinstance(value, (dict, list, set)) else None
                named[where, prefix, prefix + name] = value, size
    return named


before = contents()
import s0

after, changed = contents(), set()
classes = {(where, prefix) for where, prefix, _ in before}
for key, (value, size) in after.items():
    was, was_size = before.get(key, (None, None))
    if (key in before or (key[1] and key[:2] in classes)) and (value is not was or size != was_size):
        changed.add(key[2])
print(json.dumps(sorted(changed)))
"""


def rows(table: int) -> list[list[str]]:
    """The cells of a table in the module's docstring, each row's lines put together."""
    blocks = [block for block in (patches.__doc__ or "").split("\n\n") if block.startswith("|")]
    joined: list[list[str]] = []
    for line in blocks[table].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if joined and not cells[2]:  # a line that goes on with the row above
            joined[-1] = [f"{above} {cell}".strip() for above, cell in zip(joined[-1], cells, strict=True)]
        else:
            joined.append(cells)
    return joined


def names(cell: str) -> list[str]:
    return cell.split(", ")


def output_of(code: str, *args: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True).stdout


def installed() -> list[str]:
    return [name for name in LIBRARIES if find_spec(name) is not None]


def test_importing_s0_replaces_what_the_first_table_lists_and_nothing_else() -> None:
    changed = json.loads(forking.run(CHANGES, *installed()).stdout)
    listed = {name for row in rows(0) for name in names(row[0])}
    assert {"PeftType" if name.startswith("PeftType.") else name for name in changed} == listed


@pytest.mark.slow
def test_s0_may_come_first() -> None:
    check = "from peft.utils import PeftType; print(PeftType('S0').value, peft.PeftModel.generate.__code__.co_filename)"
    assert output_of(f"import s0; import peft, transformers; {check}").split() == ["S0", patches.__file__]


def test_a_second_install_does_nothing() -> None:
    before, members = dict(vars(PeftModel)), list(PeftType)
    patches.install()
    assert dict(vars(PeftModel)) == before and list(PeftType) == members
    assert members.count(PeftType("S0")) == 1


def test_every_patched_method_keeps_its_name_and_signature() -> None:
    for owner, name, _ in patches._AROUND:
        method = getattr(owner, name)
        assert method.__name__ == name and inspect.signature(method).parameters


def source_of(path: str) -> str:
    """The text of a module, or of all in a folder."""
    place = SOURCE / path
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("table", [1, 2])
def test_what_a_table_lists_stands_in_the_modules_that_it_names(table: int) -> None:
    for row in rows(table):
        for path in names(row[3]):
            assert any(name in source_of(path) for name in names(row[0])), (row[0], path)
        sources = [source_of(path) for path in names(row[3])]
        assert all(any(name in source for source in sources) for name in names(row[0])), row


def test_nothing_private_is_leaned_on_that_no_table_lists() -> None:
    listed = {name.rpartition(".")[2] for table in range(3) for row in rows(table) for name in names(row[0])}
    listed |= {name for space in (PeftType, PeftType.LORA) for name in vars(space)}  # of the row of PeftType
    for path in sorted(SOURCE.rglob("*.py")):
        if "tasks" not in path.relative_to(SOURCE).parts:
            unlisted = foreign_private_names(ast.parse(path.read_text(encoding="utf-8"))) - listed
            assert not unlisted, f"{path}: {unlisted}"


def foreign_private_names(module: ast.Module) -> set[str]:
    """Private names that a module reads or imports and nothing in this package defines."""
    nodes = list(ast.walk(module))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    foreign = [node for node in nodes if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("s0")]
    imported = {alias.name for node in foreign for alias in node.names}
    private = {name for name in read | imported if name.startswith("_") and not name.startswith("__")}
    return private - OWN


def defined_in(module: ast.Module) -> set[str]:
    own: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
            own |= {part.id for part in flat if isinstance(part, ast.Name)}
            own |= {part.attr for part in flat if isinstance(part, ast.Attribute) and is_self(part.value)}
    return own


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


OWN = {name for path in SOURCE.rglob("*.py") for name in defined_in(ast.parse(path.read_text(encoding="utf-8")))}


def test_the_check_for_private_names_sees_one() -> None:
    planted = ast.parse(
        textwrap.dedent("""
        from peft.utils import _brand_new
        def f(model):
            return model._hidden_switch
    """)
    )
    assert foreign_private_names(planted) == {"_brand_new", "_hidden_switch"}
