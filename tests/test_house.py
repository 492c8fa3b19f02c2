"""What the pages say of the house is so: the picture of its floors, the tree of its rooms, the list of its pages."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rooms_in(folder: Path) -> set[str]:
    """The modules and packages in a folder, by name."""
    packages = {inside.parent.name for inside in folder.glob("*/__init__.py")}
    return packages | {module.stem for module in folder.glob("*.py") if module.stem != "__init__"}


PACKAGES = sorted(inside.parent.relative_to(SOURCE) for inside in SOURCE.glob("s0*/**/__init__.py"))


@pytest.mark.parametrize("folder", PACKAGES, ids=str)
def test_no_module_is_hidden_by_what_its_package_exports(folder: Path) -> None:
    """`import s0.bench.collect as m` gave a function where the package exports one of that name."""
    package = importlib.import_module(".".join(folder.parts))
    exported = {room: getattr(package, room, None) for room in rooms_in(SOURCE / folder)}
    hidden = [room for room, value in exported.items() if value is not None and not isinstance(value, ModuleType)]
    assert hidden == []


def floors_of_the_picture() -> list[set[str]]:
    """The rooms of every floor, from the top, as CONTRIBUTING.md draws them."""
    picture = text_of("CONTRIBUTING.md").partition("\n```\n+--")[2].partition("```")[0]
    drawn = re.findall(r"^\|(.*)\|", picture, re.MULTILINE)
    return [set(floor.replace("|", " ").split()) for floor in drawn]


def floors_of_the_contract() -> list[set[str]]:
    """The same as import-linter holds them."""
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [{room.strip().removeprefix("s0.") for room in floor.split("|")} for floor in layers]


def test_the_picture_shows_the_floors_that_the_contract_holds() -> None:
    assert floors_of_the_picture() == floors_of_the_contract()


def test_every_room_stands_on_one_floor() -> None:
    drawn = [room for floor in floors_of_the_picture() for room in floor]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == rooms_in(SOURCE / "s0") | {"s0_cli"}


def tree() -> dict[str, str]:
    """What the README's layout says, by path."""
    block = text_of("README.md").partition("## Layout\n\n```\n")[2].partition("```")[0]
    lines = re.sub(r"\n +", " ", block).splitlines()
    return {path: words for path, _, words in (line.partition(" ") for line in lines)}


def test_the_tree_has_every_room_of_the_package() -> None:
    packages = {f"src/s0/{inside.parent.name}/" for inside in (SOURCE / "s0").glob("*/__init__.py")}
    named = {path for path in tree() if path.startswith("src/")}
    assert packages - named == set()
    assert [path for path in tree() if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("room", [path for path in tree() if path.endswith("/")])
def test_the_names_of_the_tree_exist(room: str) -> None:
    words = re.sub(r"\([^)]*\)", "", tree()[room])
    names = [word.strip() for word in re.split(r"[,:]", words) if re.fullmatch(r" *\w+ *", word)]
    inside = {path.stem for path in (ROOT / room).iterdir()}
    assert [name for name in names if name not in inside] == []


def test_the_tree_names_every_file_of_the_method() -> None:
    words = re.sub(r"\([^)]*\)", "", tree()["src/s0/core/"])
    assert set(re.findall(r"\w+", words)) == rooms_in(SOURCE / "s0" / "core")


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = re.findall(r"^\| \[[\w-]+\]\(([\w-]+\.md)\)", text_of("docs/README.md"), re.MULTILINE)
    assert sorted([*listed, "README.md"]) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "peers")
"""Without the other judges, who have an environment of their own."""


@pytest.mark.parametrize("script", BENCHMARKS)
def test_every_benchmark_finds_what_it_imports(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    importlib.import_module(f"benchmarks.{script}")
