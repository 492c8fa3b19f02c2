"""Where this library is installed beside the interpreter, a program finds nothing of it: no solution, test or value."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import s0
from s0.tasks.sandbox import UNSAFE, backends
from tests.tasks.conftest import BACKENDS_OF_THIS_SYSTEM

SOURCE = Path(s0.__file__).parent
NOT_COPIED = (
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "turtledemo",
    "config-*",
    "ensurepip",
    "lib2to3",
)

LOOKING = """
def found(backwards, roots, outermost):
    marker = backwards[::-1]  # else it would find what it was asked
    import numpy
    import gc, importlib, importlib.metadata, os, pkgutil, sys, zipimport
    ways = []
    def look(way, path):
        try:
            data = path if type(path) is bytes else open(path, "rb").read()
        except Exception:
            return
        if marker.encode() in data:
            ways.append(way)
    for root in [outermost, *roots, *sys.path, os.path.dirname(os.__file__), os.path.dirname(sys.executable)]:
        for folder, folders, files in os.walk(root):
            for name in files:
                look("walk", os.path.join(folder, name))
    for root in roots:
        for place in ("s0/tasks/data/pocket_code.jsonl", "../s0.zip", "s0.pth", "link.jsonl", "link/pocket_code.jsonl"):
            for start in (root, os.path.relpath(root, os.getcwd()), "/proc/self/root" + root, "/proc/1/root" + root):
                look("name", os.path.join(start, place))
        sys.path.append(root)
        sys.path.append(os.path.join(root, "../s0.zip"))
    importlib.invalidate_caches()
    for name in ("s0", "s0.tasks", "s0.tasks.pocket", "s0.tasks.data"):
        try:
            importlib.import_module(name)
            look("import", pkgutil.get_data("s0.tasks", "data/pocket_code.jsonl"))
        except Exception:
            pass
    try:
        for file in importlib.metadata.files("s0") or ():
            look("metadata", file.locate())
    except Exception:
        pass
    for root in roots:
        try:
            look("zip", zipimport.zipimporter(root + "/../s0.zip").get_data("s0/tasks/data/pocket_code.jsonl"))
        except Exception:
            pass
    for descriptor in range(3, 64):  # those below are pipes of its own, at which reading waits
        for place in (f"/proc/self/fd/{descriptor}", f"/dev/fd/{descriptor}"):
            look("descriptor", place)
    for thing in gc.get_objects():
        if isinstance(thing, (dict, list, tuple)):
            values = thing.values() if isinstance(thing, dict) else thing
            for value in list(values):
                if type(value) in (str, bytes) and len(value) < 1 << 20:
                    look("memory", value.encode("utf-8", "replace") if type(value) is str else value)
    if ways:
        raise type("found_by_" + "_".join(sorted(set(ways))), (Exception,), {})
"""
SCRIPT = """
import json, sys, types
package = sys.modules["s0"] = types.ModuleType("s0")  # its own __init__ needs what is not installed here
package.__path__ = [sys.argv[1]]
from s0.tasks.sandbox import Limits, Program, Sandbox
backend, looking, arguments = json.loads(sys.stdin.read())
test = f"def check(found):\\n    found(*{arguments!r})\\n"
with Sandbox(backend, Limits(timeout_s=20, memory_bytes=2 << 30)) as sandbox:
    print(json.dumps([verdict.reason for verdict in sandbox.judge([Program(looking, "", test, "found")])]))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of its own, with this library in its site packages, in a zip beside them, and behind links."""
    prefix = tmp_path_factory.mktemp("python")
    for part in (prefix, *prefix.parents[:2]):
        part.chmod(0o755)
    library = Path(os.__file__).parent
    shutil.copytree(library, prefix / "lib" / library.name, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy2(shared, prefix / "lib" / shared.name, follow_symlinks=True)
    (prefix / "bin").mkdir()
    shutil.copy2(os.path.realpath(sys.executable), prefix / "bin" / "python3")
    packages = prefix / "lib" / library.name / "site-packages"
    shutil.copytree(SOURCE, packages / "s0")
    for own in ("numpy", "numpy.libs"):  # granted, in the folder that holds the rest
        if Path(np.__file__).parents[1].joinpath(own).is_dir():
            shutil.copytree(Path(np.__file__).parents[1] / own, packages / own)
    data = packages / "s0/tasks/data"
    (packages / "s0.pth").write_text(f"{data}\n")
    (packages / "link.jsonl").symlink_to(data / "pocket_code.jsonl")
    (packages / "link").symlink_to(data)
    (packages.parent / "bisect_link.jsonl").symlink_to(data / "pocket_code.jsonl")
    (packages.parent / "antigravity").symlink_to(data)  # a link by the name of a module
    with zipfile.ZipFile(packages.parent / "s0.zip", "w") as archive:
        for file in data.rglob("*"):
            archive.write(file, f"s0/tasks/data/{file.name}")
    return prefix


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*BACKENDS_OF_THIS_SYSTEM, UNSAFE])
def test_a_program_finds_no_solution_beside_its_interpreter(copied: Path, backend: str) -> None:
    if backends.trouble_with(backend) is not None:
        pytest.skip(f"{backend} does not work on this machine: {backends.trouble_with(backend)}")
    packages = copied / "lib" / Path(os.__file__).parent.name / "site-packages"
    marker = json.loads((SOURCE / "tasks/data/pocket_code.jsonl").read_text().splitlines()[0])["entry_point"]
    outermost = str(copied) if backend == UNSAFE else "/"  # there, it would read the whole machine
    asked = json.dumps([backend, LOOKING, [marker[::-1], [str(packages)], outermost]])
    done = subprocess.run(
        [copied / "bin/python3", "-c", SCRIPT, packages / "s0"],
        input=asked,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (reason,) = json.loads(done.stdout)
    if backend == UNSAFE:  # it knows how to look
        assert reason.startswith("exception: found_by_") and reason.endswith("name_walk_zip")
    else:
        assert reason == "passed"
