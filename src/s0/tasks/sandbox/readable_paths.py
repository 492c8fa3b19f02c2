"""What a program may read: the interpreter, the standard library, numpy, and the shared libraries that these load.

Entry by entry, by name. What is installed beside them is not granted: site packages hold answers, this library's own
among them, and so may anything else that a person has put there.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s0.errors import SandboxError

_DATA = ("/etc/ld.so.cache", "/usr/lib/locale", "/usr/share/zoneinfo")
"""The index of shared libraries, locales, time zones."""
_MACOS_PATHS = ("/usr/lib", "/usr/share/zoneinfo")
_FRAMEWORK = ("Python", "Resources")
"""What a macOS framework build has beside its library."""
_START_LIMIT_S = 60.0
_PACKAGES = ("numpy",)
"""What programs of the tasks import beside the standard library; the folder of each, whole, and nothing beside it."""

_PROBE = """\
import importlib.machinery, importlib.util, json, os, sys, warnings
warnings.simplefilter("ignore")
def imported(name):
    try:
        __import__(name)
    except Exception:
        pass
folders = [entry for entry in sys.path if os.path.isdir(entry)]
for folder in folders:
    for entry in os.listdir(folder):
        name = entry.partition(".")[0]
        if entry.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)) and name in sys.stdlib_module_names:
            imported(name)
packages = {}
for name, folder in json.loads(sys.argv[1]).items():
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except Exception:
        continue  # made for another Python than the one that runs programs
    packages[name] = folder
libraries = []
if sys.platform == "linux":
    import ctypes
    class Library(ctypes.Structure):
        _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Library), ctypes.c_size_t, ctypes.c_void_p)
    def told(library, size, data):
        libraries.append(os.fsdecode(library.contents.name or b""))
        return 0
    # what the C library loads by itself, and what programs ask ctypes for
    for name in ("libgcc_s.so.1", "libpthread.so.0", "librt.so.1", "libdl.so.2", "libutil.so.1", "libstdc++.so.6"):
        try:
            ctypes.CDLL(name)
        except OSError:
            pass
    ctypes.CDLL(None).dl_iterate_phdr(told, None)
print()
print(json.dumps({"path": sys.path, "names": sorted(sys.stdlib_module_names), "tag": sys.implementation.cache_tag,
                  "packages": packages, "libraries": libraries}))
"""
"""Run once by the interpreter that programs get, with the folders of packages: where its library lies, which packages
it can import, and every shared library that it and they ever load."""


@dataclass(frozen=True)
class Granted:
    """Absolute paths.

    Attributes:
        paths: files and folders that a program may read, with all that is in them. No path lies in another.
        folders: those of the library; entries of `paths` lie in them beside others. A program may list them.
        packages: by name, the folder that it is imported from; among `paths`, or in one of them.
    """

    paths: tuple[str, ...]
    folders: tuple[str, ...]
    packages: dict[str, str]

    @property
    def elsewhere(self) -> list[str]:
        """Those of `paths` that lie in none of `folders`."""
        folders = {Path(folder) for folder in self.folders}
        return [path for path in self.paths if folders.isdisjoint(Path(path).parents)]


@functools.cache
def granted(interpreter: tuple[str, ...]) -> Granted:
    """What programs may read.

    Args:
        interpreter: the command line that starts Python, to which a program is appended.

    Raises:
        SandboxError: the interpreter does not run.
    """
    facts = _asked(interpreter)
    folders = [os.path.realpath(entry) for entry in facts["path"] if Path(entry).is_dir()]
    archives = [entry for entry in facts["path"] if Path(entry).is_file()]
    shared = [os.path.normpath(name) for name in facts["libraries"] if name.startswith("/")]
    names = frozenset(facts["names"])
    entries = [entry for folder in folders for entry in _entries(folder, names, facts["tag"])]
    packages: dict[str, str] = facts["packages"]
    every = (interpreter[0], *archives, *shared, *entries, *packages.values(), *_beside())
    paths = {path for path in every if Path(path).exists()}
    return Granted(tuple(sorted(_outermost(paths))), tuple(sorted(_outermost(folders))), packages)


def _asked(interpreter: tuple[str, ...]) -> dict[str, Any]:
    command = [*interpreter, _PROBE, json.dumps(_folders_of_packages())]
    try:
        done = subprocess.run(
            command, env={}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", timeout=_START_LIMIT_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        raise SandboxError(f"{interpreter[0]} cannot tell what it needs: {said[-1][:300]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{interpreter[0]} does not start: {error}") from None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # modules may print as they are imported
    return answer


def _folders_of_packages() -> dict[str, str]:
    """The folders of `_PACKAGES` by name, as far as they are installed."""
    specs = ((name, importlib.util.find_spec(name)) for name in _PACKAGES)
    return {name: os.path.realpath(Path(spec.origin).parent) for name, spec in specs if spec and spec.origin}


def _entries(folder: str, names: frozenset[str], tag: str) -> list[str]:
    """The modules of the standard library in `folder`, and their compiled forms."""
    entries = [*Path(folder).iterdir(), *Path(folder, "__pycache__").glob(f"*.{tag}.pyc")]

    def is_own(path: Path) -> bool:
        return path.name.partition(".")[0] in names or path.name.startswith("_sysconfigdata")

    def stays(path: Path) -> bool:
        """A link may lead to what holds anything."""
        return path.resolve().parent == path.parent and is_own(path.resolve())

    return [str(path) for path in entries if is_own(path) and stays(path)]


def _beside() -> tuple[str, ...]:
    """What belongs to no module."""
    framework = (str(Path(sys.base_prefix, name)) for name in _FRAMEWORK)
    return (*_MACOS_PATHS, *framework) if sys.platform == "darwin" else _DATA


def _outermost(paths: Sequence[str] | set[str]) -> set[str]:
    every = {Path(path) for path in paths}
    return {str(path) for path in every if every.isdisjoint(path.parents)}
